"""Selectors find what was planted; the published forms do not."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.sparse as sp
from _planted import clusters, f1, factors, moons, mosaic, sparse_pair

from smalti import select, simulate
from smalti._mudata import no_pull

FAST = {"n_steps": 60}


def noise(n: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(99).standard_normal((n, d))


@pytest.mark.parametrize("n_nuisance", [50, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_both_moons_are_found_among_nuisance_and_not_by_the_published_form(seed: int, n_nuisance: int) -> None:
    mdata = mosaic(a=moons(300, n_nuisance, seed), b=noise(300))
    select.dufs(mdata, "a", random_state=seed)
    assert f1(mdata["a"].var["selected"].to_numpy(), np.arange(2)) == 1.0
    published = select.dufs(
        mdata,
        "a",
        random_state=seed,
        use_warm_start=False,
        use_prune=False,
        options={"project": False},
        write=False,
    )
    assert f1(published.tables["a"]["selected"].to_numpy(), np.arange(2)) <= 0.8


@pytest.mark.slow
def test_factors_are_found_in_small_batches() -> None:
    mdata = mosaic(a=factors(), b=noise(500))
    select.dufs(mdata, "a", options={"batch_size": 128, "n_steps": 400})
    assert f1(mdata["a"].var["selected"].to_numpy(), np.arange(30)) >= 0.98


def test_nothing_is_selected_where_there_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    mdata = mosaic(a=np.random.default_rng(3).standard_normal((300, 30)), b=noise(300))
    with caplog.at_level(logging.WARNING, logger="smalti"):
        select.dufs(mdata, "a", options={"n_steps": 300})
    assert not mdata["a"].var["selected"].any()
    assert "closed" in caplog.text
    assert "lower the price" in caplog.text


def test_shared_features_are_found_in_both_modalities_at_the_right_price() -> None:
    x, y = clusters(0)
    mdata = mosaic(x=x, y=y)
    select.mmdufs(mdata, lam=0.2, options={"batch_size": 256})
    assert f1(mdata["x"].var["selected"].to_numpy(), np.arange(30)) >= 0.95
    assert f1(mdata["y"].var["selected"].to_numpy(), np.arange(20)) >= 0.95


@pytest.mark.parametrize("n_noise", [30, 80])
def test_shared_features_are_found_by_default_however_much_noise_there_is(n_noise: int) -> None:
    x, y = clusters(0, n_noise)
    mdata = mosaic(x=x, y=y)
    found = select.mmdufs(mdata)
    assert f1(mdata["x"].var["selected"].to_numpy(), np.arange(30)) >= 0.95
    assert f1(mdata["y"].var["selected"].to_numpy(), np.arange(20)) >= 0.95
    assert (mdata["x"].var["dependence"].to_numpy()[:30] > 1).all()
    if n_noise == 80:  # the published start, half open everywhere, at the same price
        cold = select.mmdufs(mdata, lam=found.lam, use_warm_start=False, write=False)
        assert f1(cold.tables["x"]["selected"].to_numpy(), np.arange(30)) <= 0.8


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_modalities_share_nothing_no_feature_is_selected(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    x, y = clusters(seed)
    rng = np.random.default_rng(seed)
    mdata = mosaic(x=rng.permuted(x, axis=0), y=rng.permuted(y, axis=0))
    with caplog.at_level(logging.WARNING, logger="smalti"):
        found = select.mmdufs(mdata, random_state=seed)
    assert not any(table["selected"].any() for table in found.tables.values())
    assert "nothing is selected" in caplog.text


@pytest.mark.slow
def test_the_path_finds_the_price_of_shared_features_without_the_truth() -> None:
    x, y = clusters(1)
    mdata = mosaic(x=x, y=y)
    result = select.mmdufs(mdata, lam="path", use_warm_start=False)
    assert result.lam > result.lam_null > 0.05
    assert f1(mdata["x"].var["selected"].to_numpy(), np.arange(30)) >= 0.95
    assert f1(mdata["y"].var["selected"].to_numpy(), np.arange(20)) >= 0.95


@pytest.mark.slow
def test_features_of_one_modality_alone_are_told_from_shared_ones() -> None:
    x, y = clusters(0)
    mdata = mosaic(x=x, y=y)
    select.mmdufs(mdata, kind="differential")
    assert f1(mdata["x"].var["selected"].to_numpy(), np.arange(60, 100)) >= 0.95
    assert "selected" not in mdata["y"].var


def test_cells_without_a_modality_change_no_shared_feature() -> None:
    x, y = clusters(0)
    whole = mosaic(x=x, y=y)
    keep = np.ones((260, 2), dtype=bool)
    keep[::7, 1] = False
    part = simulate.drop(whole, keep)
    paired = simulate.drop(whole, keep & keep.all(axis=1, keepdims=True))
    a = select.mmdufs(part, lam=0.2, options=FAST, write=False)
    # features are standardised over all cells of a modality, so nearly but not exactly the same
    b = select.mmdufs(paired, lam=0.2, options=FAST, write=False)
    for name in ("x", "y"):
        assert np.corrcoef(a.tables[name]["gate_prob"], b.tables[name]["gate_prob"])[0, 1] > 0.95


def test_three_modalities_that_no_cell_has_together_are_selected_pair_by_pair() -> None:
    x, y = clusters(0)
    mdata = mosaic(x=x, y=y, z=x + 0.1)
    keep = np.ones((260, 3), dtype=bool)
    keep[np.arange(260), np.random.default_rng(0).integers(3, size=260)] = False
    # z repeats the noise of x as well, which a test of dependence would take for shared
    found = select.mmdufs(simulate.drop(mdata, keep), lam=0.15, use_warm_start=False, options=FAST, write=False)
    truth = np.arange(130) < 30
    p = found.tables["x"]["gate_prob"].to_numpy()
    assert p[truth].mean() > p[~truth].mean() + 0.02


def test_a_number_of_features_is_met_exactly_and_prefers_true_ones() -> None:
    mdata = mosaic(a=factors(300, 60), b=noise(300))
    select.dufs(mdata, "a", n_features=20, options={"n_steps": 200})
    selected = np.flatnonzero(mdata["a"].var["selected"])
    assert len(selected) == 20
    assert (selected < 30).all()


def test_stability_tells_true_features_from_chance() -> None:
    mdata = mosaic(a=factors(300, 40), b=noise(300))
    found = select.dufs(mdata, "a", stability=4, options={"n_steps": 300})
    share = found.tables["a"]["gate_stability"].to_numpy()
    assert (share >= 0).all()
    assert (share <= 1).all()
    assert share[:30].min() >= 0.75
    assert share[30:].mean() < 0.3


def test_groups_are_found_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 12, 30)
    codes = np.repeat(np.arange(30), sizes)
    x = rng.standard_normal((400, len(codes)))
    z = rng.standard_normal((400, 2))
    true = codes < 10
    x[:, true] = 0.7 * z[:, codes[true] % 2] + 0.7 * x[:, true]
    mdata = mosaic(a=x, b=noise(400))
    mdata["a"].var["gene"] = [f"g{c:02d}" for c in codes]
    found = select.group_fs(mdata, "a", groups="gene", options={"batch_size": 128, "n_steps": 200})
    assert f1(found.tables["a"]["selected"].to_numpy(), np.flatnonzero(true)) >= 0.95
    table = found.groups["a"]
    assert table["n_features"].sum() == len(codes)
    assert set(table.index[table["selected"]]) == {f"g{c:02d}" for c in range(10)}
    with pytest.raises(ValueError, match="either `groups`"):
        select.group_fs(mdata, "a")


@pytest.mark.slow
def test_a_tenth_of_300_groups_is_found_and_the_prune_does_it() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(300), rng.integers(3, 15, 300))
    x = rng.standard_normal((1000, len(codes)))
    true = codes < 30
    x[:, true] = 0.7 * rng.standard_normal((1000, 3))[:, codes[true] % 3] + 0.7 * x[:, true]
    mdata = mosaic(a=x, b=noise(1000))
    mdata["a"].var["gene"] = [f"g{c:03d}" for c in codes]
    found = select.group_fs(mdata, "a", groups="gene", write=False)
    assert f1(found.tables["a"]["selected"].to_numpy(), np.flatnonzero(true)) >= 0.95
    assert 0 < found.lam < 0.03, "groups in a high-dimensional graph earn little, a price of 0.1 closes all"
    plain = select.group_fs(mdata, "a", groups="gene", use_prune=False, write=False)
    assert f1(plain.tables["a"]["selected"].to_numpy(), np.flatnonzero(true)) <= 0.8


def test_learned_groups_are_those_of_the_factors() -> None:
    mdata = mosaic(a=factors(300, 0), b=noise(300))
    found = select.group_fs(mdata, "a", n_groups=3, lam=0.1, options=FAST)
    codes = found.tables["a"]["gate_group"].to_numpy()
    assert [len(set(codes[i : i + 10])) for i in (0, 10, 20)] == [1, 1, 1]
    assert len(set(codes)) == 3


@pytest.mark.parametrize("toeplitz", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_sparse_cca_finds_ten_of_1600_columns_and_fails_without_its_start(toeplitz: float) -> None:
    x, y, a, b = sparse_pair(d=400, toeplitz=toeplitz)
    mdata = mosaic(x=x, y=y)
    found = select.sparse_cca(mdata, lam=0.01, n_steps=600)
    for name, truth in (("x", a), ("y", b)):
        assert f1(mdata[name].var["selected"].to_numpy(), np.flatnonzero(truth)) == 1.0
        w = mdata[name].var["weight"].to_numpy() / mdata[name].X.std(axis=0)  # from standardised to raw columns
        assert 2 * (1 - abs(w @ truth) / np.linalg.norm(w) / np.linalg.norm(truth)) <= 0.01
    assert found.info["correlation"] > 0.85
    cold = select.sparse_cca(mdata, lam=0.01, n_steps=600, use_warm_start=False, write=False)
    assert f1(cold.tables["x"]["selected"].to_numpy(), np.flatnonzero(a)) <= 0.2


@pytest.mark.parametrize("cached", [True, False])
def test_a_second_canonical_pair_is_found_in_what_the_first_leaves(cached: bool, monkeypatch) -> None:
    if not cached:
        monkeypatch.setattr("smalti.select._values.CACHE_VALUES", 0)
    x, y, a, b = sparse_pair(n=300, d=100, rho=0.9, seed=0)
    other_x, other_y, c, d = sparse_pair(n=300, d=100, rho=0.8, seed=1)
    mdata = mosaic(x=np.hstack([x, other_x]), y=np.hstack([y, other_y]))
    found = select.sparse_cca(mdata, n_components=2, n_steps=400)
    for name, first, second in (("x", a, c), ("y", b, d)):
        component = mdata[name].var["component"].to_numpy()
        assert f1(component == 1, np.flatnonzero(first)) >= 0.9
        assert f1(component == 2, 100 + np.flatnonzero(second)) >= 0.9
        assert ((component > 0) == mdata[name].var["selected"].to_numpy()).all()
    one, two = found.info["correlation"]
    assert 0.95 > one > two > 0.7
    assert mdata["x"].uns["gates"]["correlation"] == found.info["correlation"]
    alone = select.sparse_cca(mdata, n_steps=400, write=False)
    assert f1(alone.tables["x"]["selected"].to_numpy(), np.flatnonzero(a)) >= 0.9


def test_sparse_deep_cca_finds_the_same_columns_in_small_batches() -> None:
    x, y, a, b = sparse_pair(d=200)
    mdata = mosaic(x=x, y=y)
    select.sparse_dcca(mdata, lam=0.01, n_steps=400, batch_size=64)
    assert f1(mdata["x"].var["selected"].to_numpy(), np.flatnonzero(a)) >= 0.9
    assert f1(mdata["y"].var["selected"].to_numpy(), np.flatnonzero(b)) >= 0.9
    with pytest.raises(ValueError, match="at least 100"):
        select.sparse_dcca(mdata, n_components=10, batch_size=64)


def test_sparse_counts_and_their_dense_copy_give_the_same_selection() -> None:
    mdata = simulate.factor_views(200, n_features={"a": 40, "b": 30}, likelihood="nb", depth=300)
    with no_pull():
        dense = mdata.copy()
    dense["a"].X = dense["a"].X.toarray()
    mdata["a"].X = sp.csc_matrix(mdata["a"].X)
    first = select.dufs(mdata, "a", options=FAST, write=False)
    second = select.dufs(dense, "a", options=FAST, write=False)
    assert np.allclose(first.tables["a"]["gate_prob"], second.tables["a"]["gate_prob"], atol=1e-3)


def test_the_unit_of_a_feature_does_not_matter() -> None:
    x = factors(200, 20)
    a = select.dufs(mosaic(a=x, b=noise(200)), "a", options=FAST, write=False)
    scaled = x * np.random.default_rng(0).uniform(0.01, 100, x.shape[1])
    b = select.dufs(mosaic(a=scaled, b=noise(200)), "a", options=FAST, write=False)
    assert np.allclose(a.tables["a"]["gate_prob"], b.tables["a"]["gate_prob"], atol=1e-2)


def test_landmarks_bring_rare_states_into_every_batch() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 12))
    rare = rng.choice(1500, 15, replace=False)
    x[np.ix_(rare, np.arange(4))] += 8
    mdata = mosaic(a=x, b=noise(1500))
    from smalti.select._common import landmark_codes
    from smalti.select._engine import _stratified
    from smalti.select._values import Values

    values = Values(mdata, "a")
    codes = landmark_codes(values, np.arange(1500), 30, 0)
    share = []
    for seed in range(10):
        cells, weight = _stratified(codes, 128, np.random.default_rng(seed))
        share.append(np.isin(cells, rare).mean())
        assert np.isclose(weight.mean(), 1)
        assert len(set(cells.tolist())) == 128
    assert min(share) > 0.01
    assert np.mean(share) > 2 * 15 / 1500
    select.dufs(mdata, "a", landmarks=30, options={"batch_size": 128, **FAST})


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_as_many_features_are_supported_as_there_are_true_ones_and_keeping_more_is_warned_of(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    mdata = mosaic(a=factors(400, 170, seed), b=noise(400))
    with caplog.at_level(logging.WARNING, logger="smalti"):
        found = select.dufs(mdata, "a", n_features=80, options=FAST, random_state=seed)
    table = found.tables["a"]
    assert table["selected"].sum() == 80
    assert table["supported"].to_numpy()[:30].all()
    assert table["supported"].to_numpy()[30:].sum() <= 3
    assert found.n_supported["a"] == table["supported"].sum() == mdata["a"].uns["gates"]["n_supported"]
    assert "80 features of modality 'a' are selected, but only 3" in caplog.text
    assert "n_features" in caplog.text
    assert f"({found.n_supported['a']} supported)" in repr(found)


def test_shared_features_are_supported_by_the_other_modality_and_private_ones_are_not(caplog) -> None:
    x, y = clusters(0)
    with caplog.at_level(logging.WARNING, logger="smalti"):
        found = select.mmdufs(mosaic(x=x, y=y), lam=0.2, options={"batch_size": 256}, write=False)
    assert found.tables["x"]["supported"].to_numpy()[:30].all()
    assert found.tables["x"]["supported"].to_numpy()[100:].sum() <= 2
    assert "told from permuted" not in caplog.text


def test_of_noise_nothing_is_supported() -> None:
    mdata = mosaic(a=np.random.default_rng(0).standard_normal((300, 60)), b=noise(300))
    for seed in range(3):
        found = select.dufs(mdata, "a", n_features=20, options={"n_steps": 20}, random_state=seed, write=False)
        assert found.n_supported["a"] <= 1


@pytest.mark.parametrize("kind", ["random", "landmarks"])
def test_graphs_of_batches_and_landmarks_rank_features_as_the_graph_of_all_cells(kind: str) -> None:
    import torch

    from smalti.select._common import landmark_codes
    from smalti.select._dufs import DUFSProblem
    from smalti.select._engine import SelectOptions
    from smalti.select._values import Values

    x = factors(1200, 10)
    x[:, :30] *= np.linspace(0.2, 1, 30)  # from faint to strong
    x[:, :30] += np.random.default_rng(1).standard_normal((1200, 30)) * 0.3
    values = Values(mosaic(a=x, b=noise(1200)), "a")

    def earned(size: int, n_batches: int, strata: np.ndarray | None) -> np.ndarray:
        options = SelectOptions(batch_size=size, n_neighbors=10)
        problem = DUFSProblem({"a": values}, np.arange(1200)[:, None], options, strata)
        z, rng = torch.ones(40, requires_grad=True), np.random.default_rng(0)
        for _ in range(n_batches):
            drawn, weight = problem.draw(rng)
            problem.score(drawn, {"a": z}, weight).backward()
        return (z.grad / n_batches).numpy()

    strata = landmark_codes(values, np.arange(1200), 40, 0) if kind == "landmarks" else None
    exact, found = earned(1200, 1, None), earned(256, 12, strata)
    assert np.corrcoef(exact, found)[0, 1] > 0.9
    assert found[30:].max() < np.sort(found[:30])[10]


def test_the_result_says_which_cells_graphs_were_drawn_of() -> None:
    mdata = mosaic(a=factors(300, 10), b=noise(300))
    few = select.dufs(mdata, "a", options=FAST, write=False)
    many = select.dufs(mdata, "a", landmarks=5, options={"batch_size": 64, **FAST})
    assert "graphs of all 300 cells" in repr(few)
    assert "batches of 64 of 300 cells, spread over 5 landmarks" in repr(many)
    assert mdata["a"].uns["gates"]["graph"] == many.info["graph"]


def test_constant_and_dropped_features_are_written_as_not_selected() -> None:
    x = factors(200, 20)
    x[:, 5] = 3.0
    mdata = mosaic(a=x, b=noise(200))
    select.dufs(mdata, "a", n_top=40, options=FAST)
    var = mdata["a"].var
    assert var["selected"].dtype == bool
    assert not var["selected"].iloc[5]
    assert var["gate_prob"].iloc[5] == 0
    assert {"path", "open_along_path", "lam"} <= set(mdata["a"].uns["gates"])
    agreement = select.hvg_agreement(mdata, "a")
    assert 0 <= agreement["jaccard"] <= 1


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    mdata = mosaic(a=factors(100, 5), b=noise(100))
    with pytest.raises(KeyError, match="rna"):
        select.dufs(mdata, "rna")
    with pytest.raises(ValueError, match="two modalities"):
        select.mmdufs(mdata, ["a"])
    keep = np.ones((100, 2), dtype=bool)
    keep[:50, 0], keep[50:, 1] = False, False
    with pytest.raises(ValueError, match="At least 10|at least 10 cells"):
        select.mmdufs(simulate.drop(mdata, keep))
