from __future__ import annotations

import json

import pytest
import torch
from _modis import SCALED, build_modis, planted

from smalti.model import MODISOptions, MODISWeights
from smalti.model.base import resolve_options
from smalti.model.modis._module import MODISModule
from smalti.model.modis._options import PRESETS
from smalti.model.parts import ModalitySize, MosaicSizes

INTERSIM = {"methylation": (367, 1_007_647), "expression": (131, 134_081), "protein": (160, 198_320)}
TCGA = {"methylation": (2500, 37_818_524), "rna": (2500, 38_717_524), "mirna": (542, 2_249_346)}


def module_of(preset, n_features, n_labels, **changes):
    """Build a network without storage for its weights."""
    sizes = MosaicSizes(
        modalities={
            name: ModalitySize(n_features=n, likelihood="gaussian", input_kind="scaled", input_config={"log": False})
            for name, n in n_features.items()
        },
        n_labels=n_labels,
    )
    with torch.device("meta"):
        return MODISModule(sizes, resolve_options(PRESETS[preset][0], None, **changes), PRESETS[preset][1])


def n_parameters(*modules):
    """Count what the paper counts: no scale of features."""
    named = [pair for module in modules for pair in module.named_parameters()]
    return sum(parameter.numel() for name, parameter in named if name != "log_scale")


@pytest.mark.parametrize(
    ("preset", "table", "n_labels", "discriminator"),
    [("paper-intersim", INTERSIM, 5, 724_744), ("paper-tcga", TCGA, 10, 1_184_781)],
)
def test_presets_have_the_published_numbers_of_parameters(preset, table, n_labels, discriminator):
    module = module_of(preset, {name: n for name, (n, _) in table.items()}, n_labels, adversary="ovr")
    for name, (_, expected) in table.items():
        assert n_parameters(module.encoders[name], module.decoding.decoders[name]) == expected, name
    assert n_parameters(module.discriminator) == discriminator


def test_the_paper_trains_nothing_that_it_does_not_count():
    module = module_of("paper-intersim", {name: n for name, (n, _) in INTERSIM.items()}, 5, adversary="ovr")
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trained == sum(expected for _, expected in INTERSIM.values()) + 724_744


def test_the_paper_has_no_game_unless_asked_for_as_its_loss_is_constant():
    sizes = {name: n for name, (n, _) in INTERSIM.items()}
    module = module_of("paper-intersim", sizes, 5)
    assert not module.has_game
    assert module.discriminator.modality_head is None
    assert module_of("paper-intersim", sizes, 5, adversary="pairwise").has_game


def test_no_game_is_played_without_a_weight():
    sizes = {"a": 5, "b": 4}
    assert module_of("default", sizes, 2).has_game
    assert not module_of("default", sizes, 2, adversary="none").has_game


@pytest.mark.parametrize(("n_labels", "expected"), [(0, 16), (5, 16), (30, 30), (200, 64)])
def test_the_width_of_the_latent_follows_the_number_of_classes(n_labels, expected):
    assert MODISOptions().latent_width(n_labels) == expected
    assert MODISOptions(n_latent=3).latent_width(n_labels) == 3


def test_ratios_are_shares_of_the_features_rounded_down_and_the_last_is_the_bottleneck():
    assert MODISOptions().layers("a", 100) == ((256, 128), None)
    assert MODISOptions(ratios=(1.2, 0.5, 0.25)).layers("a", 131) == ((157, 65), 32)
    by_name = MODISOptions(ratios={"a": (1.0, 0.5), "b": [0.5]})
    assert by_name.layers("b", 10) == ((), 5)
    with pytest.raises(KeyError, match="'c' not found.*'a', 'b'"):
        by_name.layers("c", 10)


@pytest.mark.parametrize("changes", [{"gamma": 3.0, "n_latent": 8}, MODISOptions(gamma=3.0, n_latent=8)])
def test_dictionaries_and_objects_change_a_preset_and_arguments_win(changes):
    options = resolve_options(PRESETS["paper-tcga"][0], changes, n_latent=9, adversary=None)
    assert (options.n_latent, options.gamma, options.norm) == (9, 3.0, "batch")
    weights = resolve_options(PRESETS["paper-tcga"][1], {"label": 2.0})
    assert (weights.label, weights.kl_shared, weights.shared) == (2.0, 0.000032, 0)


def test_options_survive_json():
    for preset in ("default", "paper-intersim", "paper-tcga"):
        options = PRESETS[preset][0]
        assert MODISOptions(**json.loads(json.dumps(options.to_dict()))) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversary": "wgan"}, "`adversary`.*'ovr'.*found 'wgan'"),
        ({"norm": "group"}, "`norm`"),
        ({"kernel": "rbf"}, "`kernel`"),
        ({"frequency": "equal"}, "`frequency`"),
        ({"reconstruction": "bce"}, "`reconstruction`"),
        ({"n_latent": 0}, "`n_latent`"),
        ({"n_private": -1}, "`n_private`"),
        ({"gamma": -1.0}, "`gamma`"),
        ({"dropout_rate": 1.0}, "`dropout_rate`"),
        ({"confidence": 1.5}, "`confidence`"),
        ({"balance": 2}, "`balance`"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MODISOptions(**options)


def test_negative_weights_and_unknown_presets_are_refused():
    with pytest.raises(ValueError, match=r"`weights.alignment`"):
        MODISWeights(alignment=-1)
    with pytest.raises(ValueError, match="`preset`.*'paper-intersim'.*found 'paper'"):
        build_modis(planted(60), SCALED, preset="paper")
