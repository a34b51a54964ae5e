"""Whether predicted probabilities mean what they say, and the temperature that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import softmax

from smalti._validate import check_count, check_positive, check_unique, shorten
from smalti.metrics._inputs import as_embedding, encode_labels

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import ArrayLike, NDArray

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
"""Bounds of :func:`fit_temperature`: beyond them probabilities are 0, 1 or 1 / K for logits of any usual size."""
SUM_TOLERANCE = 1e-2
"""How far a sum of probabilities may be from 1: half precision rounds each by up to 5e-4."""


def calibration_curve(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    n_bins: int = 15,
    classes: Sequence[object] | None = None,
    exclude: Collection[object] | str = (),
) -> pd.DataFrame:
    """Compare confidence with accuracy, in bins of confidence: the data of a reliability diagram :cite:p:`Guo2017`.

    The confidence of a cell is its largest probability; it is right if that is the probability of its label.

    Parameters
    ----------
    probabilities
        ``(n, K)``, rows that sum to 1. A row of nothing but NaN is no prediction and is left out.
    labels
        ``(n,)`` true labels. Cells with missing values (None, NaN) are left out; a label that is not in ``classes``
        can only be missed.
    n_bins
        Bins of equal width in [0, 1], open below and closed above.
    classes
        Labels that the columns stand for; by default the column names of a data frame, otherwise 0 to K - 1.
    exclude
        Labels that mean "unlabelled"; their cells are left out.

    Returns
    -------
    One row per bin: its limits ``low`` and ``high``, the number of cells ``n``, their mean ``confidence`` and their
    ``accuracy``, both in [0, 1] and NaN in an empty bin.

    Raises
    ------
    ValueError
        If shapes differ, probabilities are negative or do not sum to 1, no cell is left, or no label is in ``classes``.
    """
    check_count(n_bins, "n_bins")
    p, codes = _probabilities(probabilities, labels, classes, exclude)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == codes
    limits = np.linspace(0, 1, n_bins + 1)
    place = np.searchsorted(limits[1:-1], confidence)
    n = np.bincount(place, minlength=n_bins)
    filled = np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "low": limits[:-1],
            "high": limits[1:],
            "n": n,
            "confidence": np.bincount(place, confidence, n_bins) / filled,
            "accuracy": np.bincount(place, right, n_bins) / filled,
        }
    )


def expected_calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    n_bins: int = 15,
    classes: Sequence[object] | None = None,
    exclude: Collection[object] | str = (),
) -> float:
    r"""Compute the mean distance of confidence and accuracy over bins of confidence :cite:p:`Guo2017`.

    .. math:: \sum_b \frac{n_b}{n} \left|\text{accuracy}_b - \text{confidence}_b\right|

    It says nothing of accuracy itself. Chance alone makes it positive: with few cells per bin even true probabilities
    score well above 0, so compare only numbers from as many cells.

    Parameters
    ----------
    probabilities, labels, n_bins, classes, exclude
        As in :func:`calibration_curve`.

    Returns
    -------
    In [0, 1], lower is better.

    Raises
    ------
    ValueError
        As :func:`calibration_curve`.
    """
    curve = calibration_curve(probabilities, labels, n_bins=n_bins, classes=classes, exclude=exclude)
    return error_of_curve(curve)


def error_of_curve(curve: pd.DataFrame) -> float:
    """Return the expected calibration error of a table that :func:`calibration_curve` made."""
    gaps = (curve["accuracy"] - curve["confidence"]).abs() * curve["n"] / curve["n"].sum()
    return float(gaps.sum())  # empty bins are missing and add nothing


def chance_error_of_curve(curve: pd.DataFrame, *, n_draws: int = 200, seed: int = 0) -> float:
    """Return the expected calibration error that a perfect confidence would show with as many cells per bin.

    Parameters
    ----------
    curve
        Table that :func:`calibration_curve` made.
    n_draws
        Sets of outcomes that are drawn.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    filled = curve[curve["n"] > 0]
    n, p = filled["n"].to_numpy(dtype=np.int64), np.clip(filled["confidence"].to_numpy(dtype=float), 0, 1)
    drawn = rng.binomial(n, p, size=(n_draws, len(n))) / n
    return float((np.abs(drawn - p) * n / n.sum()).sum(axis=1).mean())


def brier_score(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    classes: Sequence[object] | None = None,
    exclude: Collection[object] | str = (),
) -> float:
    r"""Compute the mean squared distance of probabilities to the label, :math:`\sum_k (p_k - [y = k])^2`.

    Unlike the calibration error it is proper: it is lowest, on average, for the true probabilities.

    Parameters
    ----------
    probabilities, labels, classes, exclude
        As in :func:`calibration_curve`.

    Returns
    -------
    In [0, 2], lower is better; :math:`1 - 1/K` for equal probabilities. With two classes it is twice the score of
    :func:`sklearn.metrics.brier_score_loss` on the probabilities of one of them.

    Raises
    ------
    ValueError
        As :func:`calibration_curve`.
    """
    p, codes = _probabilities(probabilities, labels, classes, exclude)
    of_label = np.where(codes >= 0, p[np.arange(len(p)), codes], 0)
    return float(((p**2).sum(axis=1) - 2 * of_label + 1).mean())


def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    classes: Sequence[object] | None = None,
    exclude: Collection[object] | str = (),
    pseudo_count: float = 1.0,
) -> float:
    r"""Find the temperature whose softmax(logits / T) has the lowest cross-entropy :cite:p:`Guo2017`.

    With n labelled cells, K classes, one-hot labels y and :math:`\varepsilon = c / (n + c)`,

    .. math:: \min_T -\frac1n \sum_i \sum_k \left[(1 - \varepsilon) y_{ik} + \frac{\varepsilon}{K}\right]
        \log \operatorname{softmax}(l_i / T)_k,

    which is convex in 1 / T, so its only minimum is found exactly. Where every label has the largest logit, the
    cross-entropy alone (c = 0) falls forever as T goes to 0, and n right answers would be taken for certainty. The
    pseudo-count c, one cell whose label is anything, keeps T finite: the confidence then stays near
    :math:`1 - \varepsilon`, and with many cells the term vanishes.

    Scaling the logits scales T. Which label is the most probable does not depend on T.

    Parameters
    ----------
    logits
        ``(n, K)`` unnormalised log-probabilities, of cells that were not trained on. A row of nothing but NaN is left
        out.
    labels
        ``(n,)`` true labels. Cells with missing values (None, NaN) are left out.
    classes, exclude
        As in :func:`calibration_curve`.
    pseudo_count
        Weight c of the added cell; 0 for the cross-entropy alone.

    Returns
    -------
    In [0.01, 100]; above 1 if the logits were too sure. The upper bound if labels have, on average, no larger logits
    than other classes; the lower bound if ``pseudo_count=0`` and every label has the largest logit; 1 if all logits of
    each cell are equal, so that T changes nothing.

    Raises
    ------
    ValueError
        If shapes differ, a logit is not finite, no labelled cell is left, or a label is not in ``classes``.
    """
    check_positive(pseudo_count, "pseudo_count", allow_zero=True)
    values, codes = _known(logits, labels, classes, exclude, "logits")
    if (codes < 0).any():
        raise ValueError(
            f"Expected every label to be one of `classes`, found {int((codes < 0).sum())} cells with another one, for "
            "which there is no logit. Leave these cells out, for instance by `exclude`."
        )
    values -= values.max(axis=1, keepdims=True)
    if not values.any():
        return 1.0
    epsilon = pseudo_count / (len(values) + pseudo_count)
    wanted = (1 - epsilon) * values[np.arange(len(values)), codes] + epsilon * values.mean(axis=1)

    def slope(log_beta: float) -> float:
        """Return the derivative by 1 / T, which grows with 1 / T."""
        expected = (softmax(np.exp(log_beta) * values, axis=1) * values).sum(axis=1)
        return float((expected - wanted).mean())

    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    return float(np.exp(-brentq(slope, low, high)))


def _probabilities(
    probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[object] | None, exclude: Collection[object] | str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, codes = _known(probabilities, labels, classes, exclude, "probabilities")
    total = p.sum(axis=1)
    if p.min() < 0 or np.abs(total - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            "Expected rows of `probabilities` to be >= 0 and to sum to 1, found values from "
            f"{p.min():.3g} and sums from {total.min():.3g} to {total.max():.3g}. Logits need a softmax first."
        )
    return p, codes


def _known(
    values: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[object] | None,
    exclude: Collection[object] | str,
    what: str,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return values and columns of the labels of labelled cells that have values; -1 for a label without a column."""
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        as_embedding(array, what)  # says what is wrong
    codes, names = encode_labels(labels, len(array), "labels", exclude=exclude)
    if classes is None:
        classes = list(values.columns) if isinstance(values, pd.DataFrame) else list(range(array.shape[1]))
    if len(classes) != array.shape[1]:
        raise ValueError(f"Expected `classes` to name the {array.shape[1]} columns of `{what}`, found {len(classes)}.")
    check_unique([str(name) for name in classes], "`classes`")
    used = (codes >= 0) & ~np.isnan(array).all(axis=1)
    if not used.any():
        raise ValueError(f"Expected labelled cells with `{what}`, found none among {len(array)} cells.")
    array = as_embedding(array, what, mask=used)[used].astype(np.float64)
    place = pd.Index(classes, dtype=object).get_indexer(names)
    columns = place[codes[used]]
    if (columns < 0).all():
        raise ValueError(
            f"Expected `labels` to be among the classes {shorten(classes)}, found none of them but {shorten(names)}. "
            "Pass the labels of the columns in `classes`."
        )
    return array, columns
