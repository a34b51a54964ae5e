from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import build_clue
from _factories import make_mosaic

from smalti.losses import FAMILIES
from smalti.model.parts import Decoding, FittedInputs
from smalti.nn import Decoder

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}


@pytest.fixture(scope="module")
def model():
    return build_clue(make_mosaic(n_obs=84), MODALITIES)


@pytest.fixture(scope="module")
def batch(model):
    return model.adata_manager.create_torch_dataset()[np.arange(84)]


def decoders(sizes, widths, **changes):
    return {
        name: Decoder(4, widths[name], n_heads=FAMILIES[size.likelihood].n_heads, n_cov=sizes.n_cov, **changes)
        for name, size in sizes.modalities.items()
    }


def test_what_a_minibatch_is_compared_with_is_looked_up_once(model, batch, monkeypatch):
    module, counted = model.module.eval(), []
    inputs = type(module.inputs)
    original = inputs.log_library
    monkeypatch.setattr(inputs, "log_library", lambda *args: counted.append(args[2]) or original(*args))
    module(batch)
    assert sorted(counted) == ["a", "b"], "the library size of each modality that has one, once per step"


def test_a_step_keeps_its_features_and_the_next_draws_others(model, batch):
    sizes = model.sizes_
    widths = {name: size.n_features for name, size in sizes.modalities.items()}
    decoding = Decoding(sizes, decoders(sizes, widths), n_features_per_step=6).train()
    step, other = (decoding.step(batch, model.module.inputs) for _ in range(2))
    first = decoding.observed(step, "a").features
    assert torch.equal(first, decoding.observed(step, "a").features)
    assert len(first) == len(set(first.tolist())) == 6
    assert not torch.equal(first, decoding.observed(other, "a").features)
    decoding.eval()
    fixed = [decoding.observed(decoding.step(batch, model.module.inputs), "a").features.tolist() for _ in range(2)]
    assert fixed[0] == fixed[1]


def test_the_loss_of_chosen_cells_is_that_of_all_at_these_cells(model, batch):
    module = model.module.eval()
    decoding, here = module.decoding, batch["present"][:, 0]
    z = torch.randn(84, module.options.n_latent)
    step = decoding.step(batch, module.inputs)
    everybody = torch.zeros(84).index_put((here,), decoding.nll(step, "a", z[here], here).detach())
    some = here & (torch.arange(84) % 3 == 0)
    torch.testing.assert_close(decoding.nll(step, "a", z[some], some), everybody[some], rtol=1e-5, atol=1e-6)


def test_components_are_decoded_as_normal_values_without_library_mask_or_sampling(model, batch):
    inputs, sizes = model.module.inputs, model.sizes_
    widths = {name: inputs.width(name) for name in model.modalities}
    decoding = Decoding(sizes, decoders(sizes, widths), n_features_per_step=2, space="components").eval()
    here = batch["present"][:, 1]
    z = torch.randn(int(here.sum()), 4)
    found = decoding.nll(decoding.step(batch, inputs), "b", z, here)
    codes = batch["batch"].ravel()[here]
    mean = decoding.decoders["b"](z, decoding.covariates(codes))[0]
    x = inputs.encode(batch, "b", here)
    expected = (0.5 * (x - mean).square() + 0.5 * np.log(2 * np.pi)).mean(1)  # log scales start at 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoding.expected(z, "b", codes, None, None), mean)


def test_standardised_values_come_back_on_the_scale_of_the_data():
    mdata = make_mosaic(n_obs=90, likelihood="gaussian", pattern="paired")
    mdata["a"].X = np.asarray(mdata["a"].to_df()) * 7 + 3
    model = build_clue(mdata, dict.fromkeys("abc", "gaussian"))
    widths = {name: size.n_features for name, size in model.sizes_.modalities.items()}
    decoding = Decoding(model.sizes_, decoders(model.sizes_, widths), standardize=True).eval()
    fitted = FittedInputs(model.adata_manager, n_components=10)
    decoding.initialise(fitted.load_into(model.module.inputs), fitted.standards())
    for decoder in decoding.decoders.members.values():
        torch.nn.init.zeros_(decoder.weight)
    found = decoding.expected(torch.randn(5, 4), "a", torch.zeros(5, dtype=torch.int64), None, None)
    expected = torch.from_numpy(np.asarray(mdata["a"].X).mean(0)).float()
    torch.testing.assert_close(found, expected.expand(5, -1), rtol=1e-3, atol=1e-3)
