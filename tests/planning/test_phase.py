from __future__ import annotations

import builtins

import numpy as np
import pandas as pd
import pytest

from smalti.planning import PhaseDiagram, phase_diagram
from smalti.planning._collapse import logistic
from smalti.planning._phase import squared_error

SMALL = {"n_features": [40], "n_active": [2], "correlations": [0.9], "ratios": [2.0, 6.0, 30.0], "n_replicates": 4}


@pytest.fixture(autouse=True)
def _few_test_cells(monkeypatch):
    monkeypatch.setattr("smalti.planning._phase.N_TEST", 200)
    monkeypatch.setattr("smalti.planning._phase.GATE_STEPS", 100)


def planted(power=1.0, seed=0, replicates=25):
    """A table whose failures follow n50 = 5 k^power log(p) / rho^2."""
    rng, rows = np.random.default_rng(seed), []
    for p in (100, 400):
        for k in (2, 4, 8):
            for rho in (0.9, 0.6):
                n50 = 5 * k**power * np.log(p) / rho**2
                for n in np.round(n50 * np.array([0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.5])).astype(int):
                    failed = rng.random(replicates) < 1 / (1 + (n / n50) ** 4)
                    for i, bad in enumerate(failed):
                        row = {"method": "truncated", "n_features": p, "n_active": k, "correlation": rho, "n_obs": n}
                        rows.append(row | {"replicate": i, "error_x": 1.0 if bad else 0.01, "f1": 1.0, "held_out": rho})
    return PhaseDiagram(table=pd.DataFrame(rows))


def test_failures_fall_with_the_number_of_cells():
    failure = phase_diagram(**SMALL).failure()["failure"].to_numpy()
    assert failure[0] == 1
    assert failure[-1] == 0


def test_a_run_that_broke_off_goes_on_where_it_was_and_ends_with_the_same_table(tmp_path):
    path = tmp_path / "runs.csv"
    whole = phase_diagram(**SMALL).table
    phase_diagram(**{**SMALL, "n_replicates": 2}, path=path)
    before = pd.read_csv(path)
    resumed = phase_diagram(**SMALL, path=path).table
    pd.testing.assert_frame_equal(pd.read_csv(path).head(len(before)), before)
    order = ["n_obs", "replicate"]
    columns = ["n_obs", "replicate", "error_x", "error_y", "held_out"]
    pd.testing.assert_frame_equal(
        resumed.sort_values(order)[columns].reset_index(drop=True),
        whole.sort_values(order)[columns].reset_index(drop=True),
    )


def test_nothing_is_run_again_that_a_file_holds(tmp_path, monkeypatch):
    phase_diagram(**SMALL, path=tmp_path / "runs.csv")
    monkeypatch.setattr("smalti.planning._phase._simulate", lambda *_: pytest.fail("ran again"))
    assert len(phase_diagram(**SMALL, path=tmp_path / "runs.csv").table) == 12


def test_a_file_may_hold_other_grids_and_they_do_not_mix(tmp_path):
    path, grid = tmp_path / "runs.csv", {**SMALL, "ratios": [6.0], "n_replicates": 1}
    first = phase_diagram(**grid, path=path).table
    other = phase_diagram(**grid, covariance="toeplitz", random_state=1, path=path).table
    assert (len(first), len(other), len(pd.read_csv(path))) == (1, 1, 2)
    assert other["covariance"].tolist() == ["toeplitz"]


def test_a_grid_without_points_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        phase_diagram(**{**SMALL, "ratios": [0.1]})


def test_the_order_and_number_of_jobs_do_not_change_a_point():
    one = phase_diagram(**SMALL).table
    two = phase_diagram(**SMALL, n_jobs=2, backend="threading").table
    pd.testing.assert_series_equal(one["error_x"], two["error_x"])


def test_all_estimators_run_and_deep_ones_are_judged_by_new_cells():
    methods = ("cca", "soft", "truncated", "truncated_unknown", "gated", "deep")
    grid = {**SMALL, "ratios": [20.0], "n_replicates": 1}
    runs = phase_diagram(methods=methods, **grid).runs().set_index("method")
    assert set(runs.index) == set(methods)
    assert np.isnan(runs.loc["deep", "error_x"])
    assert runs.loc["deep", "failed"] == (runs.loc["deep", "held_out"] < 0.9 * 0.9)
    assert runs.loc["truncated", "error_x"] < 0.1


def test_ray_is_asked_for_by_name_if_it_is_missing(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("ray"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install ray"):
        phase_diagram(**SMALL, backend="ray")


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_law_that_was_planted_collapses_the_curves(power):
    table = planted(power).collapse(n_boot=10)
    best = table.loc[table["cv"].idxmin()]
    assert best["variable"] == {1.0: "k log p", 2.0: "k^2 log p"}[power]
    assert best["constant"] == pytest.approx(5, rel=0.1)
    assert best["low"] < best["constant"] < best["high"]


def test_exponents_are_those_that_were_planted():
    fit = planted(1.0).exponents(n_boot=20).set_index("term")
    for term, value in {"k": 1.0, "log p": 1.0, "rho": -2.0}.items():
        assert fit.loc[term, "low"] - 0.1 < value < fit.loc[term, "high"] + 0.1


def test_another_limit_of_the_error_needs_no_new_runs():
    diagram = planted()
    strict = PhaseDiagram(table=diagram.table, delta=0.005)
    assert strict.failure()["failure"].min() == 1


def test_a_transition_outside_the_grid_is_not_made_up():
    table = planted().table.assign(error_x=1.0)
    assert PhaseDiagram(table=table).transitions()["n50"].isna().all()


def test_the_logistic_fit_finds_the_half_and_survives_runs_that_all_agree():
    rng = np.random.default_rng(0)
    x = np.repeat(np.linspace(-2, 2, 9), 200)
    failed = (rng.random(len(x)) < 1 / (1 + np.exp(3 * (x - 0.5)))).astype(float)
    half, slope = logistic(x, failed)
    assert half == pytest.approx(0.5, abs=0.1)
    assert slope == pytest.approx(3, rel=0.2)
    half, slope = logistic(x, (x < 0.2).astype(float))
    assert np.isfinite(slope)
    assert 0 < half < 0.5


def test_errors_are_zero_for_either_sign_and_two_for_nothing():
    vector = np.array([1.0, 2.0, 0.0])
    assert squared_error(-3 * vector, vector) == pytest.approx(0)
    assert squared_error(np.array([0.0, 0.0, 1.0]), vector) == pytest.approx(2)
    assert squared_error(np.zeros(3), vector) == 2


@pytest.mark.parametrize("bad", [{"methods": ["magic"]}, {"delta": 0.0}, {"backend": "slurm"}])
def test_what_does_not_exist_is_refused(bad):
    with pytest.raises(ValueError, match="Expected"):
        phase_diagram(**{**SMALL, **bad})
