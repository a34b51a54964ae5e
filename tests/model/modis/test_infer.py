"""Centres of classes that a modality never showed."""

from __future__ import annotations

import numpy as np
import torch

from smalti.model.modis._class_reference import ClassReference
from smalti.model.modis._infer import infer_centres

K, D = 14, 6


def references(rng, absent, *, linked=True, k=K, n=15):
    """Two modalities whose class centres depend on the same factors, or do not; some classes are absent from b."""
    factors = rng.normal(size=(k, 3)) * 4
    centres = {
        name: (factors if linked or name == "a" else rng.normal(size=(k, 3)) * 4) @ rng.normal(size=(3, D))
        for name in "ab"
    }
    out, cells = {}, {}
    for name, centre in centres.items():
        labels = np.repeat(np.arange(k), n)
        cells[name] = (centre[labels] + rng.normal(size=(len(labels), D))).astype(np.float32), labels
        kept = np.where(np.isin(labels, absent) & (name == "b"), -1, labels)
        out[name] = ClassReference(k, D)
        out[name].fit(cells[name][0], kept)
    infer_centres(out.values())
    return out, cells


def test_cells_of_an_absent_class_are_nearer_to_its_inferred_centre_than_to_known_ones():
    found, cells = references(np.random.default_rng(0), [2, 9])
    reference, (x, labels) = found["b"], cells["b"]
    assert torch.nonzero(reference.inferred).ravel().tolist() == [2, 9]
    kind, margin = reference.inferred_class(torch.from_numpy(x))
    absent = np.isin(labels, [2, 9])
    assert (kind.numpy()[absent] == labels[absent]).mean() > 0.9
    assert (margin.numpy()[absent] > 0).mean() > 0.8
    assert (margin.numpy()[~absent] > 0).mean() < 0.1


def test_the_margin_is_the_difference_of_squared_distances():
    found, cells = references(np.random.default_rng(1), [3])
    reference, x = found["b"], torch.from_numpy(cells["b"][0][:5])
    known = (reference.centre @ reference.whiten)[reference.count > 0]
    z = x @ reference.whiten
    expected = [
        min(((c - row) ** 2).sum() for c in known) - ((reference.inferred_centre[3] - row) ** 2).sum() for row in z
    ]
    torch.testing.assert_close(reference.inferred_class(x)[1], torch.stack(expected), rtol=1e-3, atol=1e-2)


def test_nothing_is_inferred_for_a_modality_that_has_all_classes():
    found, cells = references(np.random.default_rng(0), [2, 9])
    assert not found["a"].inferred.any()
    kind, margin = found["a"].inferred_class(torch.from_numpy(cells["a"][0][:3]))
    assert (kind == -1).all()
    assert torch.isneginf(margin).all()


def test_nothing_is_inferred_where_classes_lie_elsewhere_in_each_modality():
    wrong = [references(np.random.default_rng(seed), [1], linked=False)[0]["b"].inferred.any() for seed in range(20)]
    assert sum(map(bool, wrong)) <= 1


def test_nothing_is_inferred_from_few_common_classes():
    found, _ = references(np.random.default_rng(0), [0], k=5)
    assert not found["b"].inferred.any()
