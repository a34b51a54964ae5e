"""Logistic regression beside the network: it decides where the network has turned classes over."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from smalti import simulate
from smalti._linear_labels import fit_linear, left_out, linear_probabilities
from smalti.model import MODIS
from smalti.model.modis._cluster_share import cluster_share
from smalti.model.modis._label_floor import PLAIN, USUAL, LabelFloor

N, K = 400, 3


def planted(rng, n_known=10, strength=3.0):
    """Components of samples of three classes, few of them labelled, beside a stronger factor of no interest."""
    truth = rng.integers(K, size=N)
    x = rng.normal(size=(N, 12)).astype(np.float32)
    x[:, 0] += 6 * np.where(rng.random(N) < 0.5, -1, 1)
    x[:, 1:4] += strength * np.eye(K)[truth]
    labels = np.full(N, -1)
    for c in range(K):
        labels[rng.permutation(np.flatnonzero(truth == c))[:n_known]] = c
    return x, truth, labels


def sure(predicted, n_labels=K):
    return 0.98 * np.eye(n_labels)[predicted] + 0.02 / n_labels


def accuracy(floor, x, network, truth, cells):
    return balanced_accuracy_score(truth[cells], floor.mix("a", x[cells], network[cells]).argmax(axis=1))


def test_a_network_that_turns_classes_over_has_no_say(rng):
    x, truth, labels = planted(rng)
    network = sure(np.where(labels >= 0, labels, (truth + 1) % K))  # right where it was told, wrong elsewhere
    floor = LabelFloor()
    report = floor.fit("a", x, labels, network, np.zeros(N, bool))
    assert report.share == 0
    assert report.learnt_back < 0.4 < report.linear
    assert accuracy(floor, x, network, truth, labels < 0) > 0.85


def test_a_network_that_follows_its_labels_keeps_its_say(rng):
    x, truth, labels = planted(rng, n_known=4, strength=4.0)
    network = sure(truth)
    floor = LabelFloor()
    report = floor.fit("a", x, labels, network, np.zeros(N, bool))
    assert report.share == USUAL
    alone = linear_probabilities(fit_linear(x, labels, labels >= 0), x, K).argmax(axis=1)
    gained = accuracy(floor, x, network, truth, labels < 0)
    assert gained > balanced_accuracy_score(truth[labels < 0], alone[labels < 0]) + 0.02


@pytest.mark.parametrize(("right", "share"), [(True, 1.0), (False, 0.0)])
def test_held_out_labels_decide_where_there_are_enough(rng, right, share):
    x, truth, labels = planted(rng, n_known=60, strength=1.5)
    held = (labels >= 0) & (rng.random(N) < 0.4)
    network = sure(truth if right else np.where(held | (labels < 0), (truth + 1) % K, truth))
    assert LabelFloor().fit("a", x, labels, network, held).share == share


def test_classes_of_other_modalities_keep_what_the_network_gives_them(rng):
    x, _, labels = planted(rng)
    network = rng.dirichlet(np.ones(K + 1), size=N)
    floor = LabelFloor()
    floor.fit("a", x, labels, network, np.zeros(N, bool))
    floor.temperatures["a"] = dict(PLAIN)
    mixed = floor.mix("a", x, network)
    np.testing.assert_allclose(mixed[:, K], network[:, K], atol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)


def test_too_few_labels_leave_the_network_alone(rng):
    x, _, labels = planted(rng, n_known=1)
    floor = LabelFloor()
    assert floor.fit("a", x, labels, sure(np.zeros(N, int)), np.zeros(N, bool)) is None
    assert not floor.state_dict()


def test_state_is_stored(rng):
    x, truth, labels = planted(rng)
    floor, other = LabelFloor(), LabelFloor()
    floor.fit("a", x, labels, sure(truth), np.zeros(N, bool))
    other.load_state_dict(floor.state_dict())
    np.testing.assert_allclose(other.mix("a", x, sure(truth)), floor.mix("a", x, sure(truth)), atol=1e-6)


def test_many_columns_are_projected_and_left_out_predictions_are_honest(rng):
    truth = rng.integers(2, size=120)
    x = rng.normal(size=(120, 300)).astype(np.float32)  # nothing to learn
    known = np.arange(120) < 60
    found = left_out(x, np.where(known, truth, -1), known)
    assert 0.2 < balanced_accuracy_score(truth[known], found) < 0.75
    assert linear_probabilities(fit_linear(x, truth, known), x, 5).shape == (120, 5)


@pytest.mark.parametrize(("size", "expected"), [(8.0, 1.0), (0.0, 0.0)])
def test_clustering_counts_as_far_as_clusters_follow_labels(rng, size, expected):
    truth = rng.integers(2, size=N)
    x = rng.normal(size=(N, 6)).astype(np.float32)
    x[:, 0] += 6 * (rng.random(N) < 0.5)
    x[:, 1] += size * 1.5 * truth
    labels = np.where(rng.random(N) < 0.2, truth, -1)
    assert cluster_share({"a": x}, {"a": np.arange(N)}, labels) == pytest.approx(expected, abs=0.3)


def test_no_labels_no_opinion(rng):
    x = rng.normal(size=(50, 4)).astype(np.float32)
    assert cluster_share({"a": x}, {"a": np.arange(50)}, np.full(50, -1)) == 1.0


def test_a_model_says_where_it_contradicts_its_labels(caplog, tmp_path):
    mdata = simulate.factor_views(240, n_features={"a": 30, "b": 20}, n_clusters=3)
    truth = mdata.obs["label"].astype(str).to_numpy()
    rng = np.random.default_rng(0)
    mdata.obs["label"] = np.where(rng.random(240) < 0.3, truth, "unknown")
    MODIS.setup_mudata(mdata, labels_key="label", unlabeled_category="unknown")
    model = MODIS(mdata)
    with caplog.at_level(logging.WARNING):
        model.train(max_epochs=1, progress=False, accelerator="cpu")
    assert set(model.label_floor_) == {"a", "b"}
    # one epoch teaches little; linear classifiers know these classes
    known = mdata.obs["label"] == "unknown"
    assert balanced_accuracy_score(truth[known], model.predict()[known.to_numpy()].astype(str)) > 0.8
    model.save(tmp_path / "m")
    loaded = MODIS.load(tmp_path / "m", mdata)
    np.testing.assert_allclose(loaded.predict_proba(), model.predict_proba(), atol=1e-5)
