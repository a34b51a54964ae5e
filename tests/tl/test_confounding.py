"""What mixing batches would take away is said before it is done."""

from __future__ import annotations

import numpy as np
from _factories import make_mosaic

from smalti.tl import describe_mosaic
from smalti.tl._confounding import confounded_labels, confounded_presence

BATCH = np.repeat([0, 1, 2], 100)
NAMES = ["x", "y", "z"]


def test_a_label_of_one_batch_is_named_if_others_are_large_enough_to_show_it():
    labels = np.zeros(300, dtype=int)
    labels[:20] = 1  # a fifth of batch x, none elsewhere
    labels[100:102] = 2  # two cells of y: their absence in others means nothing
    (said,) = confounded_labels(labels, ["T", "B", "DC"], BATCH, NAMES)
    assert "one batch alone has: 'B (x)'" in said
    assert "DC" not in said


def test_labels_that_all_batches_share_and_missing_ones_are_no_confounding():
    labels = np.tile([0, 1, -1], 100)
    assert confounded_labels(labels, ["T", "B"], BATCH, NAMES) == []
    assert confounded_labels(np.full(300, -1), ["T"], BATCH, NAMES) == []
    assert confounded_labels(labels, ["T", "B"], np.zeros(300, dtype=int), ["x"]) == []


def test_presence_that_follows_from_the_batch_is_said_and_one_shared_pattern_takes_it_back():
    presence = np.ones((300, 2), dtype=bool)
    presence[BATCH == 1, 1] = False
    assert confounded_presence(presence, BATCH, NAMES) == [], "two batches were measured alike"
    presence[BATCH == 2, 0] = False
    (said,) = confounded_presence(presence, BATCH, NAMES)
    assert "cannot be told apart" in said
    presence[5, 1] = False
    assert confounded_presence(presence, BATCH, NAMES) == []
    assert confounded_presence(np.ones((300, 2), dtype=bool), BATCH, NAMES) == []


def test_the_description_of_a_mosaic_says_it():
    mdata = make_mosaic(n_obs=240, n_batches=2)
    batch = mdata.obs["batch"].astype(str).to_numpy()
    label = mdata.obs["label"].astype(str).to_numpy().copy()
    label[(label == "label_0") & (batch == "batch_1")] = "label_1"
    mdata.obs["label"] = label
    found = describe_mosaic(mdata, batch_key="batch", labels_key="label")
    assert any("Labels that one batch alone has" in note and "label_0 (batch_0)" in note for note in found.notes)
    assert any("batch_correction='off'" in note for note in found.notes)
