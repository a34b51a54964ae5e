from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.simulate import hide_pairs
from smalti.tl._benchmark import _mean_correlation


@pytest.fixture(scope="module")
def split():
    mdata = hide_pairs(make_mosaic(pattern="mosaic", n_obs=240, n_features={"a": 30, "b": 20}), 0.5)
    rng = np.random.default_rng(0)
    mdata.obsm["good"] = mdata.obsm["shared"] + 0.3 * rng.standard_normal(mdata.obsm["shared"].shape)
    mdata.obsm["blind"] = rng.standard_normal((mdata.n_obs, 4))
    return mdata


@pytest.fixture(scope="module")
def found(split):
    return sm.tl.benchmark(split, ["good", "blind"], batch_key="batch", labels_key="label", backend="own")


def test_one_table_has_every_part_and_agrees_with_evaluate(split, found) -> None:
    plain = sm.tl.evaluate(split, ["good", "blind"], batch_key="batch", labels_key="label")
    assert set(found.to_frame()["part"]) == {"matching", "imputation", "cell types", "batches", "presence", "total"}
    for name in plain.scores:
        np.testing.assert_allclose(found.scores[name], plain.scores[name])
    assert "smalti.metrics" in found.notes["backend"]


def test_a_latent_that_knows_the_cell_imputes_and_a_blind_one_does_not(found) -> None:
    for name in ("impute a -> b", "impute b -> a"):
        assert found.scores.loc["good", name] > 0.2
        assert abs(found.scores.loc["blind", name]) < 0.1
        assert found.chance[name] == 0


def test_the_other_half_of_a_cell_is_no_donor(split) -> None:
    """Halves of one cell at one place would impute perfectly if they could borrow from each other."""
    where = split.obs["cell"].astype("category").cat.codes.to_numpy()
    place = np.random.default_rng(1).standard_normal((where.max() + 1, 8))[where]
    found = sm.tl.benchmark(split, {"place": place}, backend="own")
    assert abs(found.scores.loc["place", "impute a -> b"]) < 0.12
    assert found.scores.loc["place", "foscttm"] == 0


def test_correlation_is_that_of_numpy_and_constant_features_are_left_out() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    b[:, 2] = 1
    expected = np.mean([np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(2)])
    assert _mean_correlation(a, b) == pytest.approx(expected)


def test_any_tool_on_any_mosaic_without_pairs_labels_or_batches() -> None:
    mdata = make_mosaic(pattern="diagonal", n_obs=80, labels=False, batch=False)
    z = np.random.default_rng(0).normal(size=(80, 3))
    found = sm.tl.benchmark(mdata, {"other tool": z}, modalities=("a", "b"))
    assert "no cell is known in both" in found.notes["imputation"]
    assert found.scores.index.tolist() == ["other tool"]


def test_the_picture_shows_every_score_and_marks_the_best(found) -> None:
    figure = sm.pl.benchmark(found)
    texts = figure.axes[0].texts
    shown = [t.get_text() for t in texts]
    for value in found.scores.to_numpy().ravel():
        assert f"{value:.2f}" in shown
    bold = [t for t in texts if t.get_fontweight() == "bold"]
    assert len(bold) == found.scores.shape[1]
    assert {"blind guess", "good", "blind"} == {t.get_text() for t in figure.axes[0].get_yticklabels()}


def test_scib_metrics_agree_with_ours(split) -> None:
    pytest.importorskip("scib_metrics", reason="scib-metrics is not installed")
    ours = sm.tl.benchmark(split, ["good", "blind"], batch_key="batch", labels_key="label", backend="own").scores
    theirs = sm.tl.benchmark(split, ["good", "blind"], batch_key="batch", labels_key="label", backend="scib").scores
    for name in ("asw_types", "clisi", "asw_batch", "ilisi_batch"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=0.05, err_msg=name)
    assert (theirs.loc["good", "bio"] > theirs.loc["blind", "bio"]).all()


def test_insisting_on_what_is_not_installed_names_the_extra(split, monkeypatch) -> None:
    monkeypatch.setattr("smalti.tl._benchmark.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"smalti\[benchmark\]"):
        sm.tl.benchmark(split, ["good"], backend="scib")
