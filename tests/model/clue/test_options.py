from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from _clue import OPTIONS, build_clue, train
from _factories import make_mosaic

from smalti.model import CLUE, CLUEOptions, CLUEWeights
from smalti.model.base import resolve_options
from smalti.model.clue._options import PAPER_OPTIONS, PAPER_WEIGHTS
from smalti.nn import MLP


def linear_widths(module: torch.nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, torch.nn.Linear)]


@pytest.fixture(scope="module")
def paper():
    """The preset as it is, on two modalities and two batches."""
    mdata = make_mosaic(n_obs=240, n_features={"a": 130, "b": 120}, likelihood="nb", pattern="paired")
    CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return CLUE(mdata, preset="paper")


def test_the_paper_has_a_network_per_source_and_block(paper):
    for encoder in paper.module.encoders.members.values():
        assert len(encoder.trunks) == 2
        for trunk in encoder.trunks:
            assert linear_widths(trunk) == [(100, 256), (256, 256)]
        assert linear_widths(encoder.mean_heads) == linear_widths(encoder.scale_heads) == [(256, 50)] * 2


def test_layers_of_the_paper_are_linear_leaky_relu_batch_norm_dropout(paper):
    blocks = [block for mlp in paper.module.modules() if isinstance(mlp, MLP) for block in mlp.blocks]
    assert len(blocks) == 2 * (2 * 2 + 2)
    for block in blocks:
        assert not block.norm_first
        assert isinstance(block.activation, torch.nn.LeakyReLU)
        assert block.activation.negative_slope == 0.2
        assert isinstance(block.norm, torch.nn.BatchNorm1d)
        assert block.dropout.p == 0.2


def test_decoders_of_the_paper_get_the_batch_at_every_layer(paper):
    for name, n_features in (("a", 130), ("b", 120)):
        decoder = paper.module.decoding.decoders[name]
        assert linear_widths(decoder.body) == [(50 + 2, 256), (256 + 2, 256)]
        assert decoder.weight.shape == (1, n_features, 256)
        assert decoder.cov_weight.shape == (1, n_features, 2)
        assert decoder.log_scale.shape == (2, n_features)
        assert decoder.mean_link == "softmax"


def test_the_discriminator_of_the_paper_sees_the_whole_latent(paper):
    assert linear_widths(paper.module.discriminator) == [(100, 256), (256, 256), (256, 2)]
    assert [m.p for m in paper.module.discriminator.modules() if isinstance(m, torch.nn.Dropout)] == [0.2, 0.2]
    assert paper.options.adversary == "cross_entropy"


def test_weights_of_the_paper():
    assert PAPER_WEIGHTS == CLUEWeights(
        data=1, kl=1, joint=0.02, cross=0.02, agreement=0.02, adversarial=0.02, label=0.02, contrastive=0
    )
    assert PAPER_OPTIONS.normalize_latent
    assert PAPER_OPTIONS.n_features_per_step is None


def test_the_paper_trains_by_rmsprop_at_a_constant_rate_in_batches_of_128(paper):
    train(paper, max_epochs=1, batch_size=None)
    assert paper.module.aligners is None
    optimizers = paper.trainer.optimizers
    assert len(optimizers) == 2
    for optimizer in optimizers:
        assert isinstance(optimizer, torch.optim.RMSprop)
        group = optimizer.param_groups[0]
        assert (group["initial_lr"], group["alpha"], group["momentum"]) == (2e-3, 0.99, 0)
    own = {id(p) for p in paper.module.discriminator.parameters()}
    assert {id(p) for group in optimizers[1].param_groups for p in group["params"]} == own
    assert not own & {id(p) for group in optimizers[0].param_groups for p in group["params"]}
    assert paper.trainer.datamodule.batch_size == 128
    assert len(paper.validation_indices_) == 24


def test_arguments_of_the_constructor_win_over_options_and_presets():
    found = resolve_options(PAPER_OPTIONS, None, n_latent=7, n_hidden=None)
    assert (found.n_latent, found.n_hidden) == (7, 256)
    assert resolve_options(CLUEOptions(), OPTIONS, fusion="poe") == replace(OPTIONS, fusion="poe")
    assert resolve_options(CLUEOptions(), {"n_align": 4}) == CLUEOptions(n_align=4)


@pytest.mark.parametrize("changes", [{"n_layers": 3}, CLUEOptions(n_layers=3)])
def test_a_dictionary_or_an_object_changes_the_preset_and_leaves_the_rest_of_it(changes):
    model = build_clue(make_mosaic(n_obs=60), preset="paper", options=changes, n_hidden=None, n_latent=None)
    assert model.options == replace(PAPER_OPTIONS, n_layers=3, n_components=10)
    model = build_clue(make_mosaic(n_obs=60), preset="paper", weights={"label": 0.5})
    assert model.weights == replace(PAPER_WEIGHTS, label=0.5)
    assert model.module.aligners is None


def test_what_is_not_an_option_is_named():
    with pytest.raises(KeyError, match="Option of CLUEOptions: 'n_layer' not found; available: .*'n_layers'"):
        resolve_options(CLUEOptions(), {"n_layer": 3})
    with pytest.raises(TypeError, match="Expected `CLUEOptions` or a dictionary, found CLUEWeights"):
        resolve_options(CLUEOptions(), CLUEWeights())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CLUEOptions(fusion="sum"), "'mean', 'poe', 'poe_prior', found 'sum'"),
        (lambda: CLUEOptions(n_latent=0), "`n_latent`.*>= 1, found 0"),
        (lambda: CLUEOptions(dropout_rate=1.0), r"`dropout_rate`.*\[0, 0.95\], found 1.0"),
        (lambda: CLUEOptions(mean_link="softmax"), "n_features_per_step=None"),
        (lambda: CLUEOptions(norm="group"), "found 'group'"),
        (lambda: CLUEOptions(activation="relu"), "found 'relu'"),
        (lambda: CLUEOptions(adversary="gan"), "found 'gan'"),
        (lambda: CLUEOptions(n_features_per_step=0), "`n_features_per_step`"),
        (lambda: CLUEWeights(kl=-1), r"`weights.kl`.*>= 0, found -1"),
        (lambda: CLUEWeights(cross=float("nan")), r"`weights.cross`"),
        (lambda: CLUEWeights(modality={"a": 0.0}), r"weights.modality\['a'\]"),
        (lambda: build_clue(make_mosaic(n_obs=60), preset="release"), "'default', 'paper', found 'release'"),
    ],
)
def test_wrong_options_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_weights_of_unknown_modalities_are_refused():
    with pytest.raises(KeyError, match="`weights.modality`: 'rna' not found; available: 'a', 'b', 'c'"):
        build_clue(make_mosaic(n_obs=60), weights=CLUEWeights(modality={"rna": 2.0}))


def test_options_are_stored_with_the_model(tmp_path):
    mdata = make_mosaic(n_obs=60)
    model = build_clue(mdata, fusion="poe", weights=CLUEWeights(modality={"a": 2.0}, kl=0.5), random_state=3)
    model.save(tmp_path / "model")
    loaded = CLUE.load(tmp_path / "model", mdata)
    assert loaded.options == model.options
    assert loaded.weights == model.weights
    assert loaded.random_state == 3
