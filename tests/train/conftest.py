from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn
from torch.utils.data import DataLoader


class Toy(BaseModuleClass):
    """One weight that is pulled towards 1, and a discriminator that looks at it; keeps a diary of what it is given."""

    def __init__(self, *, adversary=False, scale=1.0, broken=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.discriminator = nn.Linear(1, 1) if adversary else None
        self.scale, self.broken = scale, broken
        self.noise_level = None
        self.diary = {"kl_train": [], "kl_validation": [], "noise": [], "weight": [], "games": 0}

    def _get_inference_input(self, tensors):
        return {"x": tensors["x"]}

    def _get_generative_input(self, tensors, inference_outputs):
        return {"z": inference_outputs["z"]}

    @auto_move_data
    def inference(self, x):
        return {"z": x * self.weight}

    @auto_move_data
    def generative(self, z):
        return {"z": z}

    def loss(self, tensors, inference_outputs, generative_outputs, kl_weight=1.0):
        z = inference_outputs["z"]
        self.diary["kl_train" if self.training else "kl_validation"].append(float(kl_weight))
        if self.training:
            self.diary["noise"].append(self.noise_level)
            self.diary["weight"].append(self.weight.item())
        fit = self.scale * (z - tensors["x"]).square().mean()
        kl = (kl_weight * 0 * z).sum()
        terms = {"fit": fit, "kl": kl}
        if self.broken and self.training == self.broken[1]:
            terms[self.broken[0]] = terms[self.broken[0]] * torch.nan
        total = sum(terms.values())
        if self.discriminator is not None:
            total = total + self.discriminator(z).mean()
        zeros = torch.zeros(len(z))
        return LossOutput(
            loss=total,
            reconstruction_loss={"m": z.detach().ravel().square()},
            kl_local=zeros,
            extra_metrics={**{k: v.detach() for k, v in terms.items()}, "monitor": total.detach()},
        )

    def discriminator_loss(self, tensors, outputs):
        self.diary["games"] += 1
        return self.discriminator(outputs["z"]).square().mean() + self.discriminator.weight.sum()

    def sample(self):
        raise NotImplementedError


@pytest.fixture
def toy():
    """The class of a network with one weight."""
    return Toy


@pytest.fixture
def fit():
    """A function that trains a plan on ``n_batches`` batches of ones per epoch and returns the trainer."""

    def fit(plan, *, n_batches=5, max_epochs=2, callbacks=(), validate=True, sizes=None, ckpt_path=None):
        """``sizes``: numbers of cells of the batches, whose values are then that number, too."""
        batches = [torch.full((n, 1), float(n)) for n in sizes] if sizes else [torch.ones(4, 1)] * n_batches

        def loader():
            return DataLoader([{"x": x} for x in batches], batch_size=None)

        trainer = Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=list(callbacks),
        )
        trainer.fit(plan, loader(), loader() if validate else None, ckpt_path=ckpt_path)
        return trainer

    return fit
