"""Train CLUE in several processes: ``torchrun --nproc-per-node=2 train_in_processes.py in.h5mu model``."""

import sys

import smalti as sm


def main(data: str, folder: str, max_epochs: int | None = None) -> None:
    mdata = sm.read(data)
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    model = sm.model.CLUE(mdata)
    model.train(
        max_epochs,
        accelerator="auto",  # "cpu" where there is no GPU
        devices=2,  # processes on each machine, as many as torchrun or SLURM starts
        strategy="ddp",
        checkpoint=f"{folder}.ckpt",
        resume=True,  # the same command goes on after the time limit of a cluster
        trainer_kwargs={"num_nodes": 1},
    )
    model.save(folder, overwrite=True)  # the first process writes


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
