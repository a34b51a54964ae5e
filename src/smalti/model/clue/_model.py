"""CLUE for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import torch.nn.functional as F

from smalti._validate import check_choice, check_keys, shorten
from smalti.model.base import ImputeMixin, LabelMixin, QueryMixin, resolve_options, target_log_library
from smalti.model.parts import MosaicSizes, warm_start
from smalti.nn import fuse, masked_mean

from ._balance import balancing_weights
from ._module import CLUEModule
from ._options import PRESETS, Preset

if TYPE_CHECKING:
    from collections.abc import Collection

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.base import Library
    from smalti.nn import Fusion
    from smalti.train import MosaicSplitter

    from ._options import CLUEOptions, CLUEWeights

MIN_VALIDATION_PAIRS = 10
"""Held-out pairs below which they cannot tell epochs apart."""


class CLUE(QueryMixin, ImputeMixin, LabelMixin):
    r"""Cross-linked unified embedding of a partly paired mosaic :cite:p:`Tu2022`.

    Every modality :math:`k` has its own latent block :math:`z_k`, and every modality has an encoder to every block:
    :math:`q(z_j \mid x_k)`. A cell measured in one modality thus has a full latent :math:`z = (z_1, \dots, z_K)`, and a
    modality it lacks is predicted from its block. The objective is

    .. math::

        \sum_k \big[-\log p(x_k \mid z_k) + \mathrm{KL}_k\big] + \lambda_j L_\mathrm{joint} + \lambda_c L_\mathrm{cross}
        + \lambda_a L_\mathrm{agreement} + \lambda_n L_\mathrm{contrastive} + \lambda_d L_\mathrm{adversarial}

    with weights in :class:`~smalti.model.CLUEWeights`.

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
        Components of encoder inputs, 30 by default; 100 in the release.
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
    Blocks of :meth:`get_latent_representation`: ``"aligned"``, unit vectors in which modalities are matched, compared
    by cosine or, equivalently, Euclidean distance, ``(n, n_align)``; ``"full"``, means of all latent blocks side by
    side, ``(n, K n_latent)``; the name of a modality for its block alone. ``"aligned"`` is the default, ``"full"`` if
    the model has no contrastive term.

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
    >>> model.get_latent_representation().shape[0]  # for analysis; block="aligned" for matching
    1600
    """

    module: CLUEModule
    blocks = ("full",)

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
        weights: CLUEWeights | dict[str, Any] | None = None,
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
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            fusion=fusion,
            n_components=n_components,
        )
        self.weights = resolve_options(default_weights, weights)
        check_keys(self.weights.modality, self.modalities, "`weights.modality`")
        if preset == "paper":
            self.default_batch_size = 128  # release
        self.config_ = {
            "preset": preset,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
        }
        self._build(
            lambda found: CLUEModule(found, self.options, self.weights), sizes, n_components=self.options.n_components
        )
        aligned = self.options.n_align if self.module.aligners is not None else "off"
        self._model_summary_string = (
            f"latent {len(self.modalities)} x {self.options.n_latent}, aligned {aligned}, fusion {self.options.fusion}"
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
        if self.weights.contrastive > 0 and self.sizes_.alone:
            raise ValueError(
                f"The contrastive term needs cells with two modalities, but no cell of {shorten(self.sizes_.alone)} "
                "has another one. Leave these modalities out, use a model for unpaired data, or switch the term off: "
                "`CLUE(mdata, weights=CLUEWeights(contrastive=0))`."
            )

    def _before_training(self, splitter: MosaicSplitter) -> None:
        module = self.module
        if not self.is_trained_ and module.aligners is not None:
            shown = self.cell_components().of(splitter.train_idx)
            warm_start(module.inputs, [*module.aligners.sets(), module.aligners.linear], shown)
        if self.uses_adversary and self.options.balance:
            module.balance = balancing_weights(self.cell_components(), self.modalities, self.random_state)

    def _after_training(self) -> None:
        aligners = self.module.aligners
        if aligners is None:
            return
        held = np.zeros(self.adata.n_obs, dtype=bool)
        held[np.asarray(self.validation_indices_, dtype=np.int64)] = True
        presence = self.adata_manager.presence()
        cells = np.flatnonzero(presence.sum(axis=1) >= 2)
        if not len(cells):
            return
        found = [self.module.inference(minibatch)["aligned"] for minibatch in self.iterate(indices=cells)]
        parts = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        present = {name: presence[cells, self.module.inputs.position(name)] for name in parts}
        aligners.fit(parts, present, self.adata_manager.codes()["batch"][cells], held[cells])

    # ------------------------------------------------------------------ latents

    def _joint_axes(self) -> str | None:
        # networks for matching give all types equal room, which k-means does not forgive (decision 013)
        return "full" if self.module.aligners is None else None

    def _matching_block(self) -> str | None:
        return None if self.module.aligners is None else super()._matching_block()

    def _default_block(self) -> str:
        block = super()._default_block()
        return "full" if block == "aligned" and self.module.aligners is None else block

    def _check_block(self, block: str | Collection[str], modality: str | None) -> Any:
        if block == "aligned" and self.module.aligners is None:
            raise ValueError("The model has no aligned block: its contrastive weight is 0. Use `block='full'`.")
        if block not in self.modalities:
            check_choice(block, ("joint", "aligned", *self.blocks, *self.modalities), "block")
            return super()._check_block(block, modality)
        return str(block)

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        out, module = self.module.inference(minibatch), self.module
        names = list(out["present"]) if modality is None else [modality]
        present = {name: out["present"][name] for name in names}
        if block == "aligned":
            aligners = self.module.aligners
            if aligners is None:
                raise RuntimeError("The model has no aligned block.")
            z = masked_mean({name: aligners.match_space(out["aligned"][name]) for name in names}, present)
            z = F.normalize(z, dim=1, eps=1e-8)
        else:
            latents = {name: out["latents"][name] for name in names}
            z = module.normalise(fuse(latents, present, self.options.fusion).mean)
            z = z if block == "full" else module.block(z, block)
        return z if modality is None else torch.where(present[modality][:, None], z, torch.nan)

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
        module = self.module
        if source is None:
            out = module.inference(minibatch)
            fused = fuse(out["latents"], out["present"], self.options.fusion)
        else:
            fused = module.posterior(minibatch, source)
        own = module.inputs.batch(minibatch)
        codes = own if batch is None else torch.full_like(own, batch)
        at = None if features is None else torch.from_numpy(features).to(own.device)
        log_library = None
        if module.inputs.uses_library(target):
            log_library = target_log_library(module.inputs, minibatch, source, target, library)
        return module.decoding.expected(
            module.block(module.normalise(fused.mean), target), target, codes, log_library, at
        )

    def _label_logits(self, minibatch: MosaicBatch, modality: str | None) -> torch.Tensor:
        out, head = self.module.inference(minibatch), self.module.label_head
        if head is None:
            raise RuntimeError("The model has no label head.")
        if modality is None:
            return head(masked_mean({k: v.mean for k, v in out["latents"].items()}, out["present"]))
        here = out["present"][modality][:, None]
        return head(torch.where(here, out["latents"][modality].mean, torch.nan))
