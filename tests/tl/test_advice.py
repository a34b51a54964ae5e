"""What `describe_mosaic` prints is run line by line, and must reach what it promises, or say that no method can."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from sklearn.neighbors import KNeighborsClassifier

import smalti as sm
from smalti._mudata import build_mudata, no_pull
from smalti.tl._catalogue import NO_MODEL, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

TWO: dict[str, Any] = {"n_features": {"a": 40, "b": 30}, "likelihood": "nb", "n_batches": 1, "n_private": 0}


def bulk(*, labels: bool = True, pattern: str = "paired") -> MuData:
    """Intensities that nobody took logarithms of, as in arrays and sequencing of tumours."""
    mdata = make_mosaic(**TWO | {"likelihood": "gaussian", "n_obs": 90}, pattern=pattern, labels=labels)
    for name, adata in mdata.mod.items():
        mdata.mod[name].X = np.exp(6 + 1.5 * np.asarray(adata.X) / np.asarray(adata.X).std()).astype(np.float32)
    return mdata


def in_layer() -> MuData:
    mdata = make_mosaic(**TWO, pattern="mosaic", n_obs=150)
    for name in mdata.mod:
        mdata[name].layers["raw"] = mdata[name].X.copy()
        mdata[name].X = np.log1p(mdata[name].X)
    return mdata


def named_alike(mdata: MuData) -> MuData:
    names = [f"g{i}" for i in range(30)]
    mdata["a"].var_names = [*names, *mdata["a"].var_names[30:]]
    mdata["b"].var["gene"] = names
    return mdata


def linked(n_obs: int = 240) -> MuData:
    """Two modalities without a shared cell, whose linked features rise and fall together."""
    rng = np.random.default_rng(0)
    kind = rng.integers(4, size=n_obs)
    level = rng.normal(size=(4, 20))[kind] + 0.3 * rng.normal(size=(n_obs, 20))
    parts = {}
    for name, cells in (("a", np.arange(n_obs) < n_obs // 2), ("b", np.arange(n_obs) >= n_obs // 2)):
        x = rng.poisson(np.exp(1 + level[cells])).astype(np.float32)
        obs = pd.DataFrame(
            {"kind": [f"k{k}" for k in kind[cells]]}, index=[f"{name}{i}" for i in np.flatnonzero(cells)]
        )
        parts[name] = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"{name}_{j}" for j in range(20)]))
    parts["b"].var["gene"] = parts["a"].var_names.to_numpy()
    with no_pull():
        return build_mudata(parts)


SITUATIONS: dict[str, tuple[Callable[[], MuData], dict[str, str], str]] = {
    "paired": (lambda: make_mosaic(**TWO, pattern="paired"), {}, "CLUE"),
    "paired, labels": (lambda: make_mosaic(**TWO, pattern="paired"), {"labels_key": "label"}, "CLUE"),
    "mosaic": (lambda: make_mosaic(**TWO, pattern="mosaic", n_obs=150), {"batch_key": "batch"}, "CLUE"),
    "layers": (in_layer, {"batch_key": "batch"}, "CLUE"),
    "diagonal, labels": (lambda: make_mosaic(**TWO, pattern="diagonal"), {"labels_key": "label"}, "MODIS"),
    "diagonal, labels and links": (
        lambda: named_alike(make_mosaic(**TWO, pattern="diagonal")),
        {"labels_key": "label"},
        "MODIS",
    ),
    "diagonal, links": (linked, {}, "UnpairedCCA"),
    "bulk": (bulk, {}, "CLUE"),
    "bulk, labels": (lambda: bulk(pattern="diagonal"), {"labels_key": "label"}, "MODIS"),
    "bulk, batches": (bulk, {"batch_key": "batch"}, "CLUE"),
}


def run(code: str, mdata: MuData, epochs: int | None = 2) -> dict[str, Any]:
    """Execute code as printed; with fewer epochs unless told otherwise."""
    wanted = "model.train(progress=False)" if epochs is None else f"model.train({epochs}, progress=False)"
    code = code.replace("model.train()", wanted)
    names: dict[str, Any] = {"sm": sm, "mdata": mdata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
    return names


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_line_that_is_printed_runs(name):
    make, keys, expected = SITUATIONS[name]
    mdata = make()
    found = sm.tl.describe_mosaic(mdata, **keys)
    assert not found.problems
    assert found.recommendation.model == expected
    code = found.recommendation.code
    assert code in repr(found).replace("\n    ", "\n") or all(line in repr(found) for line in code.splitlines())
    if "labels_key" in keys and expected == "MODIS":
        assert f"labels_key={keys['labels_key']!r}" in code
    names = run(code, mdata)
    z = names["mdata"].obsm[f"X_{entry(expected).command}"]
    assert np.isfinite(z).all()
    assert len(z) == mdata.n_obs
    for other in found.recommendation.alternatives:  # each names a model that exists
        assert entry(other.split()[0]).available


def test_columns_that_only_modalities_have_are_collected_by_the_line_that_is_printed():
    mdata = make_mosaic(**TWO, pattern="mosaic", n_obs=150)
    for name in mdata.mod:
        mdata[name].obs["run"] = mdata.obs["batch"].loc[mdata[name].obs_names].to_numpy()
    mdata.obs = mdata.obs[[]]
    for given in ("run", "a:run"):
        with pytest.raises(KeyError) as error:
            sm.tl.describe_mosaic(mdata, batch_key=given)
        line = str(error.value).split("call `")[1].split("`")[0]
        exec(line, {"sm": sm, "mdata": mdata})
        sm.tl.describe_mosaic(mdata, batch_key="run")
        mdata.obs = mdata.obs[[]]
    # the column that MuData pulled up: known for one modality only, the name with its prefix
    mdata.obs["a:run"] = mdata["a"].obs["run"].reindex(mdata.obs_names)
    found = sm.tl.describe_mosaic(mdata, batch_key="a:run")
    (problem,) = [each for each in found.problems if "missing for" in each]
    assert "batch_key='run'" in problem
    exec(problem.split("call `")[1].split("`")[0], {"sm": sm, "mdata": mdata})
    assert not sm.tl.describe_mosaic(mdata, batch_key="run").problems


def test_unlogged_intensities_get_logarithms_first():
    mdata = bulk()
    found = sm.tl.describe_mosaic(mdata)
    assert found.modalities["a"].bulk
    assert any("`sm.pp.bulk`" in note for note in found.notes)
    assert found.recommendation.code.splitlines()[0] == "sm.pp.bulk(mdata, 'a', kind='counts')"
    names = run(found.recommendation.code, mdata)
    assert np.abs(names["mdata"]["a"].X).max() < 30
    logged = make_mosaic(**TWO | {"likelihood": "gaussian"}, pattern="paired")
    assert "pp.bulk" not in repr(sm.tl.describe_mosaic(logged))


def test_labels_carry_over_by_the_code_as_printed():
    mdata = make_mosaic(**TWO | {"n_clusters": 3}, pattern="diagonal", n_obs=240)
    code = sm.tl.describe_mosaic(mdata, labels_key="label").recommendation.code
    z = run(code, mdata, epochs=20)["mdata"].obsm["X_modis"]
    label = mdata.obs["label"].astype(str).to_numpy()
    a, b = (mdata.obs_names.isin(mdata[name].obs_names) for name in "ab")
    assert (KNeighborsClassifier(5).fit(z[a], label[a]).predict(z[b]) == label[b]).mean() > 0.75  # chance: a third


def test_matching_beats_chance_by_the_code_as_printed():
    mdata = linked()
    found = sm.tl.describe_mosaic(mdata)
    names = run(found.recommendation.code, mdata, epochs=None)
    model = names["model"]
    kind = pd.concat([mdata[name].obs["kind"] for name in "ab"]).loc[mdata.obs_names].to_numpy()
    z = model.get_latent_representation(block="aligned")
    a, b = (mdata.obs_names.isin(mdata[name].obs_names) for name in "ab")
    assert (KNeighborsClassifier(5).fit(z[a], kind[a]).predict(z[b]) == kind[b]).mean() > 0.7  # chance: a quarter


def test_where_nothing_ties_modalities_it_is_said_that_no_method_can():
    for mdata in (make_mosaic(**TWO, pattern="diagonal", labels=False), bulk(labels=False, pattern="diagonal")):
        found = sm.tl.describe_mosaic(mdata)
        assert found.recommendation.model == "none"
        assert found.recommendation.code is None
        assert NO_MODEL in " ".join(repr(found).split())


def test_set_up_prints_what_it_inferred_and_takes_the_layer_with_counts(capsys):
    mdata = in_layer()
    with pytest.warns(UserWarning, match="layer 'raw' does, so it is used"):
        sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    told = capsys.readouterr().err
    assert "'a': 'nb' (layer 'raw'), encoder sees " in told
    assert "'b': 'nb' (layer 'raw')" in told
    sm.model.CLUE.setup_mudata(make_mosaic(**TWO), {"a": "nb", "b": "nb"})
    assert capsys.readouterr().err == ""
