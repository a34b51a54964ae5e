"""Training that was interrupted goes on as if it had not been."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _factories import make_mosaic
from lightning.pytorch.callbacks import Callback

import smalti as sm
from smalti._errors import UnsafeFileError

OPTIONS = {"accelerator": "cpu", "progress": False, "batch_size": 32}
WEIGHTS = {"one optimiser": {}, "two optimisers": {"adversarial": 0.1}}


class Interrupted(Exception):
    pass


class StopAt(Callback):
    """Interrupts training before an epoch; notes the epochs that ran."""

    def __init__(self, epoch=None):
        self.epoch, self.ran = epoch, []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise Interrupted
        self.ran.append(trainer.current_epoch)


def new_model(weights):
    mdata = make_mosaic()
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return sm.model.CLUE(mdata, n_components=5, weights=weights, options={"n_features_per_step": 8})


def assert_same_weights(model, other):
    for name, weight in other.module.state_dict().items():
        torch.testing.assert_close(model.module.state_dict()[name], weight, rtol=0, atol=0, msg=name)


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("train_size", [0.8, 1.0])
def test_two_plus_two_epochs_are_four(tmp_path, weights, train_size):
    path, weights = tmp_path / "state.ckpt", WEIGHTS[weights]
    straight = new_model(weights)
    straight.train(max_epochs=4, train_size=train_size, **OPTIONS)
    with pytest.raises(Interrupted):
        new_model(weights).train(
            max_epochs=4,
            train_size=train_size,
            checkpoint=path,
            trainer_kwargs={"callbacks": [StopAt(2)]},
            **OPTIONS,
        )
    assert torch.load(path, weights_only=True)["epoch"] == 1
    resumed, watch = new_model(weights), StopAt()
    resumed.train(
        max_epochs=4,
        train_size=train_size,
        checkpoint=path,
        resume=True,
        trainer_kwargs={"callbacks": [watch]},
        **OPTIONS,
    )
    assert watch.ran == [2, 3]
    assert_same_weights(resumed, straight)
    np.testing.assert_array_equal(resumed.get_latent_representation(), straight.get_latent_representation())
    assert torch.load(path, weights_only=True)["epoch"] == 3


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_resuming_a_finished_training_changes_nothing(tmp_path):
    path = tmp_path / "state.ckpt"
    model = new_model({})
    model.train(max_epochs=3, train_size=0.8, checkpoint=path, plan_kwargs={"lr": 0.05}, **OPTIONS)
    again, watch = new_model({}), StopAt()
    again.train(
        max_epochs=3,
        train_size=0.8,
        checkpoint=path,
        resume=True,
        plan_kwargs={"lr": 0.05},
        trainer_kwargs={"callbacks": [watch]},
        **OPTIONS,
    )
    assert watch.ran == []
    assert_same_weights(again, model)


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_training_depends_on_the_seed_alone():
    models = []
    for noise in (0, 11):
        torch.rand(noise)  # what ran before must not matter
        models.append(new_model({}))
        models[-1].train(max_epochs=2, **OPTIONS)
    assert_same_weights(*models)


def test_a_checkpoint_that_holds_more_than_plain_values_is_not_opened(tmp_path):
    path = tmp_path / "state.ckpt"
    torch.save({"state_dict": {}, "payload": StopAt(1)}, path)
    with pytest.raises(UnsafeFileError, match="holds more than tensors and plain values"):
        new_model({}).train(max_epochs=1, checkpoint=path, resume=True, **OPTIONS)
