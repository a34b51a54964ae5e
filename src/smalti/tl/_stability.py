"""What changes when a model is trained again with another seed: every score, and every cell's neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._jobs import run_jobs
from smalti._validate import check_count, check_seed
from smalti.metrics import nearest_neighbors

from ._evaluation import describe_score
from ._trials import HELD_OUT, check_sendable, setup_of, train_and_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from smalti._jobs import Backend
    from smalti.model.base import MosaicModel


@dataclass(frozen=True, kw_only=True, repr=False)
class Stability:
    """What :func:`stability` found. Print it, or draw it with :func:`smalti.pl.stability`."""

    model: str
    """Name of the class."""
    seeds: tuple[int, ...]
    """Seeds that were trained with."""
    scores: pd.DataFrame
    """A row per seed, a column per score, as :func:`smalti.tl.evaluate` names them."""
    neighbourhood: pd.DataFrame
    """``(n_obs, n_latents)`` in ``[0, 1]``: the share of a cell's nearest cells that two seeds agree on, mean over all
    pairs of seeds; a column per latent, missing for cells without one."""
    n_neighbors: int
    """Nearest cells that were compared."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Why scores are missing."""

    @property
    def chance(self) -> float:
        """Share of nearest cells that two unrelated latents agree on."""
        return self.n_neighbors / max(len(self.neighbourhood) - 1, 1)

    @property
    def spread(self) -> pd.DataFrame:
        """A row per score: ``mean``, ``sd``, ``min`` and ``max`` over seeds."""
        return pd.DataFrame(
            {
                "mean": self.scores.mean(),
                "sd": self.scores.std(ddof=1),
                "min": self.scores.min(),
                "max": self.scores.max(),
            }
        )

    def __repr__(self) -> str:
        lines = [f"{self.model}, {len(self.seeds)} seeds ({', '.join(map(str, self.seeds))})"]
        for name, values in self.neighbourhood.items():
            lines.append(
                f"  {name} latent: of the {self.n_neighbors} nearest cells two seeds share {values.mean():.0%} on "
                f"average; less than half for {(values < 0.5).mean():.0%} of cells (unrelated latents: "
                f"{self.chance:.1%})"
            )
        table = self.spread.round(4)
        table.index = pd.Index([score_title(str(name)) for name in table.index])
        return "\n".join([*lines, table.to_string(), *(f"{part}: {why}" for part, why in self.notes.items())])


def score_title(score: str) -> str:
    """Return how a column of ``Stability.scores`` is called in tables and pictures.

    Parameters
    ----------
    score
        Name of the column.
    """
    return score if score == HELD_OUT else describe_score(score).title


def stability(
    model_cls: type[MosaicModel],
    mdata: MuData,
    n_seeds: int = 3,
    *,
    batch_key: str | None = None,
    labels_key: str | None = None,
    n_neighbors: int = 15,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    backend: Backend = "loky",
    random_state: int = 0,
) -> Stability:
    """Train a model with several seeds and see how much of what it says depends on the seed.

    The seed decides initial weights, the order of cells and which cells are held out. What changes with it should not
    be interpreted. That nothing changes does not make it true: a linear method is stable and may be wrong.

    Parameters
    ----------
    model_cls
        Class of the model.
    mdata
        The mosaic, set up by ``model_cls.setup_mudata``. Nothing is written. With pairs that
        :func:`smalti.simulate.hide_pairs` hid, matching is scored on them.
    n_seeds
        Trainings, at least 2: ``random_state``, ``random_state + 1`` and so on.
    batch_key, labels_key
        Columns of ``mdata.obs`` for the scores, see :func:`smalti.tl.evaluate`.
    n_neighbors
        Nearest cells to compare, those of the neighbour graph that clusters and UMAP are made from.
    model_kwargs, train_kwargs
        Arguments of the model beside ``random_state``, and of ``train``.
    n_jobs, backend
        Trainings at a time, and where they run, see :func:`smalti.tl.sweep`.
    random_state
        First seed.

    Returns
    -------
    :class:`Stability`.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or too few cells.

    Examples
    --------
    >>> sm.model.CLUE.setup_mudata(mdata, batch_key="donor")
    >>> found = sm.tl.stability(sm.model.CLUE, mdata, 3, batch_key="donor")
    >>> sm.pl.stability(found)
    """
    if check_count(n_seeds, "n_seeds") < 2:
        raise ValueError("Expected `n_seeds` of at least 2: one training says nothing of the spread.")
    check_count(n_neighbors, "n_neighbors")
    check_seed(random_state)
    seeds = tuple(range(random_state, random_state + n_seeds))
    rows: dict[int, pd.Series] = {}
    graphs: dict[str, list[sp.csr_matrix]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    notes: dict[str, str] = {}
    setup, keys = setup_of(model_cls, mdata, batch_key, labels_key), (batch_key, labels_key)
    check_sendable(mdata, n_jobs, backend)
    jobs = [
        (model_cls, mdata, setup, {**(model_kwargs or {}), "random_state": seed}, dict(train_kwargs or {}), *keys)
        for seed in seeds
    ]
    results = run_jobs(train_and_score, jobs, n_jobs=n_jobs, backend=backend, at_once=1 if n_jobs == 1 else len(jobs))
    for seed, trial in zip(seeds, (trial for several in results for trial in several), strict=True):
        rows[seed] = trial.scores
        notes |= trial.notes
        for name, z in trial.latents.items():
            here = np.isfinite(z).all(axis=1)
            known[name] = here & known.get(name, here)
            graphs.setdefault(name, []).append(_graph(z, n_neighbors))
    shared = {
        name: np.where(known[name], neighbour_agreement(each, n_neighbors), np.nan) for name, each in graphs.items()
    }
    return Stability(
        model=model_cls.__name__,
        seeds=seeds,
        scores=pd.DataFrame(rows).T.rename_axis("seed"),
        neighbourhood=pd.DataFrame(shared, index=mdata.obs_names),
        n_neighbors=n_neighbors,
        notes=notes,
    )


def neighbour_agreement(graphs: list[sp.csr_matrix], k: int) -> NDArray[np.float64]:
    """Return the share of ``k`` nearest cells that two graphs have in common, mean over all pairs of graphs.

    Parameters
    ----------
    graphs
        ``(n, n)`` each, a one for every one of the ``k`` nearest cells of a row.
    k
        Nearest cells.

    Returns
    -------
    ``(n,)`` in ``[0, 1]``.
    """
    pairs = list(combinations(graphs, 2))
    total = sum(np.asarray(a.multiply(b).sum(axis=1)).ravel() for a, b in pairs)
    return np.asarray(total / (len(pairs) * k), dtype=np.float64)


def _graph(z: ArrayLike, k: int) -> sp.csr_matrix:
    """Return a one for every nearest cell; rows without a latent are empty."""
    z = np.asarray(z)
    here = np.flatnonzero(np.isfinite(z).all(axis=1))
    near = here[nearest_neighbors(z[here], k=k).indices]
    shape = (len(z), len(z))
    return sp.csr_matrix((np.ones(near.size), (np.repeat(here, k), near.ravel())), shape=shape)
