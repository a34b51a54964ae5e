from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from _intersim import GENE_OF_CPG, GENE_OF_PROTEIN, make_parameters
from scipy.special import logit

from smalti._errors import UnsafeFileError
from smalti._mudata import build_mudata
from smalti.simulate import InterSIMParameters, drop, intersim


def test_parameters_survive_a_file(tmp_path):
    p = make_parameters()
    p.save(tmp_path / "p.npz")
    again = InterSIMParameters.load(tmp_path / "p.npz")
    for field in fields(p):
        np.testing.assert_array_equal(getattr(p, field.name), getattr(again, field.name))
    np.testing.assert_array_equal(intersim(tmp_path / "p.npz", 20)["protein"].X, intersim(p, 20)["protein"].X)
    assert repr(again) == "InterSIMParameters(10 CpGs, 6 genes, 7 proteins)"


def write(path, p, **changes):
    np.savez(path, **{field.name: getattr(p, field.name) for field in fields(p)} | changes)
    return path


def test_a_file_that_lacks_an_array_or_contradicts_itself_is_named(tmp_path):
    p = make_parameters()
    np.savez(tmp_path / "less.npz", mean_M=p.mean_M)
    with pytest.raises(KeyError, match=r"less\.npz: 'cpg_names', .* not found"):
        InterSIMParameters.load(tmp_path / "less.npz")
    path = write(tmp_path / "more.npz", p, protein_gene_index=GENE_OF_PROTEIN, cpg_gene_index=GENE_OF_CPG[::-1])
    with pytest.raises(ValueError, match="`cpg_gene_index` in .* disagrees"):
        InterSIMParameters.load(path)


def test_objects_and_other_files_are_never_unpickled(tmp_path):
    path = write(tmp_path / "objects.npz", make_parameters(), cpg_names=np.array([f"cg{i}" for i in range(10)], object))
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "single.npy", np.arange(3))
    for name in (path, tmp_path / "text.npz", tmp_path / "single.npy"):
        with pytest.raises(UnsafeFileError, match="not an archive of plain arrays"):
            InterSIMParameters.load(name)
    with pytest.raises(FileNotFoundError):
        InterSIMParameters.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mean_expr": np.zeros(5)}, ValueError, r"`mean_expr` to have shape \(6,\).*found \(5,\)"),
        ({"cov_M": np.eye(9)}, ValueError, r"`cov_M` to have shape \(10, 10\)"),
        ({"cov_expr": np.diag([1.0, 1, 1, 1, 1, -1])}, ValueError, "`cov_expr` to be positive definite.*-1"),
        ({"cov_protein": np.eye(7) + np.eye(7, k=1) / 9}, ValueError, "`cov_protein` to be symmetric"),
        ({"mean_M": np.full(10, np.nan)}, ValueError, "`mean_M` to be finite, found 10"),
        ({"rho_expr_protein": np.full(7, -1.5)}, ValueError, r"`rho_expr_protein` to be in interval \[-1, 1\].*-1.5"),
        ({"protein_gene": ["z"] * 7}, KeyError, "`protein_gene`: 'z' not found"),
        ({"gene_names": ["g0"] * 6}, ValueError, "`gene_names` are not unique"),
        ({"cpg_names": []}, ValueError, "`cpg_names` to be a list"),
    ],
)
def test_parameters_that_do_not_fit_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        make_parameters(**changes)


def test_parameters_estimated_from_simulated_data_are_those_it_came_from():
    """Given the cluster nothing correlates between omics, and without shift there are no clusters."""
    p = make_parameters()
    found = InterSIMParameters.from_data(intersim(p, 20_000, delta=0.0))
    for key in ("cpg_names", "gene_names", "protein_names", "cpg_gene", "protein_gene"):
        np.testing.assert_array_equal(getattr(found, key), getattr(p, key))
    for key in ("mean_M", "mean_expr", "mean_protein", "cov_M", "cov_expr", "cov_protein"):
        np.testing.assert_allclose(getattr(found, key), getattr(p, key), atol=0.1)
    per_gene = [p.mean_M[GENE_OF_CPG == g].mean() for g in range(6)]
    np.testing.assert_allclose(found.methyl_gene_level_mean, per_gene, atol=0.1)
    assert np.abs(found.rho_methyl_expr).max() < 0.05


def test_correlations_come_from_samples_measured_in_both_and_means_from_all(rng):
    mdata = intersim(make_parameters(), 300, delta=0.0)
    m = logit(mdata["methylation"].X.astype(float))
    by_gene = np.column_stack([m[:, GENE_OF_CPG == g].mean(1) for g in range(6)])
    mdata["expression"].X[:] = by_gene + rng.normal(size=by_gene.shape)
    mdata["protein"].X[:] = -mdata["expression"].X[:, GENE_OF_PROTEIN]
    keep = np.ones((300, 3), dtype=bool)
    keep[:100, 0], keep[200:, 2] = False, False
    masked = drop(mdata, keep)
    found = InterSIMParameters.from_data(masked)
    x = mdata["expression"].X
    expected = [np.corrcoef(by_gene[100:, g], x[100:, g])[0, 1] for g in range(6)]
    np.testing.assert_allclose(found.rho_methyl_expr, expected, atol=1e-5)
    np.testing.assert_allclose(found.rho_expr_protein, -1, atol=1e-5)
    np.testing.assert_allclose(found.mean_M, m[100:].mean(0), atol=1e-5)
    np.testing.assert_allclose(found.mean_expr, x.mean(0), atol=1e-5)


def test_fewer_samples_than_features_give_a_covariance_that_can_be_drawn_from():
    small = intersim(make_parameters(), 5, proportions=(0.5, 0.5))
    found = InterSIMParameters.from_data(small)
    assert np.linalg.eigvalsh(found.cov_M)[0] > 0
    np.testing.assert_allclose(np.diag(found.cov_expr), small["expression"].X.var(0), rtol=1e-4)
    assert intersim(found, 30).n_obs == 30


def test_features_without_a_measured_gene_are_left_out_and_genes_without_cpgs_stay():
    mdata = intersim(make_parameters(), 50)
    mdata["methylation"].var["other"] = [None, "elsewhere", *mdata["methylation"].var["gene"].iloc[2:8], None, None]
    found = InterSIMParameters.from_data(mdata, cpg_gene="other")
    assert found.cpg_names.tolist() == [f"cg{i}" for i in range(2, 8)]
    assert found.rho_methyl_expr[5] == 0
    assert found.rho_methyl_expr[0] != 0
    assert len(found.gene_names) == 6


def test_data_that_nothing_can_be_estimated_from_are_named():
    def data(name, change):
        mdata = intersim(make_parameters(), 20)
        change(mdata[name])
        return build_mudata(mdata.mod)

    def put(value):
        return lambda adata: adata.X.__setitem__((slice(None), 0), value)

    cases = [
        (data("methylation", put(3.0)), ValueError, r"beta values.*3\. M-values"),
        (data("expression", put(1.0)), ValueError, "1 features of modality 'expression' are constant: 'g0'"),
        (data("protein", put(np.nan)), ValueError, "'protein' has 20 missing"),
        (data("protein", lambda a: a.var.pop("gene")), KeyError, "'gene' not found"),
        (data("protein", lambda a: a.var.__setitem__("gene", "z")), ValueError, "None of 7 features.*'z'"),
    ]
    for mdata, error, message in cases:
        with pytest.raises(error, match=message):
            InterSIMParameters.from_data(mdata)
    with pytest.raises(KeyError, match="Modality: 'rna' not found"):
        InterSIMParameters.from_data(intersim(make_parameters(), 20), expression="rna")
    apart = drop(intersim(make_parameters(), 20), np.arange(60).reshape(20, 3) % 3 == np.arange(20)[:, None] % 3)
    with pytest.raises(ValueError, match="at least 3 samples measured in both 'methylation' and 'expression', found 0"):
        InterSIMParameters.from_data(apart)
