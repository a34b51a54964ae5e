"""Trains one model in two processes; run by ``test_distributed.py`` as a script, once per process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from contract._models import MODELS
from contract.conftest import contract_mosaic
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file


class Record(Callback):
    """Remembers the cells of every training batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch["index"].tolist())


def main(index: str, folder: str) -> None:
    spec, record = MODELS[int(index)], Record()
    model = spec.build(contract_mosaic())
    options = {"strategy": "ddp", "callbacks": [record]}
    spec.fit(model, devices=2, trainer_kwargs=options, **{"max_epochs": 2, "batch_size": 24})
    rank = os.environ.get("LOCAL_RANK", "0")
    out = Path(folder)
    save_file({k: v.contiguous() for k, v in model.module.state_dict().items()}, out / f"{rank}.safetensors")
    loss = model.history["train_loss"].to_numpy().ravel().tolist() if model.history else []
    (out / f"{rank}.json").write_text(json.dumps({"batches": record.batches, "loss": loss}))


if __name__ == "__main__":
    main(*sys.argv[1:])
