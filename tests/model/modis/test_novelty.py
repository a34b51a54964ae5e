"""The rule for absent classes on planted predictions; what makes them is tested with the models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from smalti.model.modis._class_reference import ClassReference
from smalti.model.modis._novelty import NoveltyMixin

KINDS = ["x", "y", "z", "w"]


class Planted(NoveltyMixin):
    """A model whose probabilities, novelty and absent classes are given."""

    def __init__(self, predicted, novelty, absent, closest=None, margin=None):
        self.names = pd.Index([f"cell_{i}" for i in range(len(predicted))])
        self.table = pd.DataFrame(0.0, index=self.names, columns=KINDS)
        for name, kind in zip(self.names, predicted, strict=True):
            self.table.loc[name, kind] = 1.0
        self.table_of_novelty = pd.DataFrame(novelty, index=self.names)
        self.absent = absent
        self.closest = pd.DataFrame(closest, index=self.names, columns=[*novelty], dtype=object)
        self.margin = pd.DataFrame(-np.inf if margin is None else margin, index=self.names, columns=[*novelty])

    def predict_proba(self, mdata=None, *, modality=None, indices=None, batch_size=None):
        table = self.table.copy()
        if modality is not None:
            table[self.table_of_novelty[modality].isna()] = np.nan
        return table

    def _unusual(self, mdata, indices, batch_size):
        return self.table_of_novelty, self.closest, self.margin

    def _latent(self, minibatch, block, modality):
        raise NotImplementedError

    def _label_logits(self, minibatch, modality):
        raise NotImplementedError

    def absent_classes(self):
        return self.absent


def values(series):
    return [None if pd.isna(value) else value for value in series]


def test_if_one_class_is_absent_an_unusual_cell_is_of_it():
    model = Planted(
        "xyxy", {"a": [0.001, 0.5, np.nan, np.nan], "b": [np.nan, np.nan, 0.001, 0.5]}, {"a": ["z"], "b": []}
    )
    assert values(model.predict()) == ["z", "y", "x", "y"]  # b lacks nothing: what is odd there is only odd
    assert values(model.predict(absent_class="abstain")) == [None, "y", "x", "y"]
    assert values(model.predict(absent_class="off")) == ["x", "y", "x", "y"]


def test_if_several_are_absent_the_label_is_kept_only_if_it_is_one_of_them():
    model = Planted("xzwy", {"a": [0.001, 0.001, 0.001, 0.5]}, {"a": ["z", "w"]})
    assert values(model.predict()) == [None, "z", "w", "y"]
    assert values(model.predict(absent_class="abstain")) == [None, None, None, "y"]


def test_the_level_says_what_is_unusual():
    model = Planted("xx", {"a": [0.02, 0.2]}, {"a": ["z"]})
    assert values(model.predict()) == ["x", "x"]
    assert values(model.predict(level=0.05)) == ["z", "x"]
    assert values(model.predict(level=0.5)) == ["z", "z"]
    assert values(model.predict(level=0)) == ["x", "x"]
    with pytest.raises(ValueError, match="`level`"):
        model.predict(level=1.5)
    with pytest.raises(ValueError, match="`absent_class`"):
        model.predict(absent_class="always")


def test_a_cell_with_two_modalities_must_be_unusual_in_both_and_the_class_absent_from_both():
    novelty = {"a": [0.001, 0.001, 0.001], "b": [0.001, 0.5, np.nan]}
    both = Planted("xxx", novelty, {"a": ["z", "w"], "b": ["z"]})
    assert values(both.predict()) == ["z", "x", None]
    none = Planted("xxx", novelty, {"a": ["z"], "b": ["w"]})
    assert values(none.predict()) == ["x", "x", "z"]


def test_with_one_modality_chosen_only_that_one_counts():
    model = Planted("xxx", {"a": [0.001, 0.5, np.nan], "b": [0.5, 0.001, 0.001]}, {"a": ["z"], "b": ["w"]})
    assert values(model.predict(modality="a")) == ["z", "x", None]
    assert values(model.predict(modality="b")) == ["x", "w", "w"]


def test_classes_are_absent_from_a_modality_if_others_have_them():
    class Module:
        references = {"a": ClassReference(4, 2), "b": ClassReference(4, 2)}

    class WithReferences(Planted):
        modalities, label_categories = ["a", "b", "c"], KINDS

    model = WithReferences("x", {"a": [0.5]}, {})
    model.module = Module()
    Module.references["a"].count.copy_(torch.tensor([5, 0, 1, 0]))
    Module.references["b"].count.copy_(torch.tensor([5, 2, 0, 0]))
    found = NoveltyMixin.absent_classes(model)
    assert found == {"a": ["y"], "b": ["z"], "c": []}  # w is nowhere, and c has no reference


def test_of_several_absent_classes_an_unusual_cell_is_of_the_nearest_inferred_one():
    closest = {"a": ["z", "w", "w", "w"]}
    model = Planted("xxxx", {"a": [0.001, 0.001, 0.5, 0.5]}, {"a": ["z", "w"]}, closest, {"a": [-1, -1, 2, -2]})
    assert values(model.predict()) == ["z", "w", "w", "x"]  # the third is nearer to w than to any known class
    assert values(model.predict(absent_class="abstain")) == [None, None, None, "x"]
    assert values(model.predict(absent_class="off")) == ["x", "x", "x", "x"]


def test_modalities_must_agree_on_the_inferred_class_and_lack_it():
    novelty = {"a": [0.5] * 3, "b": [0.5] * 3}
    closest = {"a": ["z", "z", "w"], "b": ["z", "w", "w"]}
    model = Planted("xxx", novelty, {"a": ["z", "w"], "b": ["z"]}, closest, {"a": [1] * 3, "b": [1] * 3})
    assert values(model.predict()) == ["z", "x", "x"]
    assert values(model.predict(modality="a")) == ["z", "z", "w"]
