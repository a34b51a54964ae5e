"""Gates of each cell and feature, predicted from where the cell lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from smalti._validate import check_positive

from ._gates import SIGMA, START, draw_gate, open_probability
from ._sparse import SparseRows

if TYPE_CHECKING:
    from torch import Tensor

PRICED_FEATURES = 2048
"""Features at which the price of wide modalities is estimated per step, drawn anew each time."""
NEIGHBOURS = 5


class LocalGate(nn.Module):
    r"""A gate per cell and feature, amortised from the position of the cell :cite:p:`Yang2022`.

    .. math:: \mu_i = \tfrac12 + \tanh(W h_i + b), \qquad z_{id} = \mathrm{clamp}(\mu_{id} + \sigma \epsilon_{id}, 0, 1)

    where :math:`h_i` is a small tanh network of the context, such as principal components of the cell, through which no
    gradient flows. :math:`W` and :math:`b` start at zero, so all gates start half open.

    The pattern of open gates can carry information that the values do not: judge by it, and put no local gate in front
    of a classifier that is used for tests.

    Parameters
    ----------
    n_features
        Number of features ``D``.
    n_context
        Width of the context.
    n_hidden
        Width of the network.
    n_layers
        Hidden layers of the network.
    smooth
        Weight of the similarity penalty against the price: neighbours should open the same gates.
    sigma
        Standard deviation of the noise.
    """

    def __init__(
        self,
        n_features: int,
        n_context: int,
        *,
        n_hidden: int = 32,
        n_layers: int = 1,
        smooth: float = 0.1,
        sigma: float = SIGMA,
    ) -> None:
        super().__init__()
        self.n_features, self.sigma, self.noise = n_features, check_positive(sigma, "sigma"), 1.0
        self.smooth = check_positive(smooth, "smooth", allow_zero=True)
        widths = [n_context] + [n_hidden] * n_layers
        self.body = nn.Sequential(
            *(m for a, b in zip(widths, widths[1:], strict=False) for m in (nn.Linear(a, b), nn.Tanh()))
        )
        self.weight = nn.Parameter(torch.zeros(n_features, n_hidden))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def hidden(self, context: Tensor) -> Tensor:
        """Map the context ``(B, n_context)`` to what gates are predicted from, ``(B, n_hidden)``."""
        out: Tensor = self.body(context.detach())
        return out

    def mu(self, hidden: Tensor, features: Tensor | None = None) -> Tensor:
        """Return parameters of gates, ``(B, S)``, at all features by default."""
        weight, bias = (self.weight, self.bias) if features is None else (self.weight[features], self.bias[features])
        return START + torch.tanh(hidden @ weight.T + bias)

    def forward(self, x: SparseRows | Tensor, context: Tensor) -> SparseRows | Tensor:
        """Multiply ``B`` rows by the gates of their cells; of sparse rows only stored values are touched.

        Parameters
        ----------
        x
            ``B`` rows over ``D`` features.
        context
            ``(B, n_context)``.
        """
        noise, hidden = self.noise if self.training else 0.0, self.hidden(context)
        if not isinstance(x, SparseRows):
            return x * draw_gate(self.mu(hidden), noise, self.sigma)
        linear = (self.weight[x.indices] * hidden[x.row_index()]).sum(dim=1) + self.bias[x.indices]
        return x.map_values(x.values * draw_gate(START + torch.tanh(linear), noise, self.sigma))

    def gates(self, context: Tensor) -> Tensor:
        """Return gates, ``(B, D)``; a new draw in training."""
        return draw_gate(self.mu(self.hidden(context)), self.noise if self.training else 0.0, self.sigma)

    def open_probability(self, context: Tensor) -> Tensor:
        """Return the probability that each gate is open, ``(B, D)``."""
        return open_probability(self.mu(self.hidden(context)), self.sigma)

    def expected_open(self, context: Tensor) -> Tensor:
        r"""Return the mean over cells of the expected number of open gates, and the similarity penalty.

        .. math:: \frac1B \sum_i \sum_d \Phi(\mu_{id} / \sigma) +
            \gamma \frac{1}{|E|} \sum_{ij \in E} \lVert z_i - z_j \rVert^2

        over the edges :math:`E` of the nearest-neighbour graph of the batch. Of wide modalities both sums are estimated
        from :data:`PRICED_FEATURES` features; 0 without cells.
        """
        if len(context) == 0:
            return 0.0 * self.bias.sum()
        features, factor = None, 1.0
        if self.n_features > PRICED_FEATURES:
            features = torch.randint(self.n_features, (PRICED_FEATURES,), device=context.device)
            factor = self.n_features / PRICED_FEATURES
        mu = self.mu(self.hidden(context), features)
        total = open_probability(mu, self.sigma).sum(dim=1).mean()
        if self.smooth > 0 and len(context) > NEIGHBOURS:
            near = torch.cdist(context.detach(), context.detach()).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
            z = mu.clamp(0, 1)
            apart = sum((z - z[column]).square().sum(dim=1).mean() for column in near.T) / NEIGHBOURS
            total = total + self.smooth * apart
        return factor * total
