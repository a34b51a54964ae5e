from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from contract._models import MODELS
from contract.conftest import contract_mosaic

from smalti.model import CLUE, MODIS
from smalti.train._compile import compilable, compiled

SPECS = [spec for spec in MODELS if spec.name in ("clue", "modis")]
COMPILER = pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_encoders_and_decoders_are_graphs_of_one_piece(spec):
    module = spec.build(contract_mosaic()).module.train()
    breaks = 0
    for part in compilable(module):
        n_in = next(weight.shape[-1] for weight in part.parameters() if weight.dim() == 2)
        given = [torch.randn(9, n_in)]
        if not hasattr(part, "input_dropout") and "cov" in part.forward.__code__.co_varnames:
            given.append(None)
        torch._dynamo.reset()
        breaks += torch._dynamo.explain(part)(*given).graph_break_count
    assert compilable(module)
    assert breaks <= 3


@pytest.mark.slow
def test_a_compiled_step_is_the_same():
    model = SPECS[0].build(contract_mosaic())
    module, minibatch = model.module.eval(), model.adata_manager.create_torch_dataset()[np.arange(60)]
    losses = []
    for how in (False, "aot_eager"):
        torch.manual_seed(0)
        with compiled(module, how):
            losses.append(module(minibatch)[2].loss)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@COMPILER
def test_it_compiles_for_the_processor():
    model = SPECS[0].fit(SPECS[0].build(contract_mosaic()), plan_kwargs={"compile": True})
    assert model.is_trained_


def test_forward_is_that_of_the_class_again_after_an_error():
    net = torch.nn.ModuleList([SPECS[0].build(contract_mosaic()).module])

    def fails():
        with compiled(net, "eager"):
            assert any("forward" in vars(part) for part in net.modules())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    assert not any("forward" in vars(part) for part in net.modules())
    with compiled(net, False):
        assert not any("forward" in vars(part) for part in net.modules())


def test_the_specs_are_the_models_meant():
    assert [spec.cls for spec in SPECS] == [CLUE, MODIS]
