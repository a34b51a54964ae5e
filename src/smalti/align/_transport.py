"""Plans between landmarks, by POT: entropic, unbalanced, and from distances within modalities alone.

POT takes a second to import, and most models never need it: functions import it when they are called.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import shortest_path
from sklearn.neighbors import kneighbors_graph

from smalti._validate import check_positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

EPSILON = 0.02
"""Entropic regularisation, in units of the mean cost (SNARE cortex, FOSCTTM after one step: .151; .161 at .05)."""
N_ITERATIONS = 200
SAFE_EXPONENT = 80.0
"""Largest cost, over the smallest of its row and column, in units of epsilon, for which float32 is enough."""
GEOMETRY_NEIGHBORS = 50
"""20 are too few: FOSCTTM .22 instead of .15 on cell lines."""
GEOMETRY_EPSILONS = (0.05, 0.02, 0.01, 0.005, 0.002)
"""Annealed: with a fixed value two of three runs fell into a wrong matching of clusters."""


def squared_distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared Euclidean distances ``(n_1, n_2)``, at least 0."""
    d = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None] - 2 * (x @ y.T)
    return np.maximum(d, 0.0, out=d)


def entropic_plan(
    cost: NDArray[np.float64],
    mass: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    epsilon: float = EPSILON,
    relax: float | None = None,
    n_iterations: int = N_ITERATIONS,
) -> NDArray[np.float64]:
    """Return the entropic optimal plan between landmarks.

    Parameters
    ----------
    cost
        ``(L_1, L_2)``; only its ratio to its mean matters.
    mass
        Marginals ``(L_1,)`` and ``(L_2,)``, each summing to 1.
    epsilon
        Regularisation, in units of the mean cost.
    relax
        Penalty on marginals (Kullback-Leibler), in units of the mean cost, for unbalanced transport: the smaller, the
        more mass is left out. By default marginals hold exactly.
    n_iterations
        Of Sinkhorn.

    Returns
    -------
    ``(L_1, L_2)``, at least 0.
    """
    import ot

    check_positive(epsilon, "epsilon")
    scaled = cost / max(float(cost.mean()), 1e-300)
    if relax is not None:
        check_positive(relax, "relax")
        return np.asarray(
            ot.unbalanced.sinkhorn_unbalanced(
                *mass, scaled, epsilon, relax, reg_type="kl", numItermax=n_iterations, warn=False
            )
        )
    # what is added to a row or a column changes no balanced plan; less to subtract means less to underflow
    scaled = scaled - scaled.min(axis=1, keepdims=True)
    scaled -= scaled.min(axis=0, keepdims=True)
    kind = np.float32 if float(scaled.max()) < SAFE_EXPONENT * epsilon else np.float64
    arguments = [np.asarray(v, dtype=kind) for v in (*mass, scaled)]
    plan = ot.sinkhorn(*arguments, epsilon, method="sinkhorn", numItermax=n_iterations, stopThr=1e-5, warn=False)
    plan = np.asarray(plan, dtype=np.float64)
    if not np.isfinite(plan).all() or not 0.9 < plan.sum() < 1.1:
        plan = ot.sinkhorn(*mass, scaled, epsilon, method="sinkhorn_log", numItermax=n_iterations, warn=False)
    return np.asarray(plan)


RELAX_CONFIDENCE = 3.0
"""Penalty on marginals from which confidences come: large, so that hardly any mass is left out and what little is tells
which cells are expensive (AUROC of a removed type, PBMC: .88-.95 at 0.3, .95-.99 at 3)."""
SPREAD_CONFIDENCE = 10.0
"""Power that spreads the small differences which this leaves."""


def kept_mass(
    cost: NDArray[np.float64], mass: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how readily unbalanced transport moves each row ``(L_1,)`` and column ``(L_2,)``, in [0, 1].

    Parameters
    ----------
    cost
        ``(L_1, L_2)`` between what two modalities have in common.
    mass
        Marginals.
    """
    plan = entropic_plan(cost, mass, relax=RELAX_CONFIDENCE)
    out = []
    for total, wanted in zip((plan.sum(axis=1), plan.sum(axis=0)), mass, strict=True):
        share = total / np.maximum(wanted, 1e-300)
        out.append(np.clip((share / max(float(np.quantile(share, 0.9)), 1e-300)) ** SPREAD_CONFIDENCE, 0.0, 1.0))
    return out[0], out[1]


def dual_potentials(
    cost: NDArray[np.float64],
    mass: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    epsilon: float,
    relax: float,
    n_iterations: int = N_ITERATIONS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the logs of the scalings of rows ``(L_1,)`` and columns ``(L_2,)`` of an unbalanced plan.

    The plan is proportional to :math:`\exp(f_i + g_j - c_{ij} / \epsilon)` with costs divided by their mean; see
    :func:`entropic_plan` for the parameters.
    """
    import ot

    scaled = cost / max(float(cost.mean()), 1e-300)
    _, log = ot.unbalanced.sinkhorn_unbalanced(
        *mass, scaled, epsilon, relax, reg_type="kl", numItermax=n_iterations, log=True, warn=False
    )
    return np.asarray(log["logu"]), np.asarray(log["logv"])


def geometry(x: NDArray[np.float64], n_neighbors: int = GEOMETRY_NEIGHBORS) -> NDArray[np.float64]:
    """Return distances along a neighbour graph of ``(L, p)`` points, divided by the largest, ``(L, L)`` in [0, 1]."""
    k = min(n_neighbors, len(x) - 1)
    graph = kneighbors_graph(x, k, mode="connectivity", metric="correlation" if x.shape[1] > 1 else "euclidean")
    d = shortest_path(graph.maximum(graph.T), directed=False, unweighted=True)
    finite = np.isfinite(d)
    d[~finite] = d[finite].max()
    return d / max(float(d.max()), 1e-300)


def gromov_plan(
    geometries: tuple[NDArray[np.float64], NDArray[np.float64]],
    mass: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    cost: NDArray[np.float64] | None = None,
    structure: float = 1.0,
    epsilons: tuple[float, ...] = GEOMETRY_EPSILONS,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return a plan that keeps distances within modalities (entropic fused Gromov-Wasserstein, annealed).

    The optimum of this term is not the truth: on PBMC a wrong plan costs .0244 and the right one .030-.034.

    Parameters
    ----------
    geometries
        Distances within each modality, ``(L_1, L_1)`` and ``(L_2, L_2)``.
    mass
        Marginals.
    cost
        ``(L_1, L_2)`` cost between modalities; none by default.
    structure
        Weight of the structure against ``cost``, in [0, 1].
    epsilons
        Regularisations, one call after the other, in units of the mean cost.
    start
        Plan to start from; independent marginals by default.
    """
    import ot

    plan = np.outer(*mass) if start is None else start
    common = {"loss_fun": "square_loss", "symmetric": True, "solver": "PGD", "max_iter": 20, "warmstart": True}
    for epsilon in epsilons:
        common |= {"epsilon": epsilon, "G0": plan, "numItermax": 50}
        with warnings.catch_warnings():  # inner iterations are few on purpose
            warnings.filterwarnings("ignore", message="Sinkhorn did not converge")
            if cost is None:
                found = ot.gromov.entropic_gromov_wasserstein(*geometries, *mass, **common)
            else:
                scaled = cost / max(float(cost.mean()), 1e-300)
                found = ot.gromov.entropic_fused_gromov_wasserstein(
                    scaled, *geometries, *mass, alpha=structure, **common
                )
        found = np.asarray(found)
        if not np.isfinite(found).all() or found.sum() < 0.5:
            logger.warning("Gromov-Wasserstein became unstable at epsilon %g; the plan before is kept.", epsilon)
            break
        plan = found / found.sum()
    return plan
