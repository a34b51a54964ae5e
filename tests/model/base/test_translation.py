from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _clue import build_clue, fit_clue, train
from _compare import rebuilt
from _factories import make_mosaic

from smalti.data import Modality, presence, row_maps

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}
PRESETS = ("default", "paper")


def mosaic(**changes):
    return make_mosaic(**{"n_obs": 210, "n_batches": 2, **changes})


@pytest.fixture(scope="module", params=PRESETS)
def model(request):
    return fit_clue(mosaic(), MODALITIES, preset=request.param)


@pytest.fixture(scope="module")
def default():
    return fit_clue(mosaic(), MODALITIES)


@pytest.fixture(scope="module")
def paper():
    """Its features share the total, so that predicted values add up to the library size."""
    return fit_clue(mosaic(), MODALITIES, preset="paper")


def totals(mdata, name: str) -> np.ndarray:
    """Return observed totals of all cells, NaN where absent."""
    rows = row_maps(mdata, [name])[name]
    out = np.full(mdata.n_obs, np.nan)
    out[rows >= 0] = np.asarray(mdata[name].X.sum(1)).ravel()[rows[rows >= 0]]
    return out


# ------------------------------------------------------------------- shapes and names


@pytest.mark.parametrize("source", [None, "a", "c"])
@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_cells_with_the_source_and_all_features_of_the_target_are_returned(model, source, target):
    mdata = model.adata
    out = model.translate(source, target)
    has = np.ones(mdata.n_obs, dtype=bool) if source is None else presence(mdata, [source])[:, 0]
    assert list(out.obs_names) == list(mdata.obs_names[has])
    assert list(out.var_names) == list(mdata[target].var_names)
    assert out.values.shape == (has.sum(), mdata[target].n_vars)
    assert np.isfinite(out.values).all()
    if target != "c":
        assert (out.values >= 0).all()
    assert (out.source, out.target) == (source, target)
    assert f"-> {target}: {has.sum()} cells x" in repr(out)


def test_probabilities_of_a_bernoulli_lie_between_0_and_1():
    mdata = make_mosaic(n_obs=90, likelihood={"a": "nb", "b": "bernoulli", "c": "gaussian"})
    out = fit_clue(mdata).translate("a", "b").values
    assert (out > 0).all()
    assert (out < 1).all()


@pytest.mark.parametrize("likelihood", ["zinb", "nb_mixture", "poisson"])
def test_every_likelihood_of_counts_predicts_means_of_the_right_size(likelihood):
    mdata = make_mosaic(n_obs=90, likelihood={"a": "nb", "b": "nb", "c": "gaussian"})
    out = fit_clue(mdata, {"a": "nb", "b": likelihood, "c": "gaussian"}).translate("a", "b").values
    observed = mdata["b"].X.toarray().mean(0)
    assert np.corrcoef(np.log1p(out.mean(0)), np.log1p(observed))[0, 1] > 0.8
    assert 0.5 < out.mean() / observed.mean() < 2


def test_the_result_becomes_an_anndata(default):
    out = default.translate("a", "b")
    adata = out.to_adata()
    np.testing.assert_array_equal(adata.X, out.values)
    assert list(adata.obs_names) == list(out.obs_names)
    assert list(adata.var_names) == list(out.var_names)
    assert adata.uns["translation"] == {"source": "a", "target": "b", "scale": "raw", "by": out.by}


def test_indices_and_batches_of_cells_change_nothing(model, rng):
    whole = model.translate(None, "b")
    cells = rng.permutation(model.adata.n_obs)[:25]
    part = model.translate(None, "b", indices=cells, batch_size=8)
    assert list(part.obs_names) == list(model.adata.obs_names[cells])
    np.testing.assert_allclose(part.values, whole.values[cells], rtol=1e-4, atol=1e-6)
    chosen = rng.random(model.adata.n_obs) < 0.2
    np.testing.assert_allclose(
        model.translate(None, "b", indices=chosen).values, whole.values[chosen], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_a_subset_of_features_is_that_of_all(model, target):
    whole = model.translate("a", target)
    names = [whole.var_names[i] for i in (7, 0, 3)]
    part = model.translate("a", target, features=names)
    assert list(part.var_names) == names
    np.testing.assert_allclose(part.values, whole.values[:, [7, 0, 3]], rtol=1e-4, atol=1e-6)


def test_a_query_without_the_target_can_be_translated(default):
    mdata = default.adata
    query = rebuilt(mdata, {"a": mdata["a"]})
    out = default.translate("a", "b", mdata=query)
    expected = default.translate("a", "b").to_adata()[query.obs_names].X
    np.testing.assert_allclose(out.values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(default.translate(target="b", mdata=query).values, expected, rtol=1e-4, atol=1e-6)


def test_values_of_the_target_are_not_seen(default):
    mdata = mosaic()
    mdata["b"].X = mdata["b"].X[::-1].copy()
    expected = default.translate("a", "b").values
    np.testing.assert_allclose(default.translate("a", "b", mdata=mdata).values, expected, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------- batches


def test_a_named_batch_is_the_own_one_for_its_cells_only(model):
    own, first = (model.translate("a", "b", batch=batch).to_adata() for batch in ("own", "batch_0"))
    batch = model.adata.obs.loc[own.obs_names, "batch"].to_numpy()
    difference = np.abs(own.X - first.X).max(1)
    np.testing.assert_allclose(difference[batch == "batch_0"], 0, atol=1e-6)
    assert (difference[batch != "batch_0"] > 1e-6).all()


def test_the_average_batch_lies_near_the_middle_of_the_batches(default):
    first, second, average = (
        np.log(default.translate("a", "b", batch=b).values) for b in ("batch_0", "batch_1", "average")
    )
    apart = np.abs(first - second).mean()
    assert apart > 1e-3
    assert np.abs(average - (first + second) / 2).mean() < 0.25 * apart


def test_a_model_without_batches_knows_only_its_own():
    model = fit_clue(make_mosaic(n_obs=90, batch=False), MODALITIES)
    own, average = (model.translate("a", "b", batch=b).values for b in ("own", "average"))
    np.testing.assert_array_equal(own, average)
    with pytest.raises(ValueError, match="batch_0"):
        model.translate("a", "b", batch="batch_0")


# ----------------------------------------------------------------------- library sizes


@pytest.mark.parametrize("target", ["a", "b"])
def test_predicted_values_are_proportional_to_the_library_size(model, target):
    one, two = (model.translate("c", target, library_size=size).values for size in (100.0, 200.0))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-3)


def test_the_library_size_is_the_sum_of_all_values_if_features_share_it(paper):
    mdata = paper.adata
    np.testing.assert_allclose(paper.translate("c", "a", library_size=1000).values.sum(1), 1000, rtol=1e-3)
    cells = np.flatnonzero(presence(mdata, ["a", "c"]).all(1))
    observed = paper.translate("c", "a", indices=cells, library_size="observed").values.sum(1)
    np.testing.assert_allclose(observed, totals(mdata, "a")[cells], rtol=1e-3)
    mean = paper.translate("c", "a", library_size="mean").values.sum(1)
    np.testing.assert_allclose(mean, np.exp(np.nanmean(np.log(totals(mdata, "a")))), rtol=1e-3)


@pytest.mark.parametrize("by", ["best", "network"])
@pytest.mark.parametrize("source", [None, "a", "b", "c"])
def test_counts_add_up_to_the_library_size_whatever_predicts_them(default, source, by):
    mdata = default.adata
    cells = np.flatnonzero(presence(mdata, ["a", *([source] if source else [])]).all(1))
    found = default.translate(source, "a", indices=cells, library_size="observed", by=by).values
    np.testing.assert_allclose(found.sum(1), totals(mdata, "a")[cells], rtol=1e-3)
    if by == "network":  # and features have their totals in the cells that were seen
        counts = mdata["a"].X[row_maps(mdata, ["a"])["a"][cells]].toarray().sum(0)
        often = counts > 50
        np.testing.assert_allclose(found.sum(0)[often], counts[often], rtol=0.05)


def test_counts_add_up_over_the_features_of_the_panel():
    mdata = mosaic()
    x = mdata["a"].X.toarray()
    second = (mdata.obs.loc[mdata["a"].obs_names, "batch"] == "batch_1").to_numpy()
    x[np.ix_(second, np.arange(10))] = 0
    mdata["a"].X = x
    panel = np.ones((30, 2), dtype=bool)
    panel[:10, 1] = False
    mdata["a"].varm["panel"] = pd.DataFrame(panel, index=mdata["a"].var_names, columns=["batch_0", "batch_1"])
    model = fit_clue(mdata, {**MODALITIES, "a": Modality(likelihood="nb", feature_mask="panel")})
    cells = np.flatnonzero(presence(mdata, ["a", "b"]).all(1))
    for by in ("best", "network"):
        found = model.translate("b", "a", indices=cells, library_size="observed", by=by).to_adata()
        inside = panel[:, (mdata.obs.loc[found.obs_names, "batch"] == "batch_1").to_numpy().astype(int)].T
        np.testing.assert_allclose((found.X * inside).sum(1), totals(mdata, "a")[cells], rtol=1e-3)


def test_calibrated_rates_are_stored(default, tmp_path):
    default.save(tmp_path / "model")
    again = type(default).load(tmp_path / "model", default.adata)
    assert set(again.module.translator.rates) == set(default.module.translator.rates)
    np.testing.assert_array_equal(*(m.translate("c", "a", by="network").values for m in (default, again)))


@pytest.mark.parametrize("by", ["best", "network"])
def test_the_library_size_is_predicted_from_the_source(paper, by):
    pair = paper.module.translator.pairs["b", "a"]
    observed = totals(paper.adata, "a")
    both = np.flatnonzero(np.isfinite(observed) & np.isfinite(totals(paper.adata, "b")))
    found = paper.translate("b", "a", library_size="source", by=by, indices=both).values.sum(1)
    columns = [pair.columns(*paper._look(each, "b", None)) for each in paper.iterate(indices=both)]
    expected = pair.library_factor * np.exp(pair.log_library(np.concatenate(columns)))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert np.ptp(np.log(found)) > 1e-3
    fitted = np.intersect1d(both, paper.train_indices_, return_indices=True)[1]
    np.testing.assert_allclose(found[fitted].mean(), observed[both][fitted].mean(), rtol=1e-3)


def test_without_a_source_the_own_library_size_wins_where_it_is_known(paper):
    observed = totals(paper.adata, "a")
    found = paper.translate(None, "a").values.sum(1)
    known = np.isfinite(observed)
    np.testing.assert_allclose(found[known], observed[known], rtol=1e-3)
    assert np.isfinite(found[~known]).all()


def test_one_library_size_per_cell(paper, rng):
    mdata = paper.adata
    with_source = np.flatnonzero(presence(mdata, ["c"])[:, 0])
    sizes = 50.0 + np.arange(mdata.n_obs)
    found = paper.translate("c", "a", library_size=sizes).values.sum(1)
    np.testing.assert_allclose(found, sizes[with_source], rtol=1e-3)
    cells = rng.permutation(mdata.n_obs)[:40]
    found = paper.translate("c", "a", library_size=sizes[cells], indices=cells)
    kept = cells[presence(mdata, ["c"])[cells, 0]]
    assert list(found.obs_names) == list(mdata.obs_names[kept])
    np.testing.assert_allclose(found.values.sum(1), sizes[kept], rtol=1e-3)
    chosen = rng.random(mdata.n_obs) < 0.3
    found = paper.translate("c", "a", library_size=sizes[chosen], indices=chosen).values.sum(1)
    np.testing.assert_allclose(found, sizes[chosen & presence(mdata, ["c"])[:, 0]], rtol=1e-3)


def test_reals_have_no_library_size(default):
    one, two = (default.translate("a", "c", library_size=size).values for size in (1.0, 1e4))
    np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------------ scales and who


def test_each_scale_is_compared_with_values_on_it(default):
    mdata = default.adata
    cells = np.intersect1d(np.flatnonzero(presence(mdata, ["a", "b"]).all(1)), default.train_indices_)
    counts = mdata["b"].X[row_maps(mdata, ["b"])["b"][cells]].toarray()
    mean = np.exp(np.nanmean(np.log(totals(mdata, "b"))))
    truth = {
        "raw": counts,
        "log1p": np.log1p(counts),
        "normalized": np.log1p(counts * mean / counts.sum(1, keepdims=True)),
    }
    for scale, expected in truth.items():
        found = default.translate("a", "b", indices=cells, scale=scale)
        assert found.scale == scale
        np.testing.assert_allclose(found.values.mean(), expected.mean(), rtol=0.05)
    low = default.translate("a", "b", indices=cells, scale="log1p").values
    assert low.mean() < np.log1p(default.translate("a", "b", indices=cells).values).mean()


def test_a_library_size_shifts_the_log_scale_but_not_the_normalized_one(default):
    one, two = (default.translate("a", "b", scale="log1p", library_size=size).values for size in (50.0, 500.0))
    assert (two >= one).all()
    assert (two > one).mean() > 0.9
    one, two = (default.translate("a", "b", scale="normalized", library_size=size).values for size in (50.0, 500.0))
    np.testing.assert_array_equal(one, two)


def test_the_result_says_what_predicted_it(default):
    assert "ridge" in default.translate("a", "b").by
    assert default.translate("a", "b", by="network").by == "network"
    assert default.translate("a", "a").by == "network"
    assert default.translate(None, "b").by.endswith("b: network")


def test_without_pairs_of_training_the_network_translates():
    model = fit_clue(make_mosaic(n_obs=60, n_batches=2), MODALITIES)
    assert not model.module.translator.pairs
    best, network = (model.translate("a", "b", by=by) for by in ("best", "network"))
    assert best.by == "network"
    np.testing.assert_array_equal(best.values, network.values)


def test_several_sources_lie_between_each_of_them(default):
    mdata = default.adata
    cells = np.flatnonzero(presence(mdata, ["a", "b", "c"]) @ [1, 2, 4] == 5)[:20]
    assert len(cells)
    a, b, both = (default.translate(s, "b", indices=cells, scale="normalized").values for s in ("a", "c", None))
    assert (both <= np.maximum(a, b) + 1e-5).all()
    assert (both >= np.minimum(a, b) - 1e-5).all()


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"source": "a"}, "Name the modality to predict"),
        ({"source": "x", "target": "b"}, "`source` to be one of 'a', 'b', 'c', found 'x'"),
        ({"source": "a", "target": "x"}, "`target` to be one of 'a', 'b', 'c', found 'x'"),
        ({"source": "a", "target": "b", "batch": "batch_7"}, "'own', 'average', 'batch_0', 'batch_1', found 'batch_7'"),
        ({"source": "a", "target": "b", "features": ["b_00", "gene"]}, "found 'gene'"),
        ({"source": "a", "target": "b", "library_size": "median"}, "found 'median'"),
        ({"source": "a", "target": "b", "scale": "log"}, "'raw', 'log1p', 'normalized', found 'log'"),
        ({"source": "a", "target": "c", "scale": "log1p"}, "found 'log1p'"),
        ({"source": "a", "target": "b", "by": "ridge"}, "found 'ridge'"),
        ({"source": "a", "target": "b", "library_size": -1}, "`library_size`.*> 0"),
        ({"source": "a", "target": "b", "library_size": [1.0, 2.0]}, "210 of them, found shape"),
        ({"source": "a", "target": "b", "library_size": np.zeros(210)}, "positive and finite"),
        ({"source": "a", "target": "b", "library_size": "observed"}, "measured in 'b'"),
        ({"source": "a", "target": "b", "indices": [-1]}, "`indices`"),
        ({"source": "a", "target": "b", "indices": [500]}, "`indices`"),
        ({"source": "a", "target": "b", "indices": []}, "`indices`"),
    ],
)
def test_wrong_arguments_are_named(default, arguments, says):
    with pytest.raises(ValueError, match=says):
        default.translate(**arguments)


def test_cells_without_the_source_cannot_be_translated(default):
    without = np.flatnonzero(~presence(default.adata, ["a"])[:, 0])
    with pytest.raises(ValueError, match=f"None of the {len(without)} cells was measured in modality 'a'"):
        default.translate("a", "b", indices=without)


# ---------------------------------------------------------------------------- learning


@pytest.mark.slow
def test_translation_beats_the_mean_of_every_feature(rng):
    mdata = make_mosaic(n_obs=600, pattern="paired", n_features={"a": 60, "c": 40}, n_private=1, n_batches=1)
    held_out = rng.permutation(600)[:100]
    train_on = np.setdiff1d(np.arange(600), held_out)
    fit_on = rebuilt(mdata, {name: mod[train_on] for name, mod in mdata.mod.items()})
    model = build_clue(fit_on, {"a": "nb", "c": "gaussian"}, n_hidden=64, n_latent=8)
    train(model, max_epochs=150, batch_size=128)
    query = rebuilt(mdata, {"a": mdata["a"][held_out]})
    predicted = model.translate("a", "c", mdata=query).values
    truth = mdata["c"][query.obs_names].X
    error = ((predicted - truth) ** 2).mean()
    assert error < 0.75 * ((truth - fit_on["c"].X.mean(0)) ** 2).mean()
