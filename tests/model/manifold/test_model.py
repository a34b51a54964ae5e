"""OverlapManifold recovers a square of which devices see parts, and says where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from smalti import simulate
from smalti.metrics import stress
from smalti.model import ManifoldWeights, OverlapManifold

QUICK = {"progress": False, "accelerator": "cpu"}


def build(mdata, **changes):
    OverlapManifold.setup_mudata(mdata)
    arguments = {"bursts": "given", "burst_key": "burst", "options": {"burst_scale": 0.02}}
    return OverlapManifold(mdata, **(arguments | changes))


@pytest.fixture(scope="module")
def fitted():
    mdata = simulate.overlap_charts(300, n_burst=20)
    model = build(mdata)
    model.train(20, **QUICK)
    return model, mdata


def test_charts_that_share_no_cell_are_refused_with_their_groups() -> None:
    mdata = simulate.overlap_charts(200, n_burst=6, n_shared=0)
    with pytest.raises(ValueError, match="no cell links these groups: 'cubic'; 'sphere'"):
        build(mdata).train(1, **QUICK)
    apart = build(mdata, weights=ManifoldWeights(registration=0))
    apart.train(1, **QUICK)
    assert apart.placements_ is None


@pytest.mark.parametrize(("n", "said"), [(2, "do not fix"), (10, "are few: 20 are safe")])
def test_few_co_observed_cells_are_said_to_be_few(n, said, caplog) -> None:
    mdata = simulate.overlap_charts(150, n_burst=6, n_shared=n)
    build(mdata, registration="rigid").train(2, **QUICK)
    assert said in caplog.text


def test_tables_and_columns_hold_what_they_say(fitted) -> None:
    model, mdata = fitted
    model.write_charts(mdata)
    table = model.registration_table()
    assert table["n"].max() == (mdata.obs["loca_n_devices"] == 2).sum()
    assert (table["family"] == "reference").sum() == 1
    assert mdata.obs["loca_spread"].notna().sum() == table["n"].max()
    assert mdata.obs["loca_white"].notna().all()
    assert mdata.uns["loca"]["white"].shape == (2,)
    np.testing.assert_array_equal(mdata.obsm["X_loca"], model.get_latent_representation())


def test_coordinates_of_a_cell_are_the_mean_of_its_registered_charts(fitted) -> None:
    model, mdata = fitted
    each = np.stack([model.get_latent_representation(modality=name) for name in mdata.mod])
    np.testing.assert_allclose(model.get_latent_representation(), np.nanmean(each, axis=0), atol=1e-5)


def test_new_cells_far_from_all_are_flagged(fitted) -> None:
    model, mdata = fitted
    new = simulate.overlap_charts(200, n_burst=5, random_state=5)
    assert model.chart_table(new)["far"].mean() < 0.1
    for adata in new.mod.values():
        adata.X = adata.X + 5
    assert model.chart_table(new)["far"].all()


def test_bursts_by_a_column_of_states_are_those_of_replicates() -> None:
    mdata = simulate.overlap_charts(120, n_burst=5)
    mdata.obs["state"] = np.arange(120) // 6
    model = build(mdata, burst_key="state")
    model.train(1, **QUICK)
    bursts = model.module.bursts["cubic"]
    assert (bursts.members[0] == bursts.members[5]).all()


def test_thinning_is_refused_across_different_features() -> None:
    mdata = simulate.factor_views(80, n_features={"a": 12, "b": 9}, likelihood="nb")
    with pytest.raises(ValueError, match="different features"):
        build(mdata, bursts="thinning", burst_key=None).train(1, **QUICK)


def test_thinning_warns_of_low_counts_and_refuses_reals(caplog) -> None:
    from smalti._mudata import build_mudata

    for likelihood in ("nb", "gaussian"):
        mdata = simulate.factor_views(80, n_features={"a": 12, "b": 12}, likelihood=likelihood, depth=30)
        for adata in mdata.mod.values():
            adata.var_names = [f"g{i}" for i in range(12)]
        mdata = build_mudata(dict(mdata.mod))
        model = build(mdata, bursts="thinning", burst_key=None, options={"n_burst": 5})
        if likelihood == "gaussian":
            with pytest.raises(ValueError, match="Thinning needs counts"):
                model.train(1, **QUICK)
        else:
            model.train(1, **QUICK)
            assert "below 10" in caplog.text


def test_given_bursts_need_a_key_that_exists() -> None:
    mdata = simulate.overlap_charts(60, n_burst=5)
    with pytest.raises(ValueError, match="needs `burst_key`"):
        build(mdata, burst_key=None).train(1, **QUICK)
    with pytest.raises(KeyError, match="'nothing' not found"):
        build(mdata, burst_key="nothing").train(1, **QUICK)


@pytest.mark.slow
def test_the_square_is_recovered_from_three_co_observed_states() -> None:
    mdata = simulate.overlap_charts(600, n_shared=20)
    model = build(mdata)
    model.train(**QUICK)
    assert stress(model.get_latent_representation(), mdata.obsm["truth"]) < 0.01
    assert model.registration_table()["scale"].dropna().between(0.9, 1.1).all()


def test_decoding_is_kept_to_the_part_that_a_modality_saw(fitted) -> None:
    model, mdata = fitted
    truth = mdata.obsm["truth"]
    found = model.decode("cubic", keep_outside=True)
    seen = np.isfinite(model.get_latent_representation(modality="cubic")[:, 0])  # below 0.6
    assert found["covered"][seen].mean() > 0.95
    assert found["covered"][truth[:, 0] > 0.8].mean() < 0.3
    assert np.isfinite(found.to_numpy(float)).all()
    missing = model.decode("cubic", indices=~seen)
    assert (missing.isna().any(axis=1) == ~missing["covered"]).all()
    x = model.cell_components()
    error = found.iloc[:, 1:].to_numpy()[seen] - x.values["cubic"][x.maps["cubic"][seen]]
    assert np.square(error).mean() < 0.5 * x.values["cubic"].var(axis=0).mean()
    with pytest.raises(ValueError, match="nothing"):
        model.decode("nothing")
