from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smalti.planning import learning_curve, phase_diagram, sample_size
from smalti.planning._learning import summarise
from smalti.planning._pilot import CONSTANT, CONSTANT_SPREAD, POWER_FACTOR, components, formula, pilot_values
from smalti.planning._sample_size import plan_from_curve
from smalti.simulate import factor_views, shuffle_pairs, sparse_cca


def table_of(function, *, noise=0.01, sizes=(40, 80, 160, 320, 640), draws=8, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "n": n,
            "draw": d,
            "score": function(n) * (1 + noise * rng.standard_normal()),
            "cell_variance": 1e-4,
            "n_test": 160,
        }
        for d in range(draws)
        for n in sizes
    ]
    return pd.DataFrame(rows)


def plan(function, goal, **kwargs):
    return plan_from_curve(table_of(function, **kwargs), n_now=800, target="foscttm", goal=goal)


def test_the_answer_is_where_the_curve_meets_the_goal_and_says_so_in_one_sentence():
    found = plan(lambda n: n**-0.5, 1500**-0.5)
    assert found.status == "ok"
    assert found.interval[0] < 1500 < found.interval[1]
    assert found.n_required == pytest.approx(1500, rel=0.25)
    assert found.sentence.startswith("About 1,")
    assert "90 % interval" in found.sentence
    assert "you have 800" in found.sentence
    assert "\n" not in found.sentence


def test_a_goal_that_the_pilot_meets_is_reached():
    found = plan(lambda n: n**-0.5, 200**-0.5)
    assert found.status == "reached"
    assert "are enough" in found.sentence


def test_a_goal_far_beyond_the_pilot_is_not_extrapolated_to():
    found = plan(lambda n: n**-0.5, 60_000**-0.5)
    assert found.status == "far"
    assert not found.can_extrapolate
    assert found.sentence.startswith("Cannot extrapolate")


def test_a_curve_that_does_not_improve_is_said_not_to():
    found = plan(lambda n: 0.2, 0.1, noise=0.05)
    assert found.status == "flat"
    assert "does not improve" in found.sentence


def test_a_score_that_falls_ever_faster_is_not_extrapolated_until_it_is_near_its_best():
    def rise(n):
        return 0.5 / (1 + (n / 600) ** 1.5)

    early = plan(rise, 0.1, sizes=(260, 330, 420, 520, 650, 800))
    assert early.status == "rise"
    assert not early.can_extrapolate
    assert "faster and faster" in early.sentence
    assert plan(rise, 0.02, sizes=(1200, 1800, 2700, 4000)).status in ("ok", "far")
    assert plan(lambda n: 0.15 + 2 * n**-0.7, 0.16, noise=0.02).status in ("ok", "far")


def test_sizes_that_are_near_chance_are_left_out_of_the_fit():
    def start(n):
        return 0.45 if n < 100 else 1.8 * n**-0.5

    points = plan(start, 0.05).points.set_index("n")["used"]
    assert not points[40]
    assert points[640]


def test_the_effect_of_the_test_cells_of_a_draw_is_no_noise_of_the_shape():
    quiet = table_of(lambda n: n**-0.5, noise=0.002)
    shifted = quiet.assign(score=quiet["score"] * quiet["draw"].map(lambda d: 1 + 0.05 * d))
    np.testing.assert_allclose(summarise(shifted, 800)["error"], summarise(quiet, 800)["error"], atol=1e-9)


def test_the_learning_curve_falls_where_there_is_something_to_learn():
    mdata = factor_views(400, n_features=(60, 60), n_shared=4, n_private=2)
    curve = learning_curve(mdata, sizes=[30, 300], n_draws=2).groupby("n")["score"].mean()
    assert curve[300] < curve[30]


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("vary", ["cells", "pairs"])
def test_no_library_is_made_to_warn(vary):
    mdata = factor_views(150, n_shared=2, n_private=1, random_state=0)
    assert len(learning_curve(mdata, sizes=[60, 100], n_draws=2, vary=vary)) == 4
    phase_diagram(
        methods=("gated",), n_features=(15,), n_active=(2,), correlations=(0.9,), ratios=(5.0,), n_replicates=1
    )


def test_unpaired_cells_stay_when_pairs_vary():
    mdata = factor_views(150, n_features=(30, 30), n_shared=3)
    seen = {}

    def fit(train):
        both = np.column_stack([train.obsm[m] for m in train.mod]).all(axis=1).sum()
        seen[int(both)] = train.n_obs
        return lambda cells: {m: np.asarray(cells[m].X) for m in cells.mod}

    learning_curve(mdata, vary="pairs", sizes=[40, 120], n_draws=1, fit=fit)
    assert seen == {40: 40 + 2 * 80, 120: 120}
    seen.clear()
    learning_curve(mdata, vary="cells", sizes=[40, 120], n_draws=1, fit=fit)
    assert seen == {40: 40, 120: 120}


def test_training_and_test_cells_are_disjoint():
    mdata, trained = factor_views(100, n_features=(20, 20)), set()

    def fit(train):
        trained.update(train.obs_names)

        def embed(cells):
            assert not trained & set(cells.obs_names)
            return {m: np.asarray(cells[m].X) for m in cells.mod}

        return embed

    learning_curve(mdata, sizes=[80], n_draws=1, fit=fit)


def test_components_are_as_many_as_were_planted_and_their_correlations_hold():
    mdata = sparse_cca(900, n_features=(60, 50), n_active=3, correlations=[0.9, 0.6])
    pilot = pilot_values(mdata, ["x", "y"], np.arange(900), batch_key=None, seed=0)
    found = components(pilot)
    assert len(found) == 2
    for planted, row in zip((0.9, 0.6), found.itertuples(), strict=True):
        assert row.low < planted < row.high + 0.05
        assert row.k == pytest.approx(3, abs=1.5)
    assert found["reliability_x"].isna().all()


def test_noise_of_counts_is_seen_and_the_correlation_without_it_is_higher():
    mdata = sparse_cca(1500, n_features=(40, 40), n_active=3, correlations=0.95, observed="poisson", depth=300.0)
    found = components(pilot_values(mdata, ["x", "y"], np.arange(1500), batch_key=None, seed=0), n_max=1)
    assert 0.1 < found.loc[1, "reliability_x"] < 0.95
    assert found.loc[1, "correlation_deep"] > found.loc[1, "correlation"] + 0.05


def test_the_formula_is_proportional_to_k_log_p_over_rho_squared():
    table = pd.DataFrame(
        {"correlation": [0.5], "low": [0.4], "high": [0.6], "k": [4.0], "k_low": [3.0], "k_high": [5.0]}
    )
    row = formula(table.assign(log_p=np.log(100))).loc[0]
    assert row["n"] == pytest.approx(POWER_FACTOR * CONSTANT * 4 * np.log(100) / 0.25)
    assert row["low"] < row["n"] / CONSTANT_SPREAD
    assert row["high"] > row["n"] * CONSTANT_SPREAD


def test_shuffled_pairs_have_no_component_and_no_number():
    mdata = shuffle_pairs(factor_views(200, n_features=(50, 40), n_shared=4), "b", random_state=1)
    found = sample_size(mdata, n_draws=1)
    assert found.status == "useless"
    assert np.isnan(found.n_required)
    assert "no shared component" in found.sentence
    with pytest.raises(ValueError, match="no shared signal"):
        found.predict(100)


def test_a_pilot_gives_a_sentence_with_a_goal_a_number_and_an_interval():
    mdata = factor_views(300, n_features=(60, 40), n_shared=4, n_private=3)
    found = sample_size(mdata, goal=0.025, sizes=[40, 70, 120, 240], n_draws=4)
    assert "you have 300" in found.sentence
    assert ("FOSCTTM under 0.025" in found.sentence) == (found.status != "flat")
    assert "component 1" in repr(found)
    assert len(found.curve) == 16
    low, middle, high = found.predict(600)
    assert low < middle < high


def test_other_modalities_are_ignored_and_two_must_be_named():
    mdata = factor_views(80, n_features={"a": 20, "b": 20, "c": 10})
    with pytest.raises(ValueError, match="two modalities"):
        learning_curve(mdata)
    assert len(learning_curve(mdata, modalities=["a", "c"], sizes=[60], n_draws=1)) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "speed"}, ValueError, "target"),
        ({"target": "labels"}, ValueError, "labels_key"),
        ({"sizes": [79]}, ValueError, "at most 64"),
        ({"batch_key": "donor"}, KeyError, "donor"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        learning_curve(factor_views(80, n_features=(20, 20)), **arguments)


def test_a_pilot_of_a_handful_is_refused():
    with pytest.raises(ValueError, match="at least 30"):
        sample_size(factor_views(20, n_features=(10, 10)))
