"""A training that is stopped or fails leaves a model that can be used, and says where it went wrong."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from _factories import make_mosaic
from lightning.pytorch.callbacks import Callback

from smalti._errors import NonFiniteLossError, UnsafeFileError
from smalti.model import CLUE

QUIET = {"progress": False, "accelerator": "cpu", "batch_size": 16}


def make(seed: int = 0, **changes):
    mdata = make_mosaic(n_obs=60, seed=seed)
    CLUE.setup_mudata(mdata, batch_key="batch")
    return CLUE(mdata, n_components=5, n_latent=4, n_hidden=16, options={"n_features_per_step": 8}, **changes)


class At(Callback):
    """Does something when an epoch has come so far."""

    def __init__(self, epoch, call):
        self.epoch, self.call = epoch, call

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            self.call()


def press():
    os.kill(os.getpid(), signal.SIGINT)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", [press, interrupt])
def test_ctrl_c_keeps_history_and_a_usable_model(how, capsys):
    model, handler = make(), signal.getsignal(signal.SIGINT)
    with pytest.warns(UserWarning, match=r"stopped after \d epochs"):
        model.train(6, trainer_kwargs={"callbacks": [At(2, how)]}, **QUIET)
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.is_trained_
    assert 2 <= len(model.history["train_loss"]) <= 3
    assert np.isfinite(model.get_latent_representation()).all()
    assert "Exception raised" not in capsys.readouterr().out
    model.train(1, **QUIET)


def test_a_model_that_was_stopped_before_its_first_epoch_is_not_trained():
    model = make()
    before = {name: w.clone() for name, w in model.module.state_dict().items()}
    with pytest.warns(UserWarning, match="stopped after 0 epochs"):
        model.train(6, trainer_kwargs={"callbacks": [At(0, interrupt)]}, **QUIET)
    assert not model.is_trained_
    assert set(before) == set(model.module.state_dict())


def test_a_loss_that_is_not_finite_names_modality_batch_and_cell_and_leaves_good_weights():
    model = make()
    mdata = model.adata
    name = mdata["c"].obs_names[3]

    def spoil():
        mdata["c"].X[3] = np.nan

    with pytest.raises(NonFiniteLossError, match=rf"modality 'c' stands out most.*'{name}'.*of batch '"):
        model.train(9, train_size=1.0, trainer_kwargs={"callbacks": [At(1, spoil)]}, **QUIET)
    assert not model.is_trained_
    assert all(bool(torch.isfinite(w).all()) for w in model.module.state_dict().values() if w.is_floating_point())


def test_other_errors_come_through_as_they_are(capsys):
    def fail():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="^mine$"):
        make().train(3, trainer_kwargs={"callbacks": [At(1, fail)]}, **QUIET)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------ checkpoints


def test_a_checkpoint_of_other_data_options_or_cells_is_refused(tmp_path):
    path = tmp_path / "state.ckpt"
    make().train(1, checkpoint=path, **QUIET)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="of another training: data, validation cells differ"):
        make(seed=1).train(2, checkpoint=path, resume=True, **QUIET)
    with pytest.raises(ValueError, match="options of the model differ"):
        make(fusion="poe").train(2, checkpoint=path, resume=True, **QUIET)
    with pytest.raises(ValueError, match="validation cells differ"):
        make().train(2, checkpoint=path, resume=True, validation_indices=[0, 1], **QUIET)
    assert path.read_bytes() == before
    make().train(2, checkpoint=path, resume=True, **QUIET)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_called_damaged(tmp_path, share):
    path = tmp_path / "state.ckpt"
    make().train(1, checkpoint=path, **QUIET)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnsafeFileError, match="is damaged"):
        make().train(2, checkpoint=path, resume=True, **QUIET)


def test_flipped_bits_of_a_checkpoint_are_seen(tmp_path):
    path = tmp_path / "state.ckpt"
    make().train(1, checkpoint=path, **QUIET)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)
    with pytest.raises(UnsafeFileError, match="is damaged"):
        make().train(2, checkpoint=path, resume=True, **QUIET)


def test_a_folder_as_checkpoint_is_found_out_before_training(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        make().train(1, checkpoint=tmp_path, **QUIET)
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob(".*ckpt*")) == []


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_epochs": 1.5}, "max_epochs.*whole number"), ({"max_epochs": "3"}, "max_epochs.*whole number"),
        ({"max_epochs": 0}, "max_epochs.*>= 1"), ({"batch_size": "8"}, "batch_size.*whole number"),
        ({"batch_size": 2.5}, "batch_size.*whole number"), ({"train_size": "0.9"}, "train_size.*interval"),
        ({"paired_share": None}, "paired_share.*interval"), ({"validation_indices": [0.2, 0.5]}, "positions or"),
        ({"plan_kwargs": {"lr": "1e-3"}}, "`lr`.*finite number"), ({"plan_kwargs": {"kl_warmup": "0"}}, "kl_warmup"),
        ({"max_epochs": True}, "max_epochs.*whole number"), ({"validation_indices": ["a"]}, "positions or a boolean"),
    ],
    ids=str,
)  # fmt: skip
def test_arguments_of_the_wrong_kind_get_one_sentence(arguments, says):
    with pytest.raises((ValueError, TypeError), match=says):
        make().train(**{"max_epochs": 1, **QUIET, **arguments})
