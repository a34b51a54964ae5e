"""The network of UnpairedCCA: linear maps in closed form, encoders that start from them, and the loss under a plan."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data

from smalti.data import INDEX
from smalti.losses import (
    covariance_drift,
    energy_distance,
    gradient_penalty,
    gumbel_sinkhorn,
    max_sliced_wasserstein,
    mmd,
    modality_game,
    plan_correlation,
    plan_entropy,
    structural_similarity,
)
from smalti.model.base import MosaicInputs
from smalti.nn import ByModality, Discriminator, PlannedEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.align import PlanTable
    from smalti.model.base import MosaicSizes

    from ._options import Align, Encoder, Solver, UnpairedOptions

PAIRWISE = {"mmd": mmd, "max_sliced": max_sliced_wasserstein}
MAX_GUMBEL = 512
"""Cells of a modality in a batch beyond which plans with gradients are refused."""


class UnpairedModule(BaseModuleClass):
    """Encoders per modality into one latent.

    Parameters
    ----------
    sizes
        What the data look like.
    encoder, solver, align
        See :class:`~smalti.model.UnpairedCCA`.
    options
        See :class:`~smalti.model.UnpairedOptions`.
    """

    accepted: Tensor
    variance: Tensor

    def __init__(
        self, sizes: MosaicSizes, encoder: Encoder, solver: Solver, align: Align, options: UnpairedOptions
    ) -> None:
        super().__init__()
        self.sizes, self.solver, self.align, self.options = sizes, solver, align, options
        self.names = list(sizes.modalities)
        self.inputs = MosaicInputs(sizes)
        self.encoders = ByModality(
            {
                name: PlannedEncoder(
                    self.inputs.width(name),
                    options.n_latent,
                    deep=encoder == "deep",
                    n_hidden=options.n_hidden,
                    dropout_rate=options.dropout_rate,
                )
                for name in self.names
            }
        )
        self.register_buffer("accepted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("variance", torch.full((options.n_latent,), 1 / options.n_latent))
        self.table: PlanTable | None = None
        self.discriminator: Discriminator | None = None
        if align == "adversarial":
            self.discriminator = Discriminator(options.n_latent, len(self.names), n_hidden=64, dropout_rate=0.0)
        self.noise_level, self.game_ramp = 0.0, 1.0

    def _get_inference_input(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"tensors": tensors}

    def _get_generative_input(self, tensors: dict[str, Any], inference_outputs: dict[str, Any]) -> dict[str, Any]:
        return {}

    @auto_move_data
    def inference(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Encode every modality that the batch has; ``latents``: name to ``(n, n_latent)``, not normalised."""
        present = self.inputs.present(tensors)
        latents = {name: self.encoders[name](self.inputs.encode(tensors, name, here)) for name, here in present.items()}
        return {"latents": latents, "present": present}

    def generative(self) -> dict[str, Any]:
        """Nothing: the model has no decoders."""
        return {}

    @auto_move_data
    def latents(self, tensors: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return latents of unit length by modality, ``(B, n_latent)``, zeros where absent, and presence."""
        out, present = {}, self.inputs.present(tensors)
        for name, here in present.items():
            x = self.inputs.encode(tensors, name, here)
            z = self.encoders[name](x) if bool(self.accepted) else self.encoders[name].closed_form(x)
            out[name] = z.new_zeros(len(here), z.shape[1])
            out[name][here] = F.normalize(z, dim=1, eps=1e-8)
        return out, present

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms; every term is logged."""
        latents, options = inference_outputs["latents"], self.options
        present = inference_outputs["present"]
        cells = {name: tensors[INDEX].ravel()[here] for name, here in present.items()}
        zero = sum((z.sum() * 0.0 for z in latents.values()), self.variance.new_zeros(()))
        parts: dict[str, Tensor] = {"correlation": zero, "drift": zero}
        if options.structure_weight > 0 or self.align == "ssim":
            parts["structure"] = zero
        if self.solver == "gumbel":
            parts |= {"entropy": zero, "link_cost": zero}
        n_pairs = 0
        for a, b in combinations(latents, 2):
            plan = self._plan(a, b, latents, cells, parts, kl_weight)
            if plan is None:
                continue
            n_pairs += 1
            parts["correlation"] = parts["correlation"] + 1 - plan_correlation(latents[a], latents[b], plan)
            if "structure" in parts:
                u, v = (F.normalize(latents[m], dim=1, eps=1e-8) for m in (a, b))
                parts["structure"] = parts["structure"] + structural_similarity(u, v, plan)
        for name in ("correlation", "structure", "entropy", "link_cost"):
            if name in parts:
                parts[name] = parts[name] / max(n_pairs, 1)
        for z in latents.values():
            parts["drift"] = parts["drift"] + covariance_drift(z, self.variance) / len(latents)
        weights = {"correlation": 1.0, "drift": options.drift, "entropy": options.entropy}
        weights |= {"link_cost": options.link_cost, "align": options.align_weight}
        weights["structure"] = options.structure_weight + (options.align_weight if self.align == "ssim" else 0.0)
        if self.align in ("mmd", "max_sliced", "energy"):
            parts["align"] = zero + self._distance(latents)
        total = zero + sum(weights[name] * value for name, value in parts.items())
        monitor = total.detach()
        if self.discriminator is not None:
            parts["adversarial"] = zero + self._game("encoder", latents)
            total = total + self.game_ramp * options.align_weight * parts["adversarial"]
        logged = {**{name: value.detach() for name, value in parts.items()}, "monitor": monitor}
        n = len(tensors[INDEX])
        return LossOutput(
            loss=total,
            reconstruction_loss=total.detach().expand(n),
            kl_local=total.new_zeros(n),
            extra_metrics=logged,
        )

    def discriminator_loss(self, tensors: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
        """Return the discriminator's loss on the batch, encoders detached."""
        latents = {name: z.detach() for name, z in outputs["latents"].items()}
        return self._game("discriminator", latents)

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: there are no decoders."""
        raise NotImplementedError(
            "UnpairedCCA has no decoders; `model.match(a, b).transfer(values)` carries values over."
        )

    # ------------------------------------------------------------------ parts

    def _plan(
        self,
        a: str,
        b: str,
        latents: dict[str, Tensor],
        cells: dict[str, Tensor],
        parts: dict[str, Tensor],
        progress: float | Tensor,
    ) -> Tensor | None:
        """Return the plan between the cells of a batch, ``None`` where there is none."""
        if self.table is None or not len(cells[a]) or not len(cells[b]):
            return None
        if self.solver == "sinkhorn":
            return self.table.plan(a, b, cells[a], cells[b])
        if max(len(cells[a]), len(cells[b])) > MAX_GUMBEL:
            raise ValueError(
                f"Plans with gradients are for up to {MAX_GUMBEL} cells of a modality in a batch, found "
                f"{max(len(cells[a]), len(cells[b]))}. Pass a smaller `batch_size`."
            )
        evidence = self.table.cost(a, b, cells[a], cells[b])
        if evidence is None:
            return None
        u, v = (F.normalize(latents[m], dim=1, eps=1e-8) for m in (a, b))
        cost = torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist").square()
        cost = cost / cost.detach().mean().clamp(min=1e-8) + evidence
        first, last = self.options.tau
        tau = first + (last - first) * float(progress)
        samples = gumbel_sinkhorn(-cost / 0.1, tau, noise=1.0 if self.training else 0.0)
        plan = samples.mean(dim=0)
        parts["entropy"] = parts["entropy"] + plan_entropy(samples)
        parts["link_cost"] = parts["link_cost"] + (plan * evidence).sum() / len(u)
        return plan

    def _distance(self, latents: dict[str, Tensor]) -> Tensor:
        """Return the distance between the modalities' latents as distributions."""
        z = {name: F.normalize(value, dim=1, eps=1e-8) for name, value in latents.items() if len(value)}
        if len(z) < 2:
            return self.variance.new_zeros(())
        if self.align == "energy":
            codes = torch.cat([torch.full((len(v),), i, device=v.device) for i, v in enumerate(z.values())])
            return energy_distance(torch.cat(list(z.values())), codes, len(z))
        terms = [PAIRWISE[self.align](z[a], z[b]) for a, b in combinations(z, 2)]
        return torch.stack(terms).mean()

    def _game(self, player: Any, latents: dict[str, Tensor]) -> Tensor:
        if self.discriminator is None:
            raise RuntimeError("The model has no discriminator: pass `align='adversarial'`.")
        z = torch.cat([F.normalize(value, dim=1, eps=1e-8) for value in latents.values()])
        codes = torch.cat([torch.full((len(v),), self.names.index(n), device=v.device) for n, v in latents.items()])
        if player == "discriminator":
            z = z.clone().requires_grad_()
        logits = self.discriminator(z)
        game = modality_game("ovr", player, logits, codes)
        return game + gradient_penalty(logits, z) if player == "discriminator" else game
