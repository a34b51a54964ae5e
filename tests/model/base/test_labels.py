from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import build_clue, fit_clue, only, options, train
from _compare import rebuilt
from _factories import make_mosaic

from smalti import simulate
from smalti.data import presence


@pytest.fixture(scope="module")
def model():
    return fit_clue(make_mosaic(n_obs=120, unlabeled=0.3))


def test_labels_are_predicted_for_every_cell_and_indexed_by_name(model):
    mdata = model.adata
    labels = model.predict()
    assert list(labels.index) == list(mdata.obs_names)
    assert set(labels) <= {"label_0", "label_1", "label_2"}
    soft = model.predict_proba()
    assert list(soft.columns) == ["label_0", "label_1", "label_2"]
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
    assert list(soft.idxmax(axis=1)) == list(labels)


def test_a_modality_predicts_only_for_its_cells(model):
    here = presence(model.adata, ["b"])[:, 0]
    labels, soft = model.predict(modality="b"), model.predict_proba(modality="b")
    assert list(labels.notna()) == list(here)
    assert list(soft.notna().all(axis=1)) == list(here)


def test_indices_choose_cells(model, rng):
    cells = rng.permutation(120)[:20]
    whole, part = model.predict_proba(), model.predict_proba(indices=cells)
    assert list(part.index) == list(model.adata.obs_names[cells])
    np.testing.assert_allclose(part.to_numpy(), whole.iloc[cells].to_numpy(), atol=1e-5)


def test_a_query_needs_no_labels(model):
    mdata = model.adata
    query = rebuilt(mdata, {"a": mdata["a"]})
    del query.obs["label"]
    expected = model.predict(modality="a").loc[query.obs_names]
    assert list(model.predict(query)) == list(expected)
    with pytest.raises(ValueError, match="None of the .* cells was measured in modality 'b'"):
        model.predict(query, modality="b")


def test_unknown_modalities_are_refused(model):
    with pytest.raises(ValueError, match="found 'x'"):
        model.predict(modality="x")


def test_a_model_without_labels_has_no_label_head():
    model = fit_clue(make_mosaic(n_obs=90, labels=False))
    with pytest.raises(ValueError, match="no label head.*labels_key"):
        model.predict()
    assert "label_train" not in model.history


def test_cells_without_a_label_do_not_count():
    mdata = make_mosaic(n_obs=90, unlabeled=0.5)
    mdata.obs.loc[mdata.obs_names[:3], "label"] = np.nan
    model = build_clue(mdata, weights=only(label=1.0))
    dataset = model.adata_manager.create_torch_dataset()
    known = (mdata.obs["label"] != "unknown").to_numpy() & mdata.obs["label"].notna().to_numpy()
    assert 20 < known.sum() < 70
    model.module.eval()
    everybody = dataset[np.arange(90)]
    found = model.module.label_logits(everybody, model.module.inference(everybody))
    for i, (_, labels) in enumerate(found.values()):
        assert int((labels >= 0).sum()) == (known & everybody["present"][:, i].numpy()).sum()
    for cells, expected in ((np.flatnonzero(~known), False), (np.flatnonzero(known), True)):
        model.module.zero_grad()
        loss = model.module(dataset[cells])[2].loss
        loss.backward()
        assert (float(loss) > 0) is expected
        assert bool(model.module.label_head.weight.grad.abs().max() > 0) is expected
    with torch.no_grad():
        torch.manual_seed(0)
        all_cells = model.module(dataset[np.arange(90)])[2].loss
        torch.manual_seed(0)
        labelled = model.module(dataset[np.flatnonzero(known)])[2].loss
    torch.testing.assert_close(all_cells, labelled, rtol=1e-4, atol=1e-5)


def test_planted_labels_of_unlabelled_cells_are_found():
    mdata = simulate.factor_views(240, n_features=(40, 30), n_clusters=3, cluster_share=0.95, n_private=0, n_shared=4)
    truth = mdata.obs["label"].astype(str)
    hidden = np.random.default_rng(0).random(240) < 0.5
    mdata.obs["label"] = truth.where(~hidden, "unknown")
    model = build_clue(mdata, options=options(dropout_rate=0.0), weights=only(data=0.1, label=1.0))
    train(model, max_epochs=25, plan_kwargs={"lr": 1e-2})
    assert (model.predict() == truth)[hidden].mean() > 0.9
    assert (model.predict(modality="b") == truth)[hidden].mean() > 0.9
