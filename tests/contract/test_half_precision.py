"""Under bfloat16 autocast likelihoods, contrastive logits and norms are still computed in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract._models import MODELS
from contract.conftest import contract_mosaic

import smalti.model.parts._decoding as decoding
from smalti.losses import info_nce
from smalti.nn import WarmEncoder

KINDS = ("clue", "clue-poe", "clue-counts", "mca", "mca-mma", "mca-decoders", "modis", "modis-label-free", "unpaired")
SPECS = [spec for spec in MODELS if spec.name in (*KINDS, "unpaired-gumbel", "fusion")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_likelihoods_see_float32_and_the_loss_is_close(spec, monkeypatch):
    model = spec.build(contract_mosaic())
    module = model.module.eval()
    batch = model.adata_manager.create_torch_dataset()[np.arange(100)]
    seen, original = [], decoding.reconstruction_nll

    def spy(family, target, heads, log_scale, *rest):
        seen.extend([heads.dtype, log_scale.dtype, torch.is_autocast_enabled("cpu")])
        return original(family, target, heads, log_scale, *rest)

    monkeypatch.setattr(decoding, "reconstruction_nll", spy)
    losses = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(module(batch)[2])
    assert set(seen) <= {torch.float32, False}
    assert losses[1].loss.dtype == torch.float32
    for name, value in losses[0].extra_metrics.items():
        if name.startswith("nll"):
            assert float(losses[1].extra_metrics[name]) == pytest.approx(float(value), rel=0.02, abs=0.02), name


def test_contrastive_logits_are_those_of_float32():
    x, y = (torch.nn.functional.normalize(torch.randn(40, 12), dim=1) for _ in range(2))
    here, scale = torch.arange(40), torch.tensor(4.0)
    full = info_nce(x, y, here, here, scale)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(x, y, here, here, scale), full)


def test_unit_vectors_have_unit_length_to_float32():
    net = WarmEncoder(8, 6, unit=True)
    with torch.autocast("cpu", torch.bfloat16):
        z = net(torch.randn(30, 8))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(30), rtol=0, atol=1e-6)
