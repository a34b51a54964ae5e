from __future__ import annotations

import logging
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from _factories import make_mosaic
from lightning.pytorch.strategies import DDPStrategy

import smalti as sm
from smalti.data import to_device
from smalti.model.base._checks import epochs_between_checks
from smalti.train import History, StopTogether, _processes, is_distributed, joined, one_voice, resolve_strategy
from smalti.train._processes import average_rows, gather_sums


@pytest.fixture
def two(monkeypatch):
    """Pretend to be the first of two processes; what the other one says is set by the test."""
    other = SimpleNamespace(flat=None, sums=None)
    monkeypatch.setattr(_processes, "rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(_processes.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(_processes.dist, "all_reduce", lambda flat: flat.add_(other.flat))
    monkeypatch.setattr(
        _processes.dist, "all_gather_object", lambda found, mine: found.__setitem__(slice(None), [mine, other.sums])
    )
    return other


# ---------------------------------------------------------------------------- strategies


@pytest.mark.parametrize(("name", "start"), [("ddp", "popen"), ("ddp_spawn", "spawn"), ("ddp_notebook", "fork")])
@pytest.mark.parametrize("suffix", ["", "_find_unused_parameters_true", "_find_unused_parameters_false"])
def test_every_name_gives_a_strategy_that_all_models_can_use(name, start, suffix):
    strategy = resolve_strategy(name + suffix)
    assert is_distributed(strategy)
    assert strategy._start_method == start
    assert strategy._ddp_kwargs["find_unused_parameters"] is True
    assert False in (strategy._ddp_kwargs.get(key) for key in ("forward_sync_buffers", "broadcast_buffers"))


def test_a_strategy_object_is_prepared_and_kept():
    given = DDPStrategy(process_group_backend="gloo")
    assert resolve_strategy(given) is given
    assert given._ddp_kwargs["find_unused_parameters"] is True


@pytest.mark.parametrize(
    ("devices", "nodes", "several"),
    [(1, 1, False), ("auto", 1, False), ([0], 1, False), (2, 1, True), ("2", 1, True), ([0, 1], 1, True), (1, 2, True)],
)
def test_several_devices_or_machines_mean_several_processes(devices, nodes, several):
    assert is_distributed(resolve_strategy("auto", devices, nodes)) == several


@pytest.mark.parametrize("name", ["fsdp", "deepspeed", "ddp2", "dp"])
def test_other_strategies_are_refused(name):
    with pytest.raises(ValueError, match="'ddp_spawn'"):
        resolve_strategy(name)


# ------------------------------------------------------------------- what processes share


def test_sums_of_processes_add_up_although_one_lacks_a_term(two):
    two.sums = {"loss": (6.0, 2.0), "only there": (1.0, 1.0)}
    found = gather_sums({"loss": (4.0, 8.0), "only here": (3.0, 1.0)})
    assert found == {"loss": (10.0, 10.0), "only here": (3.0, 1.0), "only there": (1.0, 1.0)}


def test_alone_nothing_is_changed():
    gradient = torch.eye(3).to_sparse().coalesce()
    average_rows([gradient])
    assert torch.equal(gradient.to_dense(), torch.eye(3))
    assert gather_sums({"loss": (1.0, 2.0)}) == {"loss": (1.0, 2.0)}


@pytest.fixture(scope="module")
def decoding():
    """A network whose output layers are sampled, and one minibatch of all cells."""
    mdata = make_mosaic(pattern="mosaic", n_obs=60, n_features={"a": 25, "b": 12})
    sm.model.CLUE.setup_mudata(mdata)
    model = sm.model.CLUE(mdata, n_components=4, options={"n_features_per_step": 8})
    dataset = model.adata_manager.create_torch_dataset(np.arange(mdata.n_obs))
    model.module.eval()
    model.module.decoding.training = True  # features are sampled, nothing is dropped out
    return model.module, to_device(dataset[np.arange(mdata.n_obs)], torch.device("cpu"))


def gradients(module, minibatch, rows, stream):
    """Return the gradients of all sampled layers for the mean over some cells."""
    decoding, z = module.decoding, torch.linspace(-1, 1, 60 * 20).view(60, 20)
    decoding.row_gradients, decoding.stream = True, stream
    z = z[:, : decoding.decoders["a"].body.blocks[0].linear.in_features]
    decoding.zero_grad()
    step = decoding.step(minibatch, module.inputs)
    decoding.nll(step, "a", z[rows], rows).mean().backward()
    weight = decoding.decoders["a"].weight
    return weight.grad.coalesce()


def test_averaged_rows_are_the_gradient_of_the_doubled_batch(decoding, two):
    module, minibatch = decoding
    rows = minibatch["cells"].having["a"]
    rows = rows[: len(rows) // 2 * 2]
    whole = gradients(module, minibatch, rows, 7)
    first, second = (gradients(module, minibatch, part, 7) for part in rows.chunk(2))
    assert torch.equal(first.indices(), second.indices())  # the same features, or sums would be wrong
    two.flat = second.values().flatten()
    average_rows([first])
    torch.testing.assert_close(first.to_dense(), whole.to_dense())
    assert first.to_dense().abs().sum() > 0


def test_the_number_of_the_step_decides_which_features_all_processes_draw(decoding):
    module, minibatch = decoding
    rows = minibatch["cells"].having["a"]
    drawn = []
    for seed, stream in ((0, 3), (1, 3), (0, 4)):
        torch.manual_seed(seed)
        drawn.append(gradients(module, minibatch, rows, stream).indices())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_process_without_a_cell_of_a_modality_gives_zeros_in_the_rows_of_the_others(decoding):
    module, minibatch = decoding
    theirs = gradients(module, minibatch, minibatch["cells"].having["a"], 5)
    mine = module.decoding.zero_row_gradient(module.decoding.decoders["a"].weight)
    assert torch.equal(mine.coalesce().indices(), theirs.indices())
    assert mine.shape == theirs.shape
    assert not mine.coalesce().values().any()
    names = [p.shape[-2] if p.dim() == 3 else len(p) for p in module.decoding.row_parameters()]
    assert set(names) == {25, 12}


# ------------------------------------------------------------------------------ manners


def test_only_the_first_process_speaks(monkeypatch, caplog):
    logger = logging.getLogger("smalti.somewhere")
    monkeypatch.setattr(_processes.rank_zero_only, "rank", 1)
    with caplog.at_level(logging.INFO, logger="smalti"):
        with warnings.catch_warnings(record=True) as heard, one_voice():
            warnings.warn("twice", UserWarning, stacklevel=1)
            logger.warning("twice")
        assert not heard
        assert not caplog.records
        monkeypatch.setattr(_processes.rank_zero_only, "rank", 0)
        with one_voice():
            logger.info("once")
    assert [record.message for record in caplog.records] == ["once"]


@pytest.mark.parametrize("others", [False, True])
def test_all_processes_stop_if_one_was_asked_to(two, others):
    strategy = SimpleNamespace(reduce_boolean_decision=lambda mine, all: mine or others)
    trainer, callback = SimpleNamespace(should_stop=False, strategy=strategy), StopTogether()
    callback.on_train_epoch_end(trainer, None)
    assert trainer.should_stop is others
    callback._ask(signal.SIGINT, None)
    callback.on_train_epoch_end(trainer, None)
    assert trainer.should_stop
    with pytest.raises(KeyboardInterrupt):
        callback._ask(signal.SIGINT, None)


# ------------------------------------------------------------------------------ history


def test_a_history_is_tables_by_name_and_a_second_training_counts_on():
    history = History()
    for epoch in range(3):
        history.add(epoch, {"loss": 1.0 / (epoch + 1)})
    history.add(2, {"rare": 5})
    tables = history.tables()
    assert tables["loss"]["loss"].tolist() == [1.0, 0.5, 1 / 3]
    assert tables["rare"].index.tolist() == [2]
    both = joined(tables, {"loss": tables["loss"].iloc[:2], "new": tables["rare"]})
    assert both["loss"].index.tolist() == [0, 1, 2, 3, 4]
    assert both["rare"] is tables["rare"]
    pd.testing.assert_frame_equal(both["new"], tables["rare"])
    assert joined(None, {}) == {}


@pytest.mark.parametrize(
    ("max_epochs", "n_val", "n_batches", "expected"),
    [
        (10, 160, 6, 1),  # short trainings are looked at after every epoch
        (60, 160, 6, 3),  # half a batch per pass, six batches per epoch: more often than every third epoch costs 4 %
        (250, 160, 6, 4),  # not more than 60 times
        (60, 2500, 90, 2),
        (5, 100_000, 3500, 1),
    ],
)
def test_validation_costs_a_few_percent(max_epochs, n_val, n_batches, expected):
    splitter = SimpleNamespace(n_val=n_val, batch_size=256, sampler=SimpleNamespace(n_batches=n_batches))
    assert epochs_between_checks(max_epochs, splitter) == expected
