from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from smalti._mudata import no_pull
from smalti.pp import CLR, LSI, PCA, default_transform

STORAGES = {"csr": sp.csr_matrix, "csc_array": sp.csc_array, "dense": np.asarray, "int": lambda x: x.astype(int)}


@pytest.mark.parametrize("storage", STORAGES)
def test_values_decide(storage, rng):
    make = STORAGES[storage]
    accessible = make((rng.random((50, 200)) < 0.05) * (1.0 + (rng.random((50, 200)) < 0.02)))
    panel = make(rng.poisson(10.0, (50, 30)).astype(float))
    genes = make(rng.negative_binomial(1, 0.6, (50, 200)).astype(float))
    wide = make(rng.poisson(10.0, (50, 1001)).astype(float))
    assert isinstance(default_transform(accessible), LSI)
    assert isinstance(default_transform(panel), CLR)
    for counts in (genes, wide):
        transform = default_transform(counts)
        assert isinstance(transform, PCA)
        assert transform.kind == "tfidf"
        assert not transform.standardize


@pytest.mark.parametrize("storage", ["csr", "csc_array", "dense"])
@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["negative integers", "fractions"])
def test_reals_are_standardised_and_not_transformed(storage, shift, rng):
    x = STORAGES[storage](rng.integers(-3, 4, (50, 20)) + shift)
    transform = default_transform(x, n_components=7, random_state=3)
    assert transform.options() == {
        "n_components": 7,
        "target_sum": None,
        "batch_center": True,
        "random_state": 3,
        "kind": "identity",
        "standardize": True,
    }


def test_a_binary_modality_is_lsi_even_if_dense(rng):
    assert isinstance(default_transform(rng.random((40, 20)) < 0.7), LSI)


def test_empty_modalities_get_a_transform():
    assert isinstance(default_transform(sp.csr_matrix((5, 3))), PCA)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("snare_mop", {"rna": (PCA, "tfidf"), "atac": (LSI, "tfidf")}),
        ("pbmc_mosaic", {"rna": (PCA, "tfidf"), "adt": (CLR, "clr")}),
        ("pbmc10k_cite", {"rna": (PCA, "tfidf"), "adt": (CLR, "clr")}),
        ("sln_diagonal", {"rna": (PCA, "tfidf"), "adt": (CLR, "clr")}),
        ("breast_tcga", dict.fromkeys(("mrna", "mirna", "protein"), (PCA, "identity"))),
    ],
)
def test_real_modalities_get_what_suits_them(name, expected, data_dir):
    with no_pull():
        mdata = mudata.read_h5mu(data_dir / f"{name}.h5mu")
    found = {m: default_transform(a.X) for m, a in mdata.mod.items()}
    assert {m: (type(t), t.kind) for m, t in found.items()} == expected
