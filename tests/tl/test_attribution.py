from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import smalti as sm

pytest.importorskip("captum", reason="captum is not installed")

GROUPS = ("p", "q", "r")


@pytest.fixture(scope="module")
def fitted():
    """Three groups, each with five genes and three proteins of its own among forty and twenty; two donors."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 300)
    parts = {}
    for name, n_features, n_own in (("rna", 40, 5), ("adt", 20, 3)):
        rate = np.full((300, n_features), 2.0)
        for g in range(3):
            rate[np.ix_(group == g, np.arange(g * n_own, (g + 1) * n_own))] = 15.0
        x = sp.csr_matrix(rng.poisson(rate).astype(np.float32))
        parts[name] = ad.AnnData(x)
        parts[name].obs_names = [f"cell{i}" for i in range(300)]
        parts[name].var_names = [f"{name}{i}" for i in range(n_features)]
    parts["adt"] = parts["adt"][:200].copy()
    mdata = sm.from_anndata(parts)
    mdata.obs["group"] = np.array(GROUPS)[group]
    mdata.obs["donor"] = np.where(rng.random(300) < 0.5, "d1", "d2")
    sm.model.CLUE.setup_mudata(mdata, batch_key="donor")
    model = sm.model.CLUE(mdata, n_latent=6, n_hidden=32)
    model.train(20, progress=False, accelerator="cpu")
    return model


@pytest.mark.parametrize(("modality", "n_own"), [("rna", 5), ("adt", 3)])
def test_the_features_of_a_group_are_found_and_contributions_add_up(fitted, modality, n_own) -> None:
    found = sm.tl.attribute(fitted, modality, "group")
    for g, name in enumerate(GROUPS):
        own = {f"{modality}{i}" for i in range(g * n_own, (g + 1) * n_own)}
        assert set(found.top(name, n_own).index) == own
        assert found.top(name, 1).iloc[0] > 0
    np.testing.assert_allclose(found.summary["explained"], found.summary["total"], rtol=0.05)
    assert (found.summary["total"] > 0).all()
    assert found.values.shape == (fitted.adata[modality].n_vars, 3)
    assert "rna0" in repr(found) or "adt0" in repr(found)


def test_the_draw_is_that_of_the_seed_and_the_model_is_as_before(fitted) -> None:
    before = fitted.get_latent_representation()
    first, again, other = (
        sm.tl.attribute(fitted, "rna", "group", n_cells=20, random_state=seed).values for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(fitted.get_latent_representation(), before)


def test_what_cannot_be_answered_is_refused(fitted, monkeypatch) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        sm.tl.attribute(fitted, "rna", "nowhere")
    fitted.adata.obs["one"] = "same"
    with pytest.raises(ValueError, match="fewer than two groups"):
        sm.tl.attribute(fitted, "rna", "one")
    with pytest.raises(ValueError, match="get_loadings"):
        sm.tl.attribute(fitted, "rna", "group", block="joint")
    monkeypatch.setattr("smalti.tl._attribution.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="explain"):
        sm.tl.attribute(fitted, "rna", "group")
    assert "captum" in sys.modules
