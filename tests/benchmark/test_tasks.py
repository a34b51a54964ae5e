from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD

from smalti.benchmark import TASKS, load_task, pooled_scores

QUICK = ("pbmc_mosaic", "pbmc_donor", "pbmc_paired")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def latents(mdata):
    """A latent that knows nothing, one of components per modality, and one in which many cells are alike."""
    z = np.zeros((mdata.n_obs, 12), np.float32)
    for mod in mdata.mod.values():
        rows = mdata.obs_names.get_indexer(mod.obs_names)
        z[rows] += TruncatedSVD(12, random_state=0).fit_transform(mod.X.log1p())
    noise = np.random.default_rng(1).normal(size=(mdata.n_obs, 8))
    return {"random": noise, "components": z, "ties": np.round(z / z.std(axis=0))[:, :3]}


@pytest.mark.data
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TASKS])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_of_every_task_equals_the_script(scripts, data_dir, name, seed):
    pytest.importorskip("igraph")
    if seed and name not in QUICK:
        pytest.skip("one seed is enough of the large tasks")
    theirs, ours = (
        scripts["embedding"].load_task(name, seed, data_dir=data_dir),
        load_task(name, seed, data_dir=data_dir),
    )
    assert (ours.mdata.obs_names == theirs.mdata.obs_names).all()
    for column in ("batch", "row", "profile"):
        assert (ours.mdata.obs[column].to_numpy() == theirs.mdata.obs[column].to_numpy()).all()
    for key, mod in theirs.mdata.mod.items():
        assert (ours.mdata[key].var_names == mod.var_names).all()
        assert (ours.mdata[key].X != mod.X).nnz == 0
    assert (ours.labels == theirs.labels).all()
    assert (ours.batch_key, ours.modalities) == (theirs.batch_key, theirs.modalities)
    for z in latents(ours.mdata).values():
        assert ours.score(z) == pytest.approx(theirs.score(z), abs=1e-6)


@pytest.mark.data
def test_a_file_is_a_task_by_its_path(scripts, data_dir):
    pytest.importorskip("igraph")
    options = {"path": data_dir / "pbmc_mosaic.h5mu", "hide_batch": True}
    ours = load_task("mine", 1, **options, labels_key="celltype")
    theirs = scripts["embedding"].load_task("mine", 1, **options, label="celltype")
    z = latents(ours.mdata)["components"]
    assert ours.score(z) == pytest.approx(theirs.score(z), abs=1e-6)


@pytest.mark.data
def test_the_older_scores_equal_the_script(scripts, data_dir):
    pytest.importorskip("igraph")
    task = load_task("pbmc_mosaic", 2, data_dir=data_dir)
    theirs = scripts["embedding"].load_task("pbmc_mosaic", 2, data_dir=data_dir)
    z = latents(task.mdata)["components"]
    found = task.data.scatter(task.mdata, z)
    expected = scripts["protocol"].score(theirs.data, *theirs.data.scatter(theirs.mdata, z), seed=2)
    renamed = {"lt_rna2other": "lt_1to2", "lt_other2rna": "lt_2to1"}
    expected = {renamed.get(name, name): value for name, value in expected.items()}
    assert pooled_scores(task.data, task.roles, found, joint=found["both"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.data
def test_training_data_hold_no_label(data_dir):
    task = load_task("pbmc_mosaic", data_dir=data_dir)
    assert list(task.mdata.obs.columns) == ["batch", "row", "profile"]
    for mod in task.mdata.mod.values():
        assert not len(mod.obs.columns)
        assert not mod.layers
    assert set(task.batch) == set(task.data.batch)


@pytest.mark.data
def test_a_latent_that_does_not_fit_is_refused(data_dir):
    task = load_task("pbmc_paired", data_dir=data_dir)
    with pytest.raises(ValueError, match=r"finite latent of 800 observations, found shape \(3, 2\)"):
        task.score(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite latent"):
        task.score(np.full((800, 2), np.nan))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'pbmc_mosaic'"):
        load_task("nothing")
