from __future__ import annotations

import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from smalti._errors import NonFiniteLossError
from smalti.train import AdversarialPlan, MosaicPlan, PlanOptions

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec.*", "ignore:.*have no `val_dataloader`"
)
PLANS = {"one optimiser": (MosaicPlan, False), "two optimisers": (AdversarialPlan, True)}


class Watch(Callback):
    """Notes learning rates before, and gradient norms after, every batch."""

    def __init__(self):
        self.lrs, self.norms = [], []

    def on_train_start(self, trainer, pl_module):
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self.note_norm)

    def note_norm(self, optimizer, args, kwargs):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.norms.append(float(torch.stack([g.norm() for g in grads]).norm()))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.lrs.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])


@pytest.fixture(params=PLANS)
def kind(request):
    return PLANS[request.param]


def lr_factor(step, n_steps, warmup, schedule="cosine"):
    factor = min(1, (step + 1) / warmup) if warmup else 1
    return factor * (0.5 * (1 + math.cos(math.pi * step / n_steps)) if schedule == "cosine" else 1)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates_rise_and_fall_by_batches_whatever_the_number_of_optimisers(toy, fit, kind, schedule, warmup):
    plan_cls, adversary = kind
    watch = Watch()
    plan = plan_cls(toy(adversary=adversary), PlanOptions(lr=0.1, n_steps_warmup=warmup, lr_schedule=schedule))
    fit(plan, n_batches=5, max_epochs=3, callbacks=[watch])
    expected = [0.1 * lr_factor(i, 15, warmup, schedule) for i in range(15)]
    for lrs in zip(*watch.lrs, strict=True):
        assert lrs == pytest.approx(expected)
    assert len(watch.lrs[0]) == (2 if adversary else 1)


def test_the_warm_up_can_be_a_share_of_all_steps(toy, fit, kind):
    plan_cls, adversary = kind
    watch = Watch()
    plan = plan_cls(toy(adversary=adversary), PlanOptions(lr=0.1, warmup_share=0.4, n_steps_warmup=1))
    fit(plan, n_batches=5, max_epochs=3, callbacks=[watch])
    expected = [0.1 * lr_factor(i, 15, 6) for i in range(15)]
    for lrs in zip(*watch.lrs, strict=True):
        assert lrs == pytest.approx(expected)


def test_only_matrices_decay_if_asked_for(toy, kind):
    plan_cls, adversary = kind
    module = toy(adversary=adversary)
    module.more = torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 2), "norm": torch.nn.LayerNorm(2)})
    module.tokens, module.skip_weight = (torch.nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    module.bias = torch.nn.Parameter(torch.ones(2, 3))
    for decay in ("all", "matrices"):
        plan = plan_cls(module, PlanOptions(weight_decay=0.5, decay=decay))
        optimizer = plan.make_optimizer(list(module.parameters()))
        found = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert len(found) == len(list(module.parameters()))
        more = module.more
        assert found[id(more["layer"].weight)] == found[id(module.skip_weight)] == 0.5
        for free in (more["layer"].bias, more["norm"].weight, more["norm"].bias, module.tokens, module.bias):
            assert found[id(free)] == (0.5 if decay == "all" else 0.0)


def test_the_discriminator_may_have_its_own_rate_on_the_same_schedule(toy, fit):
    watch = Watch()
    plan = AdversarialPlan(toy(adversary=True), PlanOptions(lr=0.1, discriminator_lr=0.4, n_steps_warmup=2))
    fit(plan, callbacks=[watch])
    assert [d / g for g, d in watch.lrs] == pytest.approx([4] * 10)


@pytest.mark.parametrize(("warmup", "ramp"), [(0.5, 5), (0.25, 2.5), (1.0, 10), (0.0, 0)])
def test_the_divergence_warms_up_by_batches_and_has_full_weight_in_validation(toy, fit, kind, warmup, ramp):
    plan_cls, adversary = kind
    module = toy(adversary=adversary)
    trainer = fit(plan_cls(module, PlanOptions(kl_warmup=warmup)), n_batches=5, max_epochs=2)
    expected = [min(1, (i + 1) / ramp) if ramp else 1 for i in range(10)]
    assert module.diary["kl_train"] == pytest.approx(expected)
    assert module.diary["kl_validation"] == [1.0] * 10
    assert trainer.global_step == (20 if adversary else 10)  # the count that must not be used


def test_noise_falls_from_one_to_zero_over_the_burn_in(toy, fit):
    module = toy(adversary=True)
    fit(AdversarialPlan(module, PlanOptions(burn_in=0.4)), n_batches=5, max_epochs=2)
    assert module.diary["noise"] == pytest.approx([0.75, 0.5, 0.25, 0, 0, 0, 0, 0, 0, 0])
    module = toy(adversary=True)
    fit(AdversarialPlan(module, PlanOptions(burn_in=0)), n_batches=5, max_epochs=1)
    assert module.diary["noise"] == [0] * 5


def test_each_optimiser_moves_its_own_weights_only(toy, fit):
    for lr, discriminator_lr in ((0.0, 0.1), (0.1, 0.0)):
        module = toy(adversary=True)
        before = module.discriminator.weight.detach().clone()
        options = PlanOptions(lr=lr, discriminator_lr=discriminator_lr, weight_decay=0)
        fit(AdversarialPlan(module, options), max_epochs=1)
        assert (module.weight.item() != 0) == (lr > 0)
        assert bool((module.discriminator.weight != before).any()) == (discriminator_lr > 0)


def test_the_discriminator_plays_as_often_as_asked(toy, fit):
    for n in (1, 3):
        module = toy(adversary=True)
        fit(AdversarialPlan(module, PlanOptions(n_discriminator_steps=n)), n_batches=5, max_epochs=2, validate=False)
        assert module.diary["games"] == 10 * n
    with pytest.raises(ValueError, match="`n_discriminator_steps` to be a whole number >= 1, found 0"):
        AdversarialPlan(toy(adversary=True), PlanOptions(n_discriminator_steps=0))


@pytest.mark.parametrize("optimizer", ["AdamW", "RMSprop"])
def test_training_finds_the_minimum(toy, fit, kind, optimizer):
    plan_cls, _ = kind
    module = toy(adversary=plan_cls is AdversarialPlan, scale=1000)  # so that the adversary's pull is small
    fit(plan_cls(module, PlanOptions(lr=0.05, n_steps_warmup=0, optimizer=optimizer)), n_batches=20, max_epochs=10)
    assert module.weight.item() == pytest.approx(1, abs=0.05)


def test_gradients_are_clipped_at_the_limit(toy, fit, kind):
    plan_cls, adversary = kind
    for limit, largest in ((0.5, 0.5), (None, 100)):
        watch = Watch()
        plan = plan_cls(toy(adversary=adversary, scale=1000), PlanOptions(gradient_clip=limit, lr=1e-6))
        fit(plan, callbacks=[watch])
        if limit is None:
            assert max(watch.norms) > largest
        else:
            assert max(watch.norms) == pytest.approx(largest, rel=1e-3)


def test_small_gradients_are_left_as_they_are(toy, fit):
    watch = Watch()
    fit(MosaicPlan(toy(scale=0.5), PlanOptions(gradient_clip=10.0, lr=0.0)), callbacks=[watch])
    assert watch.norms == pytest.approx([1.0] * 10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("term", ["fit", "kl"])
def test_a_loss_that_is_not_finite_stops_training_and_names_the_term(toy, fit, kind, term, training):
    plan_cls, adversary = kind
    module = toy(adversary=adversary, broken=(term, training))
    with pytest.raises(NonFiniteLossError, match=f"loss became nan; terms that are not finite: {term}, monitor.*lr"):
        fit(plan_cls(module))
    assert len(module.diary["kl_train"]) == (1 if training else 5)
    assert math.isfinite(float(module.weight.detach()))


def test_logged_means_are_weighted_by_cells_and_start_anew_each_epoch(toy, fit):
    # one cell of value 1 and three of value 3, all predicted as 0
    trainer = fit(MosaicPlan(toy(), PlanOptions(lr=0.0)), sizes=[1, 3], max_epochs=2)
    for name in ("train_loss", "validation_loss", "fit_train", "monitor_validation"):
        assert float(trainer.callback_metrics[name]) == pytest.approx((1 * 1 + 3 * 9) / 4)


def test_means_of_uneven_batches_are_those_of_all_cells():
    from scvi.module.base import LossOutput

    from smalti.train._means import EpochMeans

    means = EpochMeans()
    for values in (torch.tensor([1.0]), torch.tensor([2.0, 3.0, 6.0])):
        means.add(
            LossOutput(
                loss=values.mean(),
                reconstruction_loss={"m": values},
                kl_local=2 * values,
                extra_metrics={"monitor": values.mean()},
            ),
            game=values.mean(),
        )
    out = means.pop()
    assert float(out["loss"]) == float(out["monitor"]) == float(out["game"]) == 3
    assert float(out["reconstruction_loss"]) == 3
    assert float(out["kl_local"]) == 6
    assert float(out["elbo"]) == 9
    assert means.pop() == {}


@pytest.mark.parametrize(("warmup", "length"), [(0.5, 5), (0.1, 1), (1.0, 10), (0.0, 0)])
def test_the_game_warms_up_by_batches_whatever_the_number_of_optimisers(toy, fit, warmup, length):
    seen = []

    class Player(toy):
        def loss(self, *args, **kwargs):
            if self.training:
                seen.append(self.game_ramp)
            return super().loss(*args, **kwargs)

    module = Player(adversary=True)
    fit(AdversarialPlan(module, PlanOptions(game_warmup=warmup)), n_batches=5, max_epochs=2)
    assert seen == pytest.approx([min(1, (i + 1) / length) if length else 1 for i in range(10)])


def test_moments_reach_every_optimiser(toy, fit, kind):
    plan_cls, adversary = kind
    for options, expected in ((PlanOptions(betas=(0.5, 0.99)), (0.5, 0.99)), (PlanOptions(), (0.9, 0.999))):
        trainer = fit(plan_cls(toy(adversary=adversary), options), max_epochs=1)
        assert [o.param_groups[0]["betas"] for o in trainer.optimizers] == [expected] * (2 if adversary else 1)


@pytest.mark.parametrize(("name", "value"), [("betas", (0.5, 1.5)), ("game_warmup", -0.1), ("game_warmup", 2)])
def test_impossible_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        PlanOptions(**{name: value})
