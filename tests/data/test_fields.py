from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

from smalti import simulate
from smalti.data import Modality, ModalityField


def field_of(mdata, name="a", batch_key="batch", **spec):
    field = ModalityField(name, Modality(likelihood="nb", encoder_input="counts", **spec), batch_key)
    return field, field.register_field(mdata)


def panels(mdata, panels):
    return simulate.panels(mdata, "a", panels=panels)


def test_the_state_names_variables_and_survives_storage():
    mdata = make_mosaic()
    field, state = field_of(mdata)
    assert state["column_names"].tolist() == mdata["a"].var_names.tolist()
    assert field.get_summary_stats(state) == {"n_x_a": 30}
    assert Modality(**json.loads(json.dumps(state["spec"]))) == field.spec
    again = pickle.loads(pickle.dumps(state))
    np.testing.assert_array_equal(again["column_names"], state["column_names"])


def test_the_key_carries_the_name_so_that_modalities_cannot_collide():
    keys = {ModalityField(name, Modality()).registry_key for name in ("a", "b", "X", "batch")}
    assert len(keys) == 4
    assert keys.isdisjoint({"X", "batch", "labels"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a[:, ::-1].copy(),
            "same variables in another order, first difference at position 0: 'a_29' != 'a_00'",
        ),
        (lambda a: a[:, 2:].copy(), "2 of 30 expected variables are missing: 'a_00', 'a_01'"),
    ],
    ids=["reordered", "missing"],
)
def test_a_query_with_other_variables_is_refused_by_name(change, message):
    mdata = make_mosaic()
    field, state = field_of(mdata)
    mdata.mod["a"] = change(mdata["a"])
    with pytest.raises(ValueError, match=f"Modality 'a' differs from.*{message}.*model.get_var_names"):
        field.transfer_field(state, mdata)


def test_a_query_with_a_further_variable_is_refused_by_name():
    query = make_mosaic(n_features={"a": 31, "b": 20, "c": 12})
    field, state = field_of(make_mosaic())
    with pytest.raises(ValueError, match="Modality 'a'.*31 variables, expected 30; unexpected: 'a_30'"):
        field.transfer_field(state, query)


def test_a_query_without_the_modality_keeps_the_state_and_equal_ones_pass():
    field, state = field_of(make_mosaic())
    assert field.transfer_field(state, make_mosaic(n_features={"b": 20, "c": 12})) is state
    assert field.transfer_field(state, make_mosaic(seed=1)) is state


def test_values_of_a_query_are_checked_as_those_of_training():
    field, state = field_of(make_mosaic())
    query = make_mosaic()
    query["a"].X = query["a"].X * 0.5
    with pytest.raises(ValueError, match="'nb' of modality 'a' needs counts"):
        field.transfer_field(state, query)


def with_input(width):
    mdata = make_mosaic()
    mdata["a"].obsm["z"] = np.ones((mdata["a"].n_obs, width))
    return mdata


def test_given_components_must_keep_their_width():
    field = ModalityField("a", Modality(likelihood="nb", encoder_input="z"))
    state = field.register_field(with_input(4))
    assert state["n_input"] == 4
    assert field.transfer_field(state, with_input(4)) is state
    with pytest.raises(ValueError, match=r"`.obsm\['z'\]` of modality 'a' has 3 columns.*trained on 4"):
        field.transfer_field(state, with_input(3))
    with pytest.raises(KeyError, match=r"Encoder input of modality 'a' \(`.obsm`\): 'z' not found"):
        field.transfer_field(state, make_mosaic())


def test_an_unrelated_obsm_of_the_name_of_a_transform_is_not_looked_at():
    mdata, query = make_mosaic(), make_mosaic()
    mdata["a"].obsm["pca"], query["a"].obsm["pca"] = np.ones((mdata["a"].n_obs, 2)), np.ones((query["a"].n_obs, 5))
    field = ModalityField("a", Modality(likelihood="nb", encoder_input="pca"))
    state = field.register_field(mdata)
    assert "n_input" not in state
    assert field.transfer_field(state, query) is state


# ------------------------------------------------------------------ feature masks


def test_the_mask_is_read_by_batch_whatever_the_order_of_its_columns():
    mdata = panels(make_mosaic(), {"batch_0": 0.5})
    table = mdata["a"].varm["measured"]
    mdata["a"].varm["measured"] = table[table.columns[::-1]]
    _, state = field_of(mdata, feature_mask="measured")
    for batch, mask in zip(state["mask_batches"], state["feature_mask"], strict=True):
        np.testing.assert_array_equal(mask, table[batch])
    assert state["feature_mask"].dtype == bool


def test_a_batch_without_cells_of_the_modality_needs_no_column_and_no_feature():
    mdata = panels(make_mosaic(n_batches=3, blind={"batch_2": "a"}), {"batch_0": 0.5, "batch_1": 0.4})
    table = mdata["a"].varm["measured"].copy()
    union = (table["batch_0"] | table["batch_1"]).to_numpy()
    assert not union.all()
    for changed in (table.drop(columns="batch_2"), table.assign(batch_2=False)):
        mdata["a"].varm["measured"] = changed
        _, state = field_of(mdata, feature_mask="measured")
        at = state["mask_batches"].tolist()
        assert sorted(at) == ["batch_0", "batch_1", "batch_2"]
        np.testing.assert_array_equal(state["feature_mask"][at.index("batch_2")], union)
        np.testing.assert_array_equal(state["feature_mask"][at.index("batch_1")], table["batch_1"])


def test_a_batch_of_one_cell_counts_wherever_its_row_is():
    for row in (0, -1):
        mdata = panels(make_mosaic(), {"batch_0": 0.5})
        mdata.obs["batch"] = mdata.obs["batch"].astype(str)
        mdata.obs.loc[mdata["a"].obs_names[row], "batch"] = "solo"
        with pytest.raises(KeyError, match="'solo' not found"):
            field_of(mdata, feature_mask="measured")


def test_a_measured_batch_without_a_column_is_refused_by_name():
    mdata = panels(make_mosaic(), {"batch_0": 0.5})
    mdata["a"].varm["measured"] = mdata["a"].varm["measured"].drop(columns="batch_1")
    with pytest.raises(KeyError, match="'measured'.*modality 'a'.*'batch_1' not found; available: 'batch_0'"):
        field_of(mdata, feature_mask="measured")


def test_a_measured_batch_without_any_feature_is_refused_by_name():
    mdata = panels(make_mosaic(), {})
    mdata["a"].varm["measured"] = mdata["a"].varm["measured"].assign(batch_1=False)
    with pytest.raises(ValueError, match="modality 'a'.*'batch_1' measured no feature at all"):
        field_of(mdata, feature_mask="measured")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((30, 2), bool), "expected a DataFrame with one boolean column per batch"),
        (pd.DataFrame({"batch_0": 1.0, "batch_1": 0.0}, index=[f"a_{i:02d}" for i in range(30)]), "boolean.*float64"),
        (
            pd.DataFrame({"batch_0": True, "batch_1": "yes"}, index=[f"a_{i:02d}" for i in range(30)]),
            "boolean.*(object|str)",
        ),
    ],
    ids=["array", "numbers", "text"],
)
def test_a_mask_of_another_kind_is_refused(table, message):
    mdata = make_mosaic()
    mdata["a"].varm["measured"] = table
    with pytest.raises(TypeError, match=f"'measured'.*modality 'a'.*{message}"):
        field_of(mdata, feature_mask="measured")


def test_a_mask_without_a_batch_key_is_refused():
    with pytest.raises(ValueError, match="modality 'a' is per batch, but no `batch_key`"):
        field_of(panels(make_mosaic(), {}), batch_key=None, feature_mask="measured")


def test_columns_are_turned_to_rows_once_and_again_if_they_change():
    mdata = make_mosaic(storage={"a": "csc"})
    field, _ = field_of(mdata)
    first = field.get_field_data(mdata)
    assert first.format == "csr"
    assert field.get_field_data(mdata) is first
    mdata["a"].X.data[0] += 1
    again = field.get_field_data(mdata)
    assert again is not first
    np.testing.assert_array_equal(again.toarray(), mdata["a"].X.toarray())
