from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import build_clue, fit_clue, only, options, train
from _factories import make_mosaic

from smalti.data import presence
from smalti.losses import agreement, info_nce, kl_standard_normal
from smalti.model import CLUEWeights
from smalti.nn import fuse, masked_mean

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}
ALL = CLUEWeights(adversarial=0.3)
TERMS = ("data", "kl", "joint", "cross", "agreement", "contrastive", "adversarial", "label")


def terms_of(model, cells, *, seed: int = 0, kl_weight: float = 1.0):
    """Return what the network computes for some cells, without dropout, and the batch."""
    batch = model.adata_manager.create_torch_dataset()[np.asarray(cells)]
    model.module.eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        inferred, generated, output = model.module(batch, loss_kwargs={"kl_weight": kl_weight})
    return batch, inferred, generated, output


@pytest.fixture(scope="module")
def model():
    return build_clue(make_mosaic(unlabeled=0.3), MODALITIES, weights=ALL)


@pytest.fixture(scope="module", params=["mean", "poe", "paper"])
def any_model(request):
    if request.param == "paper":
        return build_clue(make_mosaic(), MODALITIES, preset="paper")
    return build_clue(make_mosaic(), MODALITIES, weights=ALL, fusion=request.param)


def mean_nll(model, z, target: str, cells: np.ndarray, codes: torch.Tensor) -> float:
    """Return the negative log-likelihood of some cells of the mosaic by the dense formula, cell by cell."""
    module, mdata = model.module, model.adata
    family, decoder = module.decoding.families[target], module.decoding.decoders[target]
    position = list(module.sizes.modalities).index(target) * module.options.n_latent
    total = 0.0
    for i in cells:
        name = mdata.obs_names[i]
        row = mdata[target][name].X
        x = torch.from_numpy(np.asarray(row.todense() if hasattr(row, "todense") else row)).float()
        heads = decoder(
            z[i : i + 1, position : position + module.options.n_latent], module.decoding.covariates(codes[i : i + 1])
        )
        if family.uses_library:
            heads = torch.cat([heads[:1] + x.sum().clamp(min=1).log(), heads[1:]])
        total += float(family.nll(x, heads, decoder.scales(codes[i : i + 1]).expand_as(x)).mean())
    return total / max(len(cells), 1)


def test_reconstructions_are_means_over_the_cells_that_were_measured(any_model):
    model, here = any_model, presence(any_model.adata)
    batch, _, generated, output = terms_of(model, np.arange(84))
    codes, names = batch["batch"].ravel(), model.modalities
    paired = here.sum(1) >= 2
    expected = {"data": 0.0, "joint": 0.0, "cross": 0.0}
    for i, name in enumerate(names):
        own = mean_nll(model, generated["samples"][name], name, np.flatnonzero(here[:, i]), codes)
        assert float(output.extra_metrics[f"nll_{name}"]) == pytest.approx(own, rel=1e-3)
        expected["data"] += own
        expected["joint"] += mean_nll(model, generated["fused"], name, np.flatnonzero(here[:, i] & paired), codes)
        for j, source in enumerate(names):
            if i != j:
                both = np.flatnonzero(here[:, i] & here[:, j])
                expected["cross"] += mean_nll(model, generated["samples"][source], name, both, codes)
    for term, value in expected.items():
        assert float(output.extra_metrics[term]) == pytest.approx(value, rel=1e-3), term


def test_latent_terms_are_those_of_the_spec(any_model):
    model, here = any_model, torch.from_numpy(presence(any_model.adata))
    _, inferred, generated, output = terms_of(model, np.arange(84))
    paired = here.sum(1) >= 2
    kl, agree = 0.0, 0.0
    for i, name in enumerate(model.modalities):
        divergence = kl_standard_normal(*inferred["latents"][name])[here[:, i]].mean()
        kl += float(divergence) / model.adata[name].n_vars
        rows = here[:, i] & paired
        cosine = model.options.normalize_latent
        agree += float(agreement(generated["samples"][name], generated["fused"], rows, cosine=cosine))
    assert float(output.extra_metrics["kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(output.extra_metrics["agreement"]) == pytest.approx(agree, rel=1e-4)


def test_the_contrastive_term_is_the_mean_over_pairs_of_modalities(model):
    here = torch.from_numpy(presence(model.adata))
    _, inferred, _, output = terms_of(model, np.arange(84))
    losses = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = here[:, i] & here[:, j]
        a, b = (inferred["aligned"][model.modalities[k]] for k in (i, j))
        for network in range(model.options.n_aligners):
            u, v = a[:, network], b[:, network]
            losses.append(float(info_nce(u, v, both, both, model.module.log_inverse_temperature)))
    assert float(output.extra_metrics["contrastive"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_modalities_that_share_no_cell_leave_the_contrastive_mean():
    model = build_clue(make_mosaic(pattern="indirect"), MODALITIES)
    here = torch.from_numpy(presence(model.adata))
    _, inferred, _, output = terms_of(model, np.arange(84))
    losses = []
    for i, j in ((0, 1), (1, 2)):
        both = here[:, i] & here[:, j]
        a, b = (inferred["aligned"][model.modalities[k]] for k in (i, j))
        for network in range(model.options.n_aligners):
            u, v = a[:, network], b[:, network]
            losses.append(float(info_nce(u, v, both, both, model.module.log_inverse_temperature)))
    assert float(output.extra_metrics["contrastive"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_unpaired_cells_are_told_apart_only_if_wanted():
    found = []
    for negatives in ("paired", "all"):
        model = build_clue(make_mosaic(), MODALITIES, options=options(negatives=negatives))
        found.append(float(terms_of(model, np.arange(84))[3].extra_metrics["contrastive"]))
    assert found[1] > found[0] + 0.1


@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_the_loss_is_the_weighted_sum_of_all_terms(any_model, kl_weight):
    model, weights = any_model, any_model.weights
    output = terms_of(model, np.arange(84), kl_weight=kl_weight)[3]
    terms = {term: float(value) for term, value in output.extra_metrics.items()}
    expected = sum(getattr(weights, term) * terms[term] for term in TERMS if term in terms and term != "kl")
    expected += weights.kl * kl_weight * terms["kl"]
    assert float(output.loss) == pytest.approx(expected, rel=1e-4)
    assert terms["monitor"] == pytest.approx(expected - weights.adversarial * terms["adversarial"], rel=1e-4)


def test_weights_of_modalities_weigh_reconstruction_and_divergence():
    model = build_clue(make_mosaic(), MODALITIES, weights=CLUEWeights(modality={"a": 4.0, "b": 1.0, "c": 1.0}))
    terms = terms_of(model, np.arange(84))[3].extra_metrics
    expected = 2 * terms["nll_a"] + 0.5 * terms["nll_b"] + 0.5 * terms["nll_c"]
    torch.testing.assert_close(terms["data"], expected)


def test_terms_of_pairs_are_zero_without_pairs(model):
    single = np.flatnonzero(presence(model.adata).sum(1) == 1)
    terms = terms_of(model, single)[3].extra_metrics
    for term in ("joint", "cross", "agreement", "contrastive"):
        assert float(terms[term]) == 0, term
    assert float(terms["data"]) > 0


def test_unpaired_cells_do_not_move_the_terms_of_pairs(model):
    here = presence(model.adata)
    paired, single = np.flatnonzero(here.sum(1) >= 2), np.flatnonzero(here.sum(1) == 1)
    batch = model.adata_manager.create_torch_dataset()
    module = model.module.eval()
    found = []
    for cells in (paired, np.concatenate([paired, single])):
        tensors = batch[cells]
        inferred = module.inference(tensors)
        # means instead of samples, so that both batches see the same latents
        samples = {name: latent.mean for name, latent in inferred["latents"].items()}
        generated = {"samples": samples, "fused": masked_mean(samples, inferred["present"])}
        found.append(module.loss(tensors, inferred, generated).extra_metrics)
    for term in ("joint", "cross", "agreement", "contrastive"):
        torch.testing.assert_close(found[1][term], found[0][term], rtol=1e-4, atol=1e-5, msg=term)


@pytest.mark.parametrize("adversary", ["uniform", "cross_entropy"])
def test_the_game_is_played_on_means_with_balancing_weights(adversary):
    model = build_clue(make_mosaic(), MODALITIES, weights=ALL, options=options(adversary=adversary))
    module, here = model.module, presence(model.adata)
    batch, inferred, _, output = terms_of(model, np.arange(84))
    table = torch.rand(84, 3, generator=torch.Generator().manual_seed(0))
    z = torch.cat([inferred["latents"][name].mean[here[:, i]] for i, name in enumerate(model.modalities)])
    code = torch.cat([torch.full((int(here[:, i].sum()),), i) for i in range(3)])
    logp = torch.log_softmax(module.discriminator(z), 1)
    hit = logp[torch.arange(len(code)), code]
    expected = {"uniform": -logp.mean(1), "cross_entropy": hit}[adversary]
    torch.testing.assert_close(output.extra_metrics["adversarial"], expected.mean().detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.discriminator_loss(batch, inferred), -hit.mean(), rtol=1e-4, atol=1e-5)
    module.balance = table
    weight = torch.cat([table[here[:, i], i] for i in range(3)])
    output = terms_of(model, np.arange(84))[3]
    torch.testing.assert_close(
        output.extra_metrics["adversarial"], (expected * weight).mean().detach(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(module.discriminator_loss(batch, inferred), -(hit * weight).mean(), rtol=1e-4, atol=1e-5)


def test_the_discriminators_loss_gives_encoders_no_gradient(model):
    module = model.module.train()
    batch = model.adata_manager.create_torch_dataset()[np.arange(84)]
    module.zero_grad()
    module.discriminator_loss(batch, module.inference(batch)).backward()
    assert all(p.grad.abs().max() > 0 for p in module.discriminator.parameters())
    assert all(p.grad is None or not p.grad.any() for p in module.encoders.parameters())


def test_burn_in_noise_is_in_units_of_the_spread(model):
    module = model.module.train()
    torch.manual_seed(0)
    mean = torch.randn(4000, 2) * torch.tensor([1.0, 100.0])
    module.noise_level = 0.5
    noise = module.noisy(mean) - mean
    np.testing.assert_allclose(noise.std(0), [0.5, 50.0], rtol=0.1)
    module.noise_level = 0.0
    assert module.noisy(mean) is mean
    module.noise_level = 0.5
    assert module.eval().noisy(mean) is mean
    module.noise_level = 0.0


@pytest.mark.parametrize("term", TERMS)
def test_switching_a_term_off_changes_training(term, reference):
    weights, expected = reference
    changed = CLUEWeights(**{**{t: getattr(weights, t) for t in TERMS}, term: 0.0})
    model = fit_clue(make_mosaic(), MODALITIES, weights=changed)
    history = model.history["monitor_train"].to_numpy().ravel()
    if term != "adversarial":
        assert np.abs(history - expected.history["monitor_train"].to_numpy().ravel()).max() > 1e-4
    if term in ("contrastive", "adversarial", "label", "agreement"):
        assert f"{term}_train" not in model.history
    first, second = (m.get_latent_representation(block="full") for m in (model, expected))
    assert np.abs(first - second).max() > 1e-5 or term == "contrastive"
    assert model.history["train_loss"].to_numpy()[-1] != expected.history["train_loss"].to_numpy()[-1]


@pytest.fixture(scope="module")
def reference():
    weights = CLUEWeights(adversarial=0.3, cross=0.3, joint=0.3, agreement=0.3)
    return weights, fit_clue(make_mosaic(), MODALITIES, weights=weights)


def test_features_drawn_per_step_estimate_the_loss_of_all():
    changes = {"dropout_rate": 0.0, "align_dropout": 0.0, "align_input_dropout": 0.0}
    some, every = (
        build_clue(make_mosaic(), MODALITIES, weights=only(data=1.0), options=options(n_features_per_step=n, **changes))
        for n in (6, None)
    )
    some.module.load_state_dict(every.module.state_dict())
    batch = every.adata_manager.create_torch_dataset()[np.arange(84)]
    inferred = every.module.train().inference(batch)
    samples = {name: latent.mean for name, latent in inferred["latents"].items()}
    generated = {"samples": samples, "fused": masked_mean(samples, inferred["present"])}
    exact = float(every.module.loss(batch, inferred, generated).loss)
    torch.manual_seed(0)
    some.module.train()
    drawn = np.array([float(some.module.loss(batch, inferred, generated).loss) for _ in range(400)])
    assert drawn.std() > 0.01
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(len(drawn))
    some.module.eval()
    fixed = {float(some.module.loss(batch, inferred, generated).loss) for _ in range(3)}
    assert len(fixed) == 1, "validation must not be a lottery"


def test_fusion_in_training_is_that_of_inference():
    for fusion in ("poe", "poe_prior"):
        model = build_clue(make_mosaic(), MODALITIES, fusion=fusion)
        batch = model.adata_manager.create_torch_dataset()[np.arange(84)]
        inferred = model.module.eval().inference(batch)
        expected = fuse(inferred["latents"], inferred["present"], fusion)
        torch.manual_seed(0)
        drawn = torch.stack([model.module.generative(inferred)["fused"] for _ in range(500)])
        error = (drawn.mean(0) - expected.mean).abs() / (expected.scale / np.sqrt(500))
        assert float(error.detach().max()) < 5.5


def test_a_second_training_goes_on(model):
    again = fit_clue(make_mosaic(), MODALITIES)
    n = len(again.history["train_loss"])
    train(again, max_epochs=1)
    assert len(again.history["train_loss"]) == n + 1
