"""Keys of ``mdata.obsm``, with and without the ``X_`` in front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smalti._validate import check_keys

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def find_key(mdata: MuData | AnnData, key: str, what: str = "Embedding in `mdata.obsm`") -> str:
    """Return the key of ``mdata.obsm`` that is meant: ``"clue"`` and ``"X_clue"`` find each other.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Key, with or without ``X_``; one that exists as it is wins.
    what
        Subject of the message.

    Raises
    ------
    KeyError
        If there is neither.
    """
    own = set(getattr(mdata, "mod", ()))  # a MuData keeps masks of its modalities there
    for name in (key, f"X_{key}", str(key).removeprefix("X_")):
        if name in mdata.obsm and name not in own:
            return name
    check_keys([key], [k for k in mdata.obsm if k not in own], what)
    return key
