"""The network of OverlapManifold: one chart per modality, and where it lies among the others."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from smalti.model.parts import MosaicModule, spread_rows
from smalti.nn import MLP, ByModality

from ._loss import ChartOutputs, manifold_loss

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes

    from ._bursts import Bursts
    from ._options import ManifoldOptions, ManifoldWeights

INPUT_SPREAD = 3.0
"""Standard deviation of the leading component of encoder inputs; divided out, so that tanh is not saturated."""
N_REFERENCE = 256
"""Training profiles kept per modality to tell new ones that lie far from all."""


class Chart(nn.Module):
    """A smooth map between components and coordinates: hidden layers of tanh and a linear one."""

    def __init__(self, n_in: int, n_out: int, options: ManifoldOptions) -> None:
        super().__init__()
        self.body = MLP(n_in, options.n_hidden, options.n_layers, norm="none", activation="tanh")
        self.out = nn.Linear(self.body.n_out, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., n_in)`` to ``(..., n_out)``."""
        return cast("Tensor", self.out(self.body(x)))


class ManifoldModule(MosaicModule):
    """Charts, their inverses, and the transforms that lay them over each other.

    Parameters
    ----------
    sizes
        What the data look like.
    n_latent
        Dimension of the manifold.
    options, weights
        See :class:`~smalti.model.ManifoldOptions` and :class:`~smalti.model.ManifoldWeights`.

    Attributes
    ----------
    transform, shift
        ``(M, d, d)`` and ``(M, d)``: coordinates are ``chart @ transform + shift``.
    placed
        Whether charts have been laid over each other.
    burst_scale
        Standard deviation of bursts in the charts.
    reference, far
        ``(N, width)`` training profiles by modality, and the distance to the nearest beyond which a profile is far
        from all.
    bursts
        By modality; set before training.
    ramp
        Share of the registration term that counts; set before every epoch.
    """

    transform: Tensor
    shift: Tensor
    placed: Tensor
    burst_scale: Tensor
    far: Tensor

    def __init__(self, sizes: MosaicSizes, n_latent: int, options: ManifoldOptions, weights: ManifoldWeights) -> None:
        super().__init__(sizes, n_embed=options.n_hidden)
        self.options, self.weights, self.n_latent = options, weights, n_latent
        widths = {name: self.inputs.width(name) for name in self.names}
        self.charts = ByModality({name: Chart(width, n_latent, options) for name, width in widths.items()})
        self.inverses = ByModality({name: Chart(n_latent, width, options) for name, width in widths.items()})
        m = len(self.names)
        self.register_buffer("transform", torch.eye(n_latent).repeat(m, 1, 1))
        self.register_buffer("shift", torch.zeros(m, n_latent))
        self.register_buffer("placed", torch.tensor(False))
        self.register_buffer("burst_scale", torch.tensor(1.0))
        self.register_buffer("far", torch.full((m,), torch.inf))
        self.references = nn.Module()
        for i, width in enumerate(widths.values()):
            self.references.register_buffer(f"reference_{i}", torch.zeros(N_REFERENCE, width))
        self.bursts: dict[str, Bursts] = {}
        self.ramp = 0.0

    def chart(self, name: str, x: Tensor) -> Tensor:
        """Return the chart of encoder inputs ``(..., width)``, ``(..., d)``."""
        return cast("Tensor", self.charts[name](x / INPUT_SPREAD))

    def decode(self, name: str, chart: Tensor) -> Tensor:
        """Return encoder inputs of points of a modality's own chart."""
        return cast("Tensor", self.inverses[name](chart)) * INPUT_SPREAD

    def register(self, name: str, chart: Tensor) -> Tensor:
        """Return common coordinates of points of a modality's chart."""
        i = self.inputs.position(name)
        return chart @ self.transform[i] + self.shift[i]

    def own_chart(self, name: str, coordinates: Tensor) -> Tensor:
        """Return points of a modality's chart at common coordinates; the inverse of :meth:`register`."""
        i = self.inputs.position(name)
        return torch.linalg.solve(self.transform[i].T, (coordinates - self.shift[i]).T).T

    def reference(self, name: str) -> Tensor:
        """Return training profiles of a modality, ``(N, width)``."""
        return cast("Tensor", getattr(self.references, f"reference_{self.inputs.position(name)}"))

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Return ``present`` and the common ``coordinates`` by modality, ``(B, d)``, zero where absent."""
        present = self.inputs.present(minibatch)
        return {
            "present": present,
            "coordinates": {
                name: spread_rows(
                    self.register(name, self.chart(name, self.inputs.encode(minibatch, name, here))), here
                )
                for name, here in present.items()
            },
        }

    def _get_inference_input(self, minibatch: MosaicBatch) -> dict[str, Any]:
        return {"minibatch": minibatch}

    def outputs(self, cells: Tensor) -> ChartOutputs:
        """Return what the objective looks at, for the bursts of some cells, ``(B,)``."""
        points, exists, variance, errors, coordinates, seen = {}, {}, {}, {}, {}, {}
        inputs, own = {}, {}
        for name, bursts in self.bursts.items():
            x, there, relative = bursts.of(cells, self.shift.device)
            has = there[:, 0]
            x, there, relative = x[has], there[has], relative[has]
            z = self.chart(name, x)
            mask = there.to(x.dtype)
            gap = (self.decode(name, z) - x).square().sum(dim=2) / INPUT_SPREAD**2
            errors[name] = (gap * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            mean = (z * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            centre = z[:, 0] if bursts.centre_first else mean
            points[name], exists[name], variance[name] = z, there, relative * self.burst_scale.square()
            coordinates[name] = spread_rows(self.register(name, centre), has)
            seen[name] = has
            middle = (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            inputs[name] = spread_rows(x[:, 0] if bursts.centre_first else middle, has)
            own[name] = coordinates[name]
        crossed = {}
        if self.weights.cross > 0 and bool(self.placed):
            for source, target in permutations(self.bursts, 2):
                both = seen[source] & seen[target]
                found = self.decode(target, self.own_chart(target, own[source][both]))
                crossed[f"{source}-{target}"] = (found - inputs[target][both]).square().sum(dim=1) / INPUT_SPREAD**2
        return ChartOutputs(points, exists, variance, errors, coordinates, seen, crossed, self.ramp)

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms; every term is logged."""
        outputs = self.outputs(minibatch["index"])
        return manifold_loss(self.weights, outputs, len(minibatch["index"]))
