"""Canonical correlations of encodings, differentiable: whitening by Cholesky factors, two and more views."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch

from . import _look

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ViewPair = tuple[str, str]
logger = logging.getLogger(__name__)

RIDGE = 1e-3
"""Of the released code of COPER (Eisenberg et al., 2025)."""


def cholesky_root(covariance: Tensor, level: Tensor | float) -> Tensor:
    """Return the lower Cholesky factor ``(d, d)`` of a covariance plus ``level`` on its diagonal.

    Raises
    ------
    torch.linalg.LinAlgError
        If the sum is not positive definite; on a GPU, which would have to be waited for, the factor is NaN instead.
    """
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    root: Tensor
    root, info = torch.linalg.cholesky_ex(covariance + level * eye, check_errors=_look.may_look(covariance))
    return root if _look.may_look(root) else torch.where(info == 0, root, torch.nan)


def whitened_cross(cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""Return :math:`L_1^{-1} C_{12} L_2^{-\top}`, whose singular values are the canonical correlations.

    Parameters
    ----------
    cross
        ``(d_1, d_2)`` cross-covariance :math:`C_{12}`.
    first, second
        ``(d_1, d_1)`` and ``(d_2, d_2)`` lower Cholesky factors of the two covariances.

    Returns
    -------
    ``(d_1, d_2)``.
    """
    left = torch.linalg.solve_triangular(first, cross, upper=False)
    return torch.linalg.solve_triangular(second, left.T, upper=False).T


def canonical_correlations(u: Tensor, v: Tensor, *, ridge: float = RIDGE) -> Tensor:
    r"""Return the canonical correlations of two encodings of the same cells, largest first.

    .. math:: \mathrm{svd}\big(L_1^{-1} C_{12} L_2^{-\top}\big), \qquad L_m L_m^\top = C_{mm} + r I

    with covariances of divisor :math:`B - 1`. A column that does not vary has correlation 0.

    Parameters
    ----------
    u, v
        ``(B, d_1)`` and ``(B, d_2)``, at least two rows; there may be fewer rows than columns if ``ridge`` is positive,
        but then correlations are high by chance.
    ridge
        Added to the diagonals, in the squared units of the encodings.

    Returns
    -------
    ``(min(d_1, d_2),)`` in ``[0, 1)``.

    Raises
    ------
    torch.linalg.LinAlgError
        If a covariance is not positive definite, as without a ridge for fewer rows than columns.
    """
    joint = _joint_covariance(u, v)
    d = u.shape[1]
    roots = cholesky_root(joint[:d, :d], ridge), cholesky_root(joint[d:, d:], ridge)
    values: Tensor = torch.linalg.svdvals(whitened_cross(joint[:d, d:], *roots))
    return values


@dataclass
class CCAState:
    """What :func:`deep_cca` remembers from one batch to the next.

    Parameters
    ----------
    momentum
        Weight of what was seen before in the covariances, in ``[0, 1)``; 0 uses the batch alone. Gradients pass through
        the part of the batch. For batches with fewer than about ten paired cells per component.
    max_failures
        Pairs whose covariance could not be factorised in one epoch before an error is raised.
    covariances
        ``{pair: (d_1 + d_2, d_1 + d_2)}`` running sums, without gradient.
    weights
        ``{pair: total weight of the sum}``, by which it is divided.
    failures
        Number in this epoch.
    """

    momentum: float = 0.0
    max_failures: int = 10
    covariances: dict[ViewPair, Tensor] = field(default_factory=dict)
    weights: dict[ViewPair, float] = field(default_factory=dict)
    failures: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Expected `momentum` to be in interval [0, 1), found {self.momentum!r}.")

    def start_epoch(self) -> None:
        """Count failures anew."""
        self.failures = 0

    def average(self, pair: ViewPair, covariance: Tensor) -> Tensor:
        """Return the covariance of a batch averaged with those before it, and remember that."""
        if self.momentum == 0:
            return covariance
        fresh, weight = (1 - self.momentum) * covariance, 1 - self.momentum
        if pair in self.covariances:
            fresh = self.momentum * self.covariances[pair].to(covariance) + fresh
            weight += self.momentum * self.weights[pair]
        if bool(torch.isfinite(fresh).all()):  # one bad batch must not spoil all that follow
            self.covariances[pair], self.weights[pair] = fresh.detach(), weight
        return fresh / weight

    def count_failure(self, pair: ViewPair) -> None:
        """Count a failure; raise ``FloatingPointError`` if there were too many in this epoch."""
        self.failures += 1
        if self.failures > self.max_failures:
            raise FloatingPointError(
                f"Expected covariances of encodings that can be factorised, found {self.failures} in one epoch that "
                f"cannot, last for views {pair[0]!r} and {pair[1]!r}. Lower the learning rate or raise `ridge`."
            )


class DeepCCA(NamedTuple):
    """What :func:`deep_cca` returns."""

    loss: Tensor
    """Scalar; -1 whatever the correlations are, or 0 if no pair could be used. Only its gradient says something."""
    correlations: dict[ViewPair, Tensor]
    """``(r,)`` by pair that was used, largest first, without gradient: what to log."""
    skipped: tuple[ViewPair, ...]
    """Pairs of views with too few common cells in the batch."""
    failed: tuple[ViewPair, ...]
    """Pairs whose covariance was not finite or not positive definite; they add nothing to the loss."""


def deep_cca(
    views: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None = None,
    *,
    n_components: int | None = None,
    ridge: float = RIDGE,
    min_cells: int | None = None,
    state: CCAState | None = None,
    pairs: Mapping[tuple[str, str], Tensor] | None = None,
) -> DeepCCA:
    r"""Return the loss of deep canonical correlation analysis, over all pairs of views.

    For views :math:`a, b` with :math:`n_{ab}` common cells and canonical correlations :math:`\rho_1 \ge \rho_2 \dots`

    .. math:: -\sum_{a < b} \frac{n_{ab}}{\sum n} \frac{c_{ab}}{\mathrm{sg}(c_{ab})}, \qquad
              c_{ab} = \sum_{k \le r} \rho_k

    where sg stops the gradient, so that every pair pulls as strongly whatever it has reached: the gradient is that of
    :math:`-\log c_{ab}`.

    Parameters
    ----------
    views
        ``{view: (B, d)}`` encodings of the same cells; widths may differ.
    present
        ``{view: (B,)}`` boolean, True where measured; everywhere by default. Other rows are not looked at.
    pairs
        Positions of the cells that two views have in common, ``(n,)``, by pair of views, instead of ``present``.
    n_components
        Leading correlations ``r`` that are summed; by default as many as the narrower view has columns.
    ridge
        Added to the diagonals, in the squared units of the encodings.
    min_cells
        Common cells below which a pair is skipped; by default ``2 r``.
    state
        Running covariances and the count of failures; by default the batch alone, and failures are only logged and
        returned.

    Returns
    -------
    The loss, the correlations, and the pairs that were left out.

    Raises
    ------
    FloatingPointError
        If ``state`` counted too many failures.
    """
    terms, n_cells, correlations = [], [], {}
    skipped, failed = [], []
    for pair in combinations(views, 2):
        u, v = (views[name] for name in pair)
        if pairs is not None:
            u, v = u[pairs[pair]], v[pairs[pair]]
        elif present is not None:
            both = present[pair[0]] & present[pair[1]]
            u, v = u[both], v[both]
        narrow = min(u.shape[1], v.shape[1])
        r = narrow if n_components is None else min(n_components, narrow)
        if len(u) < max(2 * r if min_cells is None else min_cells, 2):
            skipped.append(pair)
            continue
        joint = _joint_covariance(u, v)
        values = _correlations_of(joint if state is None else state.average(pair, joint), u.shape[1], ridge)
        if values is None:
            failed.append(pair)
            logger.warning("The covariance of %s and %s in a batch cannot be factorised: it is left out.", *pair)
            if state is not None:
                state.count_failure(pair)
            continue
        total = values[:r].sum()
        terms.append(total / total.detach().clamp(min=1e-8))
        n_cells.append(len(u))
        correlations[pair] = values[:r].detach()
    if terms:
        weight = torch.tensor(n_cells, dtype=terms[0].dtype, device=terms[0].device)
        loss = -(torch.stack(terms) * weight).sum() / weight.sum()
    else:
        finite = [torch.nan_to_num(z).sum() for z in views.values()]
        loss = torch.stack(finite).sum() * 0.0
    return DeepCCA(loss, correlations, tuple(skipped), tuple(failed))


def _joint_covariance(u: Tensor, v: Tensor) -> Tensor:
    """Return the covariance of both encodings side by side, ``(d_1 + d_2, d_1 + d_2)``."""
    z = torch.cat([u - u.mean(dim=0), v - v.mean(dim=0)], dim=1)
    return z.T @ z / (len(z) - 1)


def _correlations_of(joint: Tensor, d: int, ridge: float) -> Tensor | None:
    """Return canonical correlations of a joint covariance whose first view has ``d`` columns, ``None`` on failure."""
    if not bool(torch.isfinite(joint).all()):
        return None
    try:
        roots = cholesky_root(joint[:d, :d], ridge), cholesky_root(joint[d:, d:], ridge)
    except torch.linalg.LinAlgError:
        return None
    values: Tensor = torch.linalg.svdvals(whitened_cross(joint[:d, d:], *roots))
    return values
