from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from _factories import STORAGES, as_storage, make_mosaic

from smalti._mudata import no_pull
from smalti.data import presence
from smalti.simulate import panels


def dense(x):
    return x.toarray() if sp.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("pattern", ["paired", "every"])
def test_unmeasured_features_are_zero_and_all_else_is_as_before(storage, pattern):
    mdata = as_storage(make_mosaic(pattern=pattern), storage)
    mdata["a"].layers["copy"] = mdata["a"].X.copy()
    batch = mdata.obs["batch"].astype(str)[mdata["a"].obs_names].to_numpy()
    paneled = panels(mdata, "a", panels={"batch_1": 0.4})
    measured = paneled["a"].varm["measured"]
    mask = measured[batch].to_numpy().T
    assert 0 < (~mask).sum() < mask.size
    for before, after in (
        (mdata["a"].X, paneled["a"].X),
        (mdata["a"].layers["copy"], paneled["a"].layers["copy"]),
    ):
        np.testing.assert_array_equal(dense(after), np.where(mask, dense(before), 0))
        assert type(after) is type(before)
        assert after.dtype == before.dtype
    for other in ("b", "c"):
        np.testing.assert_array_equal(dense(paneled[other].X), dense(mdata[other].X))
    np.testing.assert_array_equal(presence(paneled), presence(mdata))
    assert "measured" not in mdata["a"].varm


def test_the_table_has_a_column_per_batch_and_a_row_per_feature():
    mdata = make_mosaic(n_batches=3)
    table = panels(mdata, "b", panels={"batch_0": 0.5, "batch_2": ["b_03", "b_07"]})["b"].varm["measured"]
    assert table.index.tolist() == mdata["b"].var_names.tolist()
    assert table.columns.tolist() == mdata.obs["batch"].cat.categories.tolist()
    assert {str(dtype) for dtype in table.dtypes} == {"bool"}
    assert table.sum().tolist() == [10, 20, 2]
    assert table.index[table["batch_2"]].tolist() == ["b_03", "b_07"]


def test_a_second_panel_narrows_the_first():
    once = panels(make_mosaic(), "a", panels={"batch_0": [f"a_0{i}" for i in range(6)]})
    table = panels(once, "a", panels={"batch_0": [f"a_0{i}" for i in range(4, 9)], "batch_1": ["a_29"]})["a"].varm[
        "measured"
    ]
    assert table.index[table["batch_0"]].tolist() == ["a_04", "a_05"]
    assert table.index[table["batch_1"]].tolist() == ["a_29"]


def test_the_table_survives_a_file(tmp_path):
    paneled = panels(make_mosaic(), "a", panels={"batch_0": 0.5})
    with no_pull():
        paneled.write(tmp_path / "panels.h5mu")
        again = mudata.read_h5mu(tmp_path / "panels.h5mu")
    assert again["a"].varm["measured"].equals(paneled["a"].varm["measured"])


def test_the_seed_decides():
    one, two, other = (panels(make_mosaic(), "a", panels={"batch_0": 0.5}, random_state=s)["a"] for s in (1, 1, 2))
    assert one.varm["measured"].equals(two.varm["measured"])
    assert not one.varm["measured"].equals(other.varm["measured"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "z"}, "'z' not found"),
        ({"panels": {"batch_9": 0.5}}, "'batch_9' not found"),
        ({"panels": {"batch_0": ["a_00", "nope"]}}, "'nope' not found"),
        ({"batch_key": "site"}, "'site' not found"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    arguments = {"modality": "a", "panels": {"batch_0": 0.5}} | arguments
    with pytest.raises(KeyError, match=message):
        panels(make_mosaic(), **arguments)


def test_fractions_and_batches_are_checked():
    with pytest.raises(ValueError, match=r"panels\['batch_0'\]"):
        panels(make_mosaic(), "a", panels={"batch_0": 1.5})
    mdata = make_mosaic()
    mdata.obs.loc[mdata["a"].obs_names[0], "batch"] = np.nan
    with pytest.raises(ValueError, match="1 cells of modality 'a' have no batch"):
        panels(mdata, "a", panels={"batch_0": 0.5})
