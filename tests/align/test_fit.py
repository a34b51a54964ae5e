"""The whole alignment on planted cells: links, pairs, labels, three modalities, and what the verdict says."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from align._planted import linked_problem, planted

from smalti.align import (
    AlignmentProblem,
    AlignmentSettings,
    fit_alignment,
    held_out_scores,
    judge,
    label_evidence,
    link_evidence,
    make_view,
    pair_evidence,
)
from smalti.metrics import foscttm

QUICK = AlignmentSettings(n_latent=4, n_permutations=0)


def score(data, alignment, names=("a", "b")) -> float:
    at = {name: i for i, name in enumerate("abc")}
    z = alignment.cca.transform({name: data.components[at[name]] for name in names})
    return foscttm(z[names[0]], z[names[1]])


def test_links_align_and_the_step_gains_on_their_nearest_neighbours():
    data = planted()
    problem = linked_problem(data)
    evidence = problem.evidence["a", "b"][0]
    aligned = fit_alignment(problem, QUICK)
    assert score(data, aligned) < 0.06
    assert score(data, aligned) < foscttm(*evidence.values)


def test_true_links_are_identified_and_permuted_ones_are_not():
    data = planted()
    settings = AlignmentSettings(n_latent=4, n_permutations=20)
    verdict = fit_alignment(linked_problem(data), settings).verdict
    assert verdict.identified
    assert verdict.p_value == pytest.approx(1 / 21)
    assert str(verdict).startswith("Structure supports this alignment: held-out rho 0.")
    wrong = fit_alignment(linked_problem(data, permute=1), settings)
    assert not wrong.verdict.identified
    assert wrong.cca.correlations[0] > 0.5, "the training correlation does not notice"
    assert str(wrong.verdict).startswith(("Not identified", "Undecided"))


def test_held_out_links_are_not_seen_by_what_is_scored():
    data = planted()
    problem = linked_problem(data)
    evidence = problem.evidence["a", "b"][0]
    noise = np.random.default_rng(0).normal(size=evidence.values[1].shape)
    lone = problem.with_evidence({("a", "b"): [evidence.select(np.arange(evidence.n))]})
    values = (noise[:, ::-1].copy(), noise)
    blind = link_evidence(tuple(problem.views.values()), values, smooth=False)
    assert held_out_scores(lone, QUICK, 1)[0] > 0.6
    assert abs(held_out_scores(problem.with_evidence({("a", "b"): [blind]}), QUICK, 1)[0]) < 0.2


def test_a_few_known_pairs_align_the_others():
    data = planted()
    views = tuple(make_view(x) for x in data.components)
    rows = np.arange(0, 240, 16)
    problem = AlignmentProblem(
        {"a": views[0], "b": views[1]},
        {("a", "b"): [pair_evidence(views, (rows, rows))]},
        {("a", "b"): (rows, rows)},
    )
    aligned = fit_alignment(problem, QUICK)
    others = np.setdiff1d(np.arange(240), rows)
    z = aligned.cca.transform(dict(zip("ab", data.components, strict=True)))
    assert foscttm(z["a"][others], z["b"][others]) < 0.1
    plan = aligned.plans["a", "b"]
    np.testing.assert_allclose(plan[rows, rows], 1 / 240, rtol=1e-6)
    np.testing.assert_allclose(plan.sum(1), 1 / 240, rtol=0.2)


def test_labels_align_types():
    data = planted()
    views = tuple(make_view(x) for x in data.components)
    evidence = label_evidence(views, (data.kind, data.kind), [str(k) for k in range(5)])
    aligned = fit_alignment(AlignmentProblem({"a": views[0], "b": views[1]}, {("a", "b"): [evidence]}), QUICK)
    assert score(data, aligned) < 0.2
    assert label_evidence(views, (np.zeros(240, int), data.kind), ["x"] * 5) is None


def test_three_modalities_meet_through_the_one_that_both_others_are_linked_to():
    data = planted(n_modalities=3)
    views = {name: make_view(x) for name, x in zip("abc", data.components, strict=True)}
    evidence = {
        (a, b): [link_evidence((views[a], views[b]), (data.linked["abc".index(a)], data.linked["abc".index(b)]))]
        for a, b in (("a", "b"), ("b", "c"))
    }
    aligned = fit_alignment(AlignmentProblem(views, evidence), QUICK)
    assert score(data, aligned, ("a", "c")) < 0.08
    with pytest.raises(ValueError, match="connect 'c' to 'a', 'b'"):
        fit_alignment(AlignmentProblem(views, {("a", "b"): evidence["a", "b"]}), QUICK)


def test_landmarks_do_nearly_as_well_as_all_cells():
    data = planted(600)
    aligned = fit_alignment(linked_problem(data, n_landmarks=150, max_cells=200), QUICK)
    assert aligned.plans["a", "b"].shape == (150, 150)
    assert score(data, aligned) < 0.06


def test_nothing_to_go_by_is_said_loudly(caplog):
    data = planted(80)
    views = {name: make_view(x) for name, x in zip("ab", data.components, strict=True)}
    with caplog.at_level(logging.WARNING):
        verdict = fit_alignment(AlignmentProblem(views, {}), QUICK).verdict
    assert "do not identify" in caplog.text
    assert not verdict.identified
    assert "no evidence" in str(verdict)


def test_a_cost_between_donors_keeps_their_cells_apart():
    data = planted()
    problem = linked_problem(data)
    donor = np.arange(240) % 2
    apart = 10.0 * (donor[:, None] != donor[None])
    problem = AlignmentProblem(problem.views, problem.evidence, {}, {("a", "b"): apart})
    plan = fit_alignment(problem, QUICK).plans["a", "b"]
    assert plan[apart > 0].sum() < 0.01


def test_further_steps_are_taken_only_if_held_out_evidence_agrees_better():
    data = planted()
    settings = AlignmentSettings(n_latent=4, n_permutations=0, n_rounds=4)
    verdict = fit_alignment(linked_problem(data), settings).verdict
    rounds = verdict.rounds
    assert len(rounds) == 4
    assert all(a < b for a, b in zip(rounds[: verdict.n_rounds], rounds[1 : verdict.n_rounds], strict=False))
    assert verdict.n_rounds == 4 or rounds[verdict.n_rounds] <= rounds[verdict.n_rounds - 1]


def test_structure_can_be_added_to_links():
    data = planted(120)
    settings = AlignmentSettings(n_latent=4, n_permutations=0, structure=0.3)
    assert score(data, fit_alignment(linked_problem(data), settings)) < 0.1


@pytest.mark.parametrize(("score", "expected"), [(0.08, False), (0.15, True)])
def test_a_faint_structure_beyond_chance_is_not_a_match(score, expected, monkeypatch):
    rng = np.random.default_rng(0)

    def scores(problem, settings, n_rounds, *, permute=None):
        return np.full(n_rounds, score if permute is None else 0.03 + 0.005 * rng.normal())

    monkeypatch.setattr("smalti.align._verdict.held_out_scores", scores)
    verdict = judge(linked_problem(planted(60)), AlignmentSettings(), 1)
    assert verdict.p_value < 0.05  # significant either way
    assert verdict.identified is expected
