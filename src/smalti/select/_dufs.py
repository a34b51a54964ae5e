"""Features of one modality that are smooth on the graph they draw together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._common import (
    N_TOP,
    START_CELLS,
    Choice,
    finish,
    landmark_codes,
    options_of,
    prune_modality,
    some_cells,
)
from ._engine import SelectionProblem
from ._graph import gated_gram, smoothness
from ._support import own_supports
from ._values import Values
from ._warm_start import dependence, warm_start

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from ._common import Lam
    from ._engine import SelectOptions
    from ._result import Selection


class DUFSProblem(SelectionProblem):
    """Smoothness of gated features on their own graph."""

    def score(
        self, x: dict[str, torch.Tensor], z: dict[str, torch.Tensor], weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the sum over features, each at most 1."""
        o = self.options
        ((name, values),) = x.items()
        return smoothness(gated_gram(values, z[name]), o.n_neighbors, o.bandwidth, o.n_walk, weight)


def dufs(
    mdata: MuData,
    modality: str,
    *,
    lam: Lam = 0.1,
    n_features: int | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top: int | None = N_TOP,
    use_warm_start: bool = True,
    use_prune: bool = True,
    stability: int = 0,
    landmarks: int | None = None,
    options: SelectOptions | dict[str, Any] | None = None,
    random_state: int = 0,
    write: bool = True,
) -> Selection:
    r"""Select features of one modality without labels :cite:p:`Lindenbaum2021`.

    Gates :math:`z` are trained to maximise how smooth the gated features are on the graph of the gated features,

    .. math:: \frac1B \mathrm{Tr}[(X z)^T P^2 (X z)] - \lambda \sum_d P(z_d > 0),

    on standardised values, in batches of cells: nothing of size cells by cells is ever made.

    Parameters
    ----------
    mdata
        The mosaic; cells without the modality take no part. Counts are log-normalised.
    modality
        Name of the modality.
    lam
        Price of an open feature; a feature earns at most 1. ``"path"``: calibrated on permuted features, see Notes;
        ``"auto"``: halfway between what features that start open earn and what they earn when permuted.
    n_features
        Number of features to select; the price is then searched for.
    layer
        Layer with the values; ``.X`` by default.
    batch_key
        Column of ``mdata.obs``: features are centred within each batch.
    n_top
        The most variable features take part; ``None`` for all.
    use_warm_start
        Start gates open for features that depend on any other one, by a test of all pairs.
    use_prune
        Remove features that are not smooth on the graph of the other selected ones. Not done with ``n_features``.
    stability
        Number of half-samples of the cells for selection probabilities; 0 for none.
    landmarks
        Number of k-means landmarks: batches then hold cells near all of them, so that rare states are seen.
    options
        See :class:`SelectOptions`.
    random_state
        Seed.
    write
        Write ``selected``, ``gate`` and ``gate_prob`` into ``.var`` and the path into ``.uns["gates"]``.

    Returns
    -------
    Tables, price and path; and ``n_supported``, how many features are told from permuted copies of themselves (see
    Notes). A warning says so if more are selected.

    Raises
    ------
    KeyError
        If the modality, layer or column does not exist.
    ValueError
        If no feature varies.

    Notes
    -----
    A feature is supported if it is smoother on the graph of the other selected features than permuted copies are, at
    most 5 % of the supported ones being false as in a knockoff filter :cite:p:`Barber2015`. ``support`` is the
    smoothness in standard deviations of a permuted feature.

    An open nuisance feature shapes the graph and then looks smooth on it. The published form therefore loses true
    features in the transition or keeps false ones: of two moons among 50 nuisance features it finds both in none of
    five runs. Warm start and prune, both additions, find them in all.

    With ``lam="path"``, the smallest price that closes 99 % of independently permuted features is found by bisection;
    of seven prices from 0.88 to twice that, the first of the longest stretch with the same selection is taken.

    Examples
    --------
    >>> mdata = smalti.datasets.pbmc_mosaic()
    >>> found = smalti.select.dufs(mdata, "adt", n_features=30, options={"n_steps": 50})
    >>> int(mdata["adt"].var["selected"].sum())
    30
    """
    chosen = options_of(options)
    choice = Choice(lam=lam, n_features=n_features, stability=stability, random_state=random_state)
    values = Values(mdata, modality, layer=layer, batch_key=batch_key, n_top=n_top)
    rows = np.unique(values.rows[values.rows >= 0])
    strata = None if landmarks is None else landmark_codes(values, rows, landmarks, random_state)
    problem = DUFSProblem({modality: values}, rows[:, None], chosen, strata)
    start: dict[str, torch.Tensor] | None = None
    extra: dict[str, NDArray[Any]] = {}
    if use_warm_start:
        statistic = dependence(values.read(some_cells(rows, START_CELLS, random_state)).numpy())
        start = {modality: torch.from_numpy(warm_start(statistic))}
        extra["dependence"] = statistic
    path = choice.run(problem, start, {modality: np.ones(values.n_features, dtype=np.int64)})
    keep = None
    if use_prune and n_features is None:
        stays, extra["prune_z"] = prune_modality(values, rows, path.selected(path.chosen)[modality], random_state)
        keep = {modality: stays}
    return finish(
        mdata,
        problem,
        path,
        choice,
        method="dufs",
        start=start,
        keep=keep,
        extra={modality: extra},
        supports=own_supports(values, rows, random_state),
        write=write,
    )
