"""Plans of the cells of a batch, out of those of landmarks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from smalti.align import PlanTable


def test_a_table_gives_the_plan_of_cells_from_that_of_landmarks():
    rng = np.random.default_rng(0)
    plan = rng.random((3, 2))
    members = {"a": sp.csr_matrix([[1.0, 0, 0], [0.25, 0, 0.75]]), "b": sp.csr_matrix([[0.5, 0.5], [0, 1.0]])}
    maps = {"a": np.array([1, -1, 0]), "b": np.array([-1, 0, 1])}
    table = PlanTable({("a", "b"): plan}, members, maps)
    found = table.plan("a", "b", torch.tensor([2, 0]), torch.tensor([1, 2])).numpy()
    expected = members["a"][[0, 1]].toarray() @ plan @ members["b"][[0, 1]].toarray().T
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        table.plan("b", "a", torch.tensor([1, 2]), torch.tensor([2, 0])).numpy(), expected.T, rtol=1e-5
    )
    assert table.plan("a", "c", torch.tensor([2]), torch.tensor([1])) is None
