from __future__ import annotations

import numpy as np
import pytest
from _intersim import GENE_OF_CPG, GENE_OF_PROTEIN, NAMES, make_parameters
from scipy.special import logit
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from smalti.data import presence
from smalti.simulate import InterSIMParameters, intersim


def real(mdata):
    """Values on the scale on which they are normal."""
    return {name: logit(adata.X.astype(float)) if name == NAMES[0] else adata.X for name, adata in mdata.mod.items()}


def shifted(mdata):
    return [mdata[name].varm["shifted"].to_numpy() for name in NAMES]


def base_means(p, *, r, q):
    expression = r * p.methyl_gene_level_mean + np.sqrt(1 - r**2) * p.mean_expr
    protein = q * p.mean_expr[GENE_OF_PROTEIN] + np.sqrt(1 - q**2) * p.mean_protein
    return dict(zip(NAMES, (p.mean_M, expression, protein), strict=True))


def test_every_sample_is_in_all_modalities_and_values_are_dense():
    mdata = intersim(make_parameters(), 40)
    assert presence(mdata).all()
    assert {name: adata.shape for name, adata in mdata.mod.items()} == dict(
        zip(NAMES, [(40, 10), (40, 6), (40, 7)], strict=True)
    )
    for adata in mdata.mod.values():
        assert isinstance(adata.X, np.ndarray)
        assert adata.X.dtype == np.float32
    assert mdata["methylation"].X.min() > 0
    assert mdata["methylation"].X.max() < 1
    assert mdata["protein"].var["gene"].tolist() == [f"g{i}" for i in GENE_OF_PROTEIN]


def test_beta_values_stay_inside_the_unit_interval_however_large_the_shift():
    x = intersim(make_parameters(), 50, delta=200.0, p_shift=1.0)["methylation"].X
    assert x.max() < 1
    assert np.isfinite(logit(x)).all()


def test_means_of_clusters_are_those_of_the_formula():
    """Nearly without noise, so that single means are seen."""
    p = make_parameters(scale=1e-8)
    delta = {"methylation": 1.5, "expression": -0.7, "protein": 0.3}
    mdata = intersim(p, 60, delta=delta, p_shift=0.4)
    base = base_means(p, r=p.rho_methyl_expr, q=p.rho_expr_protein)
    label = mdata.obs["cluster"].cat.codes.to_numpy()
    for name, x in real(mdata).items():
        adata = mdata[name]
        np.testing.assert_allclose(adata.var["mean"], base[name])
        expected = base[name] + delta[name] * adata.varm["shifted"].to_numpy().T[label]
        np.testing.assert_allclose(x, expected, atol=2e-3)


@pytest.mark.parametrize("silent", ["expression", "protein"])
def test_a_shift_of_exactly_zero_sets_the_correlation_of_that_modality_to_zero(silent):
    p = make_parameters()
    mdata = intersim(p, 20, delta=dict.fromkeys(NAMES, 1.0) | {silent: 0.0})
    base = base_means(p, r=p.rho_methyl_expr * (silent != "expression"), q=p.rho_expr_protein * (silent != "protein"))
    for name in NAMES:
        np.testing.assert_allclose(mdata[name].var["mean"], base[name])
    assert mdata[silent].varm["shifted"].to_numpy().any()  # the truth says which would be shifted


def test_correlations_can_be_given_for_all_or_one_by_one():
    p = make_parameters()
    q = np.linspace(-1, 1, 7)
    mdata = intersim(p, 20, rho_methylation_expression=0.5, rho_expression_protein=q)
    base = base_means(p, r=0.5, q=q)
    for name in NAMES:
        np.testing.assert_allclose(mdata[name].var["mean"], base[name])


@pytest.mark.parametrize("kind", ["full", "independent"])
def test_covariance_within_clusters_is_that_of_the_parameters(kind):
    p = make_parameters()
    n = 20_000
    mdata = intersim(p, n, covariance=kind)
    label = mdata.obs["cluster"].cat.codes.to_numpy()
    for (name, x), sigma in zip(real(mdata).items(), (p.cov_M, p.cov_expr, p.cov_protein), strict=True):
        center = np.vstack([x[label == k].mean(0) for k in range(3)])
        found = np.cov((x - center[label]).T)
        expected = sigma if kind == "full" else np.diag(np.diag(sigma))
        spread = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)  # of a covariance
        assert (np.abs(found - expected) < 5 * spread).all(), name


def test_covariance_may_differ_between_modalities():
    p = make_parameters()
    full, mixed = intersim(p, 30), intersim(p, 30, covariance=dict.fromkeys(NAMES, "full") | {"protein": "independent"})
    np.testing.assert_array_equal(full["expression"].X, mixed["expression"].X)
    assert not np.allclose(full["protein"].X, mixed["protein"].X)


def test_a_gene_is_shifted_where_one_of_its_cpgs_is_and_a_protein_where_its_gene_is():
    cpgs, genes, proteins = shifted(intersim(make_parameters(), 100, proportions=[0.05] * 20))
    for g in range(6):
        np.testing.assert_array_equal(genes[g], cpgs[GENE_OF_CPG == g].any(0))
    np.testing.assert_array_equal(proteins, genes[GENE_OF_PROTEIN])
    assert 0 < genes.mean() < 1


def test_genes_and_proteins_can_be_shifted_on_their_own():
    p = make_parameters()
    cpgs, genes, proteins = shifted(intersim(p, 400, proportions=[0.005] * 200, p_shift=0.0, p_shift_expression=0.3))
    assert not cpgs.any()
    assert genes.mean() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(proteins, genes[GENE_OF_PROTEIN])
    _, genes, proteins = shifted(intersim(p, 400, proportions=[0.005] * 200, p_shift=0.0, p_shift_protein=0.6))
    assert not genes.any()
    assert proteins.mean() == pytest.approx(0.6, abs=0.05)


def test_each_cluster_has_a_random_set_of_cpgs_of_its_own():
    cpgs, *_ = shifted(intersim(make_parameters(), 3000, proportions=[0.001] * 1000, p_shift=0.2))
    assert cpgs.mean() == pytest.approx(0.2, abs=0.02)
    both = (cpgs[:, ::2] & cpgs[:, 1::2]).mean()
    assert both == pytest.approx(0.04, abs=0.015)


@pytest.mark.parametrize(
    ("n_obs", "proportions", "sizes"),
    [
        (500, (0.3, 0.3, 0.4), [150, 150, 200]),
        (10, (0.25, 0.35, 0.4), [2, 4, 4]),  # 2.5 and 3.5: halves to the even number, the last gets the rest
        (7, (1 / 3, 1 / 3, 1 / 3), [2, 2, 3]),
        (100, [0.1] * 10, [10] * 10),  # do not sum to 1 exactly
    ],
)
def test_sizes_of_clusters_are_rounded_and_the_last_gets_the_rest(n_obs, proportions, sizes):
    label = intersim(make_parameters(), n_obs, proportions=proportions).obs["cluster"]
    assert label.value_counts(sort=False).tolist() == sizes
    assert label.cat.codes.is_monotonic_increasing is False  # shuffled


def test_given_the_cluster_the_modalities_are_independent():
    mdata = intersim(make_parameters(), 9000)
    label = mdata.obs["cluster"].cat.codes.to_numpy()
    within = []
    for x in real(mdata).values():
        x = x - np.vstack([x[label == k].mean(0) for k in range(3)])[label]
        within.append(x / x.std(0))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(within[i].T @ within[j] / 9000).max() < 4.5 / np.sqrt(9000)


def test_the_seed_decides_and_each_modality_has_a_stream_of_its_own():
    p = make_parameters()
    one, two, other = intersim(p, 50, random_state=1), intersim(p, 50, random_state=1), intersim(p, 50, random_state=2)
    moved = intersim(p, 50, delta={"methylation": 0.1, "expression": 2.0, "protein": 2.0}, random_state=1)
    for name in NAMES:
        np.testing.assert_array_equal(one[name].X, two[name].X)
        assert not np.allclose(one[name].X, other[name].X)
    assert one.obs["cluster"].tolist() == two.obs["cluster"].tolist()
    np.testing.assert_array_equal(one["protein"].X, moved["protein"].X)
    drawn = intersim(p, 50, p_shift_expression=0.5, random_state=1)
    noise = [m["expression"].X - 2 * m["expression"].varm["shifted"].to_numpy().T[m.obs["cluster"].cat.codes]
             for m in (one, drawn)]  # fmt: skip
    np.testing.assert_allclose(*noise, atol=1e-5)


def test_modalities_are_named_by_the_caller():
    p = make_parameters()
    mdata = intersim(p, 30, modalities=("m", "x", "y"), delta={"x": 1, "y": 2, "m": 3})
    assert list(mdata.mod) == ["m", "x", "y"]
    np.testing.assert_array_equal(
        mdata["y"].X, intersim(p, 30, delta=dict(zip(NAMES, (3, 1, 2), strict=True)))["protein"].X
    )


def test_features_that_share_a_name_with_a_gene_say_their_modality():
    names = np.array(["g0", *(f"p{i}" for i in range(1, 7))])
    mdata = intersim(make_parameters(protein_names=names), 20)
    assert mdata["protein"].var_names[:2].tolist() == ["protein:g0", "p1"]
    assert mdata["expression"].var_names[0] == "g0"
    assert mdata.var_names.is_unique


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 0}, "n_obs"),
        ({"proportions": (0.5, 0.6)}, "`proportions` .* sum to 1, found 0.5, 0.6"),
        ({"proportions": (1.0,)}, "at least two"),
        ({"n_obs": 3, "proportions": [0.1] * 10}, "sizes of clusters"),
        ({"delta": np.inf}, "`delta` of modality 'methylation'.*inf"),
        ({"p_shift": 1.2}, "p_shift"),
        ({"p_shift_protein": -1}, "p_shift_protein"),
        ({"covariance": "indep"}, "covariance of modality 'methylation'.*'independent'"),
        ({"rho_methylation_expression": [0.1, 0.2]}, r"one number or 6, found shape \(2,\)"),
        ({"rho_expression_protein": 1.1}, "rho_expression_protein"),
        ({"modalities": ("a", "b")}, "found 2 names"),
        ({"modalities": ("a", "b", "a")}, "'a' occur more than once"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        intersim(make_parameters(), **arguments)


# The R program, averages over 20 runs of 500 samples: mean, sd and quantiles 1, 5, 25, 50, 75, 95, 99 %.
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
REFERENCE = {
    0.0: {
        "methylation": (0.213, 0.296, 0.005, 0.010, 0.027, 0.058, 0.256, 0.895, 0.961),
        "expression": (-0.220, 1.340, -3.72, -2.31, -1.02, -0.25, 0.54, 2.05, 3.34),
        "protein": (0.023, 0.561, -1.54, -0.82, -0.24, 0.01, 0.27, 0.88, 1.68),
    },
    0.5: {
        "methylation": (0.222, 0.299, 0.005, 0.011, 0.030, 0.065, 0.279, 0.904, 0.966),
        "expression": (0.165, 1.429, -3.50, -2.08, -0.70, 0.13, 1.00, 2.59, 3.95),
        "protein": (0.145, 0.799, -1.86, -1.07, -0.28, 0.11, 0.54, 1.46, 2.55),
    },
    2.0: {
        "methylation": (0.256, 0.312, 0.005, 0.011, 0.033, 0.087, 0.391, 0.931, 0.986),
        "expression": (0.752, 1.748, -3.27, -1.89, -0.43, 0.63, 1.88, 3.77, 5.18),
        "protein": (0.730, 1.262, -1.75, -0.97, -0.19, 0.36, 1.80, 2.77, 3.84),
    },
}


@pytest.mark.parametrize("delta", REFERENCE)
def test_real_parameters_give_the_numbers_of_the_original_program(delta, data_dir):
    """Ten runs against twenty: a difference of means has sd(run) * sqrt(1/10 + 1/20); four of these are allowed."""
    p = InterSIMParameters.load(data_dir / "intersim.npz")
    runs = [intersim(p, 500, delta=delta, random_state=seed) for seed in range(10)]
    rounding = dict(zip(NAMES, (0.001, 0.01, 0.01), strict=True))
    for name in NAMES:
        values = [m[name].X for m in runs]
        found = np.array([(x.mean(), x.std(), *np.quantile(x, LEVELS)) for x in values])
        spread = found.std(0, ddof=1) * np.sqrt(1 / 10 + 1 / 20)
        off = np.abs(found.mean(0) - REFERENCE[delta][name])
        assert (off <= 4 * spread + rounding[name]).all(), (name, off, spread)


def test_real_parameters_shift_as_many_features_as_expected(data_dir):
    p = InterSIMParameters.load(data_dir / "intersim.npz")
    cpgs, genes, proteins = shifted(intersim(p, 400, proportions=[0.005] * 200))
    assert cpgs.mean() == pytest.approx(0.200, abs=0.01)
    assert genes.mean() == pytest.approx(0.401, abs=0.01)
    assert proteins.mean() == pytest.approx(0.400, abs=0.015)


@pytest.mark.parametrize(("delta", "found"), [(0.25, (0, 0, 0)), (1.0, (0, 1, 1))])
def test_clusters_of_real_parameters_are_as_hard_as_those_of_the_original_program(delta, found, data_dir):
    """Where the adjusted Rand index of k-means hardly differs between runs; between 0 and 1 it does."""
    mdata = intersim(data_dir / "intersim.npz", delta=delta)
    label = mdata.obs["cluster"]
    for (name, x), expected in zip(real(mdata).items(), found, strict=True):
        score = adjusted_rand_score(label, KMeans(3, n_init=5, random_state=0).fit_predict(x / x.std(0)))
        assert score == pytest.approx(expected, abs=0.05), name
