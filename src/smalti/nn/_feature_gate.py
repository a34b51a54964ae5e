"""Gates in front of the encoders of one modality: kinds, price, and a price that finds itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from smalti._validate import check_choice

from ._gates import SIGMA, START, GateSchedule, GlobalGate, GroupGate, gate_rows
from ._local_gate import LocalGate

if TYPE_CHECKING:
    from torch import Tensor

    from ._sparse import SparseRows

GateKind = Literal["global", "group", "sparse_group", "local", "global+local"]
"""A gate per feature; per group; per group and feature; per cell and feature; the first and the last."""

GAIN, MEMORY = 3.0, 0.05
"""Of the search for the price: how strongly it answers to gates that are too open now, and to the sum of the past."""
LARGEST_ERROR = 1.0
TRAVEL = 1.5
"""How far gates are moved apart in all, about the width of the range of parameters."""
N_HALVINGS = 16
WARM_SPREAD = 0.5
"""Standard deviation of the parameters of gates that start in an order, that of their noise. (SNARE-seq, a fifth of the
regions, one split: FOSCTTM 0.0565, 0.0545 and 0.0579 with 0.25, 0.5 and 1.)"""


class DrawnGate:
    """Gates of one minibatch, for an input layer to apply.

    Parameters
    ----------
    shared
        ``(G,)`` gates of all cells, or ``None``.
    local, context
        Gates of each cell, and what they are predicted from.
    mean
        ``(n_batch + 1, G)`` means of the mapped values; closed features are replaced by them.
    """

    def __init__(
        self, shared: Tensor | None, local: LocalGate | None, context: Tensor | None, mean: Tensor | None
    ) -> None:
        self.shared, self.local, self.context, self.mean = shared, local, context, mean

    def __call__(self, x: SparseRows | Tensor) -> SparseRows | Tensor:
        """Multiply ``B`` rows by gates; of sparse rows only stored values are touched."""
        if self.shared is not None:
            x = gate_rows(x, self.shared)
        if self.local is not None and self.context is not None:
            x = self.local(x, self.context)
        return x

    def shift(self, weight: Tensor) -> Tensor:
        r"""Return what the mean of the gated values, times ``weight`` ``(G, K)``, exceeds that of the values by.

        :math:`\bar x_b \odot (z - 1) W`, ``(n_batch + 1, K)``; 0 for local gates, whose closed features are zero.
        """
        if self.shared is None or self.mean is None:
            return weight.new_zeros(())
        return (self.mean * (self.shared - 1)) @ weight


class FeatureGate(nn.Module):
    r"""All gates of one modality, and their price per open feature.

    Parameters
    ----------
    n_features
        Number of features ``G``.
    kind
        What has a gate.
    keep
        Number of features to keep, a constraint instead of a price: from the end of the warm-up on, all gates are moved
        down together so that their sum falls linearly to ``keep`` (the price that does so, whatever the unit of the
        loss); from the end of the ramp on, the widest move up and the others down, until only they are open. Local
        gates, which cannot be moved, get a price that is searched for.
    penalty
        Price per open feature, instead of ``keep``.
    groups
        ``(G,)`` codes of groups, -1 for none.
    n_context
        Width of what local gates are predicted from.
    n_means
        Rows of the table of means, if closed features are replaced by their mean; 0 for none.
    schedule
        When the price counts.

    Attributes
    ----------
    mean
        ``(n_means, G)``.
    spread
        ``(G,)`` standard deviations of the mapped values, if there are means; otherwise ``(0,)``.
    """

    mean: Tensor
    spread: Tensor
    log_price: Tensor
    search: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        kind: GateKind = "global",
        keep: int | None = None,
        penalty: float | None = None,
        groups: list[int] | None = None,
        n_context: int = 0,
        n_means: int = 0,
        schedule: GateSchedule | None = None,
    ) -> None:
        super().__init__()
        self.n_features, self.keep, self.penalty = n_features, keep, penalty
        self.kind: GateKind = check_choice(kind, get_args(GateKind), "gate")
        self.schedule = schedule or GateSchedule()
        self.shared: GlobalGate | GroupGate | None = None
        if kind in ("global", "global+local"):
            self.shared = GlobalGate(n_features)
        elif kind in ("group", "sparse_group"):
            codes = torch.full((n_features,), -1) if groups is None else torch.tensor(groups)
            self.shared = GroupGate(codes, within=kind == "sparse_group")
        self.local = LocalGate(n_features, n_context) if "local" in kind else None
        self.register_buffer("mean", torch.zeros(n_means, n_features))
        self.register_buffer("spread", torch.zeros(n_features if n_means else 0))
        self.register_buffer("log_price", torch.full((), -torch.inf))
        # of the search for the price: its logarithm without the answer to the moment, and the share it started from
        self.register_buffer("search", torch.full((2,), torch.inf))
        self._factor, self._context, self._closed = 1.0, torch.zeros(0, n_context), False
        self._progress, self._apart = 0.0, 0.0

    @torch.no_grad()
    def warm_start(self, relevance: Tensor) -> None:
        """Let gates start in the order of what a linear method says of features, ``(G,)``; groups take their mean.

        Parameters are normal scores of the ranks around where gates start otherwise: an order that training can
        overrule, whatever the scale of ``relevance``.
        """
        if self.shared is None:
            return
        gate = self.shared
        if isinstance(gate, GroupGate):
            total = relevance.new_zeros(len(gate.mu)).index_add_(0, gate.group, relevance[gate.feature])
            relevance = total / gate.size.clamp(min=1)
        ranks = relevance.argsort().argsort().to(gate.mu.dtype)
        scores = torch.special.ndtri((ranks + 0.5) / len(ranks))
        gate.mu.copy_(START + WARM_SPREAD * scores)
        gate.project()

    def forward(self, context: Tensor | None = None) -> DrawnGate:
        """Draw gates for a minibatch; local ones need the context ``(B, n_context)``."""
        if context is not None:
            self._context = context.detach()
        z = None if self.shared is None else self.shared.gates()
        return DrawnGate(z, self.local, context, self.mean if len(self.mean) else None)

    def expected_open(self) -> Tensor:
        """Return what the price is multiplied by: the expected number of open features that no number constrains.

        Local gates are those of the cells seen last; beside others they count half.
        """
        total = torch.zeros((), device=self.log_price.device)
        if self.shared is not None and self.keep is None:
            total = total + self.shared.expected_open()
        if self.local is not None:
            total = total + (1.0 if self.shared is None else 0.5) * self.local.expected_open(self._context)
        return total

    @torch.no_grad()
    def n_open(self) -> Tensor:
        """Return the expected number of open features."""
        p = torch.ones(self.n_features, device=self.log_price.device)
        if self.shared is not None:
            p = self.shared.open_probability()
        if self.local is not None and len(self._context):
            p = p * self.local.open_probability(self._context).mean(dim=0)
        return p.sum()

    @property
    def price(self) -> Tensor:
        """Price per open feature at this step, ``()``."""
        if self.penalty is not None:
            return torch.full_like(self.log_price, self.penalty * self._factor)
        return self.log_price.exp()

    def anneal(self, progress: float) -> None:
        """Prepare a step after a share ``progress`` of the training: price, noise, and closing at the end."""
        plan = self.schedule
        for gate in (self.shared, self.local):
            if gate is not None:
                gate.noise = 0.0 if progress >= plan.refit else 1.0
        self._factor = plan.price_share(progress)
        before, self._progress = self._progress, progress
        self._apart = max(0.0, progress - max(before, plan.ramp)) / max(plan.refit - plan.ramp, 1e-6)
        if progress >= plan.refit:
            if not self._closed and self.shared is not None:
                if self.keep is not None:
                    self._separate(TRAVEL)  # whatever steps there were: only the widest are open
                self.shared.close(self.keep)
            self._closed = True
            return
        self._closed = False
        if self.penalty is None and self.local is not None:
            self._search_price()

    @torch.no_grad()
    def _search_price(self) -> None:
        """Raise or lower the price of local gates so that the share of open ones follows the plan."""
        if self._factor == 0 or self.keep is None or self.local is None:
            self.log_price.fill_(-torch.inf)
            self.search.fill_(torch.inf)
            return
        share = self._local_share(self.local)
        if bool(self.search.isinf().any()):
            # a price as large as the typical gradient of a gate, from where the search goes on
            gradient = self.local.bias.grad
            scale = 1.0 if gradient is None else float(gradient.square().mean().sqrt())
            self.search.copy_(torch.tensor([math.log(max(scale, 1e-12)) - 2.0, share]))
        start = float(self.search[1])
        wanted = start + self._factor * (self.keep / self.n_features - start)
        error = max(-LARGEST_ERROR, min(LARGEST_ERROR, (share - wanted) / max(wanted, 0.05)))
        self.search[0] += MEMORY * error
        self.log_price.copy_(self.search[0] + GAIN * error)

    def _local_share(self, local: LocalGate) -> float:
        if len(self._context) == 0:
            return 1.0
        return float(_openness(local.mu(local.hidden(self._context))).mean())

    @torch.no_grad()
    def project(self) -> None:
        """Move the parameters of gates to where they may be, after every step."""
        shared = self.shared
        if shared is None:
            return
        if self.keep is not None and self._factor > 0 and not self._closed:
            self._constrain(shared.mu, self.keep)
            if self._apart > 0:
                self._separate(TRAVEL * self._apart)
        shared.project()

    def _constrain(self, mu: Tensor, keep: int) -> None:
        """Subtract the smallest number from all parameters with which the sum of open features is as planned."""
        size = self._sizes()
        wanted = (1 + self._factor * (keep / self.n_features - 1)) * self.n_features
        if float((_openness(mu) * size).sum()) <= wanted:
            return
        low, high = 0.0, float(mu.max()) + SIGMA
        for _ in range(N_HALVINGS):
            middle = (low + high) / 2
            enough = float((_openness(mu - middle) * size).sum()) <= wanted
            low, high = (low, middle) if enough else (middle, high)
        mu.sub_(high)

    def _sizes(self) -> Tensor:
        if isinstance(self.shared, GroupGate):
            return self.shared.size.to(self.shared.mu.dtype)
        return torch.ones(self.n_features, device=self.log_price.device)

    @torch.no_grad()
    def _separate(self, step: float) -> None:
        """Move the widest gates, ``keep`` features together, up by a step, and the others down."""
        if self.shared is None or self.keep is None:
            return
        mu = self.shared.mu
        order = torch.argsort(mu, descending=True)
        inside = self._sizes()[order].cumsum(0) <= self.keep
        inside[0] = True
        mu[order] += torch.where(inside, step, -step)
        self.shared.project()


def _openness(mu: Tensor) -> Tensor:
    """Return how open gates are by their parameters: 0 at -sigma, where the probability still is 0.16, 1 at sigma."""
    return (mu / (2 * SIGMA) + 0.5).clamp(0, 1)
