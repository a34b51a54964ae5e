from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic, numbers

from smalti._errors import MosaicAlignmentError
from smalti._mudata import build_mudata, no_pull
from smalti._storable import write_mudata
from smalti.data import UNLABELED, CategoryField, coalesce_obs, presence


def fitted(mdata, column, *, missing=None):
    field = CategoryField("labels", column, missing)
    return field, field.register_field(mdata)


def test_codes_are_positions_in_the_sorted_categories():
    mdata = make_mosaic()
    mdata.obs["site"] = np.array(["s2", "s10", "s1"])[np.arange(mdata.n_obs) % 3]
    field, state = fitted(mdata, "site")
    assert state["categories"].tolist() == ["s1", "s10", "s2"]
    np.testing.assert_array_equal(state["categories"][field.codes(mdata, state)], mdata.obs["site"])
    assert field.get_summary_stats(state) == {"n_labels": 3}


VALUES = {
    "text": ["x", "y", "x", "z"],
    "integers": [3, 1, 3, 20],
    "floats": [0.5, 1.0, 0.5, 2.0],
    "float32": np.array([0.1, 0.2, 0.1, 0.3], np.float32),
    "booleans": [True, False, True, True],
    "dates": pd.to_datetime(["2021-01-01", "2021-02-01", "2021-01-01", "2022-01-01"]),
    "categories": pd.Categorical(["x", "y", "x", "z"], categories=["z", "y", "x", "unused"]),
    "integer categories": pd.Categorical([3, 1, 3, 20]),
    "string": pd.array(["x", "y", "x", "z"], dtype="string"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_type_of_column_gives_equal_codes_to_equal_values(kind):
    mdata = make_mosaic(n_obs=28)
    values = pd.Series(VALUES[kind])
    mdata.obs["key"] = (
        values.iloc[np.arange(mdata.n_obs) % 4].to_numpy()
        if kind != "categories"
        else pd.Categorical(values.astype(object).iloc[np.arange(mdata.n_obs) % 4], categories=values.cat.categories)
    )
    field, state = fitted(mdata, "key")
    codes = field.codes(mdata, state)
    assert codes.min() == 0  # no cell is lost
    assert len(state["categories"]) == values.nunique()
    assert pd.crosstab(mdata.obs["key"].astype(str), codes).gt(0).sum().max() == 1


def test_nan_none_and_the_named_category_are_unlabelled():
    mdata = make_mosaic()
    label = mdata.obs["label"].astype(object)
    label.iloc[:2], label.iloc[2:4], label.iloc[4:6] = np.nan, None, "unknown"
    mdata.obs["label"] = label
    field, state = fitted(mdata, "label", missing="unknown")
    codes = field.codes(mdata, state)
    assert (codes[:6] == UNLABELED).all()
    assert (codes[6:] >= 0).all()
    assert "unknown" not in state["categories"]
    assert "nan" not in state["categories"]


def test_without_a_column_all_cells_are_one_batch():
    mdata = make_mosaic()
    field = CategoryField("batch", None)
    assert field.is_empty
    np.testing.assert_array_equal(field.codes(mdata, {}), np.zeros(mdata.n_obs))
    assert field.get_summary_stats({}) == {"n_batch": 1}


def test_a_batch_must_be_known_for_every_cell():
    mdata = make_mosaic()
    mdata.obs["batch"] = mdata.obs["batch"].astype(object).where(np.arange(mdata.n_obs) > 1, np.nan)
    with pytest.raises(ValueError, match="'batch' of `mdata.obs` is missing for 2 cells, first 'cell_.*Fill it in"):
        CategoryField("batch", "batch").register_field(mdata)


def test_a_column_that_only_modalities_have_is_refused_with_the_way_to_get_it():
    mdata = make_mosaic(batch=False)
    mdata["b"].obs["donor"] = "d"
    says = r"no column 'donor'.*Modalities 'b' have 'donor'.*coalesce_obs\(mdata, 'donor'\)"
    with pytest.raises(KeyError, match=says):
        CategoryField("batch", "donor").validate_field(mdata)
    with pytest.raises(KeyError, match="no column 'site'.*Available: 'label'"):
        CategoryField("batch", "site").validate_field(mdata)


def test_labels_that_are_all_missing_are_refused():
    mdata = make_mosaic()
    mdata.obs["label"] = "unknown"
    with pytest.raises(ValueError, match="'label'.*nothing but 'unknown' or missing.*Leave `labels_key` out"):
        fitted(mdata, "label", missing="unknown")


def test_a_query_with_an_unknown_value_is_refused_by_name():
    mdata = make_mosaic()
    field, state = fitted(mdata, "batch")
    query = make_mosaic()
    query.obs["batch"] = query.obs["batch"].astype(str).replace("batch_1", "batch_9")
    with pytest.raises(ValueError, match="'batch' has values.*'batch_9'; known: 'batch_0', 'batch_1'"):
        field.transfer_field(state, query)


def test_a_query_with_fewer_categories_keeps_the_codes_of_training():
    mdata = make_mosaic()
    field, state = fitted(mdata, "batch")
    keep = (mdata.obs["batch"] == "batch_1").to_numpy()
    with no_pull():
        query = mdata[keep].copy()
    assert field.transfer_field(state, query) is state
    np.testing.assert_array_equal(field.codes(query, state), np.ones(keep.sum()))


def test_a_query_needs_no_labels_but_needs_batches():
    mdata, query = make_mosaic(), make_mosaic(labels=False, batch=False)
    field, state = fitted(mdata, "label", missing="unknown")
    assert field.transfer_field(state, query) is state
    assert (field.codes(query, state) == UNLABELED).all()
    field, state = fitted(mdata, "batch")
    with pytest.raises(KeyError, match="no column 'batch'"):
        field.transfer_field(state, query)


def test_the_state_is_plain():
    _, state = fitted(make_mosaic(), "label", missing="unknown")
    assert state["categories"].dtype.kind == "U"
    assert state["column"] == "label"
    assert state["missing"] == "unknown"


def test_coalescing_takes_each_cell_from_whoever_knows_it():
    mdata = make_mosaic()
    for name in ("a", "c"):
        mdata[name].obs["n"] = numbers(mdata[name].obs_names)
    out = coalesce_obs(mdata, "n")
    known = presence(mdata, ["a", "c"]).any(axis=1)
    assert out.index.equals(mdata.obs_names)
    np.testing.assert_array_equal(out[known].astype(int), numbers(mdata.obs_names)[known])
    assert out[~known].isna().all()
    assert (~known).any()
    assert "n" not in mdata.obs


def test_coalescing_fills_what_one_modality_leaves_open():
    mdata = make_mosaic(pattern="paired")
    mdata["a"].obs["n"] = np.where(np.arange(mdata.n_obs) < 5, np.nan, 1.0)
    mdata["b"].obs["n"] = 1.0
    assert (coalesce_obs(mdata, "n") == 1).all()


def test_coalescing_works_on_categories_that_differ_between_modalities():
    mdata = make_mosaic(pattern="diagonal")
    for name in "abc":
        mdata[name].obs["site"] = pd.Categorical([f"site_{name}"] * mdata[name].n_obs)
    out = coalesce_obs(mdata, "site")
    assert set(out) == {"site_a", "site_b", "site_c"}
    np.testing.assert_array_equal(out == "site_b", presence(mdata, ["b"])[:, 0])


def test_coalescing_refuses_disagreement_with_the_cells():
    mdata = make_mosaic(pattern="paired")
    mdata["a"].obs["n"] = mdata["b"].obs["n"] = "x"
    mdata["b"].obs.loc["cell_07", "n"] = "y"
    with pytest.raises(ValueError, match="'n' of modality 'b' disagrees .* on 1 cells, first 'cell_07'"):
        coalesce_obs(mdata, "n")


def test_coalescing_refuses_unknown_columns_and_stale_maps():
    mdata = make_mosaic()
    with pytest.raises(KeyError, match="No modality has a column 'n'.*'a', 'b', 'c'"):
        coalesce_obs(mdata, "n")
    mdata["a"].obs["n"] = 1
    mdata["a"].obs_names = "new_" + mdata["a"].obs_names
    with pytest.raises(MosaicAlignmentError, match="'a'"):
        coalesce_obs(mdata, "n")


def of_types(**columns):
    """Return a mosaic of two modalities whose `run` has other types; cells c0-c5, c4-c9."""
    cells = {"a": [f"c{i}" for i in range(6)], "b": [f"c{i}" for i in range(4, 10)]}
    mods = {
        name: ad.AnnData(np.ones((6, 3)), obs=pd.DataFrame({"run": values}, index=cells[name]))
        for name, values in columns.items()
    }
    for name, mod in mods.items():
        mod.var_names = [f"{name}{i}" for i in range(3)]
    return build_mudata(mods)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2, 1, 2, 1, 2], [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]),
        ([1, 2, 1, 2, 1, 2], ["1", "2", "3", "3", "3", "3"]),
        (["1", "2", "1", "2", "1", "2"], ["1.0", "2.0", "3.0", "3.0", "3.0", "3.0"]),
        (pd.array([1, 2, 1, 2, 1, 2], dtype="Int64"), pd.Categorical([1.0, 2.0, 3.0, 3.0, 3.0, 3.0])),
    ],
    ids=["float", "text", "text-text", "nullable"],
)
def test_one_batch_is_one_batch_whatever_its_type(a, b, tmp_path):
    mdata = of_types(a=a, b=b)
    mdata.obs["run"] = coalesce_obs(mdata, "run")
    field = CategoryField("batch", "run")
    state = field.register_field(mdata)
    assert list(state["categories"]) == ["1", "2", "3"]
    codes = field.codes(mdata, state)
    assert codes.tolist() == [0, 1, 0, 1, 0, 1, 2, 2, 2, 2]
    write_mudata(mdata, tmp_path / "x.h5mu")
    with no_pull():
        back = mudata.read_h5mu(tmp_path / "x.h5mu")
    field.transfer_field(state, back)
    assert field.codes(back, state).tolist() == codes.tolist()


def test_whole_numbers_that_became_reals_by_a_gap_are_the_same_labels():
    mdata = of_types(a=[1, 2, 1, 2, 1, 2], b=[1, 2, None, None, None, None])
    mdata.obs["run"] = coalesce_obs(mdata, "run")
    field = CategoryField("labels", "run", missing="unknown")
    assert list(field.register_field(mdata)["categories"]) == ["1", "2"]


def test_words_with_a_meaning_are_no_names_of_batches():
    mdata = of_types(a=["own", "x"] * 3, b=["own", "x"] * 3)
    mdata.obs["run"] = coalesce_obs(mdata, "run")
    CategoryField("batch", "run").register_field(mdata)
    with pytest.raises(ValueError, match=r"batch named 'own'.*Rename it"):
        CategoryField("batch", "run", reserved=("own",)).register_field(mdata)
