"""Training: what it touches, what it logs, when it stops."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from _compare import assert_same_weights, dense
from _factories import make_mosaic, numbers, stamps
from contract._models import MODELS, own_latent
from contract.conftest import contract_mosaic
from lightning.pytorch.callbacks import Callback, LambdaCallback

from smalti._errors import NonFiniteLossError
from smalti.data import presence
from smalti.train import MosaicSplitter

FITTED_AFTERWARDS = (
    "joint.",
    "matching.",
    "floor.",
    "translator.",
    "aligners.share",
    "aligners.axes",
    "aligners.n_axes",
)
"""Entries of the state that are fitted to the trained network."""


def epochs(model, key: str) -> np.ndarray:
    """Return one logged series."""
    return model.history[key][key].to_numpy(dtype=float)


class Interrupted(Exception):
    pass


def numbers_of(gradient: torch.Tensor) -> torch.Tensor:
    """Return its numbers; the gradient of an output layer has the rows of a step's features only."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def gradients_seen(module: torch.nn.Module) -> dict[str, list[float]]:
    """Return a dictionary that training fills with the largest absolute gradient of every parameter."""
    seen: dict[str, list[float]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            seen[name] = []
            parameter.register_hook(lambda g, at=name: seen[at].append(float(numbers_of(g).abs().max())))
    return seen


# ------------------------------------------------------------------- what it touches


def test_the_mosaic_has_every_pattern_and_a_batch_of_one_modality(mosaic):
    here = presence(mosaic)
    assert len(np.unique(here, axis=0)) == 7
    assert not here[(mosaic.obs["batch"] == "batch_2").to_numpy()][:, 1:].any()


def test_every_parameter_gets_a_finite_gradient_within_an_epoch_and_changes(spec, mosaic):
    model = spec.build(mosaic)
    before = {name: p.detach().clone() for name, p in model.module.named_parameters() if p.requires_grad}
    seen = gradients_seen(model.module)
    spec.fit(model, max_epochs=1, train_size=1.0)
    silent = [name for name, values in seen.items() if not any(value > 0 for value in values)]
    assert not silent
    assert all(np.isfinite(values).all() for values in seen.values())
    assert not [name for name, p in model.module.named_parameters() if name in before and torch.equal(p, before[name])]


def test_training_again_trains_in_training_mode_and_goes_on(trained_plan, tmp_path):
    # Lightning leaves modules in the mode in which it finds them, and inference puts them into evaluation mode
    spec = trained_plan.spec
    trained_plan.model.save(tmp_path / "model")
    model = spec.cls.load(tmp_path / "model", contract_mosaic(), accelerator="cpu")
    n = len(model.history["train_loss"])
    modes = []
    model.module.register_forward_pre_hook(lambda module, _: modes.append(all(m.training for m in module.modules())))
    spec.fit(model, max_epochs=1, train_size=1.0)
    assert modes
    assert all(modes)
    assert not any(module.training for module in model.module.modules())
    assert len(model.history["train_loss"]) == n + 1
    assert 0 < np.abs(own_latent(model) - own_latent(trained_plan.model)).max() < 5


def test_training_batches_hold_the_rows_of_their_cells(one_spec, mosaic):
    model = one_spec.build(mosaic)
    splitter = MosaicSplitter(model.adata_manager, batch_size=32)
    drawn = set()
    for batch in splitter.train_dataloader():
        names = mosaic.obs_names[batch["index"].numpy()]
        drawn.update(names)
        for i, name in enumerate(model.modalities):
            rows, here = dense(batch["values"][name], mosaic[name].n_vars), batch["present"][:, i].numpy()
            assert list(here) == [cell in mosaic[name].obs_names for cell in names]
            full = here & (np.abs(rows).sum(1) > 0)
            np.testing.assert_array_equal(stamps(rows)[full], numbers(names)[full])
            assert not rows[~here].any()
    assert len(drawn) > 0.7 * mosaic.n_obs


# ---------------------------------------------------------------------------- seeds


def test_the_seed_alone_decides_and_no_global_random_state_is_used_or_disturbed(trained):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002

    spec = trained.spec
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    before = states()
    again = spec.fit(spec.build(contract_mosaic()))
    latent = again.get_latent_representation()
    assert states() == before
    assert_same_weights(again.module, trained.model.module)
    np.testing.assert_array_equal(latent, trained.latent)


def test_another_seed_gives_another_model(plan_spec, trained_plan):
    other = plan_spec.fit(plan_spec.build(contract_mosaic(), random_state=1))
    assert np.abs(own_latent(other) - own_latent(trained_plan.model)).max() > 1e-3


class InterruptBefore(Callback):
    """Stops as a crash would, before an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise Interrupted


class SpoilBefore(InterruptBefore):
    """Makes the weights bad before an epoch, so that nothing after it is as good as what was before."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                for parameter in pl_module.module.parameters():
                    parameter.mul_(5)


SLOW = {"lr": 1e-5, "lr_schedule": "constant"}
"""Too slow to recover from what ``SpoilBefore`` did."""


class InterruptIn(InterruptBefore):
    """Stops as a crash would, in the middle of an epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        pass

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            raise Interrupted


def resumed(spec, path, *callbacks: Callback, epoch: int, **options):
    """Train, crash in ``epoch`` after a batch, and resume with a new model."""
    crash, kept = ({"callbacks": [*extra, *callbacks]} for extra in ([InterruptIn(epoch)], []))
    with pytest.raises(Interrupted):
        spec.fit(spec.build(contract_mosaic()), checkpoint=path, trainer_kwargs=crash, **options)
    return spec.fit(spec.build(contract_mosaic()), checkpoint=path, resume=True, trainer_kwargs=kept, **options)


RESUMED = [
    pytest.param(each, id=each.name, marks=() if each.name in ("clue", "modis") else pytest.mark.slow)
    for each in MODELS
]


@pytest.mark.parametrize("spec", RESUMED)
def test_training_that_broke_off_in_an_epoch_goes_on_to_the_numbers_of_one_that_did_not(spec, tmp_path):
    whole = spec.fit(spec.build(contract_mosaic()), max_epochs=3)
    again = resumed(spec, tmp_path / "state.ckpt", epoch=2, max_epochs=3)
    assert_same_weights(again.module, whole.module)
    assert set(again.history) == set(whole.history)
    for key in whole.history:  # of the epochs before the crash, too
        np.testing.assert_array_equal(epochs(again, key), epochs(whole, key), err_msg=key)
    assert str(again._noted()) == str(whole._noted())


def test_resumed_training_stops_early_when_uninterrupted_training_does(one_spec, tmp_path):
    options = {"max_epochs": 20, "early_stopping_patience": 2, "plan_kwargs": SLOW}
    callbacks = {"callbacks": [SpoilBefore(2)]}
    whole = one_spec.fit(one_spec.build(contract_mosaic()), trainer_kwargs=callbacks, **options)
    assert whole.trainer.current_epoch in (3, 4)
    epoch = whole.trainer.current_epoch - 1
    again = resumed(one_spec, tmp_path / "state.ckpt", SpoilBefore(2), epoch=epoch, **options)
    assert again.trainer.current_epoch == whole.trainer.current_epoch
    assert_same_weights(again.module, whole.module)


# -------------------------------------------------------------------------- history


def test_history_has_every_term_of_every_epoch(trained):
    n = trained.spec.train["max_epochs"]
    for term in (*trained.spec.terms, "monitor"):
        for part in ("train", "validation"):
            series = epochs(trained.model, f"{term}_{part}")
            assert len(series) == n, term
            assert np.isfinite(series).all(), term
    assert len(epochs(trained.model, "train_loss")) == n


def test_the_monitor_of_early_stopping_is_the_loss_without_the_terms_it_must_not_see(trained):
    model = trained.model
    if not model.gate_names():  # gates need their whole schedule: nothing stops early, the best epoch is kept
        assert model.trainer.early_stopping_callback.monitor == "monitor_validation"
    for term in trained.spec.unmonitored:
        size = np.abs(epochs(model, f"{term}_train"))  # the price of gates counts after their warm-up only
        assert (size.max() if term == "gates" else size.min()) > 1e-4, term
    for part, loss in (("train", "train_loss"), ("validation", "validation_loss")):
        share = dict.fromkeys(("separation", "corners", "usage"), getattr(model.module, "cluster_share", 1.0))
        left_out = sum(
            share.get(term, 1.0) * weight * epochs(model, f"{term}_{part}")
            for term, weight in trained.spec.unmonitored.items()
        )
        np.testing.assert_allclose(epochs(model, loss) - left_out, epochs(model, f"monitor_{part}"), rtol=1e-4)


def test_the_weights_of_the_best_epoch_are_kept(one_spec, mosaic):
    model = one_spec.build(mosaic)
    weights = []

    def spy(trainer, plan):
        weights.append({name: value.clone() for name, value in plan.module.state_dict().items()})

    callbacks = {"callbacks": [LambdaCallback(on_validation_end=spy), SpoilBefore(2)]}
    one_spec.fit(model, max_epochs=3, early_stopping=False, plan_kwargs=SLOW, trainer_kwargs=callbacks)
    best = epochs(model, "monitor_validation").argmin()
    assert best < 2
    for name, value in model.module.state_dict().items():
        if not name.startswith(FITTED_AFTERWARDS + one_spec.fitted_afterwards):
            torch.testing.assert_close(value, weights[best][name], rtol=0, atol=0)


def test_early_stopping_stops_only_if_wanted(one_spec):
    for early_stopping, expected in ((True, (3, 4)), (False, (7,))):
        options = {"early_stopping": early_stopping, "early_stopping_patience": 2, "plan_kwargs": SLOW}
        callbacks = {"callbacks": [SpoilBefore(2)]}
        model = one_spec.fit(one_spec.build(contract_mosaic()), max_epochs=7, trainer_kwargs=callbacks, **options)
        assert len(epochs(model, "train_loss")) in expected


@pytest.mark.parametrize("n", [1, 3])
def test_max_epochs_is_obeyed(one_spec, mosaic, n):
    model = one_spec.fit(one_spec.build(mosaic), max_epochs=n)
    assert len(epochs(model, "train_loss")) == n


@pytest.mark.parametrize("asked", [1, 2, None])
def test_pytorch_trains_with_the_threads_asked_for_and_has_its_own_number_afterwards(one_spec, mosaic, asked):
    before, seen = torch.get_num_threads(), []

    def look(*args):
        seen.append(torch.get_num_threads())
        raise ArithmeticError("enough seen")

    torch.set_num_threads(3)
    try:
        callbacks = {"callbacks": [LambdaCallback(on_train_batch_end=look)]}
        with pytest.raises(ArithmeticError, match="enough"):
            one_spec.fit(one_spec.build(mosaic), max_epochs=1, n_threads=asked, trainer_kwargs=callbacks)
        assert seen == [asked or 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_all_cells_can_be_trained_on(plan_spec, mosaic):
    spec = plan_spec
    model = spec.fit(spec.build(mosaic), train_size=1.0)
    assert len(model.train_indices_) == mosaic.n_obs
    assert not [key for key in model.history if "validation" in key]
    assert np.isfinite(model.get_latent_representation()).all()


def test_validation_cells_need_no_pairs(plan_spec, mosaic):
    spec = plan_spec
    single = np.flatnonzero(presence(mosaic).sum(1) == 1)
    model = spec.fit(spec.build(mosaic), validation_indices=single[:8])
    assert list(model.validation_indices_) == list(single[:8])
    assert np.isfinite(epochs(model, "monitor_validation")).all()


def test_progress_off_is_silent_and_training_leaves_no_files(one_spec, mosaic, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    one_spec.fit(one_spec.build(mosaic))
    out, err = capfd.readouterr()
    assert out == ""
    assert "Epoch" not in err
    assert list(tmp_path.iterdir()) == []


def test_progress_on_shows_a_bar(one_spec, mosaic, capfd):
    one_spec.fit(one_spec.build(mosaic), progress=True)
    assert "Epoch" in "".join(capfd.readouterr())


# ----------------------------------------------------------------------- odd batches


def test_batches_of_one_cell_train(spec):
    mdata = contract_mosaic(n_obs=50)
    model = spec.fit(spec.build(mdata), max_epochs=1, batch_size=1, validation_indices=[0])
    assert np.isfinite(epochs(model, "train_loss")).all()
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_batch_in_which_no_cell_has_a_modality_has_a_finite_loss_and_gradient(trained):
    model = trained.model
    dataset = model.adata_manager.create_torch_dataset()
    here = presence(trained.mdata)
    for column, name in enumerate(model.modalities):
        cells = np.flatnonzero(~here[:, column])[:20]
        module = deepcopy(model.module).train()
        loss = module(dataset[cells])[2].loss
        loss.backward()
        assert torch.isfinite(loss), name
        assert all(torch.isfinite(numbers_of(p.grad)).all() for p in module.parameters() if p.grad is not None), name


def test_every_pattern_trains_alone(one_spec):
    spec = one_spec
    for pattern in ("paired", "mosaic", "indirect", "diagonal"):
        changes = spec.unpaired_kwargs if pattern == "diagonal" else {}
        mdata = make_mosaic(n_obs=90, pattern=pattern)
        model = spec.fit(spec.build(mdata, **changes), max_epochs=1)
        assert np.isfinite(epochs(model, "train_loss")).all(), pattern
        assert np.isfinite(model.get_latent_representation()).all(), pattern


# ------------------------------------------------------------------------------ NaN


def test_a_weight_that_is_nan_stops_training_with_the_name_of_a_term(spec, mosaic):
    model = spec.build(mosaic)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.view(-1)[0] = torch.nan
    with pytest.raises(NonFiniteLossError, match="terms that are not finite") as error:
        spec.fit(model)
    assert any(term in str(error.value) for term in spec.terms)


# --------------------------------------------------------------------------- devices


@pytest.mark.gpu
def test_a_gpu_gives_the_latents_of_the_cpu(trained, tmp_path):
    trained.model.save(tmp_path / "model")
    model = trained.spec.cls.load(tmp_path / "model", contract_mosaic(), accelerator="gpu")
    assert model.module.device.type == "cuda"
    np.testing.assert_allclose(model.get_latent_representation(), trained.latent, atol=1e-4)


@pytest.mark.gpu
def test_training_on_a_gpu_gives_finite_latents_and_the_seed_decides(spec):
    latents = []
    for _ in range(2):
        model = spec.fit(spec.build(contract_mosaic()), accelerator="gpu")
        latents.append(model.get_latent_representation())
    assert np.isfinite(latents[0]).all()
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-3)
