"""Gates in front of the encoders of one modality: kinds, price, and a price that finds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from smalti._validate import check_choice

from ._gates import SIGMA, GateSchedule, GlobalGate, GroupGate, gate_rows
from ._local_gate import LocalGate

if TYPE_CHECKING:
    from torch import Tensor

    from ._sparse import SparseRows

GateKind = Literal["global", "group", "sparse_group", "local", "global+local"]
"""A gate per feature; per group; per group and feature; per cell and feature; the first and the last."""

GAIN, MEMORY = 3.0, 0.05
"""Of the search for the price: how strongly it answers to gates that are too open now, and to the sum of the past."""
LARGEST_ERROR = 1.0


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
    r"""All gates of one modality, and their price :math:`\lambda`.

    Parameters
    ----------
    n_features
        Number of features ``G``.
    kind
        What has a gate.
    keep
        Number of features to keep. The price then follows a plan: from the end of the warm-up on, the number of open
        features is to fall linearly to ``keep``; in the end the widest gates stay.
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
    """

    mean: Tensor
    log_lam: Tensor
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
        self.register_buffer("log_lam", torch.full((), -torch.inf))
        # of the search for the price: its logarithm without the answer to the moment, and the share it started from
        self.register_buffer("search", torch.full((2,), torch.nan))
        self._factor, self._context, self._closed = 1.0, torch.zeros(0, n_context), False

    def forward(self, context: Tensor | None = None) -> DrawnGate:
        """Draw gates for a minibatch; local ones need the context ``(B, n_context)``."""
        if context is not None:
            self._context = context.detach()
        z = None if self.shared is None else self.shared.gates()
        return DrawnGate(z, self.local, context, self.mean if len(self.mean) else None)

    def price(self) -> Tensor:
        """Return the expected number of open features (of the cells seen last, for local gates; then half counts)."""
        total = torch.zeros((), device=self.log_lam.device)
        if self.shared is not None:
            total = total + self.shared.price()
        if self.local is not None:
            total = total + (1.0 if self.shared is None else 0.5) * self.local.price(self._context)
        return total

    @property
    def lam(self) -> Tensor:
        """Price per open feature at this step, ``()``."""
        if self.penalty is not None:
            return torch.full_like(self.log_lam, self.penalty * self._factor)
        return self.log_lam.exp()

    def anneal(self, progress: float) -> None:
        """Prepare a step after a share ``progress`` of the training: price, noise, and closing at the end."""
        noise = 0.0 if progress >= self.schedule.refit else 1.0
        for gate in (self.shared, self.local):
            if gate is not None:
                gate.noise = noise
        self._factor = self.schedule.price(progress)
        if progress >= self.schedule.refit:
            if not self._closed and self.shared is not None:
                self.shared.close(self.keep)
            self._closed = True
        elif self.penalty is None:
            self._closed = False
            self._search(progress)

    @torch.no_grad()
    def _search(self, progress: float) -> None:
        """Raise or lower the price so that the expected share of open features follows the plan."""
        if self._factor == 0 or self.keep is None:
            self.log_lam.fill_(-torch.inf)
            self.search.fill_(torch.nan)
            return
        share = self._open_share()
        if bool(self.search.isnan().any()):
            # a price as large as the typical gradient of a gate, from where the search goes on
            gradients = [p.grad for p in self.mu_parameters() if p.grad is not None]
            scale = torch.cat([g.ravel() for g in gradients]).square().mean().sqrt() if gradients else torch.ones(())
            self.search.copy_(torch.tensor([float(scale.clamp(min=1e-12).log()) - 2.0, share]))
        start = float(self.search[1])
        wanted = start + self._factor * (self.keep / self.n_features - start)
        error = max(-LARGEST_ERROR, min(LARGEST_ERROR, (share - wanted) / max(wanted, 0.05)))
        self.search[0] += MEMORY * error
        self.log_lam.copy_(self.search[0] + GAIN * error)

    def mu_parameters(self) -> list[nn.Parameter]:
        """Return parameters whose gradient tells the scale of the loss."""
        out = [] if self.shared is None else [self.shared.mu]
        return out if self.local is None else [*out, self.local.bias]

    def _open_share(self) -> float:
        """Return how open gates are by their parameters, in ``[0, 1]``; probabilities never fall below 0.16."""
        if isinstance(self.shared, GroupGate):
            mu = self.shared.spread(self.shared.mu)
        elif self.shared is not None:
            mu = self.shared.mu
        elif self.local is not None and len(self._context):
            mu = self.local.mu(self.local.hidden(self._context))
        else:
            return 1.0
        return float((mu / (2 * SIGMA) + 0.5).clamp(0, 1).mean())

    def project(self) -> None:
        """Clip the parameters of gates, after every step."""
        if self.shared is not None:
            self.shared.project()
