"""Latents of any tools on any mosaic, side by side: types, batches, presence, matching, imputation."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from smalti._validate import check_choice
from smalti.data import looks_like_counts, matrix_of, measured_matrix, presence, row_maps
from smalti.metrics import total_score

from ._evaluate import evaluate
from ._evaluate_inputs import by_name, find_pairs, read_column, read_latents
from ._evaluate_matching import lacks_single
from ._evaluation import IMPUTATION, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from ._evaluate_inputs import Embedding, Latents, Pairs
    from ._evaluation import Evaluation

Backend = Literal["auto", "scib", "own"]
N_DONORS = 15
MAX_QUERIES, MAX_FEATURES = 5000, 500
"""Cells and features (the most variable) that imputation is scored on."""
BIO = ("nmi", "ari", "nmi_leiden", "ari_leiden", "asw_types", "clisi")
BATCH = ("ilisi_batch", "asw_batch", "kbet_batch")


def benchmark(
    mdata: MuData,
    keys: str | ArrayLike | Sequence[str] | Mapping[str, Embedding],
    *,
    aligned: Mapping[str, Embedding] | None = None,
    modalities: tuple[str, str] | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    layers: Mapping[str, str] | None = None,
    backend: Backend = "auto",
    random_state: int = 0,
) -> Evaluation:
    """Score latents of any tools on any mosaic: all of :func:`evaluate`, and imputation, in one table.

    Scores of types and batches are computed by scib-metrics where it is installed (``smalti[benchmark]``), otherwise by
    :mod:`smalti.metrics`, which follows the same definitions; ``notes["backend"]`` says which. Draw the table with
    :func:`smalti.pl.benchmark`.

    Parameters
    ----------
    mdata
        The mosaic that the latents belong to. With pairs that :func:`smalti.simulate.hide_pairs` hid, matching and
        imputation are scored on them.
    keys, aligned, modalities, batch_key, labels_key, layers
        As in :func:`evaluate`. One latent of all cells per tool is enough.
    backend
        ``"scib"`` insists on scib-metrics, ``"own"`` on :mod:`smalti.metrics`.
    random_state
        Seed of clusterings and draws.

    Returns
    -------
    :class:`Evaluation`, a row per latent and a column per score. ``impute <a> -> <b>`` is the correlation of the values
    of ``b`` with their prediction, the mean over the 15 nearest cells that were measured in ``b`` of a cell that is
    seen from ``a``; mean over the 500 most variable features, 0 for a blind latent.

    Raises
    ------
    ImportError
        If scib-metrics is asked for and not installed.
    KeyError, ValueError
        As :func:`evaluate`.

    Examples
    --------
    >>> split = sm.simulate.hide_pairs(mdata)
    >>> sm.tl.linear_joint(split, batch_key="batch")
    >>> found = sm.tl.benchmark(split, ["X_joint", "X_totalVI"], batch_key="batch", labels_key="celltype")
    >>> sm.pl.benchmark(found)
    """
    check_choice(backend, ("auto", "scib", "own"), "backend")
    has_scib = find_spec("scib_metrics") is not None
    if backend == "scib" and not has_scib:
        raise ImportError("scib-metrics is not installed: `pip install 'smalti[benchmark]'`, or pass `backend='own'`.")
    found = evaluate(
        mdata,
        keys,
        aligned=aligned,
        modalities=modalities,
        batch_key=batch_key,
        labels_key=labels_key,
        layers=layers,
        random_state=random_state,
    )
    named = {name: read_latents(mdata, name, embedding) for name, embedding in by_name(keys).items()}
    table, notes = found.scores.copy(), dict(found.notes)
    if backend != "own" and has_scib:
        _by_scib(mdata, table, named, batch_key, labels_key)
        notes["backend"] = "types and batches by scib-metrics, the rest by smalti.metrics."
    else:
        notes["backend"] = "all by smalti.metrics."
    pairs = find_pairs(mdata, modalities)
    if isinstance(pairs, str):
        notes[IMPUTATION] = pairs
    else:
        for name, latents in named.items():
            if reason := lacks_single(name, latents, pairs):
                notes[f"{IMPUTATION}, {name}"] = reason
                continue
            for way in (0, 1):
                title = f"impute {pairs.modalities[way]} -> {pairs.modalities[1 - way]}"
                table.loc[name, title] = _imputation(mdata, latents, pairs, way, layers or {}, random_state)
    table = table[sorted(table.columns, key=place)]
    chance = found.chance.reindex(table.columns)
    chance[[c for c in table if c.startswith("impute ")]] = 0.0
    return replace(found, scores=table, chance=chance, notes=notes)


def _imputation(mdata: MuData, latents: Latents, pairs: Pairs, way: int, layers: Mapping[str, str], seed: int) -> float:
    """Return the mean correlation over features of values and those of the nearest cells."""
    source, target = pairs.modalities[way], pairs.modalities[1 - way]
    queries, truth = pairs.rows[way], pairs.rows[1 - way]
    if len(queries) > MAX_QUERIES:
        at = np.sort(np.random.default_rng(seed).choice(len(queries), MAX_QUERIES, replace=False))
        queries, truth = queries[at], truth[at]
    z = latents.of(source, queries, mdata.obs_names)
    seen = latents.single.get(target, latents.joint)
    can = presence(mdata, [target])[:, 0] & np.isfinite(seen).all(axis=1)
    if pairs.held_out:
        can[truth] = False  # the other halves of the cells that are asked for
    donors = np.flatnonzero(can)
    k = min(N_DONORS + 1, len(donors))
    if k < 2:
        return float("nan")
    near = donors[NearestNeighbors(n_neighbors=k).fit(seen[donors]).kneighbors(z)[1]]
    own = near == truth[:, None]
    weight = np.where(own, 0.0, 1.0)
    weight[~own.any(axis=1), -1] = 0.0  # as many donors for all
    rows = row_maps(mdata, [target])[target]
    values = _values(mdata, target, layers.get(target), rows[donors])
    expected = np.einsum("nk,nkg->ng", weight, values[rows[near]]) / weight.sum(axis=1, keepdims=True)
    return _mean_correlation(expected, values[rows[truth]])


def _values(mdata: MuData, name: str, layer: str | None, donors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the features that vary most among donors, ``(n, 500)``; counts as logarithms per median total.

    No more than these features is ever dense.
    """
    raw = matrix_of(mdata.mod[name], layer, name)
    x = sp.csr_matrix(measured_matrix(mdata.mod[name], layer, name), dtype=np.float64)
    if looks_like_counts(raw):
        total = np.asarray(x.sum(axis=1)).ravel()
        typical = np.median(total[total > 0]) if (total > 0).any() else 1.0
        x = sp.csr_matrix(sp.diags(typical / np.maximum(total, 1)) @ x).log1p()
    some = x[donors]
    variance = np.asarray(some.multiply(some).mean(axis=0)).ravel() - np.asarray(some.mean(axis=0)).ravel() ** 2
    rank = np.argsort(-variance, kind="stable")[:MAX_FEATURES]
    return np.asarray(x[:, rank].toarray())


def _mean_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    varies = (b**2).sum(axis=0) > 1e-12
    if not varies.any():
        return float("nan")
    r = (a * b).sum(axis=0)[varies] / np.maximum(size[varies], 1e-12)
    return float(r.mean())


def _by_scib(
    mdata: MuData, table: pd.DataFrame, named: Mapping[str, Latents], batch_key: str | None, labels_key: str | None
) -> None:
    """Replace what scib-metrics scores, too, and the means that hang on it."""
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import NeighborsResults

    from smalti.metrics import nearest_neighbors

    labels = None if labels_key is None else read_column(mdata, labels_key, "unknown")
    batch = None if batch_key is None else read_column(mdata, batch_key, None)
    for name, latents in named.items():
        here = np.isfinite(latents.joint).all(axis=1)
        if labels is None or "bio" not in table or pd.isna(table.loc[name, "bio"]):
            continue  # what it adds are scores of types and of batches within types
        here &= pd.notna(labels) & (True if batch is None else pd.notna(batch))
        z, types = np.asarray(latents.joint[here], dtype=np.float32), pd.factorize(labels[here])[0]
        near = nearest_neighbors(z, k=min(89, len(z) - 2))
        rows = np.arange(len(z))[:, None]
        graph = NeighborsResults(
            indices=np.hstack([rows, near.indices]),
            distances=np.hstack([np.zeros((len(z), 1)), near.distances]).astype(np.float32),
        )
        kmeans, leiden = scib.nmi_ari_cluster_labels_kmeans(z, types), _leiden(scib, graph, types)
        new: dict[str, Any] = {"nmi": kmeans["nmi"], "ari": kmeans["ari"]} | leiden
        new |= {"asw_types": scib.silhouette_label(z, types), "clisi": scib.clisi_knn(graph, types)}
        if "batch" in table and pd.notna(table.loc[name, "batch"]) and batch is not None:
            groups = pd.factorize(batch[here])[0]
            new |= {
                "ilisi_batch": scib.ilisi_knn(graph, groups),
                "asw_batch": scib.silhouette_batch(z, types, groups),
                "kbet_batch": scib.kbet_per_label(graph, groups, types),
            }
        for score, value in new.items():
            table.loc[name, score] = float(np.asarray(value))
        table.loc[name, "bio"] = table.loc[name, [c for c in BIO if c in table]].mean()
        mixed = [c for c in BATCH if c in table]
        if mixed:
            table.loc[name, "batch"] = table.loc[name, mixed].mean()
        means = {
            c: float(table.loc[name, c]) for c in ("batch", "presence") if c in table and pd.notna(table.loc[name, c])
        }
        table.loc[name, "total"] = total_score(float(table.loc[name, "bio"]), **means)


def _leiden(scib: Any, graph: Any, types: NDArray[Any]) -> dict[str, float]:
    found = scib.nmi_ari_cluster_labels_leiden(graph, types, n_jobs=1, seed=0)
    return {"nmi_leiden": found["nmi"], "ari_leiden": found["ari"]}
