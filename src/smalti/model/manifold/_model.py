"""OverlapManifold for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import torch

from smalti._validate import check_choice, check_count
from smalti.model.base import QueryMixin, resolve_options, without_counts
from smalti.nn import masked_mean

from ._module import ManifoldModule
from ._options import Family, ManifoldOptions, ManifoldWeights, check_bursts
from ._results import ManifoldResults

if TYPE_CHECKING:
    from mudata import MuData

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes

    from ._options import Bursts
    from ._register import Registration


class OverlapManifold(QueryMixin, ManifoldResults):
    r"""Coordinates of one continuum of which every modality sees a part :cite:p:`Peterfreund2020,Peterfreund2023`.

    A state is observed several times (a burst). Where the covariance of the burst in the chart :math:`E_v` is a ball
    of known size everywhere, the chart keeps distances, and charts of several modalities differ by a rotation and a
    shift, which a few cells that two of them saw undo. The objective is

    .. math::

        \sum_v \Big\| \tfrac{1}{s^2} \mathrm{Cov}\, E_v(\mathrm{burst}) - I \Big\|^2 + \| D_v(E_v(x)) - x \|^2
        + \lambda_r \| R_u E_u(x_u) - R_v E_v(x_v) \|^2

    Charts are trained by themselves, laid over each other, then trained together.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    n_latent
        Dimension of the continuum.
    bursts
        ``"given"``: repeated observations, see ``burst_key``. ``"neighbours"``: each cell and its nearest in the space
        of linear CCA, the same for all modalities. ``"metacell"``: cells of one small cluster there. ``"thinning"``:
        thinned copies of counts, for modalities with the same features.
    burst_key
        For given bursts: column of ``mdata.obs`` with the state of every cell, or key of ``.obsm`` of every modality
        with the points of each cell's burst, ``(n_obs, n_points, n_vars)``.
    registration
        What may happen to charts when they are laid over each other. ``"auto"``: the simplest within one standard
        error of the best error on left-out cells; rigid only where ``options.burst_scale`` is given.
    options
        Networks and bursts, see :class:`~smalti.model.ManifoldOptions`.
    weights
        Weights of the loss terms.
    random_state
        Seed of initial weights, splits, batches and bursts.
    sizes
        Sizes of a stored model; ``load`` fills them in.

    Notes
    -----
    Bursts of neighbours are not balls in the space of states: making them balls draws dense and sparse regions alike.
    Use ``local_scale`` against that. Clusters without cells between them have no bursts between them: distances hold
    within connected parts only.

    :meth:`get_latent_representation` gives the coordinates, mean over the charts of a cell, ``(n, n_latent)``.

    Examples
    --------
    >>> mdata = smalti.simulate.overlap_charts(150, n_burst=10)
    >>> smalti.model.OverlapManifold.setup_mudata(mdata)
    >>> options = {"burst_scale": mdata.uns["burst_scale"]}
    >>> model = smalti.model.OverlapManifold(mdata, n_latent=2, bursts="given", burst_key="burst", options=options)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (150, 2)
    """

    module: ManifoldModule
    blocks = ("coordinates",)
    aligned_block = analysis_block = "coordinates"
    has_gates = False
    default_batch_size = 128
    default_steps = 2000

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int = 2,
        bursts: Bursts = "neighbours",
        burst_key: str | None = None,
        registration: Registration = "auto",
        options: ManifoldOptions | dict[str, Any] | None = None,
        weights: ManifoldWeights | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
    ) -> None:
        super().__init__(adata, registry)
        self.n_latent, self.random_state = check_count(n_latent, "n_latent"), random_state
        self.kind, self.burst_key = check_bursts(bursts), burst_key
        self.registration = check_choice(registration, ("auto", *get_args(Family)), "registration")
        self.options = resolve_options(ManifoldOptions(), options)
        self.weights = resolve_options(ManifoldWeights(), weights)
        self.config_ = {
            "n_latent": n_latent,
            "bursts": bursts,
            "burst_key": burst_key,
            "registration": registration,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
        }
        self._build(
            lambda found: ManifoldModule(
                without_counts(found, "OverlapManifold measures distances in what its encoders see"),
                n_latent,
                self.options,
                self.weights,
            ),
            sizes,
            n_components=self.options.n_components,
        )
        self._model_summary_string = f"{n_latent} coordinates, bursts {bursts}, registration {registration}"
        self.init_params_ = self._get_init_params(locals())

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        out = self.module.inference(minibatch)
        if modality is None:
            return masked_mean(out["coordinates"], out["present"])
        return torch.where(out["present"][modality][:, None], out["coordinates"][modality], torch.nan)
