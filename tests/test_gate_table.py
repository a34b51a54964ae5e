"""Tables of gates and where they are written."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from smalti._gate_table import UNS_KEY, gate_table, group_table, write_gates

NAMES = pd.Index(["x", "y", "z"])


def test_rows_are_variables_and_further_columns_come_last() -> None:
    table = gate_table(
        NAMES, selected=[True, False, True], gate=[1, 0, 0.5], gate_prob=[0.9, 0.1, 0.8], further={"weight": [1, 2, 3]}
    )
    assert list(table) == ["selected", "gate", "gate_prob", "weight"]
    assert table.index.equals(NAMES)
    assert table["selected"].dtype == bool


def test_groups_come_by_probability_and_are_selected_if_their_gate_is_open_at_all() -> None:
    table = group_table([3, 1, 2], gate=[0.2, 0.0, 0.0], gate_prob=[0.5, 0.9, 0.9], n_features=[1, 2, 3])
    assert table.index.tolist() == ["1", "2", "3"]
    assert table["selected"].tolist() == [False, False, True]
    assert table["n_features"].tolist() == [2, 3, 1]


def test_columns_are_written_in_the_order_of_variables_and_the_rest_into_uns() -> None:
    adata = ad.AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=NAMES))
    about = {"lam": 0.1}
    write_gates(adata, gate_table(NAMES, selected=[1, 0, 1], gate=[1, 0, 0.5], gate_prob=[0.9, 0.1, 0.8]), about)
    assert adata.var["gate"].tolist() == [1, 0, 0.5]
    assert adata.uns[UNS_KEY] == about
    assert adata.uns[UNS_KEY] is not about
