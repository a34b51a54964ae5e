"""FusionClustering for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from smalti._validate import check_count
from smalti.model.base import QueryMixin, resolve_options, without_counts

from ._module import FusionModule
from ._options import FusionOptions, FusionWeights
from ._results import FusionResults
from ._training import FusionTraining

if TYPE_CHECKING:
    from mudata import MuData

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes


class FusionClustering(QueryMixin, FusionResults, FusionTraining):
    r"""Clusters that several modalities agree on, and cells on which they do not :cite:p:`Eisenberg2025`.

    Every modality has an encoder :math:`h_v`; deep CCA makes the embeddings of paired cells correlate, and one head
    :math:`f` assigns clusters to the embedding of any modality and to their fusion

    .. math:: e = \sum_v w_v N(h_v(x_v)) \Big/ \sum_v w_v, \qquad P = \mathrm{softmax}\, f(e)

    over the modalities that a cell has, with :math:`N` to unit length. Stage I trains the encoders; then the head is
    fitted to communities of joint linear latents (:class:`~smalti.pp.LinearJoint`), in which all cells have a place,
    and in stages II and III encoders and head learn to tell these apart; in stage III the weights :math:`w_v` are
    learnt as well. The objective is

    .. math::

        \sum_v \| D_v(h_v(x_v)) - x_v \|^2 + \lambda_c L_\mathrm{correlation} + \lambda_a L_\mathrm{agreement}
        + \lambda_s L_\mathrm{start} + \lambda_p L_\mathrm{pseudo}

    with weights in :class:`~smalti.model.FusionWeights`. New cells need not have all modalities.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    n_clusters
        Number of clusters. By default the smallest number that says as much on which halves of the cells agree as any;
        ``stability_`` holds the curve. Stable clusters may still be finer than what you call a cell type: give the
        number if you know it.
    n_latent
        Width of the embeddings.
    options
        Everything else about networks and pseudo-labels, see :class:`~smalti.model.FusionOptions`.
    weights
        Weights of the loss terms.
    random_state
        Seed of initial weights, splits, batches and clusters.
    sizes
        Sizes of a stored model; ``load`` fills them in.

    Notes
    -----
    Different from the paper: encoders start from linear CCA and are kept in common axes by the agreement term, so that
    a cell with one modality gets its cluster from the same head; clusters start from communities and may be of unequal
    size; pseudo-labels (the surest cells teach the rest), permuted cells and borrowed partners are options, off because
    they did not help where we measured them; the weights of the best validation epoch are kept, chosen without labels.

    ``.obsm``-ready latents: :meth:`get_latent_representation` gives the fused embedding, ``(n, n_latent)``.

    Examples
    --------
    >>> mdata = smalti.simulate.factor_views(200, n_features={"a": 30, "b": 20}, n_clusters=3)
    >>> smalti.model.FusionClustering.setup_mudata(mdata)
    >>> model = smalti.model.FusionClustering(mdata, n_clusters=3)
    >>> model.train(max_epochs=3, progress=False)
    >>> model.predict().nunique() <= 3
    True
    """

    module: FusionModule
    blocks = ("fused",)
    aligned_block = analysis_block = "fused"
    has_gates = False
    default_steps = 420

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_latent: int | None = None,
        options: FusionOptions | dict[str, Any] | None = None,
        weights: FusionWeights | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if n_clusters is not None and check_count(n_clusters, "n_clusters") < 2:
            raise ValueError(f"Expected `n_clusters` to be at least 2, found {n_clusters}.")
        if n_clusters is not None and adata is not None and n_clusters > adata.n_obs:
            raise ValueError(
                f"Expected `n_clusters` to be at most the number of cells, {adata.n_obs}, found {n_clusters}."
            )
        self.n_clusters, self.random_state = n_clusters, random_state
        self.options = resolve_options(FusionOptions(), options, n_latent=n_latent)
        self.weights = resolve_options(FusionWeights(), weights)
        self.config_ = {
            "n_clusters": n_clusters,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
        }
        self._build(
            lambda found: FusionModule(
                without_counts(found, "FusionClustering reconstructs what its encoders see"),
                n_clusters,
                self.options,
                self.weights,
            ),
            sizes,
            n_components=self.options.n_components,
        )
        self._model_summary_string = f"latent {self.options.n_latent}, clusters {n_clusters or 'to be counted'}"
        self.init_params_ = self._get_init_params(locals())

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        out = self.module.inference(minibatch)
        z = self.module.fused(out, modality)
        return z if modality is None else torch.where(out["present"][modality][:, None], z, torch.nan)

    def _label_names(self) -> list[str]:
        return [f"{i + 1}" for i in range(self.module.n_clusters)]

    def _label_logits(self, minibatch: MosaicBatch, modality: str | None) -> torch.Tensor:
        return self.module.head(self._latent(minibatch, "fused", modality))
