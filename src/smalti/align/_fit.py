"""The whole alignment: evidence, plan, representation, verdict."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import shorten

from ._problem import MAX_STRUCTURE, AlignmentSettings
from ._transport import geometry, gromov_plan, kept_mass
from ._verdict import judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._cca import SoftCCA
    from ._problem import AlignmentProblem, Pair, Plans
    from ._verdict import Verdict

logger = logging.getLogger(__name__)

ROUNDS_WITH_PAIRS = 6


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Plans between landmarks, the maps to a common latent, and what supports them."""

    plans: dict[Pair, NDArray[np.float64]]
    """``(L_a, L_b)`` by pair of modalities."""
    cca: SoftCCA
    """Maps to the common latent."""
    verdict: Verdict
    """What speaks for the alignment."""
    confidence: dict[Pair, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """How readily the landmarks of each side find partners by their evidence, in [0, 1]; low without counterpart."""


def fit_alignment(problem: AlignmentProblem, settings: AlignmentSettings | None = None) -> Alignment:
    """Align modalities: a plan from evidence, one step of canonical correlations under it, and further ones that pass.

    Parameters
    ----------
    problem
        What is aligned. Without any evidence the plan comes from distances within modalities alone, with a warning.
    settings
        How.

    Raises
    ------
    ValueError
        If evidence leaves a modality without connection to the others.
    """
    settings = AlignmentSettings() if settings is None else settings
    evidence = {pair: several for pair, several in problem.evidence.items() if several}
    problem = problem.with_evidence(evidence)
    if not evidence:
        return _from_geometry(problem, settings)
    _check_connected(problem)
    kinds = {e.kind for several in evidence.values() for e in several}
    limit = settings.n_rounds or (ROUNDS_WITH_PAIRS if kinds == {"pairs"} else 1)
    verdict = judge(problem, settings, limit)
    if settings.n_permutations:
        (logger.info if verdict.identified else logger.warning)("%s", verdict)
    plans, cca = problem.solve(settings, verdict.n_rounds if verdict.n_rounds == 1 else limit)[verdict.n_rounds - 1]
    confidence = {pair: kept_mass(problem.evidence_cost(pair), problem.masses(pair)) for pair in evidence}
    return Alignment(plans=plans, cca=cca, verdict=verdict, confidence=confidence)


def _from_geometry(problem: AlignmentProblem, settings: AlignmentSettings) -> Alignment:
    logger.warning(
        "No links, known pairs or labels: the plan comes from distances within modalities alone, which do not identify "
        "it. Pass `links=`, keep a few paired cells, or register labels."
    )
    names = list(problem.views)
    rng = np.random.default_rng(settings.random_state)
    plans: Plans = {}
    for other in names[1:]:
        pair = (names[0], other)
        several = [problem.views[name] for name in pair]
        kept = [_few(view.mass, rng) for view in several]
        shapes = [geometry(v.landmark_means(v.unscaled)[at]) for v, at in zip(several, kept, strict=True)]
        mass = [v.mass[at] / v.mass[at].sum() for v, at in zip(several, kept, strict=True)]
        plan = np.zeros((len(several[0].mass), len(several[1].mass)))
        plan[np.ix_(*kept)] = gromov_plan((shapes[0], shapes[1]), (mass[0], mass[1]))
        plans[pair] = plan
    cca = problem.step(plans, settings)
    return Alignment(plans=plans, cca=cca, verdict=judge(problem, settings, 1), confidence={})


def _few(mass: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw landmarks for which distances along a graph are affordable."""
    n = min(MAX_STRUCTURE, int((mass > 0).sum()))
    return np.sort(rng.choice(len(mass), n, replace=False, p=mass / mass.sum()))


def _check_connected(problem: AlignmentProblem) -> None:
    names = list(problem.views)
    reached, grown = {names[0]}, True
    while grown:
        more = {n for pair in problem.evidence for n in pair if reached & set(pair)}
        grown = not more <= reached
        reached |= more
    apart = [name for name in names if name not in reached]
    if apart:
        raise ValueError(
            f"No links, pairs or labels connect {shorten(apart)} to {shorten(sorted(reached))}. Add links between "
            "them, keep a few paired cells, or leave these modalities out."
        )
