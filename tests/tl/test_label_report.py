from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti import metrics
from smalti.data import presence
from smalti.simulate import drop
from smalti.tl._label_inputs import JOINT


@pytest.fixture
def case():
    """A mosaic of every pattern, with predictions and probabilities from each modality, NaN where it is absent."""
    mdata = make_mosaic(pattern="every", n_obs=280)
    rng = np.random.default_rng(0)
    truth = mdata.obs["label"].astype(str)
    names = sorted(set(truth))
    predicted, probabilities = {}, {}
    for i, modality in enumerate(mdata.mod):
        p = rng.dirichlet(np.ones(3), size=mdata.n_obs) + (0.8 - 0.3 * i) * np.equal.outer(truth.to_numpy(), names)
        p = pd.DataFrame(p / p.sum(axis=1, keepdims=True), index=mdata.obs_names, columns=names)
        labels = p.idxmax(axis=1).astype(object)
        labels[rng.random(mdata.n_obs) < 0.1] = None
        away = ~presence(mdata)[:, i]
        labels[away], p[away] = None, np.nan
        predicted[modality], probabilities[modality] = labels, p
    return mdata, predicted, probabilities


def test_scores_are_those_of_the_metrics_on_cells_that_have_the_modality(case) -> None:
    mdata, predicted, probabilities = case
    found = sm.tl.label_report(mdata, "label", predicted, probabilities=probabilities)
    assert found.modalities == list(mdata.mod)
    for i, name in enumerate(mdata.mod):
        here = presence(mdata)[:, i]
        truth, labels = mdata.obs["label"].astype(str)[here], predicted[name][here]
        row = found.summary.loc[name]
        assert row["n"] == here.sum()
        assert row["accuracy"] == pytest.approx((truth == labels).mean())
        assert row["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy(truth, labels))
        assert row["coverage"] == pytest.approx(labels.notna().mean())
        assert 0.8 < row["coverage"] < 0.97
        assert row["ece"] == pytest.approx(metrics.expected_calibration_error(probabilities[name][here], truth))
        pd.testing.assert_frame_equal(found.confusion[name], metrics.confusion(truth, labels))
        pd.testing.assert_frame_equal(
            found.calibration[name], metrics.calibration_curve(probabilities[name][here], truth)
        )
        table = found.table[found.table["modality"] == name].set_index("class")
        recall = metrics.class_recall(truth, labels)
        np.testing.assert_allclose(table["recall"], recall)
        np.testing.assert_allclose(found.recall()[name], recall)
        for label in found.classes:
            of_class = truth == label
            assert table.loc[label, "n"] == of_class.sum()
            assert table.loc[label, "precision"] == pytest.approx((truth[labels == label] == label).mean())
            assert table.loc[label, "abstained"] == pytest.approx(labels[of_class].isna().mean())
            confidence = probabilities[name][here][of_class].max(axis=1).mean()
            assert table.loc[label, "confidence"] == pytest.approx(confidence)


def test_presence_says_who_counts_and_not_the_missing_prediction(case) -> None:
    mdata, predicted, _ = case
    found = sm.tl.label_report(mdata, "label", predicted)
    filled = {name: labels.fillna("label_0") for name, labels in predicted.items()}
    for i, name in enumerate(mdata.mod):
        here = presence(mdata)[:, i]
        # predictions for cells without the modality change nothing, whatever they are
        strange = {**predicted, name: predicted[name].where(here, "nonsense")}
        again = sm.tl.label_report(mdata, "label", strange)
        pd.testing.assert_frame_equal(again.table, found.table)
        # one that is missing where the modality was measured is a miss
        assert found.summary.loc[name, "coverage"] < 1
        assert sm.tl.label_report(mdata, "label", filled).summary.loc[name, "coverage"] == 1


def test_a_joint_prediction_is_scored_for_all_cells_and_for_those_of_each_modality(case) -> None:
    mdata, _, _ = case
    rng = np.random.default_rng(1)
    mdata.obs["guess"] = rng.choice(["label_0", "label_1", "label_2"], size=mdata.n_obs)
    found = sm.tl.label_report(mdata, "label", "guess")
    assert found.modalities == [JOINT, *mdata.mod]
    right = (mdata.obs["label"].astype(str) == mdata.obs["guess"]).to_numpy()
    assert found.summary.loc[JOINT, "accuracy"] == pytest.approx(right.mean())
    for i, name in enumerate(mdata.mod):
        assert found.summary.loc[name, "accuracy"] == pytest.approx(right[presence(mdata)[:, i]].mean())
    pair = sm.tl.label_report(mdata, "label", "guess", modalities=["c", "a"])
    assert pair.modalities == [JOINT, "c", "a"]
    assert pair.summary.loc[JOINT, "n"] == presence(mdata, ["a", "c"]).any(axis=1).sum()


def test_a_joint_prediction_can_stand_beside_those_of_each_modality(case) -> None:
    mdata, predicted, _ = case
    found = sm.tl.label_report(mdata, "label", {JOINT: mdata.obs["label"], "b": predicted["b"]})
    assert found.modalities == [JOINT, "b"]
    assert found.summary.loc[JOINT, "accuracy"] == 1
    assert found.summary.loc["b"].equals(sm.tl.label_report(mdata, "label", predicted).summary.loc["b"])


def test_order_of_cells_does_not_matter(case) -> None:
    mdata, predicted, probabilities = case
    shuffle = np.random.default_rng(2).permutation(mdata.n_obs)
    found = sm.tl.label_report(
        mdata,
        mdata.obs["label"].iloc[shuffle],
        {name: labels.iloc[shuffle[::-1]] for name, labels in predicted.items()},
        probabilities={name: p.iloc[shuffle] for name, p in probabilities.items()},
    )
    expected = sm.tl.label_report(mdata, "label", predicted, probabilities=probabilities)
    pd.testing.assert_frame_equal(found.table, expected.table)
    pd.testing.assert_frame_equal(found.summary, expected.summary)


def test_only_cells_in_the_truth_count_and_only_they_need_a_prediction(case) -> None:
    mdata, predicted, _ = case
    test = mdata.obs_names[::3]
    some = {name: labels.loc[test] for name, labels in predicted.items()}
    found = sm.tl.label_report(mdata, mdata.obs["label"].loc[test], some)
    assert found.summary.loc["a", "n"] == presence(mdata)[::3, 0].sum()
    with pytest.raises(ValueError, match=r"prediction from 'a' to hold .* \d+ of \d+ are not in its index: 'cell_"):
        sm.tl.label_report(mdata, "label", some)


def test_excluded_labels_do_not_count_as_truth_and_are_abstentions_as_predictions(case) -> None:
    mdata, predicted, _ = case
    expected = sm.tl.label_report(mdata, mdata.obs["label"].where(np.arange(280) % 4 > 0), predicted)
    mdata.obs["label"] = mdata.obs["label"].astype(object)
    mdata.obs.loc[mdata.obs_names[::4], "label"] = "unknown"
    said = {name: labels.fillna("unknown") for name, labels in predicted.items()}
    found = sm.tl.label_report(mdata, "label", said, exclude="unknown")
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.classes == ["label_0", "label_1", "label_2"]


def test_a_class_absent_from_a_modality_has_no_recall_and_lowers_no_mean(case) -> None:
    mdata, predicted, _ = case
    keep = presence(mdata)
    keep[(mdata.obs["label"] == "label_1").to_numpy(), 2] = False
    mdata = drop(mdata, keep)
    predicted = {name: labels.reindex(mdata.obs_names) for name, labels in predicted.items()}
    found = sm.tl.label_report(mdata, "label", predicted)
    row = found.table[(found.table["modality"] == "c") & (found.table["class"] == "label_1")].iloc[0]
    assert row["n"] == 0
    assert np.isnan(row["recall"])
    assert np.isnan(row["abstained"])
    assert row["precision"] == 0  # some cells were given the label
    assert found.summary.loc["c", "n_classes"] == 2
    assert found.summary.loc["c", "balanced_accuracy"] == pytest.approx(found.recall()["c"].dropna().mean())


def test_a_modality_without_labelled_cells_has_empty_scores(case) -> None:
    mdata, predicted, probabilities = case
    truth = mdata.obs["label"].where(~presence(mdata)[:, 2])
    found = sm.tl.label_report(mdata, truth, predicted, probabilities=probabilities)
    assert found.summary.loc["c", "n"] == 0
    assert found.summary.loc["c", ["accuracy", "balanced_accuracy", "coverage", "ece"]].isna().all()
    assert found.confusion["c"].to_numpy().sum() == 0
    assert list(found.calibration) == ["a", "b"]
    with pytest.raises(ValueError, match="cells with a true label in at least one modality, found none"):
        sm.tl.label_report(mdata, truth, {"c": predicted["c"]})


def test_labels_that_are_numbers_are_compared_as_text(case) -> None:
    mdata, _, _ = case
    mdata.obs["number"] = np.arange(mdata.n_obs) % 3
    found = sm.tl.label_report(mdata, "number", mdata.obs["number"].astype(str))
    assert (found.summary["accuracy"] == 1).all()
    assert sm.tl.label_report(mdata, "number", "number", exclude=[0]).classes == ["1", "2"]


def test_the_report_reads_well_as_text_and_html(case) -> None:
    mdata, predicted, probabilities = case
    mdata.obs["label"] = mdata.obs["label"].cat.rename_categories({"label_0": "T < B"})
    found = sm.tl.label_report(mdata, "label", predicted, probabilities=probabilities)
    text = repr(found)
    assert max(map(len, text.splitlines())) <= 100
    assert f"{found.summary.loc['a', 'balanced_accuracy']:.3f}" in text
    row = found.table[(found.table["modality"] == "b") & (found.table["class"] == "label_1")].iloc[0]
    assert f"{row['recall']:.2f} ({row['n']})" in text
    html = found._repr_html_()
    assert html.count("<table") == html.count("</table>") == 2
    assert "T &lt; B" in html
    assert "T < B" not in html


def test_bad_input_gets_one_clear_sentence(case) -> None:
    mdata, predicted, probabilities = case
    report = sm.tl.label_report
    with pytest.raises(KeyError, match="'tissue' not found"):
        report(mdata, "tissue", predicted)
    with pytest.raises(KeyError, match="Modality: 'd' not found"):
        report(mdata, "label", {"d": predicted["a"]})
    with pytest.raises(KeyError, match="Prediction from modality: 'b' not found"):
        report(mdata, "label", {"a": predicted["a"]}, modalities=["b"])
    with pytest.raises(TypeError, match="Series indexed by cell name, found ndarray"):
        report(mdata, "label", predicted["a"].to_numpy())
    with pytest.raises(TypeError, match="`probabilities` in the form of `predicted`"):
        report(mdata, "label", predicted, probabilities=probabilities["a"])
    with pytest.raises(TypeError, match="from 'a' as a data frame"):
        report(mdata, "label", predicted, probabilities=dict.fromkeys(mdata.mod, np.ones((3, 3))))
    with pytest.raises(ValueError, match="No cell of `mdata` is in `truth`"):
        report(mdata, mdata.obs["label"].reset_index(drop=True), predicted)
    with pytest.raises(ValueError, match=r"Cells in `predicted\['a'\]` are not unique"):
        report(mdata, "label", {"a": pd.concat([predicted["a"]] * 2)})
    with pytest.raises(ValueError, match="at least one modality in `modalities`"):
        report(mdata, "label", predicted, modalities=[])
    with pytest.raises(ValueError, match="probabilities from 'b' to hold every cell that counts"):
        report(mdata, "label", predicted, probabilities={**probabilities, "b": probabilities["b"].iloc[:9]})


def test_logistic_regression_on_the_same_labels_stands_beside():
    mdata = sm.simulate.factor_views(300, n_features={"a": 40, "b": 30}, n_clusters=3, noise=0.5)
    rng = np.random.default_rng(0)
    mdata.obs["label"] = mdata.obs["label"].astype(str)
    known = rng.random(300) < 0.2
    mdata.obs["known"] = np.where(known, mdata.obs["label"], "unknown")
    test = mdata.obs["label"][~known]
    wrong = pd.Series(rng.choice(mdata.obs["label"].unique(), 300), index=mdata.obs_names)
    found = sm.tl.label_report(mdata, test, {"a": wrong, "b": wrong}, trained_on="known", exclude="unknown")
    assert (found.summary["linear"] > 0.8).all()
    assert (found.summary["balanced_accuracy"] < 0.6).all()
    assert "linear" in repr(found)
    assert "linear" not in sm.tl.label_report(mdata, test, {"a": wrong}).summary
