"""How often predictions are right, told without held-out labels: by labels left out of a linear fit and agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smalti._linear_labels import left_out_probabilities
from smalti.metrics import fit_temperature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

MIN_PER_CLASS = 2
"""Labelled samples of a class below which a linear classifier is not told of it."""
PRIOR = 20
"""Labelled samples that the accuracy in all modalities counts for where one of them has few."""
SMALLEST, LARGEST = 0.05, 100.0
"""Temperatures between which one is sought."""


class LeftOut(NamedTuple):
    """Predictions of labelled samples of one modality, each from a linear fit without it."""

    probabilities: Floats
    """``(n, n_labels)``."""
    labels: Codes
    """``(n,)``."""
    known: NDArray[np.bool_]
    """Which samples these are, of all that have the modality."""

    @property
    def n_right(self) -> int:
        """How many of them are right."""
        return int((self.probabilities.argmax(axis=1) == self.labels).sum())


class Belief(NamedTuple):
    """What left-out labels say of a linear classifier."""

    accuracy: float
    """How often it is right, in [0, 1]."""
    temperature: float
    """Which its probabilities need."""


def frequent(labels: Codes) -> NDArray[np.bool_] | None:
    """Return labelled samples of classes that have two; ``None`` if these are fewer than two classes."""
    count = np.bincount(labels[labels >= 0], minlength=max(int(labels.max(initial=0)) + 1, 1))
    known = (labels >= 0) & (count[np.maximum(labels, 0)] >= MIN_PER_CLASS)
    return known if len(np.unique(labels[known])) >= 2 else None


def leave_out(x: NDArray[np.float32], labels: Codes, known: NDArray[np.bool_], n_labels: int) -> LeftOut:
    """Predict every sample that :func:`frequent` returned from a linear fit without it."""
    return LeftOut(left_out_probabilities(x, labels, known, n_labels), labels[known], known)


def believe(own: LeftOut, everywhere: Iterable[LeftOut]) -> Belief:
    """Return accuracy and temperature of the linear classifier of one modality.

    Fifteen labels tell an accuracy up to a standard error of 0.12, so that the accuracy in all modalities counts like
    20 labels more. The temperature, which differs little between modalities, is that of all of them.

    Parameters
    ----------
    own
        Of the modality.
    everywhere
        Of all modalities, this one among them.
    """
    parts = list(everywhere)
    right, n = sum(part.n_right for part in parts), sum(len(part.labels) for part in parts)
    accuracy = (own.n_right + PRIOR * right / n) / (len(own.labels) + PRIOR)
    logits = np.log(np.clip(np.concatenate([part.probabilities for part in parts]), 1e-12, None))
    return Belief(float(accuracy), fit_temperature(logits, np.concatenate([part.labels for part in parts])))


def accuracy_by_agreement(linear: Codes, network: Codes, accuracy: float, n_classes: int) -> float:
    r"""Return how often the network is right, from how often it agrees with a classifier of known accuracy.

    If both err independently, and errors spread evenly over :math:`K - 1` classes, they agree on a share
    :math:`a = q p + (1 - q)(1 - p) / (K - 1)` of the samples, which is solved for :math:`q`. Errors in common make it
    too large: it is an upper bound rather than an estimate.

    Parameters
    ----------
    linear, network
        ``(n,)`` predictions of samples without a label.
    accuracy
        How often the first is right, :math:`p`.
    n_classes
        :math:`K`.

    Returns
    -------
    In [0, 1]; ``accuracy`` where the first is no better than chance, which tells nothing.
    """
    by_error = (1 - accuracy) / (n_classes - 1)
    if accuracy - by_error < 0.05:
        return accuracy
    agreement = float((linear == network).mean())
    return float(np.clip((agreement - by_error) / (accuracy - by_error), 0, 1))


def tempered(p: Floats, temperature: float) -> Floats:
    """Return probabilities to the power of one over the temperature, rows sum to 1."""
    logits = np.log(np.clip(p, 1e-12, None)) / temperature
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: Floats = q / q.sum(axis=1, keepdims=True)
    return out


def temperature_of(p: Floats, accuracy: float, least: float = SMALLEST) -> float:
    """Return the temperature, at least ``least``, at which probabilities are as sure on average as they are right."""
    low, high = np.log(least), np.log(LARGEST)
    if tempered(p, least).max(axis=1).mean() <= accuracy:
        return least
    for _ in range(40):
        middle = (low + high) / 2
        sure = tempered(p, float(np.exp(middle))).max(axis=1).mean()
        low, high = (middle, high) if sure > accuracy else (low, middle)
    return float(np.exp(high))
