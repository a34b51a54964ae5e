"""What an evaluation found, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from rich.markup import escape as escape_markup
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANCE = "(chance)"
MATCHING, TYPES, BATCH, PRESENCE, TOTAL = "matching", "cell types", "batches", "presence", "total"
IMPUTATION = "imputation"


class Score(NamedTuple):
    """How a score is shown."""

    group: str
    title: str
    meaning: str
    lower: bool = False


SCORES: dict[str, Score] = {
    "foscttm": Score(MATCHING, "FOSCTTM (cosine)", "share of candidates closer than the true partner", lower=True),
    "foscttm_depth": Score(
        MATCHING, "FOSCTTM, equal depth", "the same among candidates of the partner's depth", lower=True
    ),
    "matching": Score(MATCHING, "matching score (k = {})", "weight of the true partner among mutual neighbours"),
    "recall": Score(MATCHING, "recall at {}", "share of cells with the true partner among the nearest"),
    "transfer": Score(MATCHING, "transfer {}", "share of cells whose type is right when carried over"),
    "mixing": Score(MATCHING, "mixing of modalities", "modalities among neighbours, relative to a random mixture"),
    "impute": Score(IMPUTATION, "correlation, {}", "values predicted from the nearest cells that have them"),
    "nmi": Score(TYPES, "NMI (k-means)", "agreement of clusters with types"),
    "ari": Score(TYPES, "ARI (k-means)", "agreement of clusters with types, beyond chance"),
    "nmi_leiden": Score(TYPES, "NMI (Leiden)", "the same for Leiden clusters at the best resolution"),
    "ari_leiden": Score(TYPES, "ARI (Leiden)", "the same for Leiden clusters at the best resolution"),
    "asw_types": Score(TYPES, "silhouette of types", "are types apart; 0.5 where they overlap"),
    "clisi": Score(TYPES, "cLISI", "are neighbours of one type"),
    "connectivity": Score(TYPES, "connectivity", "is each type one piece of the neighbour graph (not in the mean)"),
    "bio": Score(TYPES, "cell types, mean", "mean of the six above"),
    "ilisi_batch": Score(BATCH, "iLISI", "batches among neighbours, relative to a random mixture"),
    "asw_batch": Score(BATCH, "silhouette within types", "do batches overlap within types"),
    "kbet_batch": Score(BATCH, "kBET within types", "cells whose neighbours are a fair draw of batches"),
    "batch": Score(BATCH, "batches, mean", "mean of those above"),
    "ilisi_presence": Score(PRESENCE, "iLISI", "presence patterns among neighbours, relative to a random mixture"),
    "asw_presence": Score(PRESENCE, "silhouette within types", "do presence patterns overlap within types"),
    "presence": Score(PRESENCE, "presence, mean", "mean of those above"),
    "total": Score(TOTAL, "total", "0.6 cell types + 0.4 mean of batches and presence"),
}
"""In the order of the table; ``matching_k<k>``, ``recall_at_<k>``, ``transfer <a> -> <b>`` and ``impute <a> -> <b>``
are filled in."""


def _key(name: str) -> str:
    for prefix, key in (
        ("matching_k", "matching"),
        ("recall_at_", "recall"),
        ("transfer ", "transfer"),
        ("impute ", "impute"),
    ):
        if name.startswith(prefix):
            return key
    return name


def is_score(name: object) -> bool:
    """Return whether an evaluation may have a column of such a name."""
    return isinstance(name, str) and (_key(name) in SCORES)


def place(name: str) -> int:
    """Return where the score of a column stands in the table."""
    return list(SCORES).index(_key(name))


def describe_score(name: str) -> Score:
    """Return how the score of a column of :class:`Evaluation` is shown.

    Parameters
    ----------
    name
        Name of the column.

    Returns
    -------
    Part of the table, title, meaning, and whether lower is better.
    """
    score = SCORES[_key(name)]
    filled = name.split("_k")[-1].split("_at_")[-1].removeprefix("transfer ").removeprefix("impute ")
    return score._replace(title=score.title.format(filled))


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """What :func:`evaluate` measured. Print it, or show it in a notebook."""

    scores: pd.DataFrame
    """One row per embedding, one column per score."""
    chance: pd.Series
    """What a blind guess scores, by column; missing where there is no such number."""
    modalities: tuple[str, str] | None
    """The two modalities whose pairs were scored; None if no pairs were."""
    n_pairs: int
    """Pairs that were scored."""
    held_out: bool
    """Whether the pairs were hidden while the embeddings were made."""
    batch_key: str | None = None
    """Column of batches; partners were sought within them."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Why scores are missing, or what they look at, by part of the table."""

    @property
    def table(self) -> pd.DataFrame:
        """Scores with chance as the last row."""
        return pd.concat([self.scores, self.chance.rename(CHANCE).to_frame().T])

    @property
    def best(self) -> dict[str, str]:
        """Name of the best embedding of each score."""
        found = {}
        for name, column in self.scores.items():
            lower = describe_score(str(name)).lower
            found[str(name)] = str((column.idxmin if lower else column.idxmax)(skipna=True))
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return a row per score: part of the table, title, embeddings, chance, which direction is better, meaning."""
        table = self.table.T
        shown = [describe_score(str(name)) for name in table.index]
        table.insert(0, "part", [score.group for score in shown])
        table.insert(1, "title", [score.title for score in shown])
        table["better"] = ["lower" if score.lower else "higher" for score in shown]
        table["meaning"] = [score.meaning for score in shown]
        return table.rename_axis("score")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, as for JSON; missing numbers are ``None``."""
        table = self.table
        rows = {str(i): {c: None if pd.isna(v) else float(v) for c, v in table.loc[i].items()} for i in table.index}
        return {
            "modalities": None if self.modalities is None else list(self.modalities),
            "n_pairs": self.n_pairs,
            "held_out": self.held_out,
            "batch_key": self.batch_key,
            "notes": dict(self.notes),
            "scores": {name: row for name, row in rows.items() if name != CHANCE},
            "chance": rows[CHANCE],
        }

    def headline(self) -> str:
        """Return what was scored, in one sentence."""
        if self.modalities is None:
            return "No pairs were scored"
        kind = "hidden in training" if self.held_out else "SEEN in training: this is no test"
        where = "" if self.batch_key is None else "; partners sought in the cell's own batch"
        return f"{self.n_pairs:,} pairs of {' and '.join(self.modalities)}, {kind}{where}"

    def __repr__(self) -> str:
        return "\n".join([self.headline(), self._shown().to_string(), *self._sentences()])

    def __rich__(self) -> Table:
        caption = escape_markup("\n".join(self._sentences()))
        table = Table(title=self.headline(), title_justify="left", title_style="", caption=caption)
        table.caption_justify, table.caption_style = "left", ""
        names = [str(name) for name in self.table.index]
        table.add_column("score")
        for name in names:
            table.add_column(escape_markup(name), justify="right")
        before, best = None, self.best
        for column, row in self.table.items():
            score = describe_score(str(column))
            if score.group != before:
                if before is not None:
                    table.add_section()
                before = score.group
                if score.group != TOTAL:
                    table.add_row(f"[bold]{score.group}[/]")
            texts = ["-" if pd.isna(value) else f"{value:.3f}" for value in row]
            at = names.index(best[str(column)])
            texts[at] = f"[bold green]{texts[at]}[/]"
            table.add_row(escape_markup(f"{score.title} {_arrow(score)}"), *texts)
        return table

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        return f"<p>{escape(self.headline())}</p>{self._shown().to_html(border=0)}{notes}"

    def _shown(self) -> pd.DataFrame:
        """Texts of the table, a row per score."""
        table = self.table.T
        texts = table.map(lambda value: "-" if pd.isna(value) else f"{value:.4f}").astype(object)
        shown = [describe_score(str(name)) for name in table.index]
        texts.index = pd.MultiIndex.from_tuples(
            [(score.group, f"{score.title} {_arrow(score)}") for score in shown], names=["", "score"]
        )
        return texts

    def _sentences(self) -> list[str]:
        return [f"{part}: {reason}" for part, reason in self.notes.items()]


def _arrow(score: Score) -> str:
    return "↓" if score.lower else "↑"
