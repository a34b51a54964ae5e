"""CLUE for users."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from smalti._validate import check_keys, shorten
from smalti.model.base import (
    FittedInputs,
    LabelMixin,
    MosaicModel,
    MosaicSizes,
    TranslationMixin,
    balancing_weights,
    target_log_library,
    warm_start,
)
from smalti.nn import fuse, masked_mean

from ._module import CLUEModule
from ._options import resolve_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.model.base import Library
    from smalti.nn import Fusion
    from smalti.train import MosaicSplitter

    from ._options import CLUEOptions, LossWeights, Preset

Block = Literal["aligned", "full"]
MIN_VALIDATION_PAIRS = 10
"""Held-out pairs below which they cannot tell epochs apart."""


class CLUE(TranslationMixin, LabelMixin, MosaicModel):
    r"""Cross-linked unified embedding of a partly paired mosaic :cite:p:`Tu2022`.

    Every modality :math:`k` has its own latent block :math:`z_k`, and every modality has an encoder to every block:
    :math:`q(z_j \mid x_k)`. A cell measured in one modality thus has a full latent :math:`z = (z_1, \dots, z_K)`, and a
    modality it lacks is predicted from its block. The objective is

    .. math::

        \sum_k \big[-\log p(x_k \mid z_k) + \mathrm{KL}_k\big] + \lambda_j L_\mathrm{joint} + \lambda_c L_\mathrm{cross}
        + \lambda_a L_\mathrm{agreement} + \lambda_n L_\mathrm{contrastive} + \lambda_d L_\mathrm{adversarial}

    with weights in :class:`~smalti.model.LossWeights`.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    preset
        ``"default"``, or ``"paper"`` for the settings of the authors' release.
    n_latent
        Width of each latent block.
    n_hidden, n_layers, dropout_rate
        Hidden layers of encoders and decoders.
    fusion
        How several modalities of a cell become one latent.
    n_components
        Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells.
    options
        Everything else about the architecture, see :class:`~smalti.model.CLUEOptions`.
    weights
        Weights of the loss terms.
    random_state
        Seed of initial weights, splits, batches and noise.
    sizes
        Sizes of a stored model; ``load`` fills them in.

    Notes
    -----
    Different from the paper: the default adds a block in which modalities are matched. It has its own encoder, starts
    from linear CCA and is trained by a contrastive loss on paired cells: what is matched is not what is decoded. The
    cross and agreement terms use cells with at least two modalities only, the library size is the observed one, and
    early stopping looks at no adversarial term.

    Examples
    --------
    >>> mdata = smalti.datasets.pbmc_mosaic()
    >>> smalti.model.CLUE.setup_mudata(mdata, batch_key="batch")
    >>> model = smalti.model.CLUE(mdata)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (1600, 50)
    """

    _module_cls = CLUEModule

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: Preset = "default",
        n_latent: int | None = None,
        n_hidden: int | None = None,
        n_layers: int | None = None,
        dropout_rate: float | None = None,
        fusion: Fusion | None = None,
        n_components: int | None = None,
        options: CLUEOptions | dict[str, Any] | None = None,
        weights: LossWeights | dict[str, Any] | None = None,
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
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            fusion=fusion,
            n_components=n_components,
        )
        check_keys(self.weights.modality, self.modalities, "`weights.modality`")
        if preset == "paper":
            self.default_batch_size = 128  # release
        self.config_ = {
            "preset": preset,
            "options": self.options.to_dict(),
            "weights": asdict(self.weights),
            "random_state": random_state,
        }
        fitted = None
        if sizes is None:
            if self.adata is None:
                raise ValueError("A model without data needs `sizes`: use `CLUE.load`.")
            fitted = FittedInputs(self.adata_manager, n_components=self.options.n_components, random_state=random_state)
            sizes = fitted.sizes(n_labels=len(self.label_categories))
        self.sizes_ = sizes
        with torch.random.fork_rng():
            torch.manual_seed(random_state)
            self.module = CLUEModule(sizes, self.options, self.weights)
        if fitted is not None:
            self.module.initialise(fitted.load_into(self.module.inputs))
        self._model_summary_string = (
            f"latent {len(sizes.modalities)} x {self.options.n_latent}, aligned "
            f"{self.options.n_align if self.module.aligners is not None else 'off'}, fusion {self.options.fusion}"
        )
        self.init_params_ = self._get_init_params(locals())

    # ------------------------------------------------------------------ training

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan of the preset: the release uses RMSprop at 2e-3 without a schedule."""
        if self.preset == "paper":
            return {"lr": 2e-3, "optimizer": "RMSprop", "lr_schedule": "constant", "kl_warmup": 0.0}
        return {}

    def part_monitors(self, splitter: MosaicSplitter) -> dict[str, tuple[str, ...]]:
        """The aligned block shares no weight with the rest and overfits at another time."""
        if self.module.aligners is None or splitter.n_validation_pairs < MIN_VALIDATION_PAIRS:
            return {}
        return {"contrastive_validation": ("aligners.",)}

    def suggested_steps(self, splitter: MosaicSplitter) -> int:
        """Return as many batches as draw every training pair 150 times, within 500 to ``default_steps``."""
        n_pairs = int((splitter.presence[splitter.train_idx].sum(axis=1) >= 2).sum())
        per_batch = max(splitter.sampler.sizes[0], 1)
        return int(np.clip(150 * n_pairs / per_batch, 500, self.default_steps))

    def _check_trainable(self) -> None:
        super()._check_trainable()
        paired = {name for pair in self.sizes_.pairs for name in pair}
        alone = [name for name in self.modalities if name not in paired]
        if self.weights.contrastive > 0 and alone:
            raise ValueError(
                f"The contrastive term needs cells with two modalities, but no cell of {shorten(alone)} has another "
                "one. Leave these modalities out, use a model for unpaired data, or switch the term off: "
                "`CLUE(mdata, weights=LossWeights(contrastive=0))`."
            )

    def _before_training(self, splitter: MosaicSplitter) -> None:
        if not self.is_trained_ and self.module.aligners is not None:
            warm_start(self, splitter.train_idx, self.module.inputs, self.module.aligners)
        if self.uses_adversary and self.options.balance:
            self.module.inputs.balance_table = balancing_weights(self, self.module.inputs, self.random_state)

    # ------------------------------------------------------------------ latents

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        block: Block | str | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the latent of every cell from all that was measured of it, in the order of ``mdata.obs_names``.

        Parameters
        ----------
        mdata
            Data, those of training by default. It may lack modalities.
        modality
            Use this modality alone; cells without it get NaN. By default all modalities of each cell are fused.
        indices
            Positions or a boolean mask; all cells by default.
        block
            ``"aligned"``: unit vectors in which modalities are matched; compare them by cosine or, equivalently,
            Euclidean distance. ``"full"``: means of all latent blocks side by side. A name: the block of that modality.
            ``"aligned"`` by default, ``"full"`` if the model has no contrastive term.
        batch_size
            Cells per batch.

        Returns
        -------
        ``(n, n_align)``, ``(n, K n_latent)`` or ``(n, n_latent)``.

        Raises
        ------
        ValueError
            If ``modality`` or ``block`` does not exist, or no cell has the modality.
        """
        block = block or ("full" if self.module.aligners is None else "aligned")
        if block not in ("aligned", "full"):
            self.check_modality(block, "block")
        elif block == "aligned" and self.module.aligners is None:
            raise ValueError("The model has no aligned block: its contrastive weight is 0. Use `block='full'`.")
        if modality is not None:
            self.check_modality(modality)
            self.with_modality(mdata, modality, indices)
        parts = []
        for tensors in self.iterate(mdata, indices, batch_size):
            out = self.module.inference(tensors)
            z = self._joint(out, block) if modality is None else self._single(out, block, modality)
            parts.append(z.float().cpu().numpy())
        return np.concatenate(parts)

    def _joint(self, out: dict[str, Any], block: str) -> torch.Tensor:
        if block == "aligned":
            return F.normalize(masked_mean(out["aligned"], out["present"]), dim=1, eps=1e-8)
        z = fuse(out["latents"], out["present"], self.options.fusion).mean
        z = self.module.place(z)
        return z if block == "full" else self.module.block(z, block)

    def _single(self, out: dict[str, Any], block: str, modality: str) -> torch.Tensor:
        here = out["present"][modality]
        if block == "aligned":
            z = out["aligned"][modality]
        else:
            one = fuse({modality: out["latents"][modality]}, {modality: here}, self.options.fusion)
            z = self.module.place(one.mean)
        z = z if block in ("aligned", "full") else self.module.block(z, block)
        return torch.where(here[:, None], z, torch.full_like(z, torch.nan))

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
        module = self.module
        out = module.inference(tensors)
        fused = fuse(out["latents"], out["present"], self.options.fusion) if source is None else out["latents"][source]
        own = module.inputs.batch(tensors)
        codes = own if batch is None else torch.full_like(own, batch)
        at = None if features is None else torch.from_numpy(features).to(own.device)
        decoder, family = module.decoders[target], module.families[target]
        z, covariates = module.block(module.place(fused.mean), target), module.inputs.covariates(codes)
        if decoder.mean_link == "softmax" and at is not None:
            heads = decoder(z, covariates)[:, :, at]  # all features share the total
        else:
            heads = decoder(z, covariates, at)
        if family.uses_library:
            log_library = target_log_library(module.inputs, tensors, source, target, library)
            heads = torch.cat([heads[:1] + log_library[None, :, None], heads[1:]])
        return family.mean(heads, decoder.scales(codes, at).expand(heads.shape[1:]))

    def _label_logits(self, tensors: dict[str, Any], modality: str | None) -> torch.Tensor:
        out = self.module.inference(tensors)
        if modality is None:
            return self.module.label_head(masked_mean({k: v.mean for k, v in out["latents"].items()}, out["present"]))
        here = out["present"][modality][:, None]
        return self.module.label_head(torch.where(here, out["latents"][modality].mean, torch.nan))
