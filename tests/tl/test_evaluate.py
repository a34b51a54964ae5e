from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from rich.console import Console

import smalti as sm
from smalti import metrics
from smalti.data import presence
from smalti.simulate import hidden_pairs, hide_pairs


@pytest.fixture
def split():
    """A mosaic with hidden pairs; latents that know the cell ("good") and that know nothing ("blind")."""
    mdata = hide_pairs(make_mosaic(pattern="mosaic", n_obs=240, n_features={"a": 30, "b": 20}), 0.5)
    rng = np.random.default_rng(0)
    mdata.obsm["good"] = mdata.obsm["shared"] + 0.3 * rng.standard_normal(mdata.obsm["shared"].shape)
    mdata.obsm["blind"] = rng.standard_normal((mdata.n_obs, 4))
    return mdata


def test_scores_are_those_of_the_metrics_on_hidden_pairs(split) -> None:
    found = sm.tl.evaluate(split, ["good", "blind"], labels_key="label")
    first, second = hidden_pairs(split, "a", "b")
    x, y = split.obsm["good"][first], split.obsm["good"][second]
    label = split.obs["label"].astype(str).to_numpy()
    expected = {
        "foscttm": metrics.foscttm(x, y, metric="cosine"),
        "matching_k10": metrics.matching_score(x, y, k=10),
        "recall_at_10": metrics.recall_at_k(x, y, k=10, metric="cosine")[10],
        "transfer a -> b": metrics.label_transfer(x, label[first], y, label[second]),
        "transfer b -> a": metrics.label_transfer(y, label[second], x, label[first]),
        "mixing": metrics.modality_mixing(np.vstack([x, y]), np.repeat(["a", "b"], len(x)), k=30),
    }
    assert found.scores.loc["good", list(expected)].to_dict() == pytest.approx(expected)
    types = metrics.biology_scores(split.obsm["good"], label)
    assert found.scores.loc["good", ["nmi", "ari", "bio"]].tolist() == pytest.approx(
        [types.nmi_kmeans, types.ari_kmeans, types.mean]
    )
    assert (found.held_out, found.n_pairs) == (True, len(first))
    assert {found.best[name] for name in (*expected, "bio", "total")} == {"good"}


def test_a_blind_latent_scores_chance(split) -> None:
    found = sm.tl.evaluate(split, "blind", labels_key="label")
    score = found.scores.loc["blind"]
    assert score["foscttm"] == pytest.approx(found.chance["foscttm"], abs=0.08)
    assert score["recall_at_10"] == pytest.approx(found.chance["recall_at_10"], abs=0.1)
    assert score["ari"] == pytest.approx(0, abs=0.1)
    assert found.chance["matching_k10"] == pytest.approx(1 / found.n_pairs)
    truth = split.obs["label"].iloc[hidden_pairs(split, "a", "b")[1]]
    assert found.chance["transfer a -> b"] == truth.value_counts(normalize=True).max()


def test_an_embedding_of_one_modality_is_preferred_to_the_joint_one(split) -> None:
    split.obsm["mixed"], split.obsm["mixed_a"], split.obsm["mixed_b"] = (
        split.obsm["blind"],
        split.obsm["good"],
        split.obsm["good"],
    )
    found = sm.tl.evaluate(
        split, {"by key": "mixed", "direct": "good", "arrays": dict.fromkeys("ab", split.obsm["good"])}
    )
    pairs = ["foscttm", "foscttm_depth", "matching_k10", "recall_at_10", "mixing"]
    assert found.scores.loc["by key", pairs].to_dict() == found.scores.loc["direct", pairs].to_dict()
    assert found.scores.loc["arrays"].to_dict() == pytest.approx(found.scores.loc["direct"].to_dict())
    assert "nmi" not in found.scores


def test_cells_without_a_label_neither_vote_nor_count(split) -> None:
    def scores():
        return sm.tl.evaluate(split, "good", labels_key="label").scores.iloc[0].to_dict()

    split.obs["label"] = split.obs["label"].astype(object)
    everybody = scores()
    rows = split.obs_names[::5]
    split.obs.loc[rows, "label"] = None
    missing = scores()
    split.obs.loc[rows, "label"] = "unknown"
    assert scores() == missing
    split.obs.loc[rows, "label"] = "a type of its own"
    assert scores()["transfer a -> b"] < missing["transfer a -> b"]
    assert everybody["foscttm"] == missing["foscttm"]


def test_pairs_seen_in_training_are_scored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=120, n_features={"a": 30, "b": 20})
    shared = mdata.obsm["shared"]
    mdata.obsm["z"] = shared
    joint = sm.tl.evaluate(mdata, "z")
    assert "'z_a', 'z_b'" in joint.notes["matching, z"]
    assert "foscttm" not in joint.scores
    assert "No pairs were scored" in repr(joint)
    found = sm.tl.evaluate(mdata, {"z": {"a": shared, "b": shared}})
    assert not found.held_out
    assert found.n_pairs == presence(mdata).all(axis=1).sum()
    assert "SEEN" in repr(found)
    assert "hide_pairs" in caplog.text


def test_more_than_two_modalities_need_a_choice() -> None:
    mdata = hide_pairs(make_mosaic(pattern="paired"), 0.5)
    found = sm.tl.evaluate(mdata, "shared")
    assert "'a', 'b', 'c'" in found.notes["matching"]
    assert "ilisi_presence" in found.scores
    found = sm.tl.evaluate(mdata, "shared", modalities=("c", "a"))
    assert found.modalities == ("c", "a")
    assert found.scores.loc["shared", "foscttm"] == 0


def test_bad_input_gets_one_clear_sentence(split) -> None:
    with pytest.raises(KeyError, match="'nothing' not found"):
        sm.tl.evaluate(split, "nothing")
    with pytest.raises(KeyError, match="'tissue' not found"):
        sm.tl.evaluate(split, "good", labels_key="tissue")
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        sm.tl.evaluate(split, {"x": {"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}})
    row = hidden_pairs(split, "a", "b")[0][0]
    split.obsm["good"][row] = np.nan
    with pytest.raises(ValueError, match=split.obs_names[row]):
        sm.tl.evaluate(split, "good")


def test_the_result_is_readable_as_text_html_table_and_json(split) -> None:
    found = sm.tl.evaluate(split, ["good", "blind"], labels_key="label")
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["scores"]["good"]["foscttm"] == pytest.approx(found.scores.loc["good", "foscttm"])
    assert stored["chance"]["mixing"] is None
    assert stored["notes"]["batches"] == "name the column of batches in `batch_key`."
    pd.testing.assert_series_equal(found.table.loc["(chance)"], found.chance, check_names=False)
    assert "hidden in training" in repr(found)
    assert "<table" in found._repr_html_()
    console = Console(file=io.StringIO(), width=120)
    console.print(found)
    lines = console.file.getvalue().splitlines()
    row = next(line for line in lines if "FOSCTTM" in line)
    assert f"{found.scores.loc['good', 'foscttm']:.3f}" in row
    assert "↓" in row
    assert "0.500" in row


def test_small_sets_shorten_lists_and_votes() -> None:
    mdata = hide_pairs(make_mosaic(pattern="paired", n_obs=24, n_features={"a": 30, "b": 20}), 0.25)
    found = sm.tl.evaluate(mdata, "shared", labels_key="label")
    assert found.n_pairs == 6
    assert found.scores.loc["shared", "recall_at_6"] == 1


def test_partners_are_sought_within_the_batch(split) -> None:
    first, second = hidden_pairs(split, "a", "b")
    batch = split.obs["batch"].astype(str).to_numpy()
    # the latent knows the batch and little else: pooled candidates reward it, those of the batch do not
    own = (batch == np.unique(batch)[0]).astype(float)[:, None] * [[50.0, -50.0, 0, 0]]
    split.obsm["batch only"] = split.obsm["blind"] + own
    pooled = sm.tl.evaluate(split, "batch only").scores.loc["batch only", "foscttm"]
    inside = sm.tl.evaluate(split, "batch only", batch_key="batch")
    assert pooled < 0.4
    assert inside.scores.loc["batch only", "foscttm"] == pytest.approx(0.5, abs=0.12)
    assert inside.scores.loc["batch only", "foscttm"] > pooled + 0.05
    x, y = split.obsm["batch only"][first], split.obsm["batch only"][second]
    expected = metrics.matching_scores(x, y, groups=batch[first])
    assert inside.scores.loc["batch only", "foscttm"] == expected.foscttm
    assert "own batch" in inside.headline()


def test_mixing_and_totals_are_those_of_the_metrics(split) -> None:
    found = sm.tl.evaluate(split, "good", batch_key="batch", labels_key="label").scores.loc["good"]
    z, labels = split.obsm["good"], split.obs["label"].astype(str)
    batch = metrics.mixing_scores(z, split.obs["batch"].astype(str), labels=labels)
    pattern = pd.Series(presence(split)[:, 0].astype(str)) + presence(split)[:, 1].astype(str)
    measured = metrics.mixing_scores(z, pattern, labels=labels, use_kbet=False)
    assert found["batch"] == pytest.approx(batch.mean)
    assert found["kbet_batch"] == pytest.approx(batch.kbet)
    assert found["presence"] == pytest.approx(measured.mean)
    assert "kbet_presence" not in found
    total = metrics.total_score(found["bio"], batch=batch.mean, presence=measured.mean)
    assert found["total"] == pytest.approx(total)


def test_a_plain_array_is_enough_and_says_what_cannot_be_said() -> None:
    mdata = make_mosaic(pattern="diagonal", n_obs=120, n_features={"a": 30, "b": 20})
    found = sm.tl.evaluate(mdata, mdata.obsm["shared"])
    assert list(found.scores.columns) == ["ilisi_presence", "presence"]
    assert "no truth to compare with" in found.notes["matching"]
    assert {"matching", "cell types", "batches", "total"} <= set(found.notes)


def test_one_pattern_per_batch_has_no_presence_score() -> None:
    mdata = make_mosaic(pattern="diagonal", n_obs=120, n_features={"a": 30, "b": 20})
    mdata.obs["library"] = np.where(presence(mdata)[:, 0], "one", "two")
    found = sm.tl.evaluate(mdata, mdata.obsm["shared"], batch_key="library", labels_key="label")
    assert "presence" not in found.scores
    assert "same modalities" in found.notes["presence"]
    score = found.scores.iloc[0]
    assert score["total"] == pytest.approx(metrics.total_score(score["bio"], batch=score["batch"]))


def test_another_latent_can_be_meant_for_matching(split) -> None:
    found = sm.tl.evaluate(split, {"method": "blind", "both": "good"}, aligned={"method": "good"}, labels_key="label")
    assert found.scores.loc["method", "foscttm"] == found.scores.loc["both", "foscttm"]
    assert found.scores.loc["method", "bio"] < found.scores.loc["both", "bio"]
    with pytest.raises(KeyError, match="'nobody' not found"):
        sm.tl.evaluate(split, "good", aligned={"nobody": "good"})


def test_values_that_are_no_counts_give_no_depth(split) -> None:
    split["b"].X = split["b"].X.astype(np.float32) * -1
    found = sm.tl.evaluate(split, "good")
    assert "foscttm_depth" not in found.scores
    assert "'b' are no counts" in found.notes["matching, equal depth"]


def test_cells_without_a_latent_are_left_out_of_what_looks_at_all_cells(split) -> None:
    rows = np.flatnonzero(~split.obs["hidden"].to_numpy())[:10]
    split.obsm["good"][rows] = np.nan
    found = sm.tl.evaluate(split, "good", labels_key="label")
    assert found.notes["all cells, good"].startswith("10 cells")
    assert np.isfinite(found.scores.loc["good", "bio"])


def test_the_frame_explains_every_row(split) -> None:
    frame = sm.tl.evaluate(split, ["good", "blind"], batch_key="batch", labels_key="label").to_frame()
    assert frame.loc["foscttm", "better"] == "lower"
    assert (frame.drop(index=["foscttm", "foscttm_depth"])["better"] == "higher").all()
    assert frame["meaning"].str.len().min() > 10
    assert frame["part"].unique().tolist() == ["matching", "cell types", "batches", "presence", "total"]
    assert frame.loc["matching_k10", "title"] == "matching score (k = 10)"
    assert frame.loc["recall_at_10", "title"] == "recall at 10"
    assert frame.loc["transfer a -> b", "title"] == "transfer a -> b"
