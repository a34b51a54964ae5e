from __future__ import annotations

import numpy as np
import pytest
import torch
from _factories import make_mosaic
from _modis import SCALED, build_modis, only, options, planted

from smalti.losses import energy_distance, modality_game
from smalti.model.modis._loss import JudgedProfiles, Profiles, comparable


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch_of(model, cells=slice(None)):
    n = model.adata.n_obs
    return model.adata_manager.create_torch_dataset()[np.arange(n)[cells]]


def evaluated(model, tensors, *, training=False):
    module = model.module.train(training)
    inferred, _, out = module(tensors, loss_kwargs={"kl_weight": 1.0})
    return inferred, out


def gradients(model, loss):
    model.module.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None and p.grad.any()}


def of_encoders(found):
    return [name for name in found if name.startswith("encoders")]


@pytest.fixture(scope="module")
def mdata():
    return planted(240)


@pytest.mark.parametrize("adversary", ["ovr", "pairwise", "ce", "uniform"])
def test_the_game_reaches_the_encoders_alone_and_the_discriminator_plays_its_own(mdata, adversary):
    model = build_modis(mdata, SCALED, options=options(adversary=adversary), weights=only(adversarial=1.0))
    tensors = batch_of(model)
    inferred, out = evaluated(model, tensors)
    found = gradients(model, out.loss)
    assert of_encoders(found)
    assert not [name for name in found if name.startswith("decoding.decoders")]
    assert out.loss.item() == pytest.approx(out.extra_metrics["adversarial"].item())
    found = gradients(model, model.module.discriminator_loss(tensors, inferred))
    assert found
    assert all(name.startswith("discriminator") for name in found)


def test_the_game_flips_with_the_modality(mdata):
    model = build_modis(mdata, SCALED, options=options(class_conditional=False))
    module, tensors = model.module.eval(), batch_of(model)
    inferred = module.inference(tensors)
    rows = module.profiles(tensors, inferred["latents"], module.generative(inferred)["samples"])
    z = rows.mean.detach().requires_grad_()
    grads = []
    for modality in (rows.modality, 1 - rows.modality):
        loss = modality_game("ovr", "encoder", module.discriminator(z).modality, modality)
        grads.append(torch.autograd.grad(loss, z)[0])
    assert grads[0].abs().max() > 0
    cosine = torch.nn.functional.cosine_similarity(grads[0].ravel(), grads[1].ravel(), dim=0)
    assert cosine < -0.5


@pytest.mark.parametrize(
    ("labels", "detached"), [(True, {}), (True, {"detach_shared": False}), (False, {}), (True, {"n_private": 0})]
)
def test_reconstruction_leaves_the_shared_latent_alone_where_labels_shape_it(mdata, labels, detached):
    setup = {} if labels else {"labels_key": None}
    model = build_modis(mdata, SCALED, setup=setup, options=options(**detached), weights=only(data=1.0, shared=1.0))
    _, out = evaluated(model, batch_of(model))
    found = gradients(model, out.loss)
    grad = found.get("encoders.members.m_a.linear.linear.weight")
    shared = 0.0 if grad is None else float(grad[: model.module.n_latent].abs().max())
    assert (shared == 0) == (labels and not detached)
    assert any(name.startswith("decoding.decoders") for name in found)


def test_alignment_is_the_energy_distance_of_means_within_classes(mdata):
    model = build_modis(mdata, SCALED, weights=only(alignment=3.0))
    tensors = batch_of(model)
    inferred, out = evaluated(model, tensors)
    codes = model.adata_manager.codes()["labels"]
    here = tensors["present"].numpy()
    z = torch.cat([inferred["latents"][name].mean[:, : model.module.n_latent] for name in "ab"])
    group = torch.from_numpy(np.concatenate([codes[here[:, 0]], codes[here[:, 1]]]))
    modality = torch.from_numpy(np.repeat([0, 1], here.sum(0)))
    expected = energy_distance(z, modality, 2, group)
    torch.testing.assert_close(out.extra_metrics["alignment"], expected.detach())
    torch.testing.assert_close(out.loss, 3 * expected)


def test_confident_predictions_count_as_classes_and_others_stay_out(mdata):
    model = build_modis(mdata, SCALED)
    logits = torch.tensor([[9.0, 0, 0], [0.5, 0, 0], [0, 9.0, 0], [0, 0, 0]])
    said = model.module.discriminator(torch.randn(4, model.module.n_latent))._replace(label=logits)
    nothing = torch.empty(4, 0)
    rows = Profiles(nothing, nothing, torch.zeros(4), torch.tensor([-1, -1, 2, 1]))
    judged = JudgedProfiles(said, rows, model.module.frequency, True)
    assert comparable(model.options, judged).tolist() == [0, -1, 2, 1]
    assert comparable(options(class_conditional=False), judged) is None
    assert comparable(model.options, judged._replace(has_labels=False)) is None


def test_pairs_are_used_where_there_are_any():
    for pattern in ("paired", "diagonal"):
        model = build_modis(planted(120, pattern=pattern), SCALED)
        _, out = evaluated(model, batch_of(model))
        for term in ("consistency", "cross"):
            assert (out.extra_metrics[term].item() > 0) == (pattern == "paired"), term


def test_consistency_is_the_mean_squared_distance_of_shared_latents():
    model = build_modis(planted(60, pattern="paired"), SCALED, weights=only(consistency=1.0))
    inferred, out = evaluated(model, batch_of(model))
    a, b = (inferred["latents"][name].mean[:, : model.module.n_latent] for name in "ab")
    torch.testing.assert_close(out.loss, (a - b).square().mean())
    assert of_encoders(gradients(model, out.loss))


def test_cross_reconstruction_trains_the_encoder_of_one_and_the_decoder_of_the_other():
    model = build_modis(planted(60, pattern="paired"), SCALED, weights=only(cross=1.0))
    found = gradients(model, evaluated(model, batch_of(model))[1].loss)
    for name in "ab":
        assert any(key.startswith(f"encoders.members.m_{name}") for key in found)
        assert any(key.startswith(f"decoding.decoders.members.m_{name}") for key in found)


def test_the_monitor_is_what_the_fit_is_judged_by_alone(mdata):
    weights = {"data": 2.0, "shared": 0.5, "kl": 0.7, "cross": 1.0, "label": 3.0}
    model = build_modis(mdata, SCALED, weights=only(**weights, kl_shared=1.0, alignment=4.0, usage=2.0))
    out = evaluated(model, batch_of(model))[1].extra_metrics
    expected = sum(weight * out[name] for name, weight in weights.items())
    torch.testing.assert_close(out["monitor"], expected)


def test_squared_error_is_the_mean_over_features_of_standardised_values(mdata):
    paper = {"ratios": (1.0, 0.5), "discriminator_widths": (8,)}
    model = build_modis(mdata, SCALED, preset="paper-intersim", options=paper, weights=only(data=1.0), n_latent=4)
    tensors = batch_of(model)
    errors = {}
    inputs = model.module.train(False)
    torch.manual_seed(0)
    _, out = evaluated(model, tensors)
    torch.manual_seed(0)
    inferred = inputs.inference(tensors)
    samples = inputs.generative(inferred)["samples"]
    for name, z in samples.items():
        x = np.asarray(mdata[name].X)
        x = torch.from_numpy((x - x.mean(0)) / x.std(0)).float()
        names = mdata.obs_names[tensors["present"][:, model.modalities.index(name)].numpy()]
        x = x[mdata[name].obs_names.get_indexer(names)]
        errors[name] = (x - model.module.decoding.decoders[name](z)[0]).square().mean()
    constant = [out.extra_metrics[f"nll_{name}"] - errors[name] for name in "ab"]
    assert float(constant[0]) == pytest.approx(float(constant[1]), abs=1e-3)  # differs from it by a number
    assert float(constant[0]) == pytest.approx(0.5 * np.log(np.pi), abs=2e-3)


def test_only_samples_of_small_classes_borrow_and_only_in_training():
    mdata = planted(240)
    a = np.flatnonzero(mdata.obs_names.isin(mdata["a"].obs_names))
    kind = mdata.obs["label"].cat.add_categories("unknown")
    rare = [i for i in a if kind.iloc[i] == "label_2"]
    kind.iloc[rare[2:]] = "unknown"
    mdata.obs["label"] = kind
    model = build_modis(mdata, SCALED)
    model._before_training(type("Split", (), {"train_idx": np.arange(240), "presence": model.adata_manager.presence()}))
    assert model.module.references["a"].count.tolist()[2] == 2
    tensors = batch_of(model, slice(None))
    hits = np.zeros(240, dtype=int)
    for _ in range(20):
        altered = model.module.train().inference(tensors)["borrowed"]
        hits[a[altered["a"].numpy()]] += 1
        assert not altered["b"].any()
    assert set(np.flatnonzero(hits)) == set(rare[:2])
    assert not model.module.eval().inference(tensors)["borrowed"]["a"].any()


def test_a_batch_without_anything_to_compare_has_a_finite_loss():
    model = build_modis(make_mosaic(n_obs=60, pattern="diagonal"))
    for cells in (slice(0, 1), slice(0, 2)):
        tensors = batch_of(model, cells)
        inferred, out = evaluated(model, tensors, training=True)
        assert torch.isfinite(out.loss)
        assert torch.isfinite(model.module.discriminator_loss(tensors, inferred))
