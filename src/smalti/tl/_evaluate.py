"""One table of scores for embeddings of the same cells from two modalities."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.markup import escape as escape_markup
from rich.table import Table

from smalti import metrics
from smalti._validate import check_count, check_keys, shorten
from smalti.data import presence
from smalti.simulate import hidden_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    Embedding = str | Mapping[str, ArrayLike]

logger = logging.getLogger(__name__)

CHANCE = "(chance)"
LOWER_IS_BETTER = ("foscttm",)
TITLES = {
    "foscttm": "FOSCTTM (cosine)",
    "matching_k10": "matching score (k = 10)",
    "recall_at_10": "recall at 10",
    "mixing": "mixing of modalities",
    "nmi": "NMI (k-means)",
    "ari": "ARI (k-means)",
}
"""How scores are called in the table of the command line."""
MIXING_NEIGHBORS = 30


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """What :func:`evaluate` measured. Print it, or show it in a notebook."""

    scores: pd.DataFrame
    """One row per embedding, one column per score."""
    chance: pd.Series
    """What a blind guess scores, by column; missing where there is no such number."""
    modalities: tuple[str, str]
    """The two modalities."""
    n_pairs: int
    """Pairs that were scored."""
    held_out: bool
    """Whether the pairs were hidden while the embeddings were made."""

    @property
    def table(self) -> pd.DataFrame:
        """Scores with chance as the last row."""
        return pd.concat([self.scores, self.chance.rename(CHANCE).to_frame().T])

    @property
    def best(self) -> dict[str, str]:
        """Name of the best embedding of each score."""
        columns = {name: -self.scores[name] if name in LOWER_IS_BETTER else self.scores[name] for name in self.scores}
        return {name: str(column.idxmax()) for name, column in columns.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, as for JSON; missing numbers are ``None``."""
        table = self.table
        rows = {str(i): {c: None if pd.isna(v) else float(v) for c, v in table.loc[i].items()} for i in table.index}
        return {
            "modalities": list(self.modalities),
            "n_pairs": self.n_pairs,
            "held_out": self.held_out,
            "scores": {name: row for name, row in rows.items() if name != CHANCE},
            "chance": rows[CHANCE],
        }

    def headline(self) -> str:
        """Return what was scored, in one sentence."""
        kind = "hidden in training" if self.held_out else "SEEN in training: this is no test"
        return f"{self.n_pairs:,} pairs of {' and '.join(self.modalities)}, {kind}"

    def __repr__(self) -> str:
        return f"{self.headline()}\n{self.table.T.to_string(float_format='{:.4f}'.format, na_rep='-')}"

    def __rich__(self) -> Table:
        table = Table(title=self.headline(), title_justify="left", title_style="")
        names = [str(name) for name in self.table.index]
        table.add_column("score")
        for name in names:
            table.add_column(escape_markup(name), justify="right")
        for column, row in self.table.items():
            arrow = "↓" if column in LOWER_IS_BETTER else "↑"
            texts = ["-" if pd.isna(value) else f"{value:.3f}" for value in row]
            best = names.index(self.best[str(column)])
            texts[best] = f"[bold green]{texts[best]}[/]"
            table.add_row(escape_markup(f"{TITLES.get(str(column), column)} {arrow}"), *texts)
        return table

    def _repr_html_(self) -> str:
        body = self.table.T.to_html(float_format="{:.4f}".format, na_rep="-", border=0)
        return f"<p>{escape(self.headline())}</p>{body}"


def evaluate(
    mdata: MuData,
    embeddings: Embedding | Sequence[str] | Mapping[str, Embedding],
    *,
    modalities: tuple[str, str] | None = None,
    labels_key: str | None = None,
    unlabeled_category: str = "unknown",
    k: int = 10,
    random_state: int = 0,
) -> Evaluation:
    """Score how well embeddings from two modalities agree on the same cells.

    Pairs that :func:`smalti.simulate.hide_pairs` hid before training are scored, since on pairs seen in training a
    model can be perfect by heart. Without hidden pairs, paired cells are scored, which the result and a warning say.

    Parameters
    ----------
    mdata
        The mosaic that the embeddings belong to.
    embeddings
        Key of ``mdata.obsm``, several keys, or a mapping of a name of the method to a key or to ``{modality: (n_obs,
        d)}`` arrays, NaN where absent. Of a key, ``<key>_<modality>`` is taken if it exists: the embedding from that
        modality alone. Otherwise ``<key>`` itself, which is the same for a hidden pair, since each of its parts has one
        modality.
    modalities
        The two modalities; may be left out if there are just two.
    labels_key
        Column of ``mdata.obs``, for the scores that need labels.
    unlabeled_category
        Value of that column that means "no label", besides missing values.
    k
        Neighbours of the matching score and length of the list for recall; fewer if there are fewer pairs.
    random_state
        Seed of k-means.

    Returns
    -------
    Table of

    - ``foscttm``: fraction of cells closer (by cosine) than the true match, in [0, 1], lower is better;
    - ``matching_k<k>``: matching score, in [0, 1]; ``recall_at_<k>``: true match (by cosine) in the list, in [0, 1];
    - ``transfer <a> -> <b>`` and back: accuracy of labels by 15 nearest neighbours, in [0, 1]; the chance row has the
      share of the most frequent label;
    - ``mixing``: of modalities among 30 neighbours, in [0, 1];
    - ``nmi``, ``ari``: k-means clusters of all scored profiles against labels, at most 1.

    Raises
    ------
    KeyError
        If an embedding, column or modality does not exist.
    ValueError
        If there are fewer than two pairs to score, an embedding lacks values for them, or there are more than two
        modalities and none are named.
    """
    first, second = _two(mdata, modalities)
    check_count(k, "k")
    named = _by_name(embeddings)
    rows, held_out = _pairs(mdata, first, second)
    n = len(rows[0])
    if n < 2:
        raise ValueError(f"Expected pairs of {first!r} and {second!r} to score, found {n}. Hide some before training.")
    k = min(k, n)
    labels = None if labels_key is None else _labels(mdata, labels_key, unlabeled_category, rows)
    scores = {}
    for name, embedding in named.items():
        x, y = (_take(mdata, embedding, m, at, held_out) for m, at in zip((first, second), rows, strict=True))
        scores[name] = _scores(x, y, labels, (first, second), k=k, random_state=random_state)
    table = pd.DataFrame(scores).T
    chance = pd.Series(np.nan, index=table.columns)
    chance["foscttm"], chance[f"matching_k{k}"], chance[f"recall_at_{k}"] = 0.5, 1 / n, k / n
    if labels is not None:
        for a, b, truth in ((first, second, labels[1]), (second, first, labels[0])):
            chance[f"transfer {a} -> {b}"] = pd.Series(truth).value_counts(normalize=True).iloc[0]
        chance["ari"] = 0.0
    return Evaluation(scores=table, chance=chance, modalities=(first, second), n_pairs=n, held_out=held_out)


def _two(mdata: MuData, modalities: tuple[str, str] | None) -> tuple[str, str]:
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"Expected two modalities to compare, found {shorten(names)}. Name two in `modalities`.")
    return names[0], names[1]


def _by_name(embeddings: Any) -> dict[str, Any]:
    if isinstance(embeddings, str):
        return {embeddings: embeddings}
    return dict(embeddings) if isinstance(embeddings, Mapping) else {key: key for key in embeddings}


def _pairs(mdata: MuData, first: str, second: str) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], bool]:
    if {"cell", "hidden"} <= set(mdata.obs.columns):
        rows = hidden_pairs(mdata, first, second)
        if len(rows[0]):
            return rows, True
    both = np.flatnonzero(presence(mdata, [first, second]).all(axis=1))
    logger.warning(
        "No pairs are hidden, so %d cells are scored whose pairing the embeddings may have been trained on. For a "
        "test, train on `sm.simulate.hide_pairs(mdata)`.",
        len(both),
    )
    return (both, both), False


def _labels(
    mdata: MuData, key: str, unlabeled: str, rows: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    check_keys([key], list(mdata.obs.columns), "Column of `mdata.obs`")
    values = mdata.obs[key].astype(object)
    values = values.where(values.isna(), values.astype(str)).to_numpy(dtype=object, copy=True)
    values[values == unlabeled] = None
    return values[rows[0]], values[rows[1]]


def _take(mdata: MuData, embedding: Any, modality: str, rows: NDArray[np.int64], held_out: bool) -> NDArray[Any]:
    if isinstance(embedding, str):
        own = f"{embedding}_{modality}"
        if own not in mdata.obsm and not held_out:
            raise KeyError(
                f"`mdata.obsm` has no {own!r}: for cells with several modalities the embedding from {modality!r} alone "
                "is needed, as `get_latent_representation(modality=...)` returns it."
            )
        key = own if own in mdata.obsm else embedding
        check_keys([key], list(mdata.obsm), "Embedding in `mdata.obsm`")
        what, z = f"`mdata.obsm[{key!r}]`", np.asarray(mdata.obsm[key])
    else:
        check_keys([modality], list(embedding), "Modality of the embedding")
        what, z = f"The embedding from {modality!r}", np.asarray(embedding[modality])
    if z.ndim != 2 or len(z) != mdata.n_obs:
        raise ValueError(f"{what} has shape {z.shape}, expected one row for each of the {mdata.n_obs} cells.")
    z = z[rows]
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        raise ValueError(f"{what} is missing for {int(bad.sum())} cells: {shorten(mdata.obs_names[rows[bad]])}.")
    return z


def _scores(
    x: NDArray[Any],
    y: NDArray[Any],
    labels: tuple[NDArray[Any], NDArray[Any]] | None,
    names: tuple[str, str],
    *,
    k: int,
    random_state: int,
) -> dict[str, float]:
    n = len(x)
    both, modality = np.vstack([x, y]), np.repeat(names, n)
    out = {
        "foscttm": float(metrics.foscttm(x, y, metric="cosine")),
        f"matching_k{k}": metrics.matching_score(x, y, k=k),
        f"recall_at_{k}": metrics.recall_at_k(x, y, k=k, metric="cosine")[k],
    }
    if labels is not None:
        votes = min(15, *(int(pd.notna(values).sum()) for values in labels))
        first, second = names
        out[f"transfer {first} -> {second}"] = metrics.label_transfer(x, labels[0], y, labels[1], k=votes)
        out[f"transfer {second} -> {first}"] = metrics.label_transfer(y, labels[1], x, labels[0], k=votes)
    out["mixing"] = metrics.modality_mixing(both, modality, k=min(MIXING_NEIGHBORS, 2 * n - 1))
    if labels is not None:
        clusters = metrics.nmi_ari(both, np.concatenate(labels), seed=random_state)
        out |= {"nmi": clusters.nmi, "ari": clusters.ari}
    return out
