"""What labelled training samples of a class look like to the encoder of a modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import StratifiedKFold
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

N_QUANTILES = 401
MIN_LABELLED = 20
"""Labelled samples below which nobody can say what is unusual."""
N_FOLDS = 5
KEPT_UNALTERED = 0.25
"""Chance that a sample of a small class is shown as it is."""


class ClassReference(nn.Module):
    """Centres of the classes, their common covariance, and how far a sample usually is from the nearest centre.

    Parameters
    ----------
    n_labels
        Number of classes ``K``.
    n_in
        Width of the encoder input.

    Attributes
    ----------
    centre
        ``(K, n_in)``; rows of classes without a labelled sample are zero.
    count
        ``(K,)`` labelled training samples.
    whiten
        ``(n_in, n_in)``; distances are Euclidean after it.
    quantiles
        ``(401,)`` quantiles of the distance of held-out labelled samples from the nearest centre; infinite if there
        were too few.
    inferred_centre
        ``(K, n_in)`` after whitening, of classes that only other modalities showed, by
        ``infer_centres``.
    inferred
        ``(K,)`` bool: which rows of it hold.
    """

    centre: Tensor
    count: Tensor
    whiten: Tensor
    quantiles: Tensor
    inferred_centre: Tensor
    inferred: Tensor

    def __init__(self, n_labels: int, n_in: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_labels, n_in))
        self.register_buffer("count", torch.zeros(n_labels, dtype=torch.int64))
        self.register_buffer("whiten", torch.eye(n_in))
        self.register_buffer("quantiles", torch.full((N_QUANTILES,), torch.inf))
        self.register_buffer("inferred_centre", torch.zeros(n_labels, n_in))
        self.register_buffer("inferred", torch.zeros(n_labels, dtype=torch.bool))

    def fit(self, x: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Fit to encoder inputs ``(n, n_in)`` and labels ``(n,)``, -1 where not known.

        The distances of reference are those of samples that were in neither centres nor covariance (five folds).
        """
        x, labels = x[labels >= 0], labels[labels >= 0]
        count = np.bincount(labels, minlength=len(self.count))
        self.count.copy_(torch.from_numpy(count))
        if len(x) == 0:
            return
        centre, whiten = _centres(x, labels, len(count))
        self.centre.copy_(torch.from_numpy(centre))
        self.whiten.copy_(torch.from_numpy(whiten))
        inside = count[labels] >= 2
        if inside.sum() < MIN_LABELLED:
            return
        x, labels = x[inside], labels[inside]
        distances = np.empty(len(x))
        folds = StratifiedKFold(min(N_FOLDS, int(count[labels].min())), shuffle=True, random_state=0)
        for fit, held_out in folds.split(x, labels):
            centre, whiten = _centres(x[fit], labels[fit], len(count))
            known = np.unique(labels[fit])
            delta = (x[held_out] @ whiten)[:, None] - (centre[known] @ whiten)[None]
            distances[held_out] = np.sqrt(np.square(delta).sum(axis=2).min(axis=1))
        levels = np.quantile(distances, np.linspace(0, 1, N_QUANTILES))
        self.quantiles.copy_(torch.from_numpy(levels.astype(np.float32)))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the share of labelled training samples that are at least as far from every class, ``(n,)`` in [0, 1].

        1 where the model cannot say.
        """
        known = self.count > 0
        if not bool(known.any()) or bool(torch.isinf(self.quantiles).any()):
            return torch.ones(len(x), device=x.device)
        distance = torch.cdist(x @ self.whiten, self.centre[known] @ self.whiten).min(dim=1).values
        rank = torch.searchsorted(self.quantiles.contiguous(), distance.contiguous())
        return 1 - rank.to(x.dtype) / N_QUANTILES

    @torch.no_grad()
    def inferred_class(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class with the nearest inferred centre, ``(n,)``, and how much nearer it is than known ones.

        The second is the difference of squared distances, ``(n,)``, above 0 where the inferred centre is nearer. -1 and
        minus infinity if nothing was inferred.
        """
        known = self.count > 0
        if not bool(self.inferred.any()) or not bool(known.any()):
            return torch.full((len(x),), -1, device=x.device), torch.full((len(x),), -torch.inf, device=x.device)
        z = x @ self.whiten
        best = torch.cdist(z, self.inferred_centre[self.inferred]).min(dim=1)
        nearest = torch.cdist(z, self.centre[known] @ self.whiten).min(dim=1).values
        return torch.nonzero(self.inferred).ravel()[best.indices], nearest.square() - best.values.square()

    def borrow_variation(self, x: Tensor, labels: Tensor, below: int) -> tuple[Tensor, Tensor]:
        """Add to samples of small classes what sets a sample of a large class apart from the centre of its own.

        Where the covariance within classes is similar, this shows the network how a class of one sample would vary
        (feature transfer; Hariharan and Girshick 2017 learn such transfers). A quarter of the samples stays as it is.

        Parameters
        ----------
        x
            ``(n, n_in)`` encoder inputs.
        labels
            ``(n,)``, -1 where not known.
        below
            Labelled training samples below which a class is small.

        Returns
        -------
        The inputs, and which rows were altered, ``(n,)`` bool.
        """
        altered = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        known = labels >= 0
        large = self.count[labels.clamp(min=0)] >= below
        donors = torch.nonzero(known & large).ravel()
        small = torch.nonzero(known & ~large).ravel()
        small = small[torch.rand(len(small), device=x.device) >= KEPT_UNALTERED]
        if len(donors) < 2 or len(small) == 0:
            return x, altered
        chosen = donors[torch.randint(len(donors), (len(small),), device=x.device)]
        altered[small] = True
        return x.index_add(0, small, x[chosen] - self.centre[labels[chosen]]), altered


def _centres(
    x: NDArray[np.float32], labels: NDArray[np.int64], n_labels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return class means ``(K, d)`` and a map ``(d, d)`` that whitens what is left around them."""
    sums = np.zeros((n_labels, x.shape[1]))
    np.add.at(sums, labels, x)
    centre = sums / np.maximum(np.bincount(labels, minlength=n_labels), 1)[:, None]
    residual = x - centre[labels]
    if len(x) < 3 or not residual.any():
        return centre.astype(np.float32), np.eye(x.shape[1], dtype=np.float32)
    covariance = LedoitWolf(assume_centered=True).fit(residual).covariance_
    values, vectors = np.linalg.eigh(covariance)
    return centre.astype(np.float32), (vectors / np.sqrt(np.maximum(values, 1e-8))).astype(np.float32)
