"""Generated mosaics either keep what is promised or are refused in one clear sentence, before any training."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
from _cases import Recipe, build, digest, recipes
from hypothesis import HealthCheck, given, settings

from smalti import tl
from smalti._errors import SmaltiError
from smalti.data import MosaicManager, row_maps
from smalti.model import CLUE, MCA, MODIS, FusionClustering, OverlapManifold, UnpairedCCA

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = (CLUE, MCA, MODIS, UnpairedCCA, FusionClustering, OverlapManifold)
QUICK = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
MANY = int(os.environ.get("SMALTI_CASES", "2000"))
TALLY: Counter[str] = Counter()
"""How cases ended, for the table of reliability."""


def assert_clear(error: BaseException) -> None:
    """Check that an error is one sentence or some, in one line, that says more than a type."""
    text = str(error.args[0]) if error.args else ""
    assert len(text.split()) >= 5, f"{type(error).__name__}: {text}"
    assert "\n" not in text, text
    assert text[:1].isupper() or text[:1].isdigit() or text[:1] in "`'", text
    assert text.rstrip("'\"`").endswith((".", "?", ")")), text


def keys_of(mdata: Any) -> dict[str, str]:
    return {f"{key}{'s' if key == 'label' else ''}_key": key for key in ("batch", "label") if key in mdata.obs}


def refused_by(call: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException | None:
    """Return the clear sentence with which a call refuses; ``None`` if it does not."""
    try:
        call(*args, **kwargs)
    except (ValueError, KeyError, TypeError, SmaltiError) as error:
        assert_clear(error)
        return error
    return None


def check(recipe: Recipe) -> str:
    """Run one case; return ``"ok"`` or ``"refused"``, raise for anything else."""
    mdata = build(recipe)
    before = digest(mdata)
    cls = MODELS[recipe.seed % len(MODELS)]
    keys = keys_of(mdata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tl.describe_mosaic(mdata, **keys)
        assert repr(found)
        assert found._repr_html_().count("<table>") == found._repr_html_().count("</table>")
        refusal = refused_by(cls.setup_mudata, mdata, **keys)
    assert digest(mdata) == before
    if refusal is not None:
        assert found.problems, f"refused, but the description sees no problem: {refusal}"
        return "refused"
    assert not found.problems, f"accepted, but described as a problem: {found.problems}"
    check_minibatch(mdata, cls._get_most_recent_anndata_manager(mdata))
    return "ok"


def check_minibatch(mdata: Any, manager: MosaicManager) -> None:
    """Check that a minibatch holds the rows of its cells, whatever the order, storage and type."""
    dataset, maps = manager.create_torch_dataset(), row_maps(mdata)
    order = np.random.default_rng(0).permutation(mdata.n_obs)
    batch = dataset[order]
    fields = {field.name: field for field in manager.modality_fields}
    for i, name in enumerate(fields):
        rows = maps[name][order]
        here = rows >= 0
        np.testing.assert_array_equal(batch["present"][:, i].numpy(), here)
        names = mdata.mod[name].obs_names.to_numpy()
        assert (names[rows[here]] == mdata.obs_names.to_numpy()[order][here]).all()
        expected = fields[name].stored(mdata)
        expected = (expected.toarray() if sp.issparse(expected) else np.asarray(expected))[rows[here]].astype(
            np.float32
        )
        values = batch["values"][name]
        if not isinstance(values, np.ndarray) and hasattr(values, "indptr"):
            values = values.to_dense(mdata.mod[name].n_vars)
        values = values.numpy()
        known = ~batch["missing"][name].numpy()[here] if name in batch["missing"] else np.ones(expected.shape, bool)
        np.testing.assert_array_equal(values[here][known], expected[known])
        assert np.isfinite(values).all()


def check_training(recipe: Recipe) -> str:
    """Train and read out; the latent of a cell does not depend on the order or the size of batches."""
    mdata = build(recipe)
    keys = keys_of(mdata)
    cls = (UnpairedCCA, CLUE)[recipe.seed % 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cls.setup_mudata(mdata, **keys)
            if cls is CLUE:
                model = CLUE(mdata, n_latent=2, n_hidden=4, options={"n_align": 2, "align_hidden": 4, "n_aligners": 1})
            else:
                model = UnpairedCCA(mdata, options={"n_latent": 2, "n_permutations": 0})
        except (ValueError, KeyError, TypeError, SmaltiError) as error:
            assert_clear(error)
            return "refused"
        started = []
        loss = model.module.loss
        model.module.loss = lambda *a, **k: (started.append(1), loss(*a, **k))[1]
        before = digest(mdata)
        refusal = refused_by(model.train, 1, batch_size=8, progress=False, accelerator="cpu")
        if refusal is not None:
            assert not started, f"refused only in training: {refusal}"
            return "refused"
        z = model.get_latent_representation()
        assert z.shape[0] == mdata.n_obs
        assert np.isfinite(z).all() or cls is UnpairedCCA
        np.testing.assert_allclose(model.get_latent_representation(batch_size=3), z, atol=1e-3)
        order = np.random.default_rng(0).permutation(mdata.n_obs)
        np.testing.assert_allclose(model.get_latent_representation(indices=order), z[order], atol=1e-3)
        assert digest(mdata) == before
    return "ok"


@settings(max_examples=200, **QUICK)
@given(recipe=recipes())
def test_two_hundred_generated_mosaics(recipe: Recipe) -> None:
    TALLY[check(recipe)] += 1


@settings(max_examples=6, **QUICK)
@given(recipe=recipes())
def test_some_generated_mosaics_train(recipe: Recipe) -> None:
    TALLY[f"trained, {check_training(recipe)}"] += 1


@pytest.mark.nightly
@settings(max_examples=MANY, **QUICK)
@given(recipe=recipes())
def test_thousands_of_generated_mosaics(recipe: Recipe) -> None:
    TALLY[check(recipe)] += 1


@pytest.mark.nightly
@settings(max_examples=max(MANY // 20, 1), **QUICK)
@given(recipe=recipes())
def test_many_generated_mosaics_train(recipe: Recipe) -> None:
    TALLY[f"trained, {check_training(recipe)}"] += 1
