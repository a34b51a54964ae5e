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
    assert list(found.scores.columns) == [*expected, "nmi", "ari"]
    assert (found.held_out, found.n_pairs) == (True, len(first))
    assert set(found.best.values()) == {"good"}


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
    assert found.scores.loc["by key"].to_dict() == found.scores.loc["direct"].to_dict()
    assert found.scores.loc["arrays"].to_dict() == found.scores.loc["direct"].to_dict()
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
    with pytest.raises(KeyError, match="z_a"):
        sm.tl.evaluate(mdata, "z")
    found = sm.tl.evaluate(mdata, {"z": {"a": shared, "b": shared}})
    assert not found.held_out
    assert found.n_pairs == presence(mdata).all(axis=1).sum()
    assert "SEEN" in repr(found)
    assert "hide_pairs" in caplog.text


def test_more_than_two_modalities_need_a_choice() -> None:
    mdata = hide_pairs(make_mosaic(pattern="paired"), 0.5)
    with pytest.raises(ValueError, match="'a', 'b', 'c'"):
        sm.tl.evaluate(mdata, "shared")
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
