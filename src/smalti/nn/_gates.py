"""Stochastic gates: feature switches in [0, 1] whose expected number of open ones has a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from smalti._validate import check_in_range, check_positive

from ._sparse import SparseRows

if TYPE_CHECKING:
    from torch import Tensor

GATE_CONVENTION = "mu, sigma, no shift"
"""How gate parameters are to be read; stored with every model. Publications often add 1/2, see :func:`from_shifted`."""
SIGMA = 0.5
"""Standard deviation of the noise of a gate :cite:p:`Yamada2020`."""
START = 0.5
"""Where gates start: half open, where the gradient is largest."""


def open_probability(mu: Tensor, sigma: float = SIGMA) -> Tensor:
    r"""Return :math:`P(z > 0) = \Phi(\mu / \sigma)`, the probability that a gate is open, same shape as ``mu``."""
    return torch.special.ndtr(mu / sigma)


def expected_gate(mu: Tensor, sigma: float = SIGMA) -> Tensor:
    r"""Return the mean of a gate in training, same shape as ``mu``, in ``[0, 1]``.

    .. math:: E z = \mu [\Phi(b) - \Phi(a)] + \sigma [\varphi(a) - \varphi(b)] + 1 - \Phi(b)

    with :math:`a = -\mu / \sigma` and :math:`b = (1 - \mu) / \sigma`.
    """
    a, b = -mu / sigma, (1 - mu) / sigma
    density = [torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi) for x in (a, b)]
    below = [torch.special.ndtr(x) for x in (a, b)]
    return mu * (below[1] - below[0]) + sigma * (density[0] - density[1]) + 1 - below[1]


def from_shifted(mu: Tensor) -> Tensor:
    """Convert parameters of the convention ``clamp(mu + 0.5 + noise, 0, 1)`` of published code to the one used here."""
    return mu + 0.5


def draw_gate(mu: Tensor, noise: float, sigma: float = SIGMA) -> Tensor:
    r"""Return :math:`\mathrm{clamp}(\mu + \sigma \epsilon, 0, 1)`, same shape as ``mu``; ``noise`` 0 leaves eps out."""
    return (mu + noise * sigma * torch.randn_like(mu) if noise > 0 else mu).clamp(0, 1)


@torch.no_grad()
def project_(mu: Tensor, sigma: float = SIGMA) -> Tensor:
    r"""Clip parameters to :math:`[-\sigma, 1 + \sigma / 2]` in place; needed after every step.

    Beyond that range a gate is always open or always closed: the clamp kills its gradient, and a feature that
    drifted there in the first steps stays for ever.
    """
    return mu.clamp_(-sigma, 1 + sigma / 2)


@dataclass(frozen=True, kw_only=True)
class GateSchedule:
    """When the price of open gates counts, in shares of the training."""

    warmup: float = 0.2
    """Until then gates are trained at no price."""
    ramp: float = 0.5
    """From the warm-up until then the price rises linearly."""
    refit: float = 0.9
    """From then on gates have no noise and closed ones stay closed."""

    def __post_init__(self) -> None:
        for name in ("warmup", "ramp", "refit"):
            check_in_range(getattr(self, name), 0, 1, name)
        if not self.warmup <= self.ramp <= self.refit:
            raise ValueError(f"Expected `warmup` <= `ramp` <= `refit`, found {self}.")

    def price_share(self, progress: float) -> float:
        """Return the share of the price that counts after a share ``progress`` of the training, in ``[0, 1]``."""
        if progress < self.warmup:
            return 0.0
        return 1.0 if progress >= self.ramp else (progress - self.warmup) / (self.ramp - self.warmup)


class GlobalGate(nn.Module):
    r"""One gate per feature, the same for all cells :cite:p:`Yamada2020`.

    .. math:: z_d = \mathrm{clamp}(\mu_d + \sigma \epsilon_d, 0, 1), \qquad \epsilon_d \sim N(0, 1)

    in training, with one draw for all cells of a batch; :math:`\mathrm{clamp}(\mu_d, 0, 1)` otherwise. A feature is
    selected if :math:`\mu_d > 0`. Inputs must be on one scale (standardised or log-normalised), best centred, so that a
    closed feature is replaced by its mean.

    Parameters
    ----------
    n_features
        Number of features ``D``.
    sigma
        Standard deviation of the noise.

    Attributes
    ----------
    mu
        ``(D,)``, trained.
    closed
        ``(D,)`` bool, gates that stay closed whatever ``mu``.
    noise
        Factor of the noise in training; 0 makes gates deterministic.
    """

    closed: Tensor

    def __init__(self, n_features: int, *, sigma: float = SIGMA) -> None:
        super().__init__()
        self.sigma, self.noise = check_positive(sigma, "sigma"), 1.0
        self.mu = nn.Parameter(START + 0.01 * torch.randn(n_features))
        self.register_buffer("closed", torch.zeros(n_features, dtype=torch.bool))

    def gates(self) -> Tensor:
        """Return gates of the features, ``(D,)``; a new draw in training."""
        z = draw_gate(self.mu, self.noise if self.training else 0.0, self.sigma)
        return torch.where(self.closed, 0.0, z)

    def forward(self, x: SparseRows | Tensor) -> SparseRows | Tensor:
        """Multiply ``B`` rows by gates; of sparse rows only stored values are touched."""
        return gate_rows(x, self.gates())

    def open_probability(self) -> Tensor:
        """Return the probability that each feature is open, ``(D,)``."""
        return torch.where(self.closed, 0.0, open_probability(self.mu, self.sigma))

    def expected_open(self) -> Tensor:
        """Return the expected number of open features: a sum, so it does not depend on how many others there are."""
        return self.open_probability().sum()

    def project(self) -> None:
        """Clip the parameters, see :func:`project_`."""
        project_(self.mu, self.sigma)

    @torch.no_grad()
    def close(self, keep: int | None = None) -> None:
        """Close for good what is closed now, and all but the ``keep`` widest gates."""
        shut = self.closed | (self.mu <= 0)
        if keep is not None and keep < len(self.mu):
            order = torch.argsort(torch.where(shut, -torch.inf, self.mu), descending=True)
            shut[order[keep:]] = True
        self.closed.copy_(shut)


class GroupGate(nn.Module):
    r"""One gate per group of features, such as a gene set or the regions near a gene.

    .. math:: z_d = \max_{g \ni d} z_g, \qquad \mathrm{price} = \sum_g \sqrt{|g|}\, \Phi(\mu_g / \sigma)

    Parameters
    ----------
    groups
        ``(D,)`` int64 codes from 0 of disjoint groups, -1 for a feature that is a group of its own; or ``(P, 2)`` pairs
        of feature and group, if groups overlap. Features without a group are groups of their own.
    n_features
        Number of features ``D``; needed with pairs.
    within
        Also gate each feature inside its group, :math:`z_d = z_{g(d)} z'_d`; both prices then count half.
    sigma
        Standard deviation of the noise.

    Attributes
    ----------
    size
        ``(C,)`` features of each group, those of single features last.
    """

    feature: Tensor
    group: Tensor
    size: Tensor
    closed: Tensor

    def __init__(
        self, groups: Tensor, *, n_features: int | None = None, within: bool = False, sigma: float = SIGMA
    ) -> None:
        super().__init__()
        feature, group = _pairs(groups, n_features)
        self.n_features = int(feature.max()) + 1 if n_features is None else n_features
        n_groups = int(group.max()) + 1
        self.sigma, self.noise = check_positive(sigma, "sigma"), 1.0
        self.mu = nn.Parameter(START + 0.01 * torch.randn(n_groups))
        self.disjoint = len(feature) == self.n_features
        self.register_buffer("feature", feature)
        self.register_buffer("group", group)
        self.register_buffer("size", torch.bincount(group, minlength=n_groups))
        self.register_buffer("closed", torch.zeros(n_groups, dtype=torch.bool))
        self.within = GlobalGate(self.n_features, sigma=sigma) if within else None

    def group_gates(self) -> Tensor:
        """Return gates of the groups, ``(C,)``; a new draw in training."""
        z = draw_gate(self.mu, self.noise if self.training else 0.0, self.sigma)
        return torch.where(self.closed, 0.0, z)

    def gates(self) -> Tensor:
        """Return gates of the features, ``(D,)``."""
        z = self.spread(self.group_gates())
        if self.within is not None:
            self.within.noise = self.noise
            z = z * self.within.gates()
        return z

    def spread(self, by_group: Tensor) -> Tensor:
        """Return for each feature the largest value of its groups, ``(D,)``, given one per group, ``(C,)``."""
        values = by_group[self.group]
        if self.disjoint:
            return values.new_empty(self.n_features).index_copy(0, self.feature, values)
        out = values.new_full((self.n_features,), -torch.inf)
        return out.scatter_reduce(0, self.feature, values, "amax")

    def forward(self, x: SparseRows | Tensor) -> SparseRows | Tensor:
        """Multiply ``B`` rows by gates; of sparse rows only stored values are touched."""
        return gate_rows(x, self.gates())

    def group_probability(self) -> Tensor:
        """Return the probability that each group is open, ``(C,)``."""
        return torch.where(self.closed, 0.0, open_probability(self.mu, self.sigma))

    def open_probability(self) -> Tensor:
        """Return the probability that each feature is open by its most open group, ``(D,)``."""
        p = self.spread(self.group_probability())
        return p if self.within is None else p * self.within.open_probability()

    def expected_open(self) -> Tensor:
        """Return the expected number of open groups, each by the square root of its size."""
        total = (self.size.to(self.mu.dtype).sqrt() * self.group_probability()).sum()
        return total if self.within is None else 0.5 * (total + self.within.expected_open())

    def project(self) -> None:
        """Clip the parameters, see :func:`project_`."""
        project_(self.mu, self.sigma)
        if self.within is not None:
            self.within.project()

    @torch.no_grad()
    def close(self, keep: int | None = None) -> None:
        """Close for good what is closed now, and groups beyond the widest that hold ``keep`` features together."""
        shut = self.closed | (self.mu <= 0)
        if keep is not None:
            order = torch.argsort(torch.where(shut, -torch.inf, self.mu), descending=True)
            beyond = self.size[order].cumsum(0) > keep
            beyond[0] = False  # a group larger than what may stay is still better than nothing
            shut[order[beyond]] = True
        self.closed.copy_(shut)
        if self.within is not None:
            self.within.close()


def gate_rows(x: SparseRows | Tensor, z: Tensor) -> SparseRows | Tensor:
    """Return ``B`` rows times gates ``(D,)``; the pattern of sparse rows stays, and zeros are never touched."""
    return x.map_values(x.values * z[x.indices]) if isinstance(x, SparseRows) else x * z


def _pairs(groups: Tensor, n_features: int | None) -> tuple[Tensor, Tensor]:
    """Return features and groups of all memberships; single features get groups of their own at the end."""
    if groups.ndim == 1:
        feature, group = torch.arange(len(groups)), groups.long()
        feature, group = feature[group >= 0], group[group >= 0]
        n = len(groups)
    else:
        feature, group = groups[:, 0].long(), groups[:, 1].long()
        n = int(feature.max()) + 1 if n_features is None else n_features
    _, group = torch.unique(group, return_inverse=True)
    alone = torch.ones(n, dtype=torch.bool)
    alone[feature] = False
    single = torch.nonzero(alone).ravel()
    first = int(group.max()) + 1 if len(group) else 0
    return torch.cat([feature, single]), torch.cat([group, first + torch.arange(len(single))])
