from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _factories import make_mosaic
from contract._models import MODELS

from smalti import tl
from smalti._missing import feature_levels, filled, has_missing, missing_of
from smalti._mudata import no_pull
from smalti.model import CLUE
from smalti.nn import SparseRows

KINDS = {"reals": "c", "counts": "a"}


def with_gaps(share: float = 0.2, *, names=("a", "c"), seed: int = 0, storage: str = "dense", **changes):
    """Return a mosaic of which a share of the values of some modalities is missing, and where."""
    rng, gaps = np.random.default_rng(seed), {}
    mdata = make_mosaic(**{"n_obs": 140, "pattern": "every", **changes})
    for name in names:
        x = mdata[name].X
        x = (x.toarray() if sp.issparse(x) else np.array(x)).astype(np.float32)
        gaps[name] = rng.random(x.shape) < share
        x[gaps[name]] = np.nan
        mdata[name].X = x if storage == "dense" else sp.csr_matrix(x)
    return mdata, gaps


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
@pytest.mark.parametrize("counts", [True, False])
def test_what_is_filled_in_are_means_and_all_else_stays(make, counts, rng):
    x = rng.poisson(3, (50, 8)).astype(np.float32)
    gone = rng.random(x.shape) < 0.3
    y = x.copy()
    y[gone] = np.nan
    stored = make(y)
    assert has_missing(stored)
    np.testing.assert_array_equal(missing_of(stored).toarray(), gone)
    levels = feature_levels(stored, counts)
    out = filled(stored, levels, counts)
    assert type(out) is type(stored)
    out = out.toarray() if sp.issparse(out) else out
    np.testing.assert_array_equal(out[~gone], x[~gone])
    if not counts:
        np.testing.assert_allclose(levels, np.nanmean(y, axis=0), rtol=1e-6)
        np.testing.assert_allclose(out[gone], levels[np.nonzero(gone)[1]], rtol=1e-6)
    else:  # the total is that of a whole panel: neither too low nor too high
        assert abs(out.sum() / x.sum() - 1) < 0.05
    assert filled(make(x), levels, counts) is not None
    assert not has_missing(make(x))


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_latents_are_finite_and_what_stands_in_a_gap_does_not_matter(storage):
    mdata, gaps = with_gaps(storage=storage)
    CLUE.setup_mudata(mdata, {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
    model = CLUE(mdata)
    model.train(max_epochs=2, batch_size=32)
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.get_latent_representation(block="aligned")).all()
    for source in ("a", "b", "c"):
        for target in ("a", "b", "c"):
            assert np.isfinite(model.translate(source, target).values).all()
    for minibatch in model.iterate():
        for name in ("a", "c"):
            x = minibatch["values"][name]
            x = x.to_dense(mdata[name].n_vars) if isinstance(x, SparseRows) else x
            assert bool(torch.isfinite(x).all())
            assert minibatch["missing"][name].shape == x.shape
        assert set(minibatch["missing"]) == {"a", "c"}


def test_gaps_are_no_part_of_the_likelihood():
    """Whatever is put in place of a missing value, the loss of the decoder is the same."""
    mdata, _ = with_gaps()
    CLUE.setup_mudata(mdata, {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
    model = CLUE(mdata)
    minibatch = next(iter(model.iterate()))
    module = model.module
    for name in ("a", "c"):
        here = module.inputs.present(minibatch)[name]
        z = torch.randn(int(here.sum()), module.options.n_latent, generator=torch.Generator().manual_seed(0))
        losses = []
        for change in (0.0, 50.0):
            x = minibatch["values"][name]
            x = x.to_dense(mdata[name].n_vars) if isinstance(x, SparseRows) else x
            log_library = module.inputs.log_library(minibatch, name)
            changed = torch.where(minibatch["missing"][name], x + change, x)
            step = module.decoding.step({**minibatch, "values": {**minibatch["values"], name: changed}}, module.inputs)
            seen = module.decoding.observed(step, name)
            if seen.log_library is not None:
                step.seen[name] = seen._replace(log_library=log_library)
            losses.append(module.decoding.nll(step, name, z, here))
        torch.testing.assert_close(*losses)


def test_a_cell_with_gaps_does_not_depend_on_other_cells_and_a_query_may_have_gaps_of_its_own():
    whole = make_mosaic(n_obs=140, pattern="every")
    mdata, _ = with_gaps()
    for training, query in ((mdata, mdata), (whole, mdata)):
        CLUE.setup_mudata(training, {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
        model = CLUE(training)
        model.train(max_epochs=1, batch_size=32)
        with no_pull():
            query = query.copy()
        z = model.get_latent_representation(query)
        assert np.isfinite(z).all()
        cells = [3, 17, 40]
        with no_pull():
            few = query[query.obs_names[cells]].copy()
        at = query.obs_names.get_indexer(few.obs_names)
        np.testing.assert_allclose(model.get_latent_representation(few), z[at], atol=2e-4)


def test_few_gaps_change_latents_little():
    mdata, _ = with_gaps(0.0)
    CLUE.setup_mudata(mdata, {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
    model = CLUE(mdata)
    model.train(max_epochs=3, batch_size=32)
    z = model.get_latent_representation()
    gapped, _ = with_gaps(0.05, seed=1)
    moved = np.linalg.norm(model.get_latent_representation(gapped) - z, axis=1)
    assert np.median(moved) < 0.5 * np.median(np.linalg.norm(z - z.mean(0), axis=1))


@pytest.mark.parametrize("spec", {spec.cls: spec for spec in MODELS[::-1]}.values(), ids=lambda spec: spec.name)
def test_every_model_takes_gaps(spec):
    mdata, _ = with_gaps(0.1, names=("a", "b", "c"), pattern="paired")
    spec.setup(mdata)
    model = spec.cls(mdata, **spec.kwargs)
    model.train(**spec.train)
    assert np.isfinite(model.get_latent_representation()).all()


def test_the_first_look_tells_of_gaps_and_the_linear_baseline_works():
    mdata, gaps = with_gaps(0.1)
    found = tl.describe_mosaic(mdata, batch_key="batch")
    assert not found.problems
    for name, gone in gaps.items():
        assert any(f"{int(gone.sum()):,} values of {name!r} are missing" in note for note in found.notes)
    assert found.modalities["a"].likelihood == "nb"
    tl.linear_joint(mdata, batch_key="batch")
    assert np.isfinite(mdata.obsm["X_joint"]).all()


@pytest.mark.parametrize("name", ["a", "c"])
def test_cells_and_features_without_any_value_are_refused_by_name(name):
    for axis, says in ((0, "only missing values .* in 1 cells"), (1, "1 features that are missing")):
        mdata, _ = with_gaps(0.0)
        x = mdata[name].X
        x[(2, slice(None)) if axis == 0 else (slice(None), 2)] = np.nan
        with pytest.raises(ValueError, match=f"'{name}' has {says}"):
            CLUE.setup_mudata(mdata, batch_key="batch")
        assert any(f"{name!r} has" in problem for problem in tl.describe_mosaic(mdata).problems)


def test_one_wild_count_changes_nothing_else():
    """A count of 5e6 in one cell: its other features are predicted as they are without it."""
    CLUE.setup_mudata(whole := make_mosaic(n_obs=140, pattern="every"), batch_key="batch")
    spoilt = make_mosaic(n_obs=140, pattern="every")
    x = spoilt["a"].X.toarray()
    x[4, 3] = 5e6
    spoilt["a"].X = x
    assert any("'a'" in note and "5,000,000" in note for note in tl.describe_mosaic(spoilt).notes)
    with pytest.warns(UserWarning, match="'a' has counts above .* in 1 cells.*missing"):
        CLUE.setup_mudata(spoilt, batch_key="batch")
    models = []
    for mdata in (whole, spoilt):
        model = CLUE(mdata)
        model.train(max_epochs=2, batch_size=32)
        models.append(model)
    name = spoilt["a"].obs_names[4]
    cell = [spoilt.obs_names.get_loc(name)]
    found = [m.translate(None, "a", library_size="observed", indices=cell).values.ravel() for m in models]
    others = np.arange(30) != 3
    assert 0.7 < found[1][others].sum() / found[0][others].sum() < 1.4
    z = models[0].get_latent_representation()
    again = models[0].get_latent_representation(spoilt)
    at = spoilt.obs_names.get_loc(name)
    assert np.linalg.norm(again[at] - z[at]) < np.median(np.linalg.norm(z - z.mean(0), axis=1))
    np.testing.assert_allclose(np.delete(again, at, 0), np.delete(z, at, 0), atol=1e-5)


def test_what_stands_for_a_missing_zero_or_one_is_no_one():
    """Methylation of single CpGs: most are not covered; their expected level is that of those that are."""
    mdata = make_mosaic(n_obs=140, pattern="paired", likelihood={"a": "bernoulli", "b": "nb", "c": "gaussian"})
    x = mdata["a"].X
    x = (x.toarray() if sp.issparse(x) else np.array(x)).astype(np.float32)
    level = x.mean()
    x[np.random.default_rng(0).random(x.shape) < 0.7] = np.nan
    mdata["a"].X = x
    CLUE.setup_mudata(mdata, {"a": "bernoulli", "b": "nb", "c": "gaussian"}, batch_key="batch")
    model = CLUE(mdata)
    model.train(5, batch_size=32, progress=False, accelerator="cpu")
    for by in ("network", "best"):
        assert abs(model.translate("b", "a", by=by).values.mean() - level) < 0.1
