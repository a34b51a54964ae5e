"""MODIS for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from smalti._validate import check_choice
from smalti.model.base import ImputeMixin, QueryMixin, resolve_options, target_log_library
from smalti.model.parts import MosaicSizes, spread_rows
from smalti.nn import masked_mean

from ._class_training import ClassTraining
from ._module import MODISModule
from ._novelty import NoveltyMixin
from ._options import PRESETS, Preset

if TYPE_CHECKING:
    import numpy as np
    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.losses import Game
    from smalti.model.base import Library

    from ._options import MODISOptions, MODISWeights


class MODIS(QueryMixin, ImputeMixin, NoveltyMixin, ClassTraining):
    r"""Integration of unpaired modalities through a few class labels :cite:p:`LepeSoltero2025`.

    Every modality has an encoder to a latent that all share, and to one of its own. A discriminator that sees only the
    shared latent predicts the class, whatever the modality; clustering terms let samples without a label take part,
    and a modality game and an energy distance make the classes of different modalities coincide. The objective is

    .. math::

        \sum_m \big[-\log p(x_m \mid z, u_m) - \log p(x_m \mid z) + \mathrm{KL}_m\big] + L_\mathrm{class}
        + L_\mathrm{clustering} + \lambda_a L_\mathrm{alignment} + \lambda_d L_\mathrm{adversarial} + L_\mathrm{pairs}

    with weights in :class:`~smalti.model.MODISWeights`. Samples may be unpaired, paired or both; labels may be known
    for all, for some or for none.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    preset
        ``"default"``, or ``"paper-intersim"`` or ``"paper-tcga"`` for the published networks and weights.
    n_latent, n_private
        Widths of the shared latent and of each modality's own.
    adversary
        Rules of the modality game; ``"none"`` for none.
    n_classes
        Number of clusters to look for in data without any label.
    options
        Everything else, see :class:`~smalti.model.MODISOptions`; a dictionary changes the preset.
    weights
        Weights of the loss terms; a dictionary changes the preset.
    random_state
        Seed of initial weights, splits, batches and noise.
    sizes
        Sizes of a stored model; ``load`` fills them in.

    Notes
    -----
    Blocks of :meth:`get_latent_representation`: ``"shared"``, what all modalities share, means averaged over a sample's
    modalities, ``(n, n_latent)``; ``"full"``, the private latents too, side by side, zeros where a modality was not
    measured, ``(n, n_latent + M n_private)``, or that of ``modality`` alone, ``(n, n_latent + n_private)``.

    Different from the paper: its relativistic loss is constant (:func:`smalti.losses.published_relativistic`), so that
    its modalities are tied by the class head alone; here the game works and an energy distance supports it. The private
    latent, the linear maps beside the networks, balanced classes and borrowed variation of rare classes, calibrated
    probabilities and the rule for classes that a modality never showed are additions; latents are means, not samples.

    Examples
    --------
    >>> mdata = smalti.simulate.factor_views(200, n_features={"a": 30, "b": 20}, n_clusters=3)
    >>> smalti.model.MODIS.setup_mudata(mdata, labels_key="label")
    >>> model = smalti.model.MODIS(mdata)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.predict().shape
    (200,)
    """

    module: MODISModule
    blocks = ("shared", "full")
    aligned_block = "shared"
    beside_linear = True
    default_batch_size = 192
    default_steps = 1000

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: Preset = "default",
        n_latent: int | None = None,
        n_private: int | None = None,
        adversary: Game | Literal["none"] | None = None,
        n_classes: int | None = None,
        options: MODISOptions | dict[str, Any] | None = None,
        weights: MODISWeights | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
    ) -> None:
        super().__init__(adata, registry)
        default_options, default_weights = PRESETS[check_choice(preset, get_args(Preset), "preset")]
        self.preset, self.random_state = preset, random_state
        self.options = resolve_options(
            default_options,
            options,
            n_latent=n_latent,
            n_private=n_private,
            adversary=adversary,
            n_classes=n_classes,
        )
        self.weights = resolve_options(default_weights, weights)
        if preset != "default":
            self.default_batch_size = 32 * len(self.modalities)  # published: 32 of each
            self.default_steps = 28_500  # published: 300 epochs of about 95 steps
        self.config_ = {
            "preset": preset,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
        }
        self._build(
            lambda found: MODISModule(found, self.options, self.weights), sizes, n_components=self.options.n_components
        )
        self._model_summary_string = (
            f"latent {self.module.n_latent} shared + {self.options.n_private} private, adversary "
            f"{self.options.adversary}"
        )
        self.init_params_ = self._get_init_params(locals())

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan of the preset: the paper uses Adam at 1e-4 without a schedule."""
        if self.preset == "default":
            return {"game_warmup": 0.1, "burn_in": 0.0}
        return {
            "lr": 1e-4,
            "betas": (0.5, 0.999),
            "weight_decay": 0.0,
            "lr_schedule": "constant",
            "n_steps_warmup": 0,
            "kl_warmup": 0.0,
            "burn_in": 0.0,
            "gradient_clip": None,
        }

    # ------------------------------------------------------------------ latents

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        means, present = self._means(minibatch)
        d, p = self.module.n_latent, self.options.n_private
        if modality is not None:
            z = means[modality] if block == "full" else means[modality][:, :d]
            return torch.where(present[modality][:, None], z, torch.nan)
        z = masked_mean({name: mean[:, :d] for name, mean in means.items()}, present)
        if block == "shared":
            return z
        absent = z.new_zeros(len(z), p)
        own = [means[name][:, d:] if name in means else absent for name in self.modalities]
        return torch.cat([z, *own], dim=1)

    def _means(self, minibatch: MosaicBatch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return latent means by modality, zeros where absent, and presence."""
        out = self.module.inference(minibatch)
        present = out["present"]
        return {name: spread_rows(out["latents"][name].mean, here) for name, here in present.items()}, present

    # ------------------------------------------------------- translation and labels

    def _expected(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        features: NDArray[np.int64] | None,
    ) -> torch.Tensor:
        module, d = self.module, self.module.n_latent
        means, present = self._means(minibatch)
        names = [source] if source is not None else list(means)
        shared = masked_mean({n: means[n][:, :d] for n in names}, {n: present[n] for n in names})
        z = module.without_private(shared)
        if target in names:  # what was measured keeps its own variation
            z = torch.cat([shared, means[target][:, d:]], dim=1)
        own = module.inputs.batch(minibatch)
        codes = own if batch is None else torch.full_like(own, batch)
        at = None if features is None else torch.from_numpy(features).to(own.device)
        log_library = None
        if module.inputs.uses_library(target):
            log_library = target_log_library(module.inputs, minibatch, source, target, library)
        return module.decoding.expected(z, target, codes, log_library, at)

    def _label_names(self) -> list[str]:
        return self.label_categories or [f"cluster_{i + 1}" for i in range(self.module.n_labels)]

    def _label_logits(self, minibatch: MosaicBatch, modality: str | None) -> torch.Tensor:
        means, present = self._means(minibatch)
        d, logits = self.module.n_latent, {}
        for name in means if modality is None else [modality]:
            judged = self.module.discriminator(means[name][:, :d])
            logits[name] = judged.label / self.module.temperature[self.module.inputs.position(name)]
        if modality is None:
            return masked_mean(logits, present)
        return torch.where(present[modality][:, None], logits[modality], torch.nan)
