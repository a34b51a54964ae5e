"""What every network of a model is: inputs, maybe decoding, and the price of its gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scvi.module.base import BaseModuleClass

from ._inputs import MosaicInputs
from ._joint import JointReadout
from ._match_space import MatchReadout
from ._translator import Translator

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.nn import FeatureGate

    from ._decoding import Decoding
    from ._fit_inputs import FittedInputs
    from ._sizes import MosaicSizes


class GatePrice(NamedTuple):
    """What open gates cost on this step; the last summand of every objective."""

    total: Tensor
    """Sum over modalities of price times expected number of open features."""
    expected_open: dict[str, Tensor]
    """Expected number of open features by modality."""

    def terms(self) -> dict[str, Tensor]:
        """Return what is logged: ``gates`` and ``open_<modality>``."""
        return {"gates": self.total, **{f"open_{name}": n for name, n in self.expected_open.items()}}


class MosaicModule(BaseModuleClass):
    """Base of all networks.

    A subclass gives ``inference(minibatch)`` (and ``generative(inferred)`` where it samples), and ``loss``, which hands
    its outputs, a reconstruction and :meth:`gate_price` to the objective in ``_loss.py``.

    Parameters
    ----------
    sizes
        What the data look like.
    n_embed
        Output width of trainable input layers (encoder input ``"counts"``).

    Attributes
    ----------
    inputs
        From a minibatch to what encoders see.
    decoding
        From a latent to likelihoods; ``None`` for networks without decoders.
    joint
        The latent for analysis, fitted after training.
    matching
        The space for matching of models that have none of their own, fitted after training.
    translator
        How pairs of modalities predict each other, fitted after training.
    noise_level, game_ramp
        Burn-in noise and share of the game's weight at this step; set by the training plan of a modality game.
    """

    decoding: Decoding | None

    def __init__(self, sizes: MosaicSizes, *, n_embed: int = 128) -> None:
        super().__init__()
        self.sizes = sizes
        self.names = list(sizes.modalities)
        self.inputs = MosaicInputs(sizes, n_embed=n_embed)
        self.decoding = None
        self.joint = JointReadout()
        self.matching = MatchReadout()
        self.translator = Translator()
        self.noise_level, self.game_ramp = 0.0, 1.0

    @torch.no_grad()
    def initialise(self, fitted: FittedInputs) -> None:
        """Take over what was fitted to the training data: input layers, masks, library sizes, starts of decoders."""
        rates = fitted.load_into(self.inputs)
        if self.decoding is not None:
            standards = fitted.standards() if len(self.decoding.standards) else {}
            self.decoding.initialise(rates, standards)

    def fitted_parts(self) -> tuple[str, ...]:
        """Return beginnings of the names of weights that are made after training, of sizes of their own."""
        return tuple(f"{name}." for name, part in self.named_modules() if getattr(part, "sizes_itself", False))

    @property
    def gates(self) -> list[FeatureGate]:
        """Gates of all modalities that have some; the training plan moves them."""
        return [gate for _, gate in self.inputs.gates.items()]

    def gate_price(self) -> GatePrice | None:
        """Return what open gates cost on this step; ``None`` without gates."""
        if not self.gates:
            return None
        total = self.inputs.mean_log_library.new_zeros(())
        for gate in self.gates:
            if gate.price > 0:
                total = total + gate.price * gate.expected_open()
        return GatePrice(total, {name: gate.n_open() for name, gate in self.inputs.gates.items()})

    def _get_inference_input(self, minibatch: MosaicBatch) -> dict[str, Any]:
        return {"minibatch": minibatch}

    def _get_generative_input(self, minibatch: MosaicBatch, inference_outputs: dict[str, Any]) -> dict[str, Any]:
        return {"inferred": inference_outputs}

    def generative(self, inferred: dict[str, Any]) -> dict[str, Any]:
        """Draw nothing; networks that sample latents do it here."""
        return {}

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: ``translate`` of the model decodes expectations."""
        name = type(self).__name__.removesuffix("Module")
        raise NotImplementedError(f"{name} does not draw samples of the data; `model.translate` gives expected values.")
