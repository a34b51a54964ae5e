"""What a GPU would have to be waited for within a step, counted on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _waits import Waits
from contract._models import MODELS
from contract.conftest import contract_mosaic

from smalti.train import AdversarialPlan, MosaicPlan, MosaicSplitter, PlanOptions

RANDOM_ROWS = 18
"""Which rows of small classes borrow variation is drawn on the device, six looks per modality."""
ALLOWED = {
    "mca-decoders": 140,  # modalities are dropped at random, on the device
    "modis": RANDOM_ROWS,
    "modis-counts": RANDOM_ROWS,
    "modis-gated": RANDOM_ROWS + 2,
    "clue-gated": 2,  # the price of gates, twice
    "mca-gated": 2,
    "fusion": 4,  # whether the covariance of each pair can be factorised, and how many axes there are
    "fusion-everything": 100,  # borrowed partners are found by cluster
    "manifold": 60,
    "manifold-metacell": 45,
}
"""Most looks per step that are known and left."""


def step_of(spec, monkeypatch):
    """A step as on a GPU: targets are dense, and losses are looked at together."""
    monkeypatch.setattr("smalti.model.parts._decoding.Decoding._dense_is_better", lambda *_: True)
    monkeypatch.setattr("smalti.losses._look.may_look", lambda _: False)
    model = spec.build(contract_mosaic())
    splitter = MosaicSplitter(model.adata_manager, strata=model.strata())
    model._before_training(splitter)
    module = model.module.train()
    plan = (AdversarialPlan if model.uses_adversary else MosaicPlan)(module, PlanOptions(**model.plan_defaults()))
    plan.watch.waits = True
    for _, call in model.epoch_calls():
        call(1)
    minibatch = model.adata_manager.create_torch_dataset()[np.arange(model.adata.n_obs)]
    found = {}
    with Waits() as counted:
        outputs = module.inference(**module._get_inference_input(minibatch))
        if model.uses_adversary:
            module.discriminator_loss(minibatch, outputs).backward()
        _, _, output = plan.forward(minibatch, loss_kwargs={"kl_weight": 0.5})
        output.loss.backward()
        plan.means["train"].add(output)
    found.update(counted.found)
    return found


def test_the_count_sees_masks_and_numbers():
    x = torch.arange(4.0)
    with Waits() as counted:
        x[x > 1].sum().item()
    assert set(counted.found) == {"mask", "_local_scalar_dense"}


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_a_step_waits_for_nothing(spec, monkeypatch):
    assert sum(step_of(spec, monkeypatch).values()) <= ALLOWED.get(spec.name, 0)
