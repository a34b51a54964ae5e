"""Whether an alignment is more than its own optimum: held-out evidence against permuted evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans

from ._evidence import standardise
from ._transport import entropic_plan, squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._evidence import Evidence
    from ._problem import AlignmentProblem, AlignmentSettings, Pair

N_FOLDS = 4
TEST_LANDMARKS = 600
"""Landmarks of each modality that tests look at."""
TEST_EPSILON = 0.03
LEVEL = 0.05
MIN_Z = 2.5
"""Standard deviations above the null that are needed besides the rank: 20 permutations alone let one in 21 pass."""
MIN_GAIN = 0.07
"""Correlation above the mean of the null that is needed besides. Cortex and spleen, linked by the names of their genes,
share a faint structure that is no chance and no match either: at most 0.04 in 40 runs, true links 0.11 at least."""
MIN_HOPE = 1.5
"""Standard deviations from which the message says how much evidence is missing."""
N_CLUSTERS = 12
MIN_COLUMNS = 4
"""Columns of one kind that a test needs: each of four folds holds one out."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether evidence that the alignment was not shown agrees with it, and more than permuted evidence does."""

    identified: bool
    """Whether the match can be told from one of permuted evidence."""
    score: float
    """Mean correlation of held-out columns over the plan, in [-1, 1], higher is better; NaN if nothing was held out."""
    null: tuple[float, ...]
    """The same after aligning with permuted evidence."""
    rounds: tuple[float, ...]
    """Score after every step that was tried."""
    n_rounds: int
    """Steps that were accepted."""
    stability: float
    """Share of mass that plans from two halves of the evidence put on the same pairs of clusters, in [0, 1]."""
    evidence: str
    """What was held out."""
    kind: str = ""
    """Of what was held out: ``"links"``, ``"pairs"`` or ``"labels"``."""
    n: int = 0
    """Number of its columns."""

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Verdict:
        """Rebuild from a dictionary of its fields; lists become tuples."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in state.items()}
        return cls(**fields)

    @property
    def p_value(self) -> float:
        """Share of permutations that reach the score, in (0, 1]; 1 without a test."""
        if not self.null or not np.isfinite(self.score):
            return 1.0
        return (1 + sum(value >= self.score for value in self.null)) / (1 + len(self.null))

    @property
    def z(self) -> float:
        """Standard deviations of the null by which the score exceeds its mean; 0 without a test."""
        if not self.null or not np.isfinite(self.score):
            return 0.0
        return (self.score - float(np.mean(self.null))) / max(float(np.std(self.null)), 1e-6)

    @property
    def undecided(self) -> bool:
        """Whether evidence speaks for the alignment, but is too little to tell it from chance."""
        return not self.identified and self.z >= MIN_HOPE and self.score - float(np.mean(self.null)) >= MIN_GAIN

    @property
    def n_needed(self) -> int | None:
        """How many columns of evidence would tell, if further ones agree as well; ``None`` if not undecided.

        The spread of the null falls with the root of the number of columns.
        """
        if not self.undecided:
            return None
        return max(self.n + 1, math.ceil(self.n * (MIN_Z / self.z) ** 2))

    def __str__(self) -> str:
        if not np.isfinite(self.score):
            return (
                f"Nothing supports this alignment: there was {self.evidence}. A test needs at least "
                f"{MIN_COLUMNS} links, {MIN_COLUMNS} pairs or {MIN_COLUMNS} labels; give more."
            )
        if not self.null:
            return f"This alignment was not tested against permutations; held-out rho {self.score:.2f}."
        against = f"held-out rho {self.score:.2f} against a null of {np.mean(self.null):.2f}"
        detail = (
            f"(largest of {len(self.null)} permutations {max(self.null):.2f}, p = {self.p_value:.3f}, {self.evidence})"
        )
        if self.identified:
            return f"Structure supports this alignment: {against} {detail}."
        if self.n_needed is not None:
            n, most = self.n, self.n_needed
            return (
                f"Undecided: {against} {detail}. With {n} {self.kind} this could be chance; about {most} in all would "
                f"tell if the others agree as well, so {most - n} are missing. `match(..., by='evidence')` compares "
                "cells by their smoothed evidence alone: trust what both agree on."
            )
        return f"Not identified: {against} {detail}. Do not interpret matches; look for better links or some pairs."


def main_evidence(problem: AlignmentProblem) -> tuple[Pair, int] | None:
    """Return which evidence to hold out: the first of links, pairs, labels with enough columns."""
    for kind in ("links", "pairs", "labels"):
        found = [
            (e.n, pair, i)
            for pair, several in problem.evidence.items()
            for i, e in enumerate(several)
            if e.kind == kind and e.n >= MIN_COLUMNS
        ]
        if found:
            _, pair, i = max(found, key=lambda entry: entry[0])
            return pair, i
    return None


def held_out_scores(
    problem: AlignmentProblem, settings: AlignmentSettings, n_rounds: int, *, permute: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Return the mean correlation of held-out columns after every step, ``(n_rounds,)``.

    Columns are left out fold by fold, everything is fitted without them, and the values of one modality are transported
    to the other over a plan made from the latent alone.

    Parameters
    ----------
    problem
        What is aligned, small enough to be solved ``N_FOLDS`` times.
    settings
        As for the alignment itself.
    n_rounds
        Steps.
    permute
        Generator that permutes which column goes with which, in all evidence; none by default.
    """
    chosen = main_evidence(problem)
    if chosen is None:
        return np.full(n_rounds, np.nan)
    pair, at = chosen
    evidence = {p: [_permuted(e, permute) for e in several] for p, several in problem.evidence.items()}
    target = evidence[pair][at]
    folds = np.random.default_rng(settings.random_state).permutation(target.n) % min(N_FOLDS, target.n)
    scores, weights = [], []
    for fold in range(folds.max() + 1):
        kept = {p: list(several) for p, several in evidence.items()}
        kept[pair][at] = target.select(np.flatnonzero(folds != fold))
        part = problem.with_evidence(kept)
        held_out = target.select(np.flatnonzero(folds == fold))
        found = []
        for _, cca in part.solve(settings, n_rounds):
            plan = part.plan(pair, part.embedding_cost(pair, cca), settings, TEST_EPSILON)
            found.append(_agreement(plan, held_out))
        scores.append(found)
        weights.append(held_out.n)
    return np.average(scores, axis=0, weights=weights)


def judge(problem: AlignmentProblem, settings: AlignmentSettings, n_rounds: int) -> Verdict:
    """Hold out, permute, and say whether the alignment is identified and how many steps to accept.

    Parameters
    ----------
    problem
        What is aligned.
    settings
        As for the alignment itself.
    n_rounds
        Steps that may be taken.
    """
    rng = np.random.default_rng(settings.random_state)
    small = problem.reduced(TEST_LANDMARKS, rng)
    chosen = main_evidence(small)
    if chosen is None:
        found = [f"{e.n} {e.kind}" for several in problem.evidence.values() for e in several]
        text = f"too little evidence to hold some out ({', '.join(found)})" if found else "no evidence"
        nothing: dict[str, Any] = {"identified": False, "score": np.nan, "null": (), "rounds": (), "stability": np.nan}
        return Verdict(**nothing, n_rounds=1, evidence=text)
    rounds = held_out_scores(small, settings, n_rounds)
    accepted = 1
    while accepted < n_rounds and rounds[accepted] > rounds[accepted - 1]:
        accepted += 1
    score = float(rounds[accepted - 1])
    null = tuple(
        float(held_out_scores(small, settings, accepted, permute=rng)[-1]) for _ in range(settings.n_permutations)
    )
    p = (1 + sum(value >= score for value in null)) / (1 + len(null))
    z = (score - np.mean(null)) / max(float(np.std(null)), 1e-6) if null else 0.0
    pair, at = chosen
    evidence = small.evidence[pair][at]
    return Verdict(
        identified=bool(null and p <= LEVEL and z >= MIN_Z and score - float(np.mean(null)) >= MIN_GAIN),
        score=score,
        null=null,
        rounds=tuple(float(r) for r in rounds),
        n_rounds=accepted,
        stability=_stability(small, settings, pair, at, rng) if null else np.nan,
        evidence=f"{evidence.n} {evidence.kind}",
        kind=evidence.kind,
        n=evidence.n,
    )


def held_out_agreement(
    problem: AlignmentProblem,
    pair: Pair,
    latents: dict[str, NDArray[np.float64]],
    evidence: Evidence,
    *,
    random_state: int = 0,
) -> float:
    """Return the mean correlation of evidence over the plan that latents give, in [-1, 1], higher is better.

    Parameters
    ----------
    problem
        What was aligned.
    pair
        Two modalities.
    latents
        ``(n, d)`` of all their cells, by name.
    evidence
        That was held out.
    random_state
        Seed of the landmarks that are looked at.
    """
    rng, coarse, kept = np.random.default_rng(random_state), [], []
    for name in pair:
        view = problem.views[name]
        n = min(TEST_LANDMARKS, int((view.mass > 0).sum()))
        kept.append(np.sort(rng.choice(len(view.mass), n, replace=False, p=view.mass)))
        coarse.append(view.landmark_means(latents[name])[kept[-1]])
    mass = tuple(np.full(len(at), 1 / len(at)) for at in kept)
    plan = entropic_plan(squared_distances(*coarse), (mass[0], mass[1]), epsilon=TEST_EPSILON)
    return _agreement(plan, evidence.rows(kept[0], kept[1]))


def _permuted(evidence: Evidence, rng: np.random.Generator | None) -> Evidence:
    return evidence if rng is None else evidence.select(np.arange(evidence.n), rng.permutation(evidence.n))


def _agreement(plan: NDArray[np.float64], held_out: Evidence) -> float:
    """Mean correlation of columns with what the plan brings from the other side, both ways."""
    found = []
    for there, x, y in ((plan, *held_out.values), (plan.T, *held_out.values[::-1])):
        mass = there.sum(axis=1)
        brought = (there @ y) / np.maximum(mass, 1e-300)[:, None]
        a, b = standardise(x, mass), standardise(brought, mass)
        found.append(float((mass @ (a * b) / max(float(mass.sum()), 1e-300)).mean()))
    return float(np.mean(found))


def _stability(
    problem: AlignmentProblem, settings: AlignmentSettings, pair: Pair, at: int, rng: np.random.Generator
) -> float:
    """Agreement of cluster-level plans from two random halves of the held-out kind of evidence."""
    views = [problem.views[name] for name in pair]
    members = []
    for view in views:
        k = min(N_CLUSTERS, len(view.components))
        labels = KMeans(k, n_init=1, random_state=settings.random_state).fit_predict(view.components)
        members.append(np.eye(k)[labels])
    evidence = problem.evidence[pair][at]
    order, tables = rng.permutation(evidence.n), []
    for half in (order[: evidence.n // 2], order[evidence.n // 2 :]):
        kept = {p: list(several) for p, several in problem.evidence.items()}
        kept[pair][at] = evidence.select(half)
        part = problem.with_evidence(kept)
        (_, cca) = part.solve(settings, 1)[0]
        plan = part.plan(pair, part.embedding_cost(pair, cca), settings, TEST_EPSILON)
        table = members[0].T @ plan @ members[1]
        tables.append(table / max(float(table.sum()), 1e-300))
    return float(np.minimum(*tables).sum())
