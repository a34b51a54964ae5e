"""Names that a file of HDF5 or zarr cannot hold, changed for the file and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from anndata import AnnData

    Renamed = list[list[Any]]
    """Of each name that was changed: place (keys that lead there), name before, name in the file."""

TABLES = ("obs", "var")
MAPPINGS = ("obsm", "varm", "obsp", "varp", "layers", "uns")
MOD = "mod"
TAKEN = frozenset({"", ".", "_index"})
"""Names with a meaning of their own in a file."""


def storable_names(names: Iterable[Hashable]) -> dict[Any, str]:
    """Return the name in a file of those names that cannot stay as they are: a slash would open a folder.

    Parameters
    ----------
    names
        All names of one place; what is returned collides with none of them.
    """
    names = list(names)
    fine = {name for name in names if isinstance(name, str) and "/" not in name and name not in TAKEN}
    out: dict[Any, str] = {}
    for name in names:
        if name in fine:
            continue
        new = str(name).replace("/", "|")
        while new in fine or new in out.values() or new in TAKEN:
            new += "_"
        out[name] = new
    return out


def rename_for_file(data: MuData | AnnData, place: tuple[str, ...] = ()) -> Renamed:
    """Change, in place, names that a file cannot hold, and return what was changed; see :func:`restore_names`.

    Parameters
    ----------
    data
        What will be written.
    place
        Where it stands.
    """
    done: Renamed = []
    for key in TABLES:
        table = getattr(data, key)
        if new := storable_names(table.columns):
            setattr(data, key, table.rename(columns=new))
            done += [[[*place, key], old, name] for old, name in new.items()]
    for key in MAPPINGS:
        mapping = getattr(data, key, None)
        if mapping is not None and (new := storable_names(set(mapping) - set(getattr(data, MOD, ())))):
            _rekey(mapping, new)
            done += [[[*place, key], old, name] for old, name in new.items()]
    if isinstance(data, MuData):
        for name, modality in data.mod.items():
            done += rename_for_file(modality, (*place, MOD, name))
        if new := storable_names(data.mod):
            _rename_modalities(data, new)
            done += [[[*place, MOD], old, name] for old, name in new.items()]
    return done


def restore_names(data: MuData, renamed: Renamed) -> None:
    """Give everything the name again that it had before :func:`rename_for_file`.

    Parameters
    ----------
    data
        What was read.
    renamed
        What :func:`rename_for_file` returned.
    """
    for (*above, key), old, name in reversed(renamed):
        if isinstance(old, list):  # a tuple, which JSON does not know
            continue
        owner: Any = data.mod[above[1]] if above else data
        if key == MOD:
            _rename_modalities(owner, {name: old})
        elif key in TABLES:
            setattr(owner, key, getattr(owner, key).rename(columns={name: old}))
        else:
            _rekey(getattr(owner, key), {name: old})


def _rename_modalities(mdata: MuData, new: dict[Any, str]) -> None:
    for mapping in (mdata.mod, mdata.obsm, mdata.varm, mdata.obsmap, mdata.varmap):
        _rekey(mapping, new)


def _rekey(mapping: Any, new: dict[Any, str]) -> None:
    """Change keys of a mapping; their order stays."""
    items = [(key, mapping[key]) for key in mapping]
    for key, _ in items:
        del mapping[key]
    for key, value in items:
        mapping[new.get(key, key)] = value
