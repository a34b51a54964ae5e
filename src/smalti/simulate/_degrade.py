"""Make complete data poor: unpaired, with rare or absent classes and few labels, the truth kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from smalti._validate import check_in_range, check_keys
from smalti.data import presence

from ._common import round_robin
from ._mosaic import drop

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

Amounts: TypeAlias = Mapping[str | tuple[str, str], float]


def degrade(
    mdata: MuData,
    *,
    labels: float | Amounts | None = None,
    pairs: float | None = None,
    classes: Mapping[str | tuple[str, str], int] | None = None,
    labels_key: str | None = None,
    unlabeled_category: str = "unknown",
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Take pairs, samples of a class and labels away, in this order, and keep the true labels.

    Parameters
    ----------
    mdata
        Any mosaic; left as it is.
    labels
        Labels that are kept, per class and modality: a fraction in [0, 1] (``float``; at least one label if it is not
        0) or a count (``int``; ``1`` is one label, ``1.0`` are all). One number holds for all, a count then being an
        upper bound; a mapping, by class (in the modalities that have it) or by (class, modality), names those it holds
        for and leaves others their labels. The label of a paired sample counts in each of its modalities: where some
        samples are paired and others are not, a modality may end up with more labels than asked for.
    pairs
        Fraction of the paired samples that stay as they are, in [0, 1], the same in every class. The others keep one
        of their modalities, chosen at random, each equally often in every class.
    classes
        Number of samples to keep by class (so many in every modality) or by (class, modality), which goes first; 0
        makes the class absent. What is not named stays as it is. A paired sample loses the modality, not the others.
    labels_key
        Column of ``mdata.obs`` with the classes. Needed for ``labels`` and ``classes``; without it, ``pairs`` are taken
        regardless of classes.
    unlabeled_category
        What stands for "not known" in that column, before and after. Samples without a class, missing values included,
        count in none.
    random_state
        Seed or generator. Which samples are chosen depends on their names, not on their order; with one seed, those
        kept in a smaller number are among those kept in a larger one, and each argument draws from a stream of its own.

    Returns
    -------
    A new MuData, as :func:`drop` makes it. With ``labels_key``, ``obs["true_<labels_key>"]`` holds all labels (if it
    exists already, it is the truth and stays), and ``obs[labels_key]`` those that were kept. Columns of this name in
    the modalities' own ``obs`` change in the same way, so that no label is left behind.

    Raises
    ------
    KeyError
        If a class, a modality or the column does not exist.
    ValueError
        If a number is out of range, more samples or labels of a class are asked for by name than there are, or a
        modality would keep no sample.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.simulate.factor_views(600, n_clusters=3)
    >>> poor = sm.simulate.degrade(
    ...     mdata, pairs=0.0, classes={("label_2", "a"): 0}, labels={"label_2": 5}, labels_key="label"
    ... )
    >>> int((poor.obs["label"] == "label_2").sum())
    5
    """
    if labels_key is None and (labels is not None or classes is not None):
        raise ValueError("`labels` and `classes` need `labels_key`, the column of `mdata.obs` with the classes.")
    names = list(mdata.mod)
    keep = presence(mdata)
    streams = np.random.default_rng(random_state).spawn(3)
    order = np.argsort(mdata.obs_names.to_numpy(dtype=str), kind="stable")
    urn = np.empty((3, mdata.n_obs))  # the place of each sample in the drawing of pairs, classes and labels
    for row, stream in zip(urn, streams, strict=True):
        row[order] = stream.random(mdata.n_obs)

    label, known = np.zeros(mdata.n_obs, dtype=np.int64), ["all"]
    truth = None
    if labels_key is not None:
        check_keys([labels_key], list(mdata.obs), "Column of `mdata.obs`")
        key = f"true_{labels_key}"
        truth = mdata.obs[key if key in mdata.obs else labels_key]
        label, known = _codes(truth, unlabeled_category)
    if pairs is not None:
        check_in_range(pairs, 0, 1, "pairs")
        _unpair(keep, label, urn[0], pairs, streams[0].permutation(len(names)))
    for (c, m), n in _by_pair(classes, known, names, "classes").items():
        here = np.flatnonzero((label == c) & keep[:, m])
        where = f"Class {known[c]!r} in modality {names[m]!r}"
        lost = here[np.argsort(urn[1, here])][_amount(n, len(here), "classes", where, strict=True) :]
        keep[lost, m] = False

    degraded = drop(mdata, keep)
    if truth is None:
        return degraded
    rows = mdata.obs_names.get_indexer(degraded.obs_names)
    kept = mdata.obs[labels_key]
    if labels is not None:
        current = _positions(kept, known)
        labelled = _labelled(keep, current, urn[2], labels, known, names)
        kept = _hide(kept, labelled, known, unlabeled_category)
    for column, values in ((f"true_{labels_key}", truth), (labels_key, kept)):
        degraded.obs[column] = values.array[rows]
        for adata in degraded.mod.values():
            if labels_key in adata.obs:
                adata.obs[column] = values.array[mdata.obs_names.get_indexer(adata.obs_names)]
    return degraded


def _unpair(
    keep: NDArray[np.bool_],
    label: NDArray[np.int64],
    urn: NDArray[np.float64],
    fraction: float,
    turn: NDArray[np.int64],
) -> None:
    """Leave all but a fraction of the paired samples one modality, in place."""
    paired = np.flatnonzero(keep.sum(1) > 1)
    paired = paired[np.argsort(urn[paired])]
    # How far a sample is down the list of its class: the first of all lists together have classes in proportion.
    ranks = pd.Series(label[paired]).groupby(label[paired])
    share = (ranks.cumcount().to_numpy() + 0.5) / ranks.transform("size").to_numpy()
    paired = paired[np.argsort(share, kind="stable")]
    loses = paired[round(fraction * len(paired)) :][::-1]
    alike, group = np.unique(np.column_stack([label[loses], keep[loses]]), axis=0, return_inverse=True)
    for i, (_, *has) in enumerate(alike):
        cells = loses[group.ravel() == i]
        own = np.roll(turn[np.array(has, dtype=bool)[turn]], -i)  # classes begin with different modalities
        chosen = own[round_robin(len(cells), np.ones(len(own)), "modalities")]
        keep[cells] = False
        keep[cells, chosen] = True


def _labelled(
    keep: NDArray[np.bool_],
    label: NDArray[np.int64],
    urn: NDArray[np.float64],
    labels: float | Amounts,
    known: list[str],
    names: list[str],
) -> NDArray[np.bool_]:
    """Choose the samples that keep their labels."""
    strict = isinstance(labels, Mapping)
    amounts: Any = labels if strict else dict.fromkeys(known, labels)
    wanted = _by_pair(amounts, known, names, "labels")
    chosen = np.zeros(len(label), dtype=bool)
    for c in range(len(known)):
        here = keep & (label == c)[:, None]
        total = here.sum(0)
        quota = np.zeros(len(names), dtype=np.int64)
        for m, (name, n) in enumerate(zip(names, total, strict=True)):
            # A number said of the whole class asks nothing of modalities that lack it.
            must = strict and (n > 0 or (known[c], name) in amounts)
            where = f"Class {known[c]!r} in modality {name!r}"
            quota[m] = _amount(wanted.get((c, m), 1.0), n, "labels", where, strict=must)
        for m in np.argsort(total, kind="stable"):
            have = here[chosen].sum(0)
            free = np.flatnonzero(here[:, m] & ~chosen)
            full = here[free][:, have >= quota].any(1)  # their label would be one too many elsewhere
            free = free[np.lexsort((urn[free], full))]
            chosen[free[: max(quota[m] - have[m], 0)]] = True
    return chosen


def _hide(column: pd.Series, labelled: NDArray[np.bool_], known: list[str], unlabeled_category: str) -> pd.Series:
    values = column.astype(object).where(labelled, unlabeled_category)
    return pd.Series(pd.Categorical(values, categories=[*known, unlabeled_category]), index=column.index)


def _codes(column: pd.Series, unlabeled_category: str) -> tuple[NDArray[np.int64], list[Any]]:
    """Return classes as codes, -1 for none, and their names in a fixed order."""
    present = column[column.notna() & (column != unlabeled_category)].unique()
    known = sorted(present, key=str)
    return _positions(column, known), known


def _positions(column: pd.Series, known: list[Any]) -> NDArray[np.int64]:
    return pd.Index(known, dtype=object).get_indexer(column.astype(object)).astype(np.int64)


def _by_pair(
    amounts: Mapping[str | tuple[str, str], float] | None, known: list[str], names: list[str], what: str
) -> dict[tuple[int, int], float]:
    """Sort numbers by class and by (class, modality) into numbers by their codes; the latter go first."""
    out: dict[tuple[int, int], float] = {}
    pairs: dict[tuple[int, int], float] = {}
    for key, n in (amounts or {}).items():
        name, modality = key if isinstance(key, tuple) else (key, None)
        check_keys([name], known, f"Class in `{what}`")
        c = known.index(name)
        if modality is None:
            out |= {(c, m): n for m in range(len(names))}
        else:
            check_keys([modality], names, f"Modality in `{what}`")
            pairs[c, names.index(modality)] = n
    return out | pairs


def _amount(value: float, total: int, what: str, where: str, *, strict: bool) -> int:
    """Turn a count or fraction of ``total`` into a count."""
    if isinstance(value, float | np.floating) and what == "labels":
        check_in_range(float(value), 0, 1, what)
        return min(max(round(value * total), int(value > 0)), total)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{where}: expected a whole number >= 0 in `{what}`, found {value!r}.")
    if strict and value > total:
        raise ValueError(f"{where} has {total} samples, but `{what}` asks for {value}. Ask for at most {total}.")
    return min(int(value), int(total))
