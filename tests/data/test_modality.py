from __future__ import annotations

import logging
from types import MappingProxyType

import numpy as np
import pytest
import scipy.sparse as sp
from _factories import STORAGES, as_storage, make_mosaic

from smalti.data import Modality, infer_encoder_input, infer_likelihood, resolve_modalities

NAMES = {"rna": 30, "atac": 20, "protein": 12}


@pytest.mark.parametrize("storage", [s for s in STORAGES if s != "int"])
def test_likelihoods_follow_values_not_names(storage):
    likelihood = {"rna": "gaussian", "atac": "nb", "protein": "bernoulli"}  # names that suggest something else
    mdata = as_storage(make_mosaic(n_features=NAMES, likelihood=likelihood), storage)
    assert {name: spec.likelihood for name, spec in resolve_modalities(mdata, None).items()} == likelihood


def test_renaming_modalities_changes_no_inference():
    likelihood = {"rna": "nb", "atac": "bernoulli", "protein": "gaussian"}
    mdata = make_mosaic(n_features=NAMES, likelihood=likelihood)
    renamed = make_mosaic(
        n_features={f"m{i}": n for i, n in enumerate(NAMES.values())},
        likelihood={f"m{i}": family for i, family in enumerate(likelihood.values())},
    )
    specs, other = (list(resolve_modalities(data, None).values()) for data in (mdata, renamed))
    assert specs == other


def test_inferred_choices_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="smalti.data._modality"):
        resolve_modalities(make_mosaic(), {"a": "nb", "b": None, "c": Modality(encoder_input="pca")})
    text = caplog.text
    assert "Modality 'b': likelihood 'nb'" in text
    assert "Modality 'b': encoder input" in text
    assert "Modality 'c': likelihood 'gaussian'" in text
    assert "Modality 'a': likelihood" not in text
    assert "Modality 'c': encoder input" not in text


def test_a_few_larger_counts_among_ones_stay_accessibility():
    x = np.zeros((100, 50))
    x[:, :10] = 1
    x[:5, 0] = 2
    assert infer_likelihood(sp.csr_matrix(x)) == "bernoulli"
    x[:, 5:10] = 3
    assert infer_likelihood(sp.csr_matrix(x)) == "nb"


@pytest.mark.parametrize(
    ("n_features", "share", "likelihood", "expected"),
    [
        (20, 0.9, "nb", "clr"),
        (20, 0.9, "nb_mixture", "clr"),
        (20, 0.3, "nb", "pca"),
        (1001, 0.9, "nb", "pca"),
        (20, 0.9, "gaussian", "pca"),
        (20, 0.9, "bernoulli", "lsi"),
    ],
)
def test_encoder_inputs_follow_width_density_and_likelihood(rng, n_features, share, likelihood, expected):
    x = (rng.random((30, n_features)) < share) * rng.integers(1, 9, (30, n_features))
    assert infer_encoder_input(x, likelihood) == infer_encoder_input(sp.csr_matrix(x), likelihood) == expected


@pytest.mark.parametrize(
    "spec", ["poisson", {"likelihood": "poisson"}, Modality(likelihood="poisson")], ids=["text", "dict", "Modality"]
)
@pytest.mark.parametrize("mapping", [dict, MappingProxyType])
def test_all_ways_to_say_it_mean_the_same(spec, mapping):
    specs = resolve_modalities(make_mosaic(pattern="paired"), mapping({"a": spec, "c": None}))
    assert list(specs) == ["a", "c"]
    assert specs["a"].likelihood == "poisson"
    assert specs["c"].likelihood == "gaussian"


def test_a_list_of_names_chooses_and_orders_modalities():
    assert list(resolve_modalities(make_mosaic(), ["c", "b", "a"])) == ["c", "b", "a"]
    assert list(resolve_modalities(make_mosaic(), None)) == ["a", "b", "c"]


def test_resolving_twice_changes_nothing():
    mdata = make_mosaic()
    specs = resolve_modalities(mdata, None)
    assert resolve_modalities(mdata, specs) == specs
    assert resolve_modalities(mdata, {name: spec.to_dict() for name, spec in specs.items()}) == specs


def test_specifications_are_frozen_and_refuse_unknown_likelihoods():
    with pytest.raises(AttributeError):
        Modality().likelihood = "nb"
    with pytest.raises(ValueError, match="one of 'nb', 'zinb', 'poisson'.*found 'negbin'"):
        Modality(likelihood="negbin")


def test_a_query_may_lack_modalities_and_keeps_their_specification():
    mdata = make_mosaic(n_features={"a": 30, "c": 12})
    specs = resolve_modalities(mdata, {"a": "nb", "b": Modality(likelihood="poisson"), "c": None}, required=False)
    assert specs["b"] == Modality(likelihood="poisson")
    assert specs["c"].likelihood == "gaussian"
    with pytest.raises(KeyError, match="None of the modalities 'x', 'y' is in the MuData, which has 'a', 'c'"):
        resolve_modalities(mdata, ["x", "y"], required=False)
