from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from smalti.train import MosaicPlan, PlanOptions, RestoreBest, WriteCheckpoint
from smalti.train._callbacks import SeedEpochs

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec.*", "ignore:.*have no `val_dataloader`"
)


class Script(Callback):
    """Sets the weight of the network, and with it the monitor, at the end of every training epoch's batches."""

    def __init__(self, weights):
        self.weights = weights

    def on_validation_start(self, trainer, pl_module):
        with torch.no_grad():
            pl_module.module.weight.fill_(self.weights[trainer.current_epoch])


# the monitor is (weight - 1)^2
SCRIPTS = {"middle": ([3.0, 1.5, 4.0, 2.0], 1), "first": ([1.0, 2.0, 3.0], 0), "last": ([3.0, 2.0, 1.25], 2)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_weights_of_the_best_epoch_come_back(toy, fit, script):
    weights, best = SCRIPTS[script]
    module, callback = toy(), RestoreBest("monitor_validation")
    fit(MosaicPlan(module), max_epochs=len(weights), callbacks=[Script(weights), callback])
    assert module.weight.item() == weights[best]
    assert callback.best_epoch == best
    assert callback.best == pytest.approx((weights[best] - 1) ** 2)


def test_equal_epochs_keep_the_first(toy, fit):
    callback = RestoreBest("monitor_validation")
    fit(MosaicPlan(toy()), max_epochs=3, callbacks=[Script([1.5, 1.5, 1.5]), callback])
    assert callback.best_epoch == 0


def test_without_the_monitor_the_last_weights_stay(toy, fit):
    module = toy()
    fit(MosaicPlan(module, PlanOptions(lr=0.1)), callbacks=[RestoreBest("monitor_validation")], validate=False)
    assert module.weight.item() > module.diary["weight"][-1] > 0


def test_what_is_kept_is_a_copy():
    callback = RestoreBest("m")
    assert callback.state_dict() == {"best": float("inf"), "best_epoch": -1, "weights": None}
    other = RestoreBest("m")
    other.load_state_dict({"best": 0.5, "best_epoch": 3, "weights": {"w": torch.ones(2)}})
    assert (other.best, other.best_epoch) == (0.5, 3)
    torch.testing.assert_close(other.state_dict()["weights"]["w"], torch.ones(2))


def test_the_best_so_far_survives_an_interruption(toy, fit, tmp_path):
    path = tmp_path / "state.ckpt"
    weights = [3.0, 1.5, 4.0, 2.0]

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 3:
                raise InterruptedError

    callbacks = [Script(weights), RestoreBest("monitor_validation"), WriteCheckpoint(path), Stop()]
    with pytest.raises(InterruptedError):
        fit(MosaicPlan(toy()), max_epochs=4, callbacks=callbacks)
    module, callback = toy(), RestoreBest("monitor_validation")
    fit(MosaicPlan(module), max_epochs=4, callbacks=[Script(weights), callback], ckpt_path=path)
    assert (module.weight.item(), callback.best_epoch) == (1.5, 1)
    assert len(module.diary["kl_validation"]) == 5  # only the last epoch was run again


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (9, [])])
def test_checkpoints_are_written_at_the_end_of_every_so_many_epochs(toy, fit, tmp_path, every, epochs):
    path, seen = tmp_path / "deep" / "state.ckpt", []

    class Look(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if path.exists():
                seen.append(torch.load(path, weights_only=True)["epoch"])

    fit(MosaicPlan(toy()), max_epochs=5, callbacks=[WriteCheckpoint(path, every), Look()])
    assert path.exists() == bool(epochs)
    written = sorted({*seen, *([torch.load(path, weights_only=True)["epoch"]] if epochs else [])})
    assert written == epochs


def test_a_checkpoint_holds_optimiser_and_schedule_as_plain_values(toy, fit, tmp_path):
    path = tmp_path / "state.ckpt"
    fit(MosaicPlan(toy()), max_epochs=2, n_batches=5, callbacks=[WriteCheckpoint(path)])
    state = torch.load(path, weights_only=True)
    assert state["lr_schedulers"][0]["last_epoch"] == 10
    assert float(next(iter(state["optimizer_states"][0]["state"].values()))["step"]) == 10


def test_random_numbers_of_an_epoch_depend_on_seed_and_epoch_alone(toy, fit):
    def draws(seed, spend, max_epochs=2):
        out = []

        class Draw(Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
                out.append(torch.rand(()).item())

            def on_validation_end(self, trainer, pl_module):
                torch.rand(spend)

        with torch.random.fork_rng():
            fit(MosaicPlan(toy()), max_epochs=max_epochs, n_batches=3, callbacks=[SeedEpochs(seed), Draw()])
        return out

    one = draws(0, 0)
    assert len(set(one)) == 6
    assert draws(0, 17) == one
    assert draws(0, 0, max_epochs=3)[:6] == one
    assert set(draws(1, 0)).isdisjoint(one)


def test_a_part_of_the_network_keeps_its_own_best_epoch() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    class Plan:
        module = Two()

    class State:
        sanity_checking, current_epoch = False, 0
        callback_metrics: dict[str, float] = {}

    callbacks = [RestoreBest("all"), RestoreBest("part", only=("b.",))]
    assert len({callback.state_key for callback in callbacks}) == 2
    for epoch, (whole, part) in enumerate([(3.0, 1.0), (2.0, 5.0), (4.0, 4.0)]):
        State.current_epoch, State.callback_metrics = epoch, {"all": whole, "part": part}
        with torch.no_grad():
            for parameter in Plan.module.parameters():
                parameter.fill_(epoch)
        for callback in callbacks:
            callback.on_validation_end(State(), Plan())
    for callback in callbacks:
        callback.on_train_end(State(), Plan())
    assert Plan.module.a.weight.item() == 1
    assert Plan.module.b.weight.item() == 0
