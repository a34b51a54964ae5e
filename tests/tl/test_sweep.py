from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from scipy.stats import loguniform

import smalti as sm
from smalti._errors import NonFiniteLossError
from smalti._jobs import run_jobs
from smalti.tl import _sweep as module
from smalti.tl._sweep import Sweep, split_setting
from smalti.tl._trials import HELD_OUT, Trial

QUICK = {"max_epochs": 2, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def mdata():
    mdata = make_mosaic(pattern="mosaic", n_obs=120, n_features={"a": 25, "b": 12})
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    return mdata


@pytest.fixture
def calls(monkeypatch):
    """Replace training by a function of its arguments; return them as they come."""
    seen = []

    def fake(model_cls, mdata, setup, model_kwargs, train_kwargs, batch_key, labels_key):
        seen.append((model_kwargs, train_kwargs))
        lr = train_kwargs.get("plan_kwargs", {}).get("lr", 1e-3)
        if lr > 0.5:
            raise NonFiniteLossError("the loss became nan")
        total = -((model_kwargs.get("n_latent", 10) - 7) ** 2) + 0.1 * model_kwargs["random_state"]
        scores = pd.Series({"total": float(total), HELD_OUT: lr})
        return Trial(scores, {}, {}, 1.0, 0.1)

    monkeypatch.setattr(module, "train_and_score", fake)
    return seen


def test_dotted_names_become_nested_arguments_of_model_and_training() -> None:
    found = split_setting({"n_latent": 5, "options.n_hidden": 8, "train.batch_size": 32, "train.plan_kwargs.lr": 0.1})
    assert found == ({"n_latent": 5, "options": {"n_hidden": 8}}, {"batch_size": 32, "plan_kwargs": {"lr": 0.1}})


def test_all_combinations_and_seeds_are_run_and_the_best_mean_wins(mdata, calls) -> None:
    space = {"n_latent": [3, 7, 9], "train.plan_kwargs.lr": [0.01, 0.1]}
    given = {"model_kwargs": {"options": {"n_align": 8}}, "train_kwargs": {"plan_kwargs": {"weight_decay": 0.0}}}
    found = sm.tl.sweep(sm.model.CLUE, mdata, space, n_seeds=2, random_state=5, **given)
    assert len(calls) == len(found.table) == 12
    assert all(model["options"] == {"n_align": 8} for model, _ in calls)
    assert all(set(train["plan_kwargs"]) == {"lr", "weight_decay"} for _, train in calls)
    assert set(found.table["seed"]) == {5, 6}
    assert found.summary["mean"].is_monotonic_decreasing
    assert found.summary.iloc[0]["mean"] == pytest.approx(0.55)
    assert (found.summary["n"] == 2).all()
    assert found.best["model_kwargs"] == {"n_latent": 7}
    lowest = sm.tl.sweep(sm.model.CLUE, mdata, space, score=HELD_OUT)
    assert lowest.best["train_kwargs"] == {"plan_kwargs": {"lr": 0.01}}  # low is good
    assert "low is good" in repr(lowest)


def test_settings_can_be_drawn_from_distributions(mdata, calls) -> None:
    space = {"train.plan_kwargs.lr": loguniform(1e-4, 1e-2), "n_latent": [5, 7]}
    first, again, other = (
        sm.tl.sweep(sm.model.CLUE, mdata, space, n_trials=6, random_state=seed).table for seed in (0, 0, 1)
    )
    assert list(first["setting"]) == list(again["setting"]) != list(other["setting"])
    assert first["train.plan_kwargs.lr"].nunique() == 6
    assert first["train.plan_kwargs.lr"].between(1e-4, 1e-2).all()


def test_a_diverging_training_is_a_finding_and_others_go_on(mdata, calls) -> None:
    found = sm.tl.sweep(sm.model.CLUE, mdata, {"train.plan_kwargs.lr": [0.01, 1.0]})
    assert "nan" in found.table.iloc[1]["error"]
    assert found.best["train_kwargs"] == {"plan_kwargs": {"lr": 0.01}}
    assert found.summary["n"].tolist() == [1, 0]


def test_what_a_file_holds_is_not_run_again(mdata, calls, tmp_path) -> None:
    path = tmp_path / "runs.csv"
    sm.tl.sweep(sm.model.CLUE, mdata, {"n_latent": [3, 7]}, path=path)
    found = sm.tl.sweep(sm.model.CLUE, mdata, {"n_latent": [7, 9]}, path=path)
    assert [model["n_latent"] for model, _ in calls] == [3, 7, 9]
    assert found.table["n_latent"].tolist() == [7, 9]
    assert len(pd.read_csv(path)) == 3


def test_what_cannot_be_swept_is_refused(mdata, calls) -> None:
    with pytest.raises(ValueError, match="at least one setting"):
        sm.tl.sweep(sm.model.CLUE, mdata, {})
    with pytest.raises(ValueError, match="by `n_trials`"):
        sm.tl.sweep(sm.model.CLUE, mdata, {"train.plan_kwargs.lr": loguniform(1e-4, 1e-2)})
    with pytest.raises(ValueError, match="score"):
        sm.tl.sweep(sm.model.CLUE, mdata, {"n_latent": [3]}, score="beauty")
    with pytest.raises(ValueError, match="Set up the mosaic first"):
        sm.tl.sweep(sm.model.MCA, mdata, {"n_latent": [3]})


SPACE, KEYS = {"n_latent": [3, 6]}, {"batch_key": "batch", "labels_key": "label"}


@pytest.fixture(scope="module")
def real(mdata) -> Sweep:
    return sm.tl.sweep(sm.model.CLUE, mdata, SPACE, train_kwargs=QUICK, **KEYS)


def test_real_trainings_are_scored_and_the_best_can_be_built(mdata, real) -> None:
    assert {"total", "bio", "batch", "presence", "monitor"} <= set(real.table)
    assert np.isfinite(real.table[["total", "monitor", "seconds"]]).all(axis=None)
    assert real.score == "total"
    assert sm.model.CLUE(mdata, **real.best["model_kwargs"]).options.n_latent in (3, 6)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
def test_trainings_in_other_processes_give_the_same_numbers(mdata, real, backend) -> None:
    if backend == "ray":
        pytest.importorskip("ray")
    there = sm.tl.sweep(sm.model.CLUE, mdata, SPACE, train_kwargs=QUICK, n_jobs=2, backend=backend, **KEYS)
    pd.testing.assert_frame_equal(real.table.drop(columns="seconds"), there.table.drop(columns="seconds"), rtol=1e-4)


def test_jobs_come_in_order_and_in_portions() -> None:
    found = list(run_jobs(np.power, [(i, 2) for i in range(5)], n_jobs=2, backend="threading", at_once=2))
    assert [len(portion) for portion in found] == [2, 2, 1]
    assert [int(value) for portion in found for value in portion] == [0, 1, 4, 9, 16]
