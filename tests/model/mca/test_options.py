from __future__ import annotations

import warnings
from itertools import combinations

import pytest
from _factories import make_mosaic
from _mca import build_mca, options

from smalti.model import MCA, MCAOptions, MCAWeights
from smalti.model.mca._options import make_channels


def quietly(*args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return make_channels(*args)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_up_to_five_modalities_every_set_of_two_or_more_is_a_channel_and_the_root_comes_first(n):
    channels = quietly(n, "mca", None)
    assert channels[0] == tuple(range(n))
    assert set(channels) == {c for k in range(2, n + 1) for c in combinations(range(n), k)}
    assert len(channels) == len(set(channels)) == 2**n - n - 1


@pytest.mark.parametrize("n", [6, 8])
def test_beyond_five_modalities_channels_are_pairs_and_the_root(n):
    assert set(quietly(n, "mca", None)) == {tuple(range(n)), *combinations(range(n), 2)}


def test_mma_has_the_root_alone():
    assert quietly(4, "mma", None) == ((0, 1, 2, 3),)


@pytest.mark.parametrize("given", [(2,), (2, 4), (4, 2), (2, 2)])
def test_the_root_is_the_full_set_whatever_cardinalities_are_listed_and_in_any_order(given):
    channels = quietly(4, "mca", given)
    assert channels[0] == (0, 1, 2, 3)
    assert set(channels[1:]) == set(combinations(range(4), 2))


@pytest.mark.parametrize("given", ["all", (2, 3, 4, 5, 6)])
def test_all_cardinalities_of_many_modalities_warn_with_the_number_of_channels_and_a_proposal(given):
    with pytest.warns(UserWarning, match=r"6 modalities.*57 channels.*`cardinalities=\(2, 6\)` makes 16"):
        assert len(make_channels(6, "mca", given)) == 57


@pytest.mark.parametrize("given", [(1,), (5,), (2.5,), "some"])
def test_impossible_cardinalities_are_refused(given):
    with pytest.raises(ValueError, match="`cardinalities`"):
        make_channels(4, "mca", given)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_latent": 10, "n_heads": 4}, "multiple of `n_heads`, found 10 and 4"),
        ({"tokens": "words"}, "`tokens` to be one of"),
        ({"tokens": {"a": "words"}}, "`tokens` to be one of"),
        ({"dropout_rate": 1.0}, "`dropout_rate`"),
        ({"n_layers": 0}, "`n_layers` to be a whole number >= 1"),
        ({"negatives": "none"}, "`negatives` to be one of 'paired', 'all'"),
        ({"wiring": "post_norm"}, "`wiring` to be one of"),
    ],
)
def test_bad_options_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        MCAOptions(**changes)


def test_weights_that_leave_the_fusion_embedding_untrained_are_refused():
    with pytest.raises(ValueError, match="term that trains the root channel"):
        MCAWeights(unimodal_fusion=0, channel_root=0)
    with pytest.raises(ValueError, match=r"weights\.unimodal_channel"):
        MCAWeights(unimodal_channel=-1)


def test_names_of_modalities_in_options_are_checked():
    mdata = make_mosaic()
    with pytest.raises(KeyError, match=r"`options\.tokens`: 'rna' not found; available: 'a', 'b', 'c'"):
        build_mca(mdata, options=options(tokens={"rna": "vector"}))
    with pytest.raises(KeyError, match=r"`weights\.modality`: 'rna' not found"):
        build_mca(mdata, weights={"reconstruction": 1.0, "modality": {"rna": 2.0}})
    with pytest.raises(ValueError, match="`variant` to be one of 'mca', 'mma', 'eao', found 'vae'"):
        build_mca(mdata, variant="vae")


def test_arguments_of_the_constructor_win_over_options():
    MCA.setup_mudata(make_mosaic())
    model = build_mca(make_mosaic(), n_latent=8, tokens={"b": "vector"})
    assert (model.options.n_latent, model.options.n_layers) == (8, 2)
    assert {name: model.module.tokens[name].n_tokens for name in "abc"} == {"a": 4, "b": 1, "c": 4}
    assert "mca, embedding 8, channels 4, tokens a 4, b 1, c 4" in repr(model)
