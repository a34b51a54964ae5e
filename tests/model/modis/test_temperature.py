from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from _modis import SCALED, build_modis, planted

from smalti.data import presence
from smalti.model.modis._temperature import fit_temperatures


@pytest.fixture(scope="module")
def mdata():
    return planted(600, n_clusters=4)


def miscalibrated(mdata, labels, monkeypatch, held_out, temperature):
    """Return a model whose logits are those that labels were drawn from, times a factor by modality."""
    model = build_modis(mdata, SCALED)
    model.is_trained_ = True
    model.validation_indices_ = held_out
    table = torch.from_numpy(logits_of(labels)).float()
    factors = torch.tensor(temperature)

    def logits(tensors, modality):
        i = model.modalities.index(modality)
        return table[tensors["index"]] * factors[i] / model.module.temperature[i]

    monkeypatch.setattr(model, "_label_logits", logits)
    return model


def logits_of(labels):
    """Logits of four classes; labels drawn from them are right as often as they say."""
    return np.random.default_rng(0).normal(size=(len(labels), 4)) * 2


def drawn_labels(n):
    p = np.exp(logits_of(np.empty(n)))
    p /= p.sum(1, keepdims=True)
    return (np.random.default_rng(1).random((n, 1)) > p.cumsum(1)).sum(1)


def test_the_factor_by_which_logits_are_too_large_is_recovered_by_modality(mdata, monkeypatch):
    labels = drawn_labels(600)
    model = miscalibrated(mdata, labels, monkeypatch, np.arange(600), (3.0, 0.5))
    model.module.temperature.fill_(7.0)  # of an earlier training
    fit_temperatures(model, labels)
    np.testing.assert_allclose(model.module.temperature, [3.0, 0.5], rtol=0.2)


def test_modalities_with_few_held_out_labels_share_one_temperature(mdata, monkeypatch):
    labels = drawn_labels(600)
    a = np.flatnonzero(presence(mdata)[:, 0])
    b = np.flatnonzero(presence(mdata)[:, 1])
    model = miscalibrated(mdata, labels, monkeypatch, np.concatenate([a[:200], b[:5]]), (2.0, 2.0))
    fit_temperatures(model, labels)
    own, pooled = model.module.temperature.tolist()
    assert own == pytest.approx(2, rel=0.3)
    assert pooled == pytest.approx(2, rel=0.3)
    assert own != pooled


def test_labels_of_training_cells_and_unlabelled_cells_do_not_count(mdata, monkeypatch):
    labels = drawn_labels(600)
    spoiled = labels.copy()
    spoiled[300:] = 0
    found = []
    for given in (labels, spoiled):
        held_out = np.arange(300)
        known = np.where(np.arange(600) % 4 == 0, -1, given)
        model = miscalibrated(mdata, labels, monkeypatch, held_out, (3.0, 3.0))
        fit_temperatures(model, known)
        found.append(model.module.temperature.tolist())
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], 3, rtol=0.3)


def test_without_held_out_labels_probabilities_stay_as_they_are_and_a_log_says_so(mdata, monkeypatch, caplog):
    labels = drawn_labels(600)
    for held_out, known in ((np.empty(0, np.int64), labels), (np.arange(50), np.full(600, -1))):
        model = miscalibrated(mdata, labels, monkeypatch, held_out, (3.0, 3.0))
        model.module.temperature.fill_(7.0)
        with caplog.at_level(logging.INFO):
            fit_temperatures(model, known)
        assert model.module.temperature.tolist() == [1, 1]
        assert "not calibrated" in caplog.text
