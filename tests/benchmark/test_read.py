from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

from smalti.benchmark import data_folder, load_data, read_data
from smalti.data import presence


def test_the_folder_is_the_argument_or_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_DATA_DIR", str(tmp_path))
    assert data_folder() == tmp_path
    other = tmp_path / "other"
    with pytest.raises(FileNotFoundError, match="found no such folder"):
        data_folder(other)
    other.mkdir()
    assert data_folder(other) == other
    monkeypatch.delenv("SMALTI_DATA_DIR")
    with pytest.raises(FileNotFoundError, match="environment variable SMALTI_DATA_DIR, found neither"):
        data_folder()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="snare_mop.h5mu"):
        load_data("snare_mop", tmp_path)
    with pytest.raises(ValueError, match="found 'nothing'"):
        load_data("nothing", tmp_path)


def test_a_file_is_read_with_zeros_where_nothing_was_measured(tmp_path):
    mdata = make_mosaic(pattern="mosaic", n_features={"a": 30, "b": 20})
    mdata.write(tmp_path / "some.h5mu")
    data = read_data(tmp_path / "some.h5mu", labels_key="label")
    assert (data.name, data.modalities, data.n_cells) == ("some", ("a", "b"), mdata.n_obs)
    assert (np.column_stack(list(data.measured.values())) == presence(mdata)).all()
    for name, mod in mdata.mod.items():
        rows = mdata.obs_names.get_indexer(mod.obs_names)
        assert (data.counts[name][rows] != mod.X).nnz == 0
        assert data.counts[name][~data.measured[name]].nnz == 0
    assert (data.labels == mdata.obs["label"].astype(str)).all()
    assert (data.batch == mdata.obs["batch"].astype(str)).all()


def test_two_modalities_are_chosen_by_name_and_labels_may_be_absent(tmp_path):
    make_mosaic(pattern="paired").write(tmp_path / "three.h5mu")
    data = read_data(tmp_path / "three.h5mu", modalities=("c", "a"), batch_key="none")
    assert data.modalities == ("c", "a")
    assert set(data.labels) == {""}
    assert set(data.batch) == {"0"}
    with pytest.raises(KeyError, match="'x' not found"):
        read_data(tmp_path / "three.h5mu", modalities=("x", "a"))
    with pytest.raises(ValueError, match="Expected two modalities"):
        read_data(tmp_path / "three.h5mu", modalities=("a",))
