"""MODIS for users."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from smalti.model.base import (
    ClassTraining,
    FittedInputs,
    LabelMixin,
    MosaicSizes,
    NoveltyMixin,
    TranslationMixin,
    target_log_library,
)
from smalti.nn import masked_mean

from ._module import MODISModule
from ._options import resolve_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.losses import Game
    from smalti.model.base import Library

    from ._options import MODISOptions, MODISWeights, Preset


class MODIS(TranslationMixin, NoveltyMixin, LabelMixin, ClassTraining):
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

    _module_cls = MODISModule
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
        self.preset, self.random_state = preset, random_state
        self.options, self.weights = resolve_options(
            preset,
            options,
            weights,
            n_latent=n_latent,
            n_private=n_private,
            adversary=adversary,
            n_classes=n_classes,
        )
        if preset != "default":
            self.default_batch_size = 32 * len(self.modalities)  # published: 32 of each
            self.default_steps = 28_500  # published: 300 epochs of about 95 steps
        fitted = None
        if sizes is None:
            if self.adata is None:
                raise ValueError("A model without data needs `sizes`: use `MODIS.load`.")
            fitted = FittedInputs(self.adata_manager, n_components=self.options.n_components, random_state=random_state)
            sizes = fitted.sizes(n_labels=len(self.label_categories))
        self.sizes_ = sizes
        self.config_ = {
            "preset": preset,
            "options": self.options.to_dict(),
            "weights": asdict(self.weights),
            "random_state": random_state,
        }
        with torch.random.fork_rng():
            torch.manual_seed(random_state)
            self.module = MODISModule(sizes, self.options, self.weights)
        if fitted is not None:
            self.module.initialise(fitted.load_into(self.module.inputs), fitted.standards())
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

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        block: Literal["shared", "full"] = "shared",
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the latent of every sample from all that was measured of it, in the order of ``mdata.obs_names``.

        Parameters
        ----------
        mdata
            Data, those of training by default. It may lack modalities.
        modality
            Use this modality alone; samples without it get NaN. By default means are averaged over a sample's
            modalities.
        indices
            Positions or a boolean mask; all samples by default.
        block
            ``"shared"``: what all modalities share. ``"full"``: the private latents too, side by side, zeros where a
            modality was not measured (or that of ``modality`` alone).
        batch_size
            Samples per batch.

        Returns
        -------
        ``(n, n_latent)``; ``(n, n_latent + M n_private)`` or ``(n, n_latent + n_private)`` with ``block="full"``.

        Raises
        ------
        ValueError
            If ``modality`` or ``block`` does not exist, or no sample has the modality.
        """
        if block not in ("shared", "full"):
            raise ValueError(f"Expected `block` to be 'shared' or 'full', found {block!r}.")
        if modality is not None:
            self.check_modality(modality)
            self.with_modality(mdata, modality, indices)
        parts = []
        for tensors in self.iterate(mdata, indices, batch_size):
            means, present = self._means(tensors)
            d, p = self.module.n_latent, self.options.n_private
            if modality is not None:
                z = means[modality] if block == "full" else means[modality][:, :d]
                z = torch.where(present[modality][:, None], z, torch.nan)
            else:
                z = masked_mean({name: mean[:, :d] for name, mean in means.items()}, present)
                if block == "full":
                    absent = z.new_zeros(len(z), p)
                    own = [means[name][:, d:] if name in means else absent for name in self.modalities]
                    z = torch.cat([z, *own], dim=1)
            parts.append(z.float().cpu().numpy())
        return np.concatenate(parts)

    def _means(self, tensors: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return latent means by modality, zeros where absent, and presence."""
        out = self.module.inference(tensors)
        means = {}
        for name, here in out["present"].items():
            mean = out["latents"][name].mean
            means[name] = mean.new_zeros(len(here), mean.shape[1])
            means[name][here] = mean
        return means, out["present"]

    # ------------------------------------------------------- translation and labels

    def _expected(
        self,
        tensors: dict[str, Any],
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        features: NDArray[np.int64] | None,
    ) -> torch.Tensor:
        module, d = self.module, self.module.n_latent
        means, present = self._means(tensors)
        names = [source] if source is not None else list(means)
        shared = masked_mean({n: means[n][:, :d] for n in names}, {n: present[n] for n in names})
        z = module.without_private(shared)
        if target in names:  # what was measured keeps its own variation
            z = torch.cat([shared, means[target][:, d:]], dim=1)
        own = module.inputs.batch(tensors)
        codes = own if batch is None else torch.full_like(own, batch)
        at = None if features is None else torch.from_numpy(features).to(own.device)
        family, log_library = module.families[target], None
        if family.uses_library:
            log_library = target_log_library(module.inputs, tensors, source, target, library)
        heads, _ = module.heads(z, target, codes, at, log_library)
        mean = family.mean(heads, module.decoders[target].scales(codes, at).expand(heads.shape[1:]))
        if target in list(module.standards):
            standard = module.standards[target]
            centre, scale = standard.centre[0], standard.scale
            spread = torch.where(scale > 0, 1 / scale.clamp(min=1e-12), torch.zeros_like(scale))
            mean = mean * (spread if at is None else spread[at]) + (centre if at is None else centre[at])
        return mean

    def _label_names(self) -> list[str]:
        return self.label_categories or [f"cluster_{i + 1}" for i in range(self.module.n_labels)]

    def _label_logits(self, tensors: dict[str, Any], modality: str | None) -> torch.Tensor:
        means, present = self._means(tensors)
        d, logits = self.module.n_latent, {}
        for name in means if modality is None else [modality]:
            judged = self.module.discriminator(means[name][:, :d])
            logits[name] = judged.label / self.module.temperature[self.module.inputs.position(name)]
        if modality is None:
            return masked_mean(logits, present)
        return torch.where(present[modality][:, None], logits[modality], torch.nan)
