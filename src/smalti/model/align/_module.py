"""The network of UnpairedCCA: linear maps in closed form, encoders that start from them, and plans of minibatches."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from smalti.losses import gradient_penalty, gumbel_sinkhorn, plan_entropy
from smalti.model.parts import MosaicModule, spread_rows
from smalti.nn import ByModality, Discriminator, WarmEncoder

from ._loss import BatchPlan, Opinion, UnpairedOutputs, discriminator_loss, unit, unpaired_loss
from ._matching import EvidenceReadout

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.align import PlanTable
    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes

    from ._options import Align, Encoder, Solver, UnpairedOptions

MAX_GUMBEL = 512
"""Cells of a modality in a minibatch beyond which plans with gradients are refused."""


class UnpairedModule(MosaicModule):
    """Encoders per modality into one latent.

    Parameters
    ----------
    sizes
        What the data look like.
    encoder, solver, align
        See :class:`~smalti.model.UnpairedCCA`.
    options
        See :class:`~smalti.model.UnpairedOptions`.

    Attributes
    ----------
    closed_form
        Linear maps that training leaves alone.
    accepted
        Whether trained encoders replace them.
    """

    accepted: Tensor
    variance: Tensor

    def __init__(
        self, sizes: MosaicSizes, encoder: Encoder, solver: Solver, align: Align, options: UnpairedOptions
    ) -> None:
        super().__init__(sizes)
        self.solver, self.align, self.options = solver, align, options
        deep = encoder == "deep"
        self.encoders = ByModality(
            {
                name: WarmEncoder(
                    self.inputs.width(name),
                    options.n_latent,
                    n_hidden=options.n_hidden if deep else None,
                    input_dropout=options.dropout_rate if deep else 0.0,
                    dropout_rate=options.dropout_rate,
                )
                for name in self.names
            }
        )
        self.closed_form = ByModality(
            {name: WarmEncoder(self.inputs.width(name), options.n_latent, n_hidden=None) for name in self.names}
        )
        self.closed_form.requires_grad_(False)
        self.register_buffer("accepted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("variance", torch.full((options.n_latent,), 1 / options.n_latent))
        self.matching: EvidenceReadout = EvidenceReadout()
        self.table: PlanTable | None = None
        self.discriminator: Discriminator | None = None
        if align == "adversarial":
            self.discriminator = Discriminator(options.n_latent, len(self.names), n_hidden=64, dropout_rate=0.0)

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Encode every modality that the minibatch has.

        Returns
        -------
        ``latents``: name to ``(n, n_latent)``, cells that have it, not normalised; ``present``: name to ``(B,)`` bool;
        ``cells``: the same as positions.
        """
        cells = self.inputs.having(minibatch)
        latents = {name: self.encoders[name](self.inputs.encode(minibatch, name, here)) for name, here in cells.items()}
        return {"latents": latents, "present": self.inputs.present(minibatch), "cells": cells}

    def latents(self, minibatch: MosaicBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return latents of unit length by modality, ``(B, n_latent)``, zeros where absent, and presence."""
        out, n = {}, len(minibatch["index"])
        encoders = self.encoders if bool(self.accepted) else self.closed_form
        for name, here in self.inputs.having(minibatch).items():
            out[name] = spread_rows(unit(encoders[name](self.inputs.encode(minibatch, name, here))), here, n=n)
        return out, self.inputs.present(minibatch)

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms; every term is logged. ``kl_weight`` is the progress of training."""
        latents = inference_outputs["latents"]
        cells = {name: minibatch["index"].ravel()[here] for name, here in inference_outputs["cells"].items()}
        plans = {(a, b): self._plan(a, b, latents, cells, float(kl_weight)) for a, b in combinations(latents, 2)}
        outputs = UnpairedOutputs(
            latents=latents,
            n_cells=len(minibatch["index"]),
            plans={pair: plan for pair, plan in plans.items() if plan is not None},
            has_gradients=self.solver == "gumbel",
            variance=self.variance,
            judged=None if self.discriminator is None else self._judge(latents)[0],
        )
        return unpaired_loss(self.options, self.align, outputs, game_ramp=self.game_ramp)

    def discriminator_loss(self, minibatch: MosaicBatch, outputs: dict[str, Any]) -> Tensor:
        """Return the discriminator's loss on the minibatch, encoders detached."""
        judged, z = self._judge({name: z.detach() for name, z in outputs["latents"].items()}, watch=True)
        return discriminator_loss(judged, gradient_penalty(judged.logits, z))

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: there are no decoders."""
        raise NotImplementedError(
            "UnpairedCCA has no decoders; `model.match(a, b).transfer(values)` carries values over."
        )

    # ------------------------------------------------------------------ parts

    def _plan(
        self, a: str, b: str, latents: dict[str, Tensor], cells: dict[str, Tensor], progress: float
    ) -> BatchPlan | None:
        """Return the plan between the cells of a minibatch, ``None`` where there is none."""
        if self.table is None or not len(cells[a]) or not len(cells[b]):
            return None
        if self.solver == "sinkhorn":
            fixed = self.table.plan(a, b, cells[a], cells[b])
            return None if fixed is None else BatchPlan(fixed, None, None)
        if max(len(cells[a]), len(cells[b])) > MAX_GUMBEL:
            raise ValueError(
                f"Plans with gradients are for up to {MAX_GUMBEL} cells of a modality in a batch, found "
                f"{max(len(cells[a]), len(cells[b]))}. Pass a smaller `batch_size`."
            )
        evidence = self.table.cost(a, b, cells[a], cells[b])
        if evidence is None:
            return None
        u, v = unit(latents[a]), unit(latents[b])
        cost = torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist").square()
        cost = cost / cost.detach().mean().clamp(min=1e-8) + evidence
        first, last = self.options.tau
        tau = first + (last - first) * progress
        samples = gumbel_sinkhorn(-cost / 0.1, tau, noise=1.0 if self.training else 0.0)
        plan = samples.mean(dim=0)
        return BatchPlan(plan, plan_entropy(samples), (plan * evidence).sum() / len(u))

    def _judge(self, latents: dict[str, Tensor], *, watch: bool = False) -> tuple[Opinion, Tensor]:
        """Return what the discriminator says of all profiles, and what it saw, with a gradient if it is watched."""
        if self.discriminator is None:
            raise RuntimeError("The model has no discriminator: pass `align='adversarial'`.")
        z = torch.cat([unit(value) for value in latents.values()])
        codes = torch.cat([torch.full((len(v),), self.inputs.position(n), device=v.device) for n, v in latents.items()])
        if watch:
            z = z.clone().requires_grad_()
        parts, end = [slice(0, 0)] * len(self.names), 0
        for name, latent in latents.items():
            start, end = end, end + len(latent)
            parts[self.inputs.position(name)] = slice(start, end)
        return Opinion(self.discriminator(z), codes, tuple(parts)), z
