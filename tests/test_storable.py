"""A MuData with columns of any type is written, and its categories come back the same."""

from __future__ import annotations

import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from _compare import assert_same, snapshot

from smalti._mudata import build_mudata, no_pull
from smalti._storable import write_mudata
from smalti._text import as_text

N = 6
CELLS = [f"c{i}" for i in range(N)]
COLUMNS = {
    "numbers as objects": pd.Series([1, 2, 3, 1, 2, 3], dtype=object),
    "numbers with gaps": pd.Series([1, None, 3.5, 1, 2, 3], dtype=object),
    "everything": pd.Series([1, "a", 2.5, None, True, 3], dtype=object),
    "truth with gaps": pd.Series([True, None, False] * 2, dtype=object),
    "text": pd.Series(list("abcabc")),
    "text with gaps": pd.Series(["a", None, "b", np.nan, "a", "c"]),
    "nullable text": pd.Series(["a", pd.NA, "b", "c", "a", "c"], dtype="string"),
    "nullable integers": pd.Series([1, None, 2, 3, 4, 5], dtype="Int64"),
    "nullable reals": pd.Series([1.5, None] * 3, dtype="Float64"),
    "dates": pd.Series(pd.date_range("2020", periods=N)),
    "spans": pd.Series(pd.to_timedelta(range(N), unit="d")),
    "months": pd.Series(pd.period_range("2020", periods=N, freq="M")),
    "intervals": pd.Series(pd.cut(range(N), 3)),
    "classes of numbers": pd.Series([1, 2, 3] * 2).astype("category"),
    "classes of reals with gaps": pd.Series([1, None, 2, 3, 1, 2]).astype("category"),
    "classes of everything": pd.Series([1, "a", 2.5] * 2, dtype=object).astype("category"),
    "classes of dates": pd.Series(pd.date_range("2020", periods=N)).astype("category"),
    "classes of nullable text": pd.Series(list("abcabc"), dtype="string").astype("category"),
    "sparse": pd.Series(pd.arrays.SparseArray([0, 0, 1, 0, 0, 2])),
    "half precision": pd.Series(np.arange(N, dtype="float16")),
    "lists": pd.Series([[1], [2]] * 3),
}


def mosaic(column: pd.Series) -> mudata.MuData:
    column = column.set_axis(CELLS)
    mods = {
        name: ad.AnnData(np.ones((N, 3), "float32"), obs=pd.DataFrame({"x": column}, index=CELLS),
                         var=pd.DataFrame(index=[f"{name}{i}" for i in range(3)]))
        for name in ("rna", "adt")
    }  # fmt: skip
    return build_mudata(mods, obs=pd.DataFrame({"x": column}, index=CELLS))


def reread(path) -> mudata.MuData:
    with no_pull():
        return mudata.read_h5mu(path)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_any_type_come_back_as_the_same_categories(name, tmp_path):
    mdata = mosaic(COLUMNS[name])
    before = snapshot(mdata)
    write_mudata(mdata, tmp_path / "x.h5mu")
    assert_same(snapshot(mdata), before)
    back = reread(tmp_path / "x.h5mu")
    for table in (back.obs, back["rna"].obs):
        assert as_text(table["x"]).tolist() == as_text(COLUMNS[name]).tolist()


def test_what_the_format_cannot_hold_is_left_out_with_a_warning(tmp_path):
    mdata = mosaic(COLUMNS["text"])
    mdata.uns["kept"], mdata.uns["deep"] = {"a": 1}, {"fine": [1, 2], "odd": print}
    with pytest.warns(UserWarning, match=r"`uns\['deep'\]\['odd'\]` is a builtin"):
        write_mudata(mdata, tmp_path / "x.h5mu")
    assert list(reread(tmp_path / "x.h5mu").uns["deep"]) == ["fine"]
    assert mdata.uns["deep"]["odd"] is print


def test_names_that_are_no_text_and_slashes_are_written(tmp_path):
    mdata = mosaic(COLUMNS["text"])
    mdata["rna"].obs[3] = 1.0
    mdata["rna"].obs["CD3/CD28"] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write_mudata(mdata, tmp_path / "x.h5mu")
    assert {"3", "CD3|CD28"} <= set(reread(tmp_path / "x.h5mu")["rna"].obs)


def test_a_file_can_replace_the_one_that_was_read(tmp_path):
    write_mudata(mosaic(COLUMNS["text"]), tmp_path / "x.h5mu")
    mdata = reread(tmp_path / "x.h5mu")
    mdata.obs["new"] = 1
    write_mudata(mdata, tmp_path / "x.h5mu")
    assert "new" in reread(tmp_path / "x.h5mu").obs
