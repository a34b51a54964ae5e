"""Views, evidence and known pairs in one object, and the two steps that alternate: plan and representation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ._cca import RIDGE, SoftCCA
from ._transport import EPSILON, entropic_plan, geometry, gromov_plan, squared_distances
from ._views import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ._evidence import Evidence

    Pair = tuple[str, str]
    Plans = dict[Pair, NDArray[np.float64]]

ROUND_EPSILONS = (0.05, 0.005)
"""First and last regularisation of further rounds, geometric in between."""
MAX_STRUCTURE = 800
"""Landmarks of the structure term, whose cost grows with their third power."""
EVIDENCE_IN_ROUNDS = 0.5
"""Weight of the evidence beside the embedding in further rounds."""


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """How modalities are aligned; what was measured best."""

    n_latent: int = 20
    """Axes. Columns weigh by their correlation, so that too many do little harm (PBMC, FOSCTTM .074, .072, .070, .070
    for 6, 8, 10, 14; SNARE cortex .151, .149, .148, .147; balanced label transfer between two days of spleen .352,
    .372, .375, .378 for 10, 15, 20, 30)."""
    ridge: float = RIDGE
    """Of the covariances, in units of the variance of a component."""
    epsilon: float = EPSILON
    """Entropic regularisation of plans, in units of the mean cost."""
    n_rounds: int | None = None
    """Steps at most; by default 1 with links or labels, 6 with known pairs only. A step after the first is taken back
    unless evidence that it was not shown agrees better after it."""
    structure: float = 0.0
    """Weight of distances within modalities (fused Gromov-Wasserstein), in [0, 1]; with 0 it is left out."""
    relax: float | None = None
    """Penalty on marginals for unbalanced plans, in units of the mean cost; by default marginals hold."""
    n_permutations: int = 20
    """Alignments of permuted evidence that the verdict compares with; 0 for no verdict."""
    random_state: int = 0
    """Seed of folds and permutations."""


@dataclass(frozen=True)
class AlignmentProblem:
    """What is to be aligned.

    Parameters
    ----------
    views
        By modality.
    evidence
        By pair of modalities.
    pairs
        Rows of known pairs by pair of modalities; their mass in the plan is fixed.
    extra_cost
        ``(L_a, L_b)`` further cost by pair of modalities, in units of the mean cost, such as for cells of different
        donors.
    """

    views: dict[str, View]
    evidence: dict[Pair, list[Evidence]]
    pairs: dict[Pair, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    extra_cost: dict[Pair, NDArray[np.float64]] = field(default_factory=dict)

    def masses(self, pair: Pair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the share of cells of every landmark of two modalities."""
        return self.views[pair[0]].mass, self.views[pair[1]].mass

    def evidence_cost(self, pair: Pair) -> NDArray[np.float64]:
        """Return the sum of the costs of all evidence on two modalities; kinds weigh by the root of their columns."""
        several = self.evidence[pair]
        most = max(e.n for e in several)
        total = np.sum([np.sqrt(e.n / most) * e.cost(self.masses(pair)) for e in several], axis=0)
        return np.asarray(total + self.extra_cost[pair] if pair in self.extra_cost else total)

    def plan(
        self, pair: Pair, cost: NDArray[np.float64], settings: AlignmentSettings, epsilon: float
    ) -> NDArray[np.float64]:
        """Return the plan for a cost, with the mass of known pairs fixed and the structure term if wanted."""
        mass = self.masses(pair)
        fixed = self._fixed(pair)
        if fixed is None:
            return self._free(pair, cost, mass, settings, epsilon)
        known = np.asarray(fixed.todense())
        left = [np.maximum(m - known.sum(axis=1 - i), 0.0) for i, m in enumerate(mass)]
        share = min(float(left[0].sum()), float(left[1].sum()))
        if share < 1e-6:
            return known
        rows, columns = (np.flatnonzero(m > 1e-12) for m in left)
        inner = (left[0][rows] / left[0].sum(), left[1][columns] / left[1].sum())
        plain = replace(settings, structure=0.0)
        known[np.ix_(rows, columns)] += share * self._free(pair, cost[np.ix_(rows, columns)], inner, plain, epsilon)
        return known

    def step(self, plans: Plans, settings: AlignmentSettings) -> SoftCCA:
        """Return the representation under some plans."""
        return SoftCCA.fit(self.views, plans, n_latent=settings.n_latent, ridge=settings.ridge)

    def embedding_cost(self, pair: Pair, cca: SoftCCA) -> NDArray[np.float64]:
        """Return squared distances between landmarks in the common latent, mean 1."""
        u, v = (cca.at_landmarks(self.views[name], name) for name in pair)
        cost = squared_distances(u, v)
        return cost / max(float(cost.mean()), 1e-300)

    def solve(self, settings: AlignmentSettings, n_rounds: int) -> list[tuple[Plans, SoftCCA]]:
        """Return plans and representation after every step, the first from evidence alone."""
        costs = {pair: self.evidence_cost(pair) for pair in self.evidence}
        plans = {pair: self.plan(pair, cost, settings, settings.epsilon) for pair, cost in costs.items()}
        states = [(plans, self.step(plans, settings))]
        for epsilon in np.geomspace(*ROUND_EPSILONS, max(n_rounds - 1, 1))[: n_rounds - 1]:
            cca = states[-1][1]
            plans = {
                pair: self.plan(
                    pair, self.embedding_cost(pair, cca) + EVIDENCE_IN_ROUNDS * cost, settings, float(epsilon)
                )
                for pair, cost in costs.items()
            }
            states.append((plans, self.step(plans, settings)))
        return states

    def reduced(self, n_landmarks: int, rng: np.random.Generator) -> AlignmentProblem:
        """Return the problem at fewer landmarks, drawn by mass, for tests; known pairs stay as evidence only."""
        views, kept = {}, {}
        for name, view in self.views.items():
            mass = view.mass
            n = min(n_landmarks, int((mass > 0).sum()))
            at = np.sort(rng.choice(len(mass), n, replace=False, p=mass / mass.sum()))
            views[name] = View(
                components=view.landmark_means(view.components)[at],
                mean=view.mean,
                scale=view.scale,
                graph=sp.identity(n, format="csr"),
                members=sp.identity(n, format="csr"),
                landmarks=np.arange(n),
            )
            kept[name] = at
        evidence = {(a, b): [e.rows(kept[a], kept[b]) for e in found] for (a, b), found in self.evidence.items()}
        extra_cost = {(a, b): cost[np.ix_(kept[a], kept[b])] for (a, b), cost in self.extra_cost.items()}
        return AlignmentProblem(views, evidence, {}, extra_cost)

    def with_evidence(self, evidence: Mapping[Pair, list[Evidence]]) -> AlignmentProblem:
        """Return the problem with other evidence."""
        return replace(self, evidence=dict(evidence))

    def _fixed(self, pair: Pair) -> sp.csr_matrix | None:
        if pair not in self.pairs or len(self.pairs[pair][0]) == 0:
            return None
        first, second = (self.views[name] for name in pair)
        rows, columns = self.pairs[pair]
        return sp.csr_matrix(first.members[rows].T @ second.members[columns]) / max(first.n, second.n)

    def _free(
        self,
        pair: Pair,
        cost: NDArray[np.float64],
        mass: tuple[NDArray[np.float64], NDArray[np.float64]],
        settings: AlignmentSettings,
        epsilon: float,
    ) -> NDArray[np.float64]:
        plan = entropic_plan(cost, mass, epsilon=epsilon, relax=settings.relax)
        if settings.structure <= 0 or max(cost.shape) > MAX_STRUCTURE:
            return plan
        shapes = [geometry(self.views[n].landmark_means(self.views[n].unscaled)) for n in pair]
        start = plan / max(float(plan.sum()), 1e-300)
        return gromov_plan(
            (shapes[0], shapes[1]), mass, cost=cost, structure=settings.structure, epsilons=(epsilon,), start=start
        )
