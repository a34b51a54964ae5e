from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.impute import SimpleImputer

from smalti import pp

NAN = np.nan


def betas():
    """Ten samples; each probe fails in one way, or is just good enough."""
    wave = np.tile([0.2, 0.8], 5)  # standard deviation 0.3
    columns = {"good": wave.copy(), "one_gap": wave.copy(), "two_gaps": wave.copy(), "two_zeros": wave.copy()}
    columns["one_gap"][0] = NAN
    columns["two_gaps"][[0, 5]] = NAN
    columns["two_zeros"][[0, 5]] = 0
    columns["flat"] = np.tile([0.41, 0.59], 5)  # 0.09
    columns["flat_but_failed_once"] = np.append(0.0, np.tile([0.81, 0.99], 5)[:9])
    columns["never"] = np.full(10, NAN)
    columns["on_x"] = wave.copy()
    adata = AnnData(np.column_stack(list(columns.values())), var=pd.DataFrame(index=list(columns)))
    adata.var["chromosome"] = ["chr1"] * 7 + ["chrX"]
    return adata


def test_probes_are_dropped_for_gaps_low_variance_and_sex_chromosomes(caplog):
    adata = betas()
    before = adata.X.copy()
    with caplog.at_level(logging.INFO, logger="smalti.pp"):
        kept = pp.filter_probes(adata, chromosome_key="chromosome")
    assert list(kept.var_names) == ["good", "one_gap"]
    assert "Kept 2 of 8 features (3 missing too often, 3 hardly varying, 1 on dropped chromosomes)" in caplog.text
    np.testing.assert_array_equal(adata.X, before)
    assert not kept.is_view


def test_each_probe_filter_can_be_set(caplog):
    assert "on_x" in pp.filter_probes(betas()).var_names
    assert "two_gaps" in pp.filter_probes(betas(), max_missing=0.21).var_names
    assert "flat" in pp.filter_probes(betas(), min_sd=0.08).var_names
    loose = pp.filter_probes(betas(), zero_is_missing=False).var_names
    assert {"two_zeros", "flat_but_failed_once"} <= set(loose)
    everything = pp.filter_probes(betas(), max_missing=1, min_sd=0)
    assert list(everything.var_names) == [n for n in betas().var_names if n != "never"]
    other = pp.filter_probes(betas(), chromosome_key="chromosome", drop_chromosomes=["chr1"])
    assert list(other.var_names) == ["on_x"]


def test_probes_are_read_from_a_layer():
    adata = betas()
    adata.layers["beta"] = adata.X.copy()
    adata.X = np.zeros_like(adata.X)
    assert list(pp.filter_probes(adata, layer="beta").var_names) == ["good", "one_gap", "on_x"]
    with pytest.raises(KeyError, match="Layer: 'm' not found; available: 'beta'"):
        pp.filter_probes(adata, layer="m")


def test_what_are_no_methylation_levels_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], found values from -3 to 3"):
        pp.filter_probes(AnnData(np.array([[-3.0, 3.0]])))
    with pytest.raises(ValueError, match="as a dense array, found a sparse matrix"):
        pp.filter_probes(AnnData(sp.csr_matrix(np.eye(3))))
    with pytest.raises(KeyError, match=r"Column of `adata.var`: 'chr' not found; available: 'chromosome'"):
        pp.filter_probes(betas(), chromosome_key="chr")
    with pytest.raises(ValueError, match=r"No feature is left of 8 \(3 missing too often, 8 hardly varying"):
        pp.filter_probes(betas(), min_sd=0.9)
    with pytest.raises(ValueError, match="`max_missing` to be in interval"):
        pp.filter_probes(betas(), max_missing=20)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_features_below_five_counts_in_nine_of_ten_samples_are_dropped(storage):
    x = np.zeros((10, 4))
    x[:1, 0] = 1000  # below in 9
    x[:2, 1] = 5  # below in 8
    x[:, 2] = 4  # below in all
    x[:, 3] = 100
    adata = AnnData(storage(x), var=pd.DataFrame(index=list("abcd")))
    assert list(pp.filter_low_counts(adata).var_names) == ["b", "d"]
    assert list(pp.filter_low_counts(adata, max_share=0.95).var_names) == ["a", "b", "d"]
    assert list(pp.filter_low_counts(adata, min_counts=4).var_names) == ["b", "c", "d"]
    assert sp.issparse(pp.filter_low_counts(adata).X) == sp.issparse(adata.X)


def test_missing_counts_are_left_out_of_the_share():
    x = np.full((10, 3), NAN)
    x[:2, 0] = [7, 0]  # half of what is known
    x[:2, 1] = 0
    assert list(pp.filter_low_counts(AnnData(x)).var_names) == ["0"]


def test_what_are_no_counts_is_refused():
    with pytest.raises(ValueError, match=r"Expected counts >= 0, found -1.*not their logarithms"):
        pp.filter_low_counts(AnnData(sp.csr_matrix([[3.0, -1.0]])))
    with pytest.raises(ValueError, match=r"No feature is left of 3 \(3 hardly counted\). Lower `min_counts`"):
        pp.filter_low_counts(AnnData(np.ones((4, 3))))
    with pytest.raises(ValueError, match="found infinity"):
        pp.filter_low_counts(AnnData(np.array([[np.inf, 1.0]])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_imputation_is_that_of_scikit_learn(dtype, rng):
    x = rng.normal(3, 2, (20, 6)).astype(dtype)
    x[rng.random(x.shape) < 0.3] = NAN
    adata = AnnData(x.copy())
    filled = pp.impute_mean(adata)
    np.testing.assert_allclose(filled.X, SimpleImputer().fit_transform(x), rtol=1e-6)
    assert filled.X.dtype == dtype
    np.testing.assert_array_equal(adata.X, x)


def test_zeros_are_imputed_on_request_only():
    adata = AnnData(np.array([[0.0, 1.0], [4.0, 3.0], [NAN, 2.0]]))
    np.testing.assert_array_equal(pp.impute_mean(adata).X[:, 0], [0, 4, 2])
    np.testing.assert_array_equal(pp.impute_mean(adata, zero_is_missing=True).X[:, 0], [4, 4, 4])


def test_imputation_keeps_sparse_values_sparse_and_counts_their_zeros():
    x = sp.csr_matrix(np.array([[NAN, 1.0], [0.0, 0.0], [4.0, 0.0]]))
    filled = pp.impute_mean(AnnData(x)).X
    assert sp.issparse(filled)
    np.testing.assert_array_equal(filled.toarray(), [[2, 1], [0, 0], [4, 0]])


def test_a_feature_without_any_value_cannot_be_imputed():
    adata = AnnData(np.array([[NAN, 1.0], [NAN, 2.0]]), var=pd.DataFrame(index=["gone", "here"]))
    with pytest.raises(ValueError, match=r"found 1 without any, first 'gone'. Drop them first"):
        pp.impute_mean(adata)
