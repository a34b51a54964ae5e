from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from _factories import PATTERNS, STORAGES, as_storage, make_mosaic, numbers, stamps

from smalti.data import presence


@pytest.mark.parametrize(("pattern", "n_patterns"), list(zip(PATTERNS, (1, 7, 4, 3, 2), strict=True)))
def test_each_pattern_has_its_presence_rows(pattern, n_patterns):
    here = presence(make_mosaic(pattern=pattern))
    assert here.any(1).all()
    assert len(np.unique(here, axis=0)) == n_patterns


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_storage_changes_nothing_but_storage(storage, index_dtype):
    plain = make_mosaic(likelihood="nb")
    stored = as_storage(plain, storage, index_dtype=index_dtype)
    for name in plain.mod:
        x = stored[name].X
        np.testing.assert_array_equal(x.toarray() if sp.issparse(x) else x, plain[name].X.toarray())
        if storage == "dense":
            assert isinstance(x, np.ndarray)
            continue
        expected = {"int": "csr_matrix"}.get(storage, storage if "_" in storage else f"{storage}_matrix")
        assert type(x).__name__ == expected
        assert x.indices.dtype == index_dtype
        assert x.dtype == (np.int64 if storage == "int" else np.float32)


def test_stamps_name_the_cell_in_every_modality():
    mdata = make_mosaic(stamp=True, storage={"a": "csc", "b": "csr_array", "c": "dense"})
    for adata in mdata.mod.values():
        np.testing.assert_array_equal(stamps(adata.X), numbers(adata.obs_names))


def test_a_blind_batch_lacks_its_modality():
    mdata = make_mosaic(blind={"batch_1": "c"})
    in_batch = (mdata.obs["batch"] == "batch_1").to_numpy()
    assert not presence(mdata, ["c"])[in_batch].any()
    assert presence(mdata, ["c"])[~in_batch].any()
    assert in_batch.any()


def test_an_empty_profile_is_present_and_zero():
    mdata = make_mosaic(empty=("a",))
    assert mdata["a"].X[0].sum() == 0
    assert presence(mdata, ["a"]).sum() == mdata["a"].n_obs


def test_columns_can_be_left_out_and_labels_unknown():
    assert list(make_mosaic(batch=False, labels=False).obs) == []
    assert 0 < (make_mosaic(unlabeled=0.3).obs["label"] == "unknown").mean() < 1
