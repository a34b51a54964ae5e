"""Groups of features, given or learned, that are smooth on the graph they draw together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from smalti._gate_table import group_table
from smalti._validate import check_count, check_keys, check_positive
from smalti.nn import GroupGate

from ._common import PRUNE_CELLS, START_CELLS, Choice, finish, options_of, some_cells
from ._dufs import DUFSProblem
from ._learned_groups import learn_groups
from ._prune import prune_groups
from ._result import Selection, among_all
from ._support import own_supports
from ._values import Values
from ._warm_start import dependence

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from ._common import Lam
    from ._engine import Gates, SelectOptions
    from ._path import Path

logger = logging.getLogger(__name__)


class GroupProblem(DUFSProblem):
    """Smoothness of features behind gates of groups; a group costs as much as its features."""

    codes: torch.Tensor
    between = 0.25
    # groups differ in what they earn; those that are let in by a low price are pruned

    def make_gates(self) -> Gates:
        """Return one gate per group."""
        return {name: GroupGate(self.codes, sigma=self.options.sigma) for name in self.values}

    def prices(self, gates: Gates) -> dict[str, torch.Tensor]:
        """Return the expected number of open features.

        What an open group earns grows with its size, so a price that grows with the root of the size would close small
        true groups and leave large false ones open.
        """
        groups = {name: cast("GroupGate", gate) for name, gate in gates.items()}
        return {n: (g.size.to(g.mu.dtype) * g.group_probability()).sum() for n, g in groups.items()}


def group_fs(
    mdata: MuData,
    modality: str,
    *,
    groups: str | None = None,
    n_groups: int | None = None,
    lam: Lam = "auto",
    n_features: int | None = None,
    min_share: float = 0.5,
    use_prune: bool = True,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top: int | None = None,
    options: SelectOptions | dict[str, Any] | None = None,
    random_state: int = 0,
    write: bool = True,
) -> Selection:
    r"""Select groups of features without labels: gene sets, regions near a gene, or groups that are learned.

    The objective is that of :func:`dufs` with one gate per group. Groups are given by a column of ``.var`` or, with
    ``n_groups``, learned together with their gates :cite:p:`GroupFS2025`: :math:`z_d = \sum_j M_{dj} z_j` with soft
    memberships :math:`M` that start from spectral clusters of correlated features and harden in the course of training.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    groups
        Column of ``.var`` with the group of each variable; missing values are groups of their own.
    n_groups
        Number of groups to learn instead.
    lam
        Price of an open feature; ``"auto"``: a quarter of the way from what permuted features earn to what those of
        groups that start open earn; or ``"path"``, see :func:`dufs`. What a feature earns depends on how many
        dimensions the structure has, so a fixed number rarely serves.
    n_features
        Number of features in selected groups, about; the price is then searched for.
    min_share
        Gates of groups start open if at least this share of their features depends on another feature.
    use_prune
        Remove groups that are not smooth on the graph of the other selected groups. Not done with ``n_features``.
    layer, batch_key, n_top, options, random_state, write
        See :func:`dufs`. All features take part by default. Runs default to 300 steps.

    Returns
    -------
    Tables with the column ``gate_group``, and a table of groups.

    Raises
    ------
    KeyError
        If the modality or the column does not exist.
    ValueError
        If neither or both of ``groups`` and ``n_groups`` are given.
    """
    if (groups is None) == (n_groups is None):
        raise ValueError("Expected either `groups`, a column of `.var`, or `n_groups`, a number of groups to learn.")
    check_positive(min_share, "min_share", allow_zero=True)
    chosen = options_of(options, n_steps=300)
    choice = Choice(lam=lam, n_features=n_features, stability=0, random_state=random_state)
    values = Values(mdata, modality, layer=layer, batch_key=batch_key, n_top=n_top)
    rows = np.unique(values.rows[values.rows >= 0])
    sample = values.read(some_cells(rows, START_CELLS, random_state)).numpy()
    if groups is None:
        codes = learn_groups(values, rows, check_count(n_groups or 0, "n_groups"), chosen, seed=random_state)
        labels = np.array([f"group_{i + 1}" for i in range(codes.max() + 1)], dtype=object)
    else:
        var = mdata.mod[modality].var
        check_keys([groups], list(var), f"Column of `.var` of modality {modality!r}")
        codes, labels = pd.factorize(var[groups].iloc[values.columns].astype(object), sort=True)
        labels = np.asarray(labels, dtype=object)
        n_single = int((codes < 0).sum())
        if n_single:
            labels = np.concatenate([labels, values.names[values.columns[codes < 0]].to_numpy(object)])
            codes = codes.copy()
            codes[codes < 0] = len(labels) - n_single + np.arange(n_single)
    problem = GroupProblem({modality: values}, rows[:, None], chosen)
    problem.codes = torch.from_numpy(codes.astype(np.int64))
    size = np.bincount(codes)
    statistic = dependence(sample) if values.n_features <= 5000 else partial_dependence(sample, codes, random_state)
    share = np.bincount(codes, statistic > 1) / size
    start = {modality: torch.from_numpy(np.where(share >= min_share, 0.75, 0.25).astype(np.float32))}
    path = choice.run(problem, start, {modality: size})
    mu = path.mu[path.chosen][modality]
    if use_prune and n_features is None and bool((mu > 0).any()):
        at = np.flatnonzero((mu > 0).numpy()[codes])
        cells = some_cells(np.arange(len(sample)), PRUNE_CELLS, random_state)
        x = torch.from_numpy(sample[np.ix_(cells, at)])
        stays = prune_groups(x, codes[at], len(size), seed=random_state)
        gone = (mu > 0) & ~torch.isin(torch.arange(len(mu)), torch.from_numpy(stays))
        mu[gone] = -problem.options.sigma
    return _finish(mdata, problem, path, choice, codes, labels, size, share, write)


def partial_dependence(x: NDArray[np.float32], codes: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Return :func:`dependence` of each feature on 1,000 random ones of any group, for modalities of many features."""
    rng = np.random.default_rng(seed)
    others = rng.choice(x.shape[1], 1000, replace=False)
    out = np.empty(x.shape[1], dtype=np.float32)
    mine = np.zeros(x.shape[1], dtype=bool)
    mine[others] = True
    out[~mine] = dependence(x[:, ~mine], x[:, others])
    out[mine] = dependence(x[:, others])
    return out


def _finish(
    mdata: MuData,
    problem: GroupProblem,
    path: Path,
    choice: Choice,
    codes: NDArray[np.int64],
    labels: NDArray[Any],
    size: NDArray[np.int64],
    share: NDArray[np.float64],
    write: bool,
) -> Selection:
    """Turn gates of groups into gates of features, so that tables have one row per variable."""
    ((modality, values),) = problem.values.items()
    by_group = path.mu[path.chosen][modality]
    at = torch.from_numpy(codes.astype(np.int64))
    path.mu = [{modality: mu[modality][at]} for mu in path.mu]
    given = Choice(lam=choice.lam, n_features=None, stability=0, random_state=choice.random_state)
    result = finish(
        mdata,
        DUFSProblem({modality: values}, problem.rows, problem.options),
        path,
        given,
        method="group_fs",
        start=None,
        supports=own_supports(values, problem.rows[:, 0], choice.random_state),
        write=False,
    )
    result.tables[modality]["gate_group"] = among_all(
        labels[codes].astype(object), values.columns, len(values.names), ""
    )
    result.groups[modality] = group_table(
        labels,
        gate=by_group.clamp(0, 1).numpy(),
        gate_prob=torch.special.ndtr(by_group / problem.options.sigma).numpy(),
        n_features=size,
        further={"dependent_share": share},
    )
    if write:
        result.write(mdata)
    return result
