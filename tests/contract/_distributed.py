"""Trains models in two processes; run by ``test_distributed.py`` as a script, by ``torchrun`` or as it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from typing import TYPE_CHECKING

from contract._models import MODELS, ModelSpec
from contract.conftest import contract_mosaic
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file

from smalti.train import _splitter

if TYPE_CHECKING:
    from smalti.model.base import MosaicModel

OPTIONS = {"max_epochs": 3, "batch_size": 24, "accelerator": "cpu", "devices": 2}
HASTY = {"lr": 0.3, "lr_schedule": "constant"}
"""With such a rate the validation loss does not fall for long."""


class Record(Callback):
    """Writes down the cells of every training batch, and where each process stopped."""

    def __init__(self, file: Path) -> None:
        self.file, self.batches = file, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append([trainer.current_epoch, batch["index"].tolist()])

    def on_train_end(self, trainer, pl_module):
        seen = {"batches": self.batches, "epochs": trainer.current_epoch}
        self.file.with_suffix(f".{trainer.global_rank}.json").write_text(json.dumps(seen))


class BreakOff(Callback):
    """Ends the training in the middle of its last epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == OPTIONS["max_epochs"] - 1:
            raise InterruptedError


def train(spec: ModelSpec, file: Path, strategy: str, **options) -> MosaicModel:
    model = spec.build(contract_mosaic())
    callbacks = [Record(file), *options.pop("callbacks", [])]
    spec.fit(model, strategy=strategy, trainer_kwargs={"callbacks": callbacks}, **{**OPTIONS, **options})
    return model


def store(model: MosaicModel, file: Path) -> None:
    model.save(file.with_suffix(".model"))  # in all processes: the second would find the folder of the first
    rank = os.environ.get("LOCAL_RANK", "0")
    weights = {k: v.contiguous().clone() for k, v in model.module.state_dict().items()}
    save_file(weights, file.with_suffix(f".{rank}.safetensors"))
    tables = {name: table.to_numpy().ravel().tolist() for name, table in model.history.items()}
    file.with_suffix(f".{rank}.history").write_text(json.dumps(tables))


def main(folder: str, strategy: str, *names: str) -> None:
    for spec in (spec for spec in MODELS if spec.name in names):
        file = Path(folder) / spec.name
        store(train(spec, file, strategy), file)
        if strategy != "ddp":
            continue
        if spec.name == "clue":  # more validation batches than one, an odd number of them, and a reason to stop
            _splitter.VALIDATION_BATCH = 24
            early = {"max_epochs": 30, "early_stopping_patience": 1, "train_size": 0.4, "plan_kwargs": HASTY}
            store(train(spec, file.with_name("stopped"), strategy, **early), file.with_name("stopped"))
            _splitter.VALIDATION_BATCH = 2048
        checkpoint = file.with_suffix(".ckpt")
        try:
            train(spec, file.with_name("broken"), strategy, checkpoint=checkpoint, callbacks=[BreakOff()])
        except InterruptedError:
            again = file.with_name(f"{spec.name}-resumed")
            store(train(spec, again, strategy, checkpoint=checkpoint, resume=True), again)


if __name__ == "__main__":
    main(*sys.argv[1:])
