from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic, numbers, stamps

from smalti._mudata import build_mudata
from smalti.data import presence
from smalti.simulate import degrade

CLASSES = ("label_0", "label_1", "label_2")


def paired(**kwargs):
    return make_mosaic(**{"n_obs": 90, "pattern": "paired"} | kwargs)


def table(mdata, column="label"):
    """Number of samples by class (rows) and modality (columns)."""
    label = mdata.obs[column].astype(str).to_numpy()
    counts = {m: pd.Series(label[here]).value_counts() for m, here in zip(mdata.mod, presence(mdata).T, strict=True)}
    return pd.DataFrame(counts).fillna(0).astype(int)


def seen(mdata):
    """Presence and label by name of the sample, in the order of names."""
    out = pd.DataFrame(presence(mdata), index=mdata.obs_names, columns=list(mdata.mod))
    return out.assign(label=mdata.obs["label"].astype(str)).sort_index()


def reordered(mdata, seed=1):
    """The same samples in another order in every modality."""
    rng = np.random.default_rng(seed)
    modalities = {name: adata[rng.permutation(adata.n_obs)].copy() for name, adata in mdata.mod.items()}
    return build_mudata(modalities, obs=mdata.obs)


def test_without_arguments_nothing_changes():
    mdata = make_mosaic(pattern="every")
    pd.testing.assert_frame_equal(seen(degrade(mdata)), seen(mdata))


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_the_asked_fraction_stays_paired_in_every_class_and_the_rest_is_dealt_evenly(fraction):
    poor = degrade(paired(), pairs=fraction, labels_key="label")
    here = presence(poor)
    whole = here.all(1)
    assert whole.sum() == round(90 * fraction)
    assert (here[~whole].sum(1) == 1).all()
    label = poor.obs["label"].to_numpy()
    for name in CLASSES:
        assert whole[label == name].sum() == 30 * fraction
        assert np.ptp(here[~whole & (label == name)].sum(0)) <= 1
    assert np.ptp(here.sum(0)) <= 1  # what does not divide evenly does not pile up either


def test_single_pairs_per_class_do_not_all_keep_the_same_modality():
    poor = degrade(paired(n_obs=12, n_clusters=12), pairs=0.0, labels_key="label")
    assert presence(poor).sum(0).tolist() == [4, 4, 4]


def test_pairs_can_be_taken_without_classes():
    poor = degrade(paired(), pairs=0.5)
    assert presence(poor).all(1).sum() == 45
    assert "true_label" not in poor.obs


def test_samples_keep_a_modality_that_they_have_and_unpaired_ones_all():
    mdata = make_mosaic(pattern="every")
    before, after = seen(mdata), seen(degrade(mdata, pairs=0.0, labels_key="label"))
    assert after.index.equals(before.index)
    names = list(mdata.mod)
    assert (after[names].sum(axis=1) == 1).all()
    assert (before[names] | ~after[names]).all(axis=None)


def test_fewer_pairs_are_among_more_and_split_samples_keep_the_same_modality():
    few, many = (seen(degrade(paired(), pairs=p, labels_key="label", random_state=4)) for p in (0.2, 0.6))
    names = ["a", "b", "c"]
    assert (many[names].all(axis=1) | ~few[names].all(axis=1)).all()
    split = ~many[names].all(axis=1)
    pd.testing.assert_frame_equal(few[split], many[split])


def test_classes_keep_the_asked_number_in_every_modality():
    mdata = make_mosaic(n_obs=300, pattern="diagonal")
    before = table(mdata)
    poor = degrade(mdata, classes={"label_1": 3}, labels_key="label")
    expected = before.copy()
    expected.loc["label_1"] = 3
    pd.testing.assert_frame_equal(table(poor), expected)
    assert poor.n_obs == expected.to_numpy().sum()


def test_a_class_can_be_absent_from_one_modality_and_rare_in_others():
    poor = degrade(
        make_mosaic(n_obs=300, pattern="every"), classes={"label_2": 4, ("label_2", "b"): 0}, labels_key="label"
    )
    assert table(poor).loc["label_2"].tolist() == [4, 0, 4]


def test_a_class_can_vanish_from_all_modalities():
    poor = degrade(paired(), classes={"label_0": 0}, labels_key="label")
    assert sorted(poor.obs["label"].unique()) == ["label_1", "label_2"]


def test_paired_samples_of_a_rare_class_stay_paired_and_lose_only_what_is_absent():
    poor = degrade(paired(), classes={"label_0": 5, ("label_1", "c"): 0}, labels_key="label")
    here = presence(poor)
    assert here[(poor.obs["label"] == "label_0").to_numpy()].tolist() == [[True] * 3] * 5
    assert here[(poor.obs["label"] == "label_1").to_numpy()].tolist() == [[True, True, False]] * 30


@pytest.mark.parametrize(
    ("labels", "per_class"),
    [(5, 5), (0, 0), (1.0, 30), (0.0, 0), (0.1, 3), (0.001, 1), (np.int64(2), 2), (np.float32(0.5), 15), (99, 30)],
)
@pytest.mark.parametrize("pattern", ["paired", "diagonal"])
def test_labels_are_kept_by_count_or_fraction_in_every_class_and_modality(labels, per_class, pattern):
    mdata = make_mosaic(n_obs=90 if pattern == "paired" else 270, pattern=pattern)
    full = table(mdata)
    if pattern == "diagonal":
        mdata = degrade(mdata, classes={(c, m): 25 for c in CLASSES for m in "abc"}, labels_key="label")
        full = table(mdata)
        if per_class > 2:
            per_class = {5: 5, 30: 25, 3: 2, 15: 12}[per_class]
    counts = table(degrade(mdata, labels=labels, labels_key="label")).reindex([*CLASSES, "unknown"], fill_value=0)
    assert (counts.loc[list(CLASSES)] == per_class).all(axis=None)
    assert (counts.sum() == full.sum()).all()


def test_labels_can_be_named_by_class_and_by_modality_and_others_keep_theirs():
    mdata = degrade(paired(n_obs=270), pairs=0.0, labels_key="label")
    poor = degrade(mdata, labels={"label_0": 4, ("label_0", "c"): 0, ("label_1", "a"): 0.2}, labels_key="label")
    assert table(poor).loc[list(CLASSES)].to_numpy().tolist() == [[4, 4, 0], [6, 30, 30], [30, 30, 30]]


def test_labels_of_a_class_are_not_asked_of_modalities_that_lack_it():
    mdata = degrade(paired(), classes={("label_0", "a"): 0}, labels_key="label")
    assert table(degrade(mdata, labels={"label_0": 2}, labels_key="label")).loc["label_0"].tolist() == [0, 2, 2]
    with pytest.raises(ValueError, match="'label_0' in modality 'a' has 0 samples"):
        degrade(mdata, labels={("label_0", "a"): 2}, labels_key="label")


def test_labels_of_partly_paired_samples_are_enough_in_every_modality():
    """The second modality is measured in paired samples only, so these must be the labelled ones of both."""
    mdata = paired()
    poor = degrade(mdata, classes={(c, m): 10 for c in CLASSES for m in "bc"}, labels=4, labels_key="label")
    counts = table(poor).loc[list(CLASSES)]
    assert (counts == 4).all(axis=None)
    every = table(degrade(make_mosaic(n_obs=300), labels=4, labels_key="label")).loc[list(CLASSES)]
    assert (every >= 4).all(axis=None)


def test_the_truth_is_kept_and_hidden_labels_are_hidden_in_the_modalities_too():
    mdata = paired(stamp=True)
    for adata in mdata.mod.values():
        adata.obs["label"] = mdata.obs.loc[adata.obs_names, "label"]
    poor = degrade(mdata, pairs=0.3, classes={"label_0": 7}, labels=2, labels_key="label", unlabeled_category="?")
    truth = mdata.obs["label"].loc[poor.obs_names]
    assert poor.obs["true_label"].tolist() == truth.tolist()
    known = (poor.obs["label"] != "?").to_numpy()
    assert poor.obs["label"][known].tolist() == truth[known].tolist()
    assert poor.obs["label"].cat.categories.tolist() == [*CLASSES, "?"]
    for adata in poor.mod.values():
        assert adata.obs["label"].tolist() == poor.obs.loc[adata.obs_names, "label"].tolist()
        assert adata.obs["true_label"].tolist() == poor.obs.loc[adata.obs_names, "true_label"].tolist()
        np.testing.assert_array_equal(stamps(adata.X), numbers(adata.obs_names))


def test_pairs_go_before_classes_and_classes_before_labels():
    mdata = paired()
    settings = {"pairs": 0.4, "classes": {"label_1": 6, ("label_2", "b"): 0}, "labels": 0.5}
    at_once = degrade(mdata, **settings, labels_key="label", random_state=7)
    for key, value in settings.items():
        mdata = degrade(mdata, **{key: value}, labels_key="label", random_state=7)
    for column in ("label", "true_label"):
        pd.testing.assert_frame_equal(table(mdata, column), table(at_once, column), check_like=True)


def test_a_second_call_takes_more_labels_and_the_first_truth_stays():
    once = degrade(paired(), labels=6, labels_key="label")
    twice = degrade(once, labels=0.5, classes={"label_0": 12}, labels_key="label", random_state=3)
    assert "unknown" not in set(twice.obs["true_label"])
    assert (table(twice).loc[["label_1", "label_2"]] == 3).all(axis=None)
    assert (table(twice, "true_label").loc["label_0"] == 12).all()


def test_fewer_labels_and_samples_are_among_more():
    mdata = make_mosaic(n_obs=300, pattern="diagonal")
    few, many = (seen(degrade(mdata, labels=n, labels_key="label")) for n in (3, 8))
    assert (many["label"] != "unknown")[few["label"] != "unknown"].all()
    few, many = (seen(degrade(mdata, classes={"label_0": n}, labels_key="label")) for n in (3, 8))
    assert few.index.isin(many.index).all()


def test_samples_without_a_class_count_in_none_and_are_never_taken_away():
    mdata = paired(unlabeled=0.2)
    unknown = (mdata.obs["label"] == "unknown").sum()
    mdata.obs["missing"] = mdata.obs["label"].cat.remove_categories("unknown")
    for key in ("label", "missing"):
        poor = degrade(mdata, classes=dict.fromkeys(CLASSES, 5), labels=2, labels_key=key)
        assert poor.n_obs == 15 + unknown
        assert (poor.obs[key] == "unknown").sum() == 9 + unknown
    assert poor.obs["true_missing"].isna().sum() == unknown
    with pytest.raises(KeyError, match="Class in `classes`: 'unknown' not found"):
        degrade(mdata, classes={"unknown": 5}, labels_key="label")


def test_the_choice_depends_on_the_seed_and_on_names_but_not_on_order():
    mdata = make_mosaic(n_obs=120, pattern="every")
    settings = {"pairs": 0.3, "classes": {"label_1": 4}, "labels": 3, "labels_key": "label"}
    first, other = degrade(mdata, **settings, random_state=1), degrade(mdata, **settings, random_state=2)
    assert not seen(first).equals(seen(other))
    pd.testing.assert_frame_equal(seen(first), seen(degrade(mdata, **settings, random_state=1)))
    shuffled = reordered(mdata)
    assert shuffled.obs_names.tolist() != mdata.obs_names.tolist()
    pd.testing.assert_frame_equal(seen(first), seen(degrade(shuffled, **settings, random_state=1)))


def test_the_given_mudata_stays_as_it_was():
    mdata, twin = paired(), paired()
    poor = degrade(mdata, pairs=0.2, classes={"label_0": 3}, labels=1, labels_key="label")
    poor["a"].X.data[:] = 0
    pd.testing.assert_frame_equal(mdata.obs, twin.obs)
    assert presence(mdata).all()
    np.testing.assert_array_equal(mdata["a"].X.toarray(), twin["a"].X.toarray())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": 3, "labels_key": None}, ValueError, "need `labels_key`"),
        ({"labels_key": "type"}, KeyError, "'type' not found"),
        ({"pairs": 1.5}, ValueError, "pairs"),
        ({"classes": {"z": 3}}, KeyError, "Class in `classes`: 'z' not found.*'label_0'"),
        ({"classes": {("label_0", "z"): 3}}, KeyError, "Modality in `classes`: 'z' not found"),
        ({"classes": {"label_0": 31}}, ValueError, "'label_0' in modality 'a' has 30 samples, .* asks for 31"),
        ({"classes": {"label_0": 0.5}}, ValueError, "whole number >= 0 in `classes`, found 0.5"),
        ({"classes": {"label_0": True}}, ValueError, "found True"),
        ({"classes": dict.fromkeys(((c, "b") for c in CLASSES), 0)}, ValueError, "no cell of modality 'b'"),
        ({"labels": {"z": 3}}, KeyError, "Class in `labels`: 'z' not found"),
        ({"labels": {("label_0", "c"): 31}}, ValueError, "'label_0' in modality 'c' has 30 .*`labels` asks for 31"),
        ({"labels": 2.0}, ValueError, r"labels.*\[0, 1\].*2"),
        ({"labels": -1}, ValueError, "found -1"),
        ({"labels": True}, ValueError, "found True"),
    ],
)
def test_what_cannot_be_done_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        degrade(paired(), **{"labels_key": "label"} | arguments)
