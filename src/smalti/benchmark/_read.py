"""The real data sets of the tasks, read from a folder of ``.h5mu`` files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._mudata import no_pull
from smalti._validate import check_choice, check_keys, shorten
from smalti.benchmark._data import PairedData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VARIABLE = "SMALTI_DATA_DIR"
DATASETS: dict[str, str] = {"pbmc_mosaic": "celltype", "pbmc10k_cite": "cell_type", "snare_mop": "ident"}
"""Column of ``obs`` with cell types, by name of the data set."""


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Return the folder with the real data sets: ``data_dir``, or what the variable ``SMALTI_DATA_DIR`` says.

    Raises
    ------
    FileNotFoundError
        If neither is given, or the folder does not exist.
    """
    found = data_dir or os.environ.get(VARIABLE)
    if not found:
        raise FileNotFoundError(
            f"Expected the folder of the real data sets in `data_dir` or in the environment variable {VARIABLE}, found "
            "neither. Set one of them to the folder with the `.h5mu` files."
        )
    folder = Path(found)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected the real data sets in the folder {str(folder)!r}, found no such folder. Set `data_dir` or "
            f"{VARIABLE}."
        )
    return folder


def load_data(name: str, data_dir: str | Path | None = None) -> PairedData:
    """Return a data set by name.

    Parameters
    ----------
    name
        One of ``DATASETS``, ``"pbmc10k5k"`` (``pbmc10k_cite`` beside cells of another batch with RNA alone) or
        ``"sln_bridge"`` (RNA of one day, protein of another, and some cells of both days with both).
    data_dir
        See :func:`data_folder`.

    Raises
    ------
    ValueError
        If there is no data set of this name.
    FileNotFoundError
        If its file is not in the folder.
    """
    check_choice(name, (*DATASETS, "pbmc10k5k", "sln_bridge"), "name")
    folder = data_folder(data_dir)
    if name == "pbmc10k5k":
        return _with_second_batch(folder)
    if name == "sln_bridge":
        return _bridge(folder)
    return read_data(folder / f"{name}.h5mu", labels_key=DATASETS[name])


def read_data(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    labels_key: str = "cell_type",
    batch_key: str = "batch",
) -> PairedData:
    """Read two modalities of a ``.h5mu`` file with raw counts in ``.X``.

    Parameters
    ----------
    path
        The file.
    modalities
        Names of the two; the first two of the file by default.
    labels_key, batch_key
        Columns of ``obs`` with cell types and batches. Without the column all cells are unlabelled, or of one batch.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If a modality does not exist.
    ValueError
        If there are not two.
    """
    mdata = _read(Path(path))
    names = list(mdata.mod)[:2] if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    if len(names) != 2:
        raise ValueError(f"Expected two modalities in {Path(path).name!r}, found {shorten(names)}.")
    cells = mdata.obs_names.to_numpy().astype(str)
    counts, measured = {}, {}
    for name in names:
        at = pd.Index(cells).get_indexer(mdata.mod[name].obs_names)
        place = sp.csr_matrix((np.ones(len(at)), (at, np.arange(len(at)))), (len(cells), len(at)))
        counts[name] = (place @ sp.csr_matrix(mdata.mod[name].X)).tocsr().astype(np.float32)
        measured[name] = np.zeros(len(cells), dtype=bool)
        measured[name][at] = True
    obs = mdata.obs
    labels = obs[labels_key].astype(object).fillna("") if labels_key in obs else pd.Series("", obs.index)
    batch = obs[batch_key] if batch_key in obs else pd.Series("0", obs.index)
    return PairedData(
        name=Path(path).stem,
        counts=counts,
        measured=measured,
        features={name: mdata.mod[name].var_names.to_numpy().astype(str) for name in names},
        likelihoods={name: _likelihood(name, counts[name]) for name in names},
        labels=labels.astype(str).to_numpy(),
        batch=batch.astype(str).to_numpy(),
        cells=cells,
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the file {str(path)!r}, found none. Set `data_dir` or {VARIABLE} to its folder."
        )
    with no_pull():
        return mudata.read_h5mu(path)


def _likelihood(name: str, x: sp.csr_matrix) -> str:
    """Fragments of open chromatin are taken as open or closed, as are values of at most 1; the rest are counts."""
    return "bernoulli" if name == "atac" or (x.nnz and x.data.max() <= 1) else "nb"


def _with_second_batch(folder: Path) -> PairedData:
    """Two modalities in one batch, and the first of them in another."""
    data = load_data("pbmc10k_cite", folder)
    first, second = data.modalities
    extra = _read(folder / "pbmc5k_rna.h5mu").mod[first]
    n, none = extra.n_obs, np.zeros(extra.n_obs, dtype=bool)
    empty = sp.csr_matrix((n, data.counts[second].shape[1]), dtype=np.float32)
    added = {first: sp.csr_matrix(extra.X).astype(np.float32), second: empty}
    return PairedData(
        name="pbmc10k5k",
        counts={m: sp.vstack([x, added[m]]).tocsr() for m, x in data.counts.items()},
        measured={
            first: np.concatenate([data.measured[first], ~none]),
            second: np.concatenate([data.measured[second], none]),
        },
        features=data.features,
        likelihoods=data.likelihoods,
        labels=np.concatenate([data.labels, np.full(n, "")]),
        batch=np.repeat(["k10", "k5"], [data.n_cells, n]),
        cells=np.array([*(f"k10_{c}" for c in data.cells), *(f"k5_{c}" for c in extra.obs_names)]),
    )


def _bridge(folder: Path) -> PairedData:
    """One modality of one day, another of another day, and some cells of both days with both."""
    paired, apart = _read(folder / "sln_paired.h5mu"), _read(folder / "sln_diagonal.h5mu")
    names = list(paired.mod)[:2]
    both = list(paired.obs_names)
    alone = {m: apart.mod[m][~apart.mod[m].obs_names.isin(both)] for m in names}
    common = {m: paired.mod[m].var_names[paired.mod[m].var_names.isin(apart.mod[m].var_names)] for m in names}
    counts: dict[str, sp.csr_matrix] = {}
    measured: dict[str, NDArray[np.bool_]] = {}
    for m in names:
        parts, has = [sp.csr_matrix(paired.mod[m][both][:, common[m]].X)], [np.ones(len(both), dtype=bool)]
        for other in names:
            n = alone[other].n_obs
            mine = other == m
            parts.append(sp.csr_matrix(alone[m][:, common[m]].X) if mine else sp.csr_matrix((n, len(common[m]))))
            has.append(np.full(n, mine))
        counts[m], measured[m] = sp.vstack(parts).tocsr().astype(np.float32), np.concatenate(has)
    obs = [paired.obs.loc[both], *(apart.obs.loc[alone[m].obs_names] for m in names)]
    labels, batch = (np.concatenate([o[c].astype(str).to_numpy() for o in obs]) for c in ("cell_type", "batch"))
    return PairedData(
        name="sln_bridge",
        counts=counts,
        measured=measured,
        features={m: common[m].to_numpy().astype(str) for m in names},
        likelihoods=dict.fromkeys(names, "nb"),
        labels=labels,
        batch=batch,
        cells=np.array([*both, *(c for m in names for c in alone[m].obs_names)]).astype(str),
    )
