"""What alignments are compared with."""

from __future__ import annotations

import pytest
from align._planted import linked_problem, planted

from smalti.align import BASELINES, AlignmentProblem, align_baseline
from smalti.metrics import foscttm


@pytest.mark.parametrize("method", BASELINES)
def test_a_baseline_gives_a_row_per_cell_and_those_with_evidence_use_it(method):
    data = planted()
    found = align_baseline(linked_problem(data), method)
    assert {name: len(z) for name, z in found.items()} == {"a": 240, "b": 240}
    value = foscttm(found["a"], found["b"])
    assert value < 0.25 if method in ("links", "procrustes", "mnn") else value > 0.05


def test_baselines_that_need_evidence_say_so():
    problem = linked_problem(planted(60))
    with pytest.raises(ValueError, match="needs links"):
        align_baseline(AlignmentProblem(problem.views, {}), "mnn")
    with pytest.raises(ValueError, match="'gromov'"):
        align_baseline(problem, "nearest")
