from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from smalti.tl import _linear_probe, linear_probe


@pytest.fixture
def mdata():
    return make_mosaic(n_obs=120, pattern="paired")


def separable(mdata, noise=0.1, seed=0):
    """Return an embedding whose first columns are the label, in odd units and far from zero."""
    codes = pd.Categorical(mdata.obs["label"]).codes
    rng = np.random.default_rng(seed)
    return 1000 * (np.eye(3)[codes] + noise * rng.normal(size=(len(codes), 3))) + 5e4


def test_labels_in_the_embedding_are_found_and_noise_is_at_chance(mdata, rng):
    mdata.obsm["X_good"] = separable(mdata)
    good = linear_probe(mdata, "X_good", "label")
    assert good.balanced_accuracy > 0.98
    assert good.macro_aupr > 0.98
    assert good.knn_balanced_accuracy > 0.98
    assert (good.predicted == mdata.obs["label"].astype(str)[good.predicted.index]).mean() > 0.98
    noise = linear_probe(mdata, rng.normal(size=(mdata.n_obs, 5)), "label")
    assert noise.balanced_accuracy == pytest.approx(1 / 3, abs=0.15)
    assert noise.knn_balanced_accuracy == pytest.approx(1 / 3, abs=0.15)


def test_scores_are_those_of_scikit_learn_on_the_scored_cells(mdata, monkeypatch):
    monkeypatch.setattr(_linear_probe, "C_GRID", (0.1,))
    z, y = separable(mdata, noise=0.8), mdata.obs["label"].astype(str).to_numpy()
    train = np.arange(mdata.n_obs) % 3 > 0
    found = linear_probe(mdata, z, "label", train=train)
    mean, std = z[train].mean(0), z[train].std(0)
    model = LogisticRegression(C=0.1, max_iter=2000).fit((z[train] - mean) / std, y[train])
    x = (z[~train] - mean) / std
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y[~train], model.predict(x)))
    aupr = [
        average_precision_score(y[~train] == c, p)
        for c, p in zip(model.classes_, model.predict_proba(x).T, strict=True)
    ]
    assert found.macro_aupr == pytest.approx(np.mean(aupr))
    assert found.folds[["n_train", "n_test"]].to_numpy().tolist() == [[train.sum(), (~train).sum()]]


def test_cells_that_are_scored_leave_no_trace_in_what_scores_them(mdata):
    z = separable(mdata, noise=0.6)
    train = np.arange(mdata.n_obs) % 3 > 0
    mdata.obs["is_train"] = train
    first = np.flatnonzero(~train)[0]
    clean = linear_probe(mdata, z, "label", train="is_train")
    spoiled, labels = z.copy(), mdata.obs["label"].copy()
    others = ~train & (np.arange(mdata.n_obs) != first)
    spoiled[others] *= -1e6
    mdata.obs["label"] = labels.where(~others, "label_0")
    again = linear_probe(mdata, spoiled, "label", train="is_train")
    assert again.predicted.iloc[0] == clean.predicted.iloc[0]
    assert again.folds["C"].tolist() == clean.folds["C"].tolist()


def test_every_labelled_cell_is_scored_once_and_the_folds_are_reproducible(mdata):
    z = separable(mdata)
    mdata.obs["label"] = mdata.obs["label"].cat.add_categories("unknown")
    mdata.obs.loc[mdata.obs_names[:7], "label"] = "unknown"
    mdata.obs.loc[mdata.obs_names[7:10], "label"] = np.nan
    found = linear_probe(mdata, z, "label", n_folds=4)
    assert sorted(found.predicted.index) == sorted(mdata.obs_names[10:])
    assert len(found.folds) == 4
    assert found.classes == ("label_0", "label_1", "label_2")
    pd.testing.assert_frame_equal(linear_probe(mdata, z, "label", n_folds=4).folds, found.folds)
    assert "3 classes on 110 held-out cells" in repr(found)


def test_cells_without_an_embedding_are_left_out_and_counted(mdata, caplog):
    z = separable(mdata)
    z[:9] = np.nan
    with caplog.at_level(logging.INFO, logger="smalti"):
        found = linear_probe(mdata, z, "label")
    assert found.n_left_out == 9
    assert "9 labelled cells have no embedding" in caplog.text
    assert not set(mdata.obs_names[:9]) & set(found.predicted.index)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"labels_key": "celltype"}, KeyError, "'celltype' not found"),
        ({"embedding": "X_none"}, KeyError, "'X_none' not found"),
        ({"embedding": np.ones((3, 2))}, ValueError, r"each of 120 cells, found shape \(3, 2\)"),
        ({"train": np.ones(3, dtype=bool)}, ValueError, r"shape \(120,\), found bool of shape \(3,\)"),
        ({"train": np.ones(120, dtype=bool)}, ValueError, "outside `train` to score, found none"),
        ({"n_folds": 60}, ValueError, "at least 60 cells of every class.*'label_0'"),
        ({"labels_key": "one"}, ValueError, "two classes to tell apart, found 'x'"),
    ],
)
def test_bad_input_is_refused(mdata, change, error, says):
    mdata.obs["one"] = "x"
    arguments = {"embedding": separable(mdata), "labels_key": "label", **change}
    with pytest.raises(error, match=says):
        linear_probe(mdata, arguments.pop("embedding"), arguments.pop("labels_key"), **arguments)
