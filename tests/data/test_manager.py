from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

from smalti._errors import MosaicAlignmentError
from smalti._mudata import no_pull
from smalti.data import presence


def test_registration_of_an_unpaired_mosaic_counts_all_cells_and_variables(register):
    manager = register(make_mosaic(pattern="diagonal"))
    stats = manager.summary_stats
    assert (stats["n_x_a"], stats["n_x_b"], stats["n_x_c"]) == (30, 20, 12)
    assert (stats["n_batch"], stats["n_labels"]) == (2, 3)
    assert len(manager.create_torch_dataset()) == 84


def test_registration_writes_two_identifiers_and_nothing_else(register):
    mdata, untouched = make_mosaic(), make_mosaic()
    register(mdata)
    assert set(mdata.uns) - set(untouched.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert list(mdata.obs) == list(untouched.obs)
    assert list(mdata.obsm) == list(untouched.obsm)
    for name in "abc":
        assert not any(key.startswith("_scvi") for key in [*mdata[name].uns, *mdata[name].obs, *mdata[name].obsm])


def test_presence_columns_follow_the_order_of_set_up(register):
    mdata = make_mosaic()
    manager = register(mdata, ["c", "a", "b"])
    np.testing.assert_array_equal(manager.presence(), presence(mdata, ["c", "a", "b"]))


def test_the_registry_makes_an_equal_manager_on_other_cells(register):
    manager, query = register(make_mosaic()), make_mosaic(seed=5)
    moved = manager.transfer_fields(query)
    for key, registry in manager.registry["field_registries"].items():
        other = moved.registry["field_registries"][key]
        assert other["summary_stats"] == registry["summary_stats"]
        assert str(other["state_registry"]) == str(registry["state_registry"])
    np.testing.assert_array_equal(moved.presence(), presence(query))


def test_a_query_without_a_modality_has_it_nowhere(register):
    manager = register(make_mosaic())
    query = make_mosaic(n_features={"a": 30, "c": 12})
    moved = manager.transfer_fields(query)
    assert (moved.row_maps()["b"] == -1).all()
    np.testing.assert_array_equal(moved.presence()[:, [0, 2]], presence(query))
    batch = moved.create_torch_dataset()[[0, 1]]
    assert "b" not in batch["values"]
    assert not batch["present"][:, 1].any()


def test_a_query_of_other_modalities_is_refused(register):
    with pytest.raises(KeyError, match="none of the modalities 'a', 'b', 'c', only 'x', 'y'"):
        register(make_mosaic()).transfer_fields(make_mosaic(n_features={"x": 5, "y": 5}))


def test_a_query_is_checked_before_anything_is_registered(register):
    manager, query = register(make_mosaic()), make_mosaic()
    query.mod["b"] = query["b"][:3].copy()
    with pytest.raises(MosaicAlignmentError, match="Modality 'b' has 3 cells"):
        manager.transfer_fields(query)
    assert "_scvi_uuid" not in query.uns


def test_codes_of_a_query_are_those_of_training(register):
    mdata = make_mosaic(n_batches=3)
    manager = register(mdata)
    with no_pull():
        query = mdata[(mdata.obs["batch"] != "batch_0").to_numpy()].copy()
    query.obs["label"] = "unknown"
    codes = manager.transfer_fields(query).codes()
    np.testing.assert_array_equal(codes["batch"], query.obs["batch"].str[-1].astype(int))
    assert (codes["labels"] == -1).all()


def test_data_that_changed_after_registration_are_refused_at_use(register):
    mdata = make_mosaic()
    manager = register(mdata)
    mdata.mod["b"] = mdata["b"][:3].copy()
    with pytest.raises(MosaicAlignmentError, match="Modality 'b' has 3 cells"):
        manager.create_torch_dataset()


def test_transfer_remembers_the_setup_method(register):
    manager = register(make_mosaic())
    manager._registry["setup_method_name"] = "setup_mudata"
    assert manager.transfer_fields(make_mosaic(seed=3)).registry["setup_method_name"] == "setup_mudata"
