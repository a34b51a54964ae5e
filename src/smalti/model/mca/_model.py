"""MCA for users."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from smalti._validate import check_choice, check_keys, shorten
from smalti.model.base import ImputeMixin, QueryMixin, resolve_options, target_log_library
from smalti.model.parts import MosaicSizes, warm_start

from ._memory import check_memory
from ._module import MCAModule
from ._options import MCAOptions, MCAWeights, Variant
from ._retrieval import RetrievalMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.base import Library
    from smalti.nn import TokenKind
    from smalti.train import MosaicSplitter


logger = logging.getLogger(__name__)

Channel = Literal["root", "observed"] | str | Collection[str]
"""The channel of all modalities; the one of what each cell has; or one given by its modalities."""

MAX_EPOCHS = 300
"""Epochs of a default training. On 150 tumours 300 give the probe of 750 in less time (decision 016)."""


class MCA(QueryMixin, RetrievalMixin, ImputeMixin):
    r"""Fusion embeddings that survive missing modalities, by modal channel attention :cite:p:`Bjorgaard2024`.

    A transformer reads each modality :math:`m` of a cell by itself, which gives a *unimodal* embedding :math:`u_m` that
    nothing else can change. For sets of modalities :math:`c` it has *channels*: fusion tokens that read the modalities
    of :math:`c` that were measured, and give :math:`f_c`. The channel of all modalities is the *root*. Training pulls
    embeddings of one cell together and pushes those of other cells apart,

    .. math::

        \lambda_1 \overline{\ell(u_m, f_\mathrm{root})} + \lambda_2 \overline{\ell(u_m, u_{m'})}
        + \lambda_3 \overline{\ell(f_\mathrm{root}, f_c)} + \lambda_4 \overline{\ell(u_m, f_c)}
        + \lambda_r L_\mathrm{reconstruction}

    with the symmetric InfoNCE loss :math:`\ell`, bars for means over the terms of a row, and weights in
    :class:`~smalti.model.MCAWeights`. All embeddings lie in one space: any can be compared with any other by cosine.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    variant
        ``"mca"``; ``"mma"`` for a single fusion channel that sees everything :cite:p:`Recasens2023`; or ``"eao"`` for
        channels that are means over the tokens of their modalities :cite:p:`Shvetsova2022`.
    n_latent
        Width of tokens and embeddings.
    n_layers, n_heads, dropout_rate
        Of the transformer.
    tokens
        What the tokens of a modality are, see :class:`~smalti.model.MCAOptions`.
    n_components
        Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells.
    options
        Everything else about the architecture.
    weights
        Weights of the loss terms.
    random_state
        Seed of initial weights, splits, batches and dropout.
    sizes
        Sizes of a stored model; ``load`` fills them in.

    Notes
    -----
    Blocks of :meth:`get_latent_representation` are channels, ``(n, n_latent)``, of unit length by default. ``"root"``
    (the default): the channel of all modalities. ``"observed"``: the channel of exactly those that the cell has, the
    unimodal embedding if that is one, and the root if there is no such channel. Names: the channel of these modalities;
    one name is the unimodal embedding. Cells that have none of them get NaN. With ``modality`` the channel reads that
    one alone; the modality's own embedding is that of :meth:`get_unimodal_embeddings`.

    Different from the authors' code: embeddings have unit length in training, too; cells without a modality are no
    negatives in its terms; rows of terms weigh the same; the root channel is the full set by definition; attention is
    computed per modality and presence pattern instead of with one masked matrix of all tokens; blocks are pre-norm; a
    linear map that starts from linear CCA goes past the transformer; and there may be decoders.

    Examples
    --------
    >>> mdata = smalti.datasets.pbmc_mosaic()
    >>> smalti.model.MCA.setup_mudata(mdata, batch_key="batch")
    >>> model = smalti.model.MCA(mdata)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation(block="aligned").shape
    (1600, 64)
    """

    module: MCAModule
    blocks = ("root", "observed")
    aligned_block = "root"
    beside_linear = True
    default_batch_size = 256
    default_steps = 1500

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        variant: Variant = "mca",
        n_latent: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        dropout_rate: float | None = None,
        tokens: TokenKind | dict[str, TokenKind] | None = None,
        n_components: int | None = None,
        options: MCAOptions | dict[str, Any] | None = None,
        weights: MCAWeights | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
    ) -> None:
        super().__init__(adata, registry)
        self.variant, self.random_state = check_choice(variant, get_args(Variant), "variant"), random_state
        self.options = resolve_options(
            MCAOptions(),
            options,
            n_latent=n_latent,
            n_layers=n_layers,
            n_heads=n_heads,
            dropout_rate=dropout_rate,
            tokens=tokens,
            n_components=n_components,
        )
        self.weights = resolve_options(MCAWeights(), weights)
        self.weights.check_root(self.variant)
        if isinstance(self.options.tokens, dict):
            check_keys(self.options.tokens, self.modalities, "`options.tokens`")
        check_keys(self.weights.modality, self.modalities, "`weights.modality`")
        self.config_ = {
            "variant": variant,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
        }
        self._build(
            lambda found: MCAModule(found, variant, self.options, self.weights),
            sizes,
            n_components=self.options.n_components,
        )
        counts = ", ".join(f"{name} {self.module.tokens[name].n_tokens}" for name in self.modalities)
        self._model_summary_string = (
            f"{variant}, embedding {self.options.n_latent}, channels {len(self.module.channels)}, tokens {counts}"
        )
        self.init_params_ = self._get_init_params(locals())

    # ------------------------------------------------------------------ training

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan: the peak of the learning rate is reached after 5 % of all steps, and only matrices decay."""
        return {"lr": 1e-3, "warmup_share": 0.05, "gradient_clip": 2.0, "decay": "matrices"}

    def suggested_steps(self, splitter: MosaicSplitter) -> int:
        """Return ``default_steps``, or fewer where these would be more than :data:`MAX_EPOCHS` epochs."""
        return min(super().suggested_steps(splitter), MAX_EPOCHS * splitter.sampler.n_batches)

    def _check_trainable(self) -> None:
        super()._check_trainable()
        if self.weights.unimodal_unimodal > 0 and self.sizes_.alone:
            raise ValueError(
                f"Modalities are matched by cells that have two, but no cell of {shorten(self.sizes_.alone)} has "
                "another one. Leave these modalities out, use a model for unpaired data, or switch the term off: "
                "`MCA(mdata, weights=MCAWeights(unimodal_unimodal=0))`; they then stay unmatched."
            )

    def _before_training(self, splitter: MosaicSplitter) -> None:
        check_memory(
            {name: self.module.tokens[name].n_tokens for name in self.modalities},
            len(self.module.channels) * self.options.n_fusion,
            width=self.options.n_latent,
            n_layers=self.options.n_layers,
            batch_size=splitter.batch_size,
        )
        if not self.is_trained_ and self.module.skips is not None:
            warm_start(self.module.inputs, [self.module.skips], self.cell_components().of(splitter.train_idx))

    # ---------------------------------------------------------------- embeddings

    def _joint_axes(self) -> str | None:
        # what networks match by keeps types worse than the linear axes do, where pairs give these (decision 013)
        fitted = self.module.joint.joint
        linear = bool(self.sizes_.pairs) if fitted is None else "latent" not in fitted.scales
        return None if linear else super()._joint_axes()

    def _latent(self, minibatch: MosaicBatch, block: Channel, modality: str | None) -> torch.Tensor:
        return self.module.embed(minibatch, block, modality)

    def _tell_block(self, block: Channel, mdata: MuData | None) -> None:
        """Say which channel training cells and a query share, where the root channel of both is not the same thing."""
        if mdata is None:  # whoever reads the data says so
            return
        lacking = [name for name in self.modalities if name not in mdata.mod]
        shared = tuple(name for name in self.modalities if name in mdata.mod)
        if block != "root" or not lacking or not shared:
            return
        known = len(shared) == 1 or self.module.channel(shared) is not None
        common = repr(shared if known and len(shared) > 1 else shared[0])
        logger.warning(
            "The data have no %s, which the root channel of other cells contains. To compare these cells with others, "
            "take the channel that both have, for both: `block=%s`; `block='joint'` completes what is missing.",
            shorten(lacking),
            common,
        )

    def get_unimodal_embeddings(
        self,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Return the embedding of each modality by itself, ``(n, n_latent)`` by name, NaN where it was not measured.

        What else was measured of a cell does not change it.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.
        """
        parts: list[NDArray[np.float32]] = []
        for minibatch in self.iterate(mdata, indices, batch_size):
            streams, where = self.module.encode(minibatch)
            found = self.module.normalise(self.module.transformer.pooled(streams, where))
            parts.append(torch.where(where[:, :, None], found, torch.nan).cpu().numpy())
        return dict(zip(self.modalities, np.concatenate(parts).transpose(1, 0, 2), strict=True))

    def _check_block(self, block: Channel, modality: str | None) -> Any:
        """Return a word, or the modalities of a channel that exists and reads ``modality``."""
        channel = block
        if isinstance(channel, str) and channel in ("joint", "aligned", *self.blocks):
            return super()._check_block(channel, modality)
        names = (channel,) if isinstance(channel, str) else tuple(channel)
        for name in names:
            check_choice(name, ("joint", "aligned", *self.blocks, *self.modalities), "block")
        if len(set(names)) != 1 and self.module.channel(names) is None:
            sizes = sorted({len(c) for c in self.module.channels})
            raise ValueError(
                f"The model has no channel of {shorten(names) or 'nothing'}, only channels of {shorten(sizes)} "
                "modalities. Use 'root', or a model with other `cardinalities`."
            )
        if modality is not None and modality not in names:
            raise ValueError(f"The channel of {shorten(names)} does not read {modality!r}. Use `block='root'`.")
        return names

    # --------------------------------------------------------------- translation

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
        if module.decoding is None:
            raise ValueError(
                "The model has no decoders, so it cannot translate. Train one with a reconstruction term: "
                "`MCA(mdata, weights=MCAWeights(reconstruction=0.1))`."
            )
        z = module.decoded_from(module.embed(minibatch, "root", source))
        own = module.inputs.batch(minibatch)
        codes = own if batch is None else torch.full_like(own, batch)
        at = None if features is None else torch.from_numpy(features).to(own.device)
        log_library = None
        if module.inputs.uses_library(target):
            log_library = target_log_library(module.inputs, minibatch, source, target, library)
        return module.decoding.expected(z, target, codes, log_library, at)
