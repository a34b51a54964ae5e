from __future__ import annotations

import mudata
import numpy as np
import pytest
from tests._factories import STORAGES, make_mosaic

from smalti import datasets, simulate
from smalti._mudata import no_pull
from smalti.tl import linear_joint


def mosaic():
    """Two batches with paired cells in both and cells of each modality alone."""
    full = simulate.factor_views(900, n_features={"a": 200, "b": 60}, likelihood="nb", depth=500, random_state=0)
    keep = np.ones((900, 2), bool)
    keep[300:500, 1] = keep[500:700, 0] = False
    return full, simulate.drop(full, keep)


def test_training_cells_passed_as_new_get_the_same_coordinates():
    _, mdata = mosaic()
    result = linear_joint(mdata, batch_key="batch")
    np.testing.assert_allclose(result.transform(mdata), mdata.obsm["X_joint"], atol=1e-4)
    with no_pull():
        part = mdata[mdata.obs_names[250:550]].copy()
    np.testing.assert_allclose(result.transform(part), mdata.obsm["X_joint"][250:550], atol=1e-3)


def test_hidden_modalities_of_new_cells_fall_beside_each_other():
    full, mdata = mosaic()
    result = linear_joint(mdata, batch_key="batch")
    held = full.obs_names[700:]
    with no_pull():
        new = full[held].copy()
    embedded = []
    for m in new.mod:
        with no_pull():
            single = mudata.MuData({m: new.mod[m].copy()})
        single.obs["batch"] = new.obs["batch"].to_numpy()
        embedded.append(result.transform(single))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in embedded)
    similarity = x @ y.T
    assert (similarity > np.diag(similarity)[:, None]).mean() < 0.15


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_does_not_matter(storage):
    expected, found = (make_mosaic(n_obs=140, storage=s, likelihood="nb") for s in ("csr", storage))
    for mdata in (expected, found):
        linear_joint(mdata, n_components=5)
    a, b = (m.obsm["X_joint"] for m in (expected, found))
    d, e = (np.linalg.norm(z[:, None] - z[None], axis=2) for z in (a, b))
    assert np.corrcoef(d.ravel(), e.ravel())[0, 1] > 0.98


def test_every_cell_has_coordinates_whatever_was_measured():
    mdata = make_mosaic(n_obs=280, pattern="every")
    linear_joint(mdata, batch_key="batch", n_components=6)
    assert np.isfinite(mdata.obsm["X_joint"]).all()


def test_a_lacking_column_of_batches_is_said():
    _, mdata = mosaic()
    with pytest.raises(KeyError, match="no column"):
        linear_joint(mdata, batch_key="donor")
    result = linear_joint(mdata, batch_key="batch")
    with no_pull():
        new = mdata.copy()
    del new.obs["batch"]
    with pytest.raises(KeyError, match="no column"):
        result.transform(new)


def test_donors_are_mixed_within_cell_types_of_real_blood():
    mdata = datasets.pbmc_mosaic()
    result = linear_joint(mdata, batch_key="batch")
    assert "shared axes" in repr(result)
    z = mdata.obsm["X_joint"]
    linear_joint(mdata, shrinkage=0, key_added="X_plain")
    plain = mdata.obsm["X_plain"]
    donor = mdata.obs["batch"].to_numpy()

    def same_donor(x):
        d = np.linalg.norm(x[:, None] - x[None], axis=2)
        np.fill_diagonal(d, np.inf)
        return (donor[np.argsort(d, axis=1)[:, :20]] == donor[:, None]).mean()

    chance = np.mean([(donor == b).mean() for b in donor])
    assert same_donor(z) - chance < 0.5 * (same_donor(plain) - chance)
