"""Making one mosaic on disk out of many files, without ever having all of them in memory."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from smalti._files import check_writable, replacing, replacing_folder
from smalti._mudata import build_mudata
from smalti._storable import make_storable
from smalti._storable_names import storable_names
from smalti._validate import check_keys, check_path, check_seed, check_text, check_unique, shorten

from ._joining import Features, join_cells, join_features
from ._open import open_mosaic
from ._sources import open_source
from ._spill import Spill
from ._store import MatrixWriter, editing, write_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._sources import Part, PathLike, Source

logger = logging.getLogger(__name__)

BUCKET_BYTES = 128 * 2**20
"""Memory of what is sorted at a time; about three times as much is used."""


def write_mosaic(
    paths: Sequence[PathLike] | Mapping[str, PathLike | Mapping[str, PathLike]],
    out: PathLike,
    *,
    layers: str | Mapping[str, str] | None = None,
    source_key: str = "source",
    mask_key: str = "measured",
    random_state: int = 0,
) -> MuData:
    """Write one mosaic on disk out of many files, which together may be larger than memory.

    Parameters
    ----------
    paths
        Files by name of the sample: ``.h5mu``, ``.h5`` of 10x Genomics, ``.h5ad`` with several kinds of features
        (``.var["feature_types"]``) or zarr folders of the same. A sample whose modalities lie in files of their own is
        a mapping, ``{"donor1": {"rna": "rna.h5ad", "atac": "atac.h5ad"}}``. In a list, samples are named by their
        files.
    out
        Folder (``.zarr``, format 3, compressed, in shards) or file (``.h5mu``, not compressed, read fastest); it
        appears when it is complete and replaces an older one.
    layers
        Layer with the values, for all or by modality; ``.X`` by default. Only these values are written.
    source_key
        Column of ``mdata.obs`` that will hold the name of the sample.
    mask_key
        Key of ``.varm`` of a modality of which samples measured different features: a boolean table of features by
        samples. Name it as ``Modality(feature_mask=...)`` with ``batch_key=source_key``.
    random_state
        Seed of the order of cells.

    Returns
    -------
    The mosaic, opened by :func:`open_mosaic`.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    KeyError
        If a layer does not exist.
    ValueError
        If a file is of another kind, names repeat, or fewer than two modalities come together.
    OSError
        If ``out`` cannot be written; what was there before stays.

    Notes
    -----
    Within a sample, the same name is the same cell; cells of different samples are different cells. If a name occurs in
    two samples, all cells get their sample in front, ``donor1_AACG``. Features are joined by name, in the order in
    which samples bring them; one that a sample did not measure is stored as zero and marked in the table ``mask_key``.
    Columns of ``.obs`` come together in ``mdata.obs``; where two modalities of a sample disagree, the column of the
    later one is called ``modality:column``. Columns of ``.var`` are those of the first sample that has the feature.
    ``.obsm``, ``.varm``, ``.uns`` and graphs are left out.

    Cells are shuffled once, within groups of cells with the same modalities, so that batches drawn from neighbours are
    random and every modality is read in one piece. This takes disk space beside ``out`` for all values, uncompressed,
    and about 400 MB of memory, besides the tables. A matrix stored by features (CSC) is read whole, one at a time.
    Counts are stored in the smallest type that holds them.
    """
    named, out = _named(paths), check_path(out, "out")
    check_seed(random_state)
    for key, what in ((source_key, "source_key"), (mask_key, "mask_key")):
        check_text(key, what)
    for where in _files(named):
        if check_path(where, "paths").resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(f"{out} is, or lies in, one of the files to read; write to another place.")
    if out.suffix not in (".zarr", ".h5mu"):
        raise ValueError(f"Expected `out` to end in .zarr or .h5mu, found {str(out)!r}.")
    check_writable(out, folder=out.suffix == ".zarr")
    sources = [open_source(name, where, layers) for name, where in named.items()]
    if isinstance(layers, Mapping):
        check_keys(layers, list(_by_modality(sources)), "`layers`")
    write_sources(sources, out, source_key=source_key, mask_key=mask_key, random_state=random_state)
    return open_mosaic(out)


def write_sources(sources: Sequence[Source], out: Path, *, source_key: str, mask_key: str, random_state: int) -> None:
    """Write a mosaic of samples that are open, see :func:`write_mosaic`."""
    parts = _by_modality(sources)
    if len(parts) < 2:
        raise ValueError(f"Expected files with at least two modalities, found {shorten(parts) or 'none'}.")
    if odd := storable_names(parts):
        raise ValueError(f"A file cannot hold a modality of the name {shorten(odd)}: choose another one.")
    features = {name: join_features(of) for name, of in parts.items()}
    cells = join_cells(sources, source_key)
    presence = np.zeros((len(cells.obs), len(parts)), dtype=bool)
    for m, (name, of) in enumerate(parts.items()):
        for part in of:
            presence[cells.at[part.source, name], m] = True
    order = _shuffled(presence, np.random.default_rng(random_state))
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    obs, presence = cells.obs.iloc[order], presence[order]
    ends = _buckets(parts, presence)
    if cells.renamed:
        logger.info("Names of cells repeat between samples: all get the name of their sample in front.")
    with ExitStack() as stack:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".smalti-", dir=out.parent)))
        spills: dict[str, Spill] = {}
        for name, of in parts.items():
            (scratch / f"m{len(spills)}").mkdir()
            spills[name] = _spill(of, features[name], position, cells.at, ends, scratch / f"m{len(spills)}")
        beside = stack.enter_context((replacing if out.suffix == ".h5mu" else replacing_folder)(out))
        _write_frame(beside, obs, presence, features, spills, mask_key)
        _write_values(beside, spills, len(ends), presence)


def _named(paths: Any) -> dict[str, Any]:
    if isinstance(paths, Mapping):
        named = {str(name): where for name, where in paths.items()}
    elif isinstance(paths, str | Path):
        raise TypeError(f"Expected `paths` to be several files, found {str(paths)!r}. Write `[{str(paths)!r}]`.")
    elif not isinstance(paths, Iterable) or isinstance(paths, AnnData | MuData):
        raise TypeError(f"Expected `paths` to be names of files, found the type {type(paths).__name__}.")
    else:
        check_unique([check_path(path, "paths").stem for path in paths], "Names of files")
        named = {Path(path).stem: path for path in paths}
    if not named:
        raise ValueError("Expected at least one file in `paths`, found none.")
    return named


def _files(named: Mapping[str, Any]) -> list[PathLike]:
    return [path for where in named.values() for path in (where.values() if isinstance(where, Mapping) else [where])]


def _by_modality(sources: Sequence[Source]) -> dict[str, list[Part]]:
    out: dict[str, list[Part]] = {}
    for source in sources:
        for part in source.parts:
            out.setdefault(part.modality, []).append(part)
    return out


def _shuffled(presence: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return cells in random order within groups of the same modalities, those with the first modality first.

    MuData orders the union of cells by their first modality, so that this is the order in which it will name them.
    """
    random = rng.permutation(len(presence))
    return random[np.lexsort((~presence[random]).T[::-1])]


def _buckets(parts: Mapping[str, Sequence[Part]], presence: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return after which cell, in the final order, each bucket ends."""
    weight = np.zeros(len(presence))
    for m, of in enumerate(parts.values()):
        total = sum(part.matrix.nnz * (part.matrix.dtype.itemsize + 4) for part in of)
        weight += presence[:, m] * (total / max(sum(part.matrix.shape[0] for part in of), 1))
    reached = np.cumsum(weight)
    n = int(np.ceil(reached[-1] / BUCKET_BYTES)) if len(reached) else 1
    ends = np.searchsorted(reached, np.linspace(0, reached[-1], max(n, 1) + 1)[1:-1])
    return np.unique(np.append(ends, len(presence)))


def _spill(
    parts: Sequence[Part],
    features: Features,
    position: NDArray[np.int64],
    at: Mapping[tuple[str, str], NDArray[np.int64]],
    ends: NDArray[np.int64],
    folder: Path,
) -> Spill:
    dtype = np.result_type(*(part.matrix.dtype for part in parts))
    dtype = np.dtype({"b": np.uint8, "f": np.float32}.get(dtype.kind, dtype))
    spill = Spill(folder, ends, len(features.var), dtype, any(part.matrix.sparse for part in parts))
    for part in parts:
        columns, cells = features.columns_of(part), at[part.source, part.modality]
        for rows, piece in part.matrix.iter_chunks():
            spill.add(_placed(piece, columns, spill), position[cells[rows]])
    return spill


def _placed(piece: Any, columns: NDArray[np.int32], spill: Spill) -> Any:
    """Return rows with their values in the columns of the union."""
    if not sp.issparse(piece):
        out = np.zeros((len(piece), spill.n_columns), piece.dtype)
        out[:, columns[columns >= 0]] = piece[:, columns >= 0]
        return sp.csr_matrix(out) if spill.sparse else out
    target = columns[piece.indices]
    here = target >= 0
    row_ends = np.concatenate([[0], np.cumsum(here)])[piece.indptr]
    out = sp.csr_matrix((piece.data[here], target[here], row_ends), shape=(piece.shape[0], spill.n_columns))
    out.sort_indices()
    return out


def _write_frame(
    path: Path,
    obs: pd.DataFrame,
    presence: NDArray[np.bool_],
    features: Mapping[str, Features],
    spills: Mapping[str, Spill],
    mask_key: str,
) -> None:
    """Write everything but values, as MuData does."""
    modalities = {}
    for m, (name, of) in enumerate(features.items()):
        names = obs.index[presence[:, m]]
        x = sp.csr_matrix((len(names), len(of.var)), dtype=spills[name].smallest_dtype)
        modalities[name] = AnnData(x, obs=pd.DataFrame(index=names), var=of.var.copy())
        if of.measured is not None:
            modalities[name].varm[mask_key] = of.measured
    mdata = build_mudata(modalities, obs=obs)
    make_storable(mdata)
    write_frame(path, mdata)


def _write_values(path: Path, spills: Mapping[str, Spill], n_buckets: int, presence: NDArray[np.bool_]) -> None:
    with editing(path) as store:
        for m, (name, spill) in enumerate(spills.items()):
            shape = int(presence[:, m].sum()), spill.n_columns
            group = store["mod"][name]
            writer = MatrixWriter(group, shape, spill.nnz, spill.smallest_dtype, sparse=spill.sparse)
            for i in range(n_buckets):
                writer.add(spill.bucket(i)[1])
                spill.drop(i)
            writer.close()
