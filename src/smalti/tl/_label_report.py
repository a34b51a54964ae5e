"""How good predicted labels are, class by class and modality by modality."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti import metrics
from smalti._validate import shorten
from smalti.metrics import ABSTAINED, error_of_curve

from ._describe_text import WIDTH
from ._label_baseline import linear_labels
from ._label_inputs import JOINT, by_modality, members, of_cells, read_labels, read_probabilities

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import TypeAlias

    from mudata import MuData

    Labels: TypeAlias = str | pd.Series


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelReport:
    """What :func:`label_report` found. Print it, or show it in a notebook."""

    table: pd.DataFrame
    """One row per modality and class: cells ``n``, ``recall``, ``precision``, share ``abstained``, and mean
    ``confidence`` if there are probabilities. A class without cells in a modality has ``n = 0``."""
    summary: pd.DataFrame
    """One row per modality: cells ``n``, ``n_classes`` that occur, ``accuracy``, ``balanced_accuracy``, ``coverage``
    (share not abstained), ``ece`` if there are probabilities, and ``linear`` if it was told which labels a model had:
    balanced accuracy of logistic regression on these labels, from the modality alone, for the same cells."""
    confusion: dict[str, pd.DataFrame]
    """Counts by true label (rows) and predicted label (columns, the last for abstentions), by modality."""
    calibration: dict[str, pd.DataFrame]
    """Confidence and accuracy by bin, as :func:`smalti.metrics.calibration_curve` returns them, by modality; empty
    without probabilities."""

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, ``"(joint)"`` among them where predictions from all of them were scored."""
        return list(self.confusion)

    @property
    def classes(self) -> list[str]:
        """All labels that are true or predicted anywhere, sorted."""
        return list(next(iter(self.confusion.values())).index)

    def recall(self) -> pd.DataFrame:
        """Return recall by class (rows) and modality (columns); missing where a class has no cells."""
        wide = self.table.pivot(index="class", columns="modality", values="recall")
        return wide.loc[self.classes, self.modalities]

    def headline(self) -> str:
        """Return what was scored, in one sentence."""
        return f"Predicted labels: {len(self.classes)} classes, from {', '.join(self.modalities)}"

    def _recall_texts(self) -> pd.DataFrame:
        """Return recall and number of cells in words, by class and modality."""
        rows = self.table.assign(
            text=[
                f"{recall:.2f} ({n:,})" if n else "-"
                for recall, n in zip(self.table["recall"], self.table["n"], strict=True)
            ]
        )
        wide = rows.pivot(index="class", columns="modality", values="text").loc[self.classes, self.modalities]
        return wide.rename_axis(index=None, columns=None)

    def __repr__(self) -> str:
        summary = self.summary.rename_axis(index=None).to_string(
            float_format="{:.3f}".format, na_rep="-", line_width=WIDTH
        )
        recall = self._recall_texts().to_string(line_width=WIDTH)
        return f"{self.headline()}\n\n{summary}\n\nRecall of each class (cells)\n{recall}"

    def _repr_html_(self) -> str:
        summary = self.summary.rename_axis(index=None).to_html(float_format="{:.3f}".format, na_rep="-", border=0)
        recall = self._recall_texts().to_html(border=0)
        return f"<p>{escape(self.headline())}</p>{summary}<p>Recall of each class (cells)</p>{recall}"


def label_report(
    mdata: MuData,
    truth: Labels,
    predicted: Labels | Mapping[str, Labels],
    *,
    modalities: Sequence[str] | None = None,
    exclude: Collection[object] | str = (),
    probabilities: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    trained_on: Labels | None = None,
    n_bins: int = 15,
) -> LabelReport:
    """Score predicted labels by class and modality.

    A cell counts for a modality if it was measured in it and its true label is known. A prediction that is missing
    there is an abstention, which is a miss; predictions for cells without the modality are ignored. Labels are compared
    as text, as models name them.

    Parameters
    ----------
    mdata
        The mosaic.
    truth
        Column of ``mdata.obs``, or a Series indexed by cell name. Cells that it lacks do not count: pass the true
        labels of the test cells alone to score these.
    predicted
        Column or Series of labels predicted from all that a cell has; they are scored for all cells, as ``"(joint)"``,
        and for the cells of each modality. Or ``{modality: column or Series}`` of labels predicted from each modality
        alone, in which ``"(joint)"`` may be a key too.
    modalities
        Modalities to score; by default all of ``mdata``, or all of ``predicted``.
    exclude
        Labels that mean "unlabelled", such as ``("unknown",)``. Cells with such a true label do not count, such a
        prediction is an abstention.
    probabilities
        Data frame indexed by cell name with a column per class, or one for each key of ``predicted``. Confidence is
        the largest probability of a cell, whether or not a label was predicted; rows of NaN have none.
    trained_on
        The labels that the model was given, column or Series, missing or one of ``exclude`` where it had none. Then
        logistic regression on the same labels is scored beside it: a model that is not better adds nothing.
    n_bins
        Bins of confidence.

    Returns
    -------
    :class:`LabelReport`. All scores are in [0, 1]; higher is better but for ``ece``, the expected calibration error.
    ``accuracy / coverage`` is the accuracy among cells that got a label.

    Raises
    ------
    KeyError
        If a modality or column does not exist.
    TypeError
        If predictions or probabilities are of another type, or of another shape than each other.
    ValueError
        If names of cells repeat or do not fit, a cell that counts was not predicted, or no cell counts.
    MosaicAlignmentError
        If the map between cells and rows is stale.
    """
    answers, names = by_modality(mdata, predicted, modalities)
    given = read_probabilities(probabilities, predicted, names)
    true = read_labels(mdata, truth, "truth")
    if not true.index.intersection(mdata.obs_names).size:
        raise ValueError(f"No cell of `mdata` is in `truth`, which has {shorten(true.index)}. Index it by cell name.")
    true = true.reindex(mdata.obs_names)
    unlabeled = {exclude} if isinstance(exclude, str) else {str(label) for label in exclude}
    known = (true.notna() & ~true.isin(unlabeled)).to_numpy()
    here = {name: known & cells for name, cells in members(mdata, names).items()}
    if not any(rows.any() for rows in here.values()):
        raise ValueError("Expected cells with a true label in at least one modality, found none.")
    scored = {name: of_cells(mdata, answers[name], here[name], "prediction", name) for name in names}
    scored = {name: labels.mask(labels.isin(unlabeled)) for name, labels in scored.items()}
    seen = [*scored.values(), *(true[rows] for rows in here.values())]
    classes = sorted({label for labels in seen for label in labels.dropna().unique()})
    tables, summary, confusion, calibration = [], {}, {}, {}
    for name in names:
        actual = true[here[name]]
        confusion[name] = _confusion(actual, scored[name], classes)
        table = _by_class(confusion[name])
        summary[name] = _overall(confusion[name], table)
        if given is not None:
            p = of_cells(mdata, given[name], here[name], "probabilities", name).dropna(how="all")
            table["confidence"] = p.max(axis=1).groupby(actual.loc[p.index]).mean().reindex(classes).to_numpy()
            summary[name]["ece"] = np.nan
            if len(p):
                calibration[name] = metrics.calibration_curve(p, actual.loc[p.index], n_bins=n_bins)
                summary[name]["ece"] = error_of_curve(calibration[name])
        table.insert(0, "modality", name)
        tables.append(table)
    if trained_on is not None:
        given_labels = read_labels(mdata, trained_on, "trained_on")
        given_labels = given_labels.mask(given_labels.isin(unlabeled))
        for name, found in linear_labels(mdata, given_labels, [n for n in names if n != JOINT]).items():
            confused = _confusion(true[here[name]], found.loc[mdata.obs_names[here[name]]], classes)
            summary[name]["linear"] = _by_class(confused)["recall"].mean()
    overall = pd.DataFrame.from_dict(summary, orient="index").rename_axis(index="modality")
    overall = overall.astype({"n": int, "n_classes": int})
    return LabelReport(
        table=pd.concat(tables, ignore_index=True), summary=overall, confusion=confusion, calibration=calibration
    )


def _confusion(actual: pd.Series, found: pd.Series, classes: list[str]) -> pd.DataFrame:
    if len(actual):
        return metrics.confusion(actual, found, classes=classes)
    index, columns = pd.Index(classes, name="true"), pd.Index([*classes, ABSTAINED], name="predicted")
    return pd.DataFrame(0, index=index, columns=columns)


def _by_class(confusion: pd.DataFrame) -> pd.DataFrame:
    """Return recall, precision and abstentions of each class; NaN where nothing is to be divided."""
    n, answered = confusion.sum(axis=1).to_numpy(), confusion.iloc[:, :-1].sum(axis=0).to_numpy()
    right = np.diag(confusion)
    cells = np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "class": confusion.index,
            "n": n,
            "recall": right / cells,
            "precision": right / np.where(answered > 0, answered, np.nan),
            "abstained": confusion[ABSTAINED].to_numpy() / cells,
        }
    )


def _overall(confusion: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    n = int(table["n"].sum())
    cells = n or np.nan
    return {
        "n": n,
        "n_classes": int((table["n"] > 0).sum()),
        "accuracy": np.diag(confusion).sum() / cells,
        "balanced_accuracy": table["recall"].mean(),  # of the classes that occur
        "coverage": 1 - confusion[ABSTAINED].sum() / cells,
    }
