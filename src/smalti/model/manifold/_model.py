"""OverlapManifold for users."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from smalti._validate import check_choice, check_count
from smalti.model.base import QueryMixin, resolve_options, without_counts
from smalti.nn import masked_mean

from ._burst_making import BurstMaker
from ._dimension import choose_dimension
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
        Dimension of the continuum. ``"auto"`` tries charts of 1 to 5 dimensions shortly on 600 cells and takes the
        smallest that keeps distances and whose successor explains at most 5 % more; see :meth:`dimension_table`.
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
    sizes, tried
        Sizes of a stored model, and dimensions that were tried; ``load`` fills them in.

    Raises
    ------
    ValueError
        If the dimension is to be found without the white term.

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
        n_latent: int | Literal["auto"] = 2,
        bursts: Bursts = "neighbours",
        burst_key: str | None = None,
        registration: Registration = "auto",
        options: ManifoldOptions | dict[str, Any] | None = None,
        weights: ManifoldWeights | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
        tried: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(adata, registry)
        self.random_state = random_state
        self.n_latent = 1 if n_latent == "auto" else check_count(n_latent, "n_latent")
        self.kind, self.burst_key = check_bursts(bursts), burst_key
        self.registration = check_choice(registration, ("auto", *get_args(Family)), "registration")
        self.options = resolve_options(ManifoldOptions(), options)
        self.weights = resolve_options(ManifoldWeights(), weights)
        if n_latent == "auto" and self.weights.white == 0:
            raise ValueError(
                "Without a white term charts keep no distances, which show the dimension: give `n_latent`."
            )
        self._build(lambda found: self._network(found, self.n_latent), sizes, n_components=self.options.n_components)
        if n_latent == "auto":
            tried = self._find_dimension()
        self.config_ = {
            "n_latent": self.n_latent,
            "bursts": bursts,
            "burst_key": burst_key,
            "registration": registration,
            "options": self.options.to_dict(),
            "weights": self.weights.to_dict(),
            "random_state": random_state,
            "tried": tried,
        }
        self._model_summary_string = f"{self.n_latent} coordinates, bursts {bursts}, registration {registration}"
        self.init_params_ = self._get_init_params(locals())

    def _network(self, sizes: MosaicSizes, n_latent: int) -> ManifoldModule:
        what = "OverlapManifold measures distances in what its encoders see"
        return ManifoldModule(without_counts(sizes, what), n_latent, self.options, self.weights)

    def _find_dimension(self) -> list[dict[str, Any]]:
        """Set the dimension, rebuild the network with it, and return what was tried."""
        maker = BurstMaker(
            self.adata_manager, self.module.inputs, self.cell_components(), self.options, self.random_state
        )
        make = partial(self._network, self.sizes_)
        self.n_latent, table = choose_dimension(make, maker.make(self.kind, self.burst_key), self.random_state)
        inputs = self.module.inputs
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            self.module = make(self.n_latent)
        self.module.inputs = inputs
        return table.to_dict("records")

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        out = self.module.inference(minibatch)
        if modality is None:
            return masked_mean(out["coordinates"], out["present"])
        return torch.where(out["present"][modality][:, None], out["coordinates"][modality], torch.nan)
