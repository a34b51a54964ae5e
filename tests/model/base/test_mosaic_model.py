"""What construction and latents promise, whatever the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import build_clue, fit_clue
from _factories import make_mosaic
from scvi.module.base import BaseModuleClass

from smalti._errors import NotFittedError
from smalti.model import CLUE, MCA, MODIS, UnpairedCCA
from smalti.model.base import MosaicModel


class OtherNetwork(BaseModuleClass):
    """A network of another tool."""

    def _get_inference_input(self, tensors):
        return {}

    def _get_generative_input(self, tensors, inference_outputs):
        return {}

    def inference(self):
        return {}

    def generative(self):
        return {}

    def loss(self):
        return None

    def sample(self):
        return None


def test_networks_that_are_no_mosaic_modules_are_refused_in_one_sentence():
    class Other(MosaicModel):
        def __init__(self, adata=None):
            super().__init__(adata)
            self._build(lambda _: OtherNetwork(), None, n_components=5)

        def _latent(self, minibatch, block, modality):
            return torch.zeros(0)

    mdata = make_mosaic(n_obs=60)
    Other.setup_mudata(mdata)
    with pytest.raises(TypeError, match="Expected the network of Other to be a `.*MosaicModule`.*found OtherNetwork"):
        Other(mdata)


@pytest.mark.parametrize("cls", [CLUE, MCA, MODIS, UnpairedCCA])
def test_before_training_the_default_is_the_aligned_block_and_there_is_no_joint_latent(cls):
    mdata = make_mosaic(n_obs=60)
    cls.setup_mudata(mdata, labels_key="label")
    model = cls(mdata)
    model.is_trained_ = True
    default = model.get_latent_representation()
    for block in ("aligned", cls.aligned_block):
        np.testing.assert_array_equal(model.get_latent_representation(block=block), default)
    with pytest.raises(ValueError, match="`block` to be one of .*found 'nothing'"):
        model.get_latent_representation(block="nothing")
    with pytest.raises(NotFittedError, match="There is no joint latent: it is fitted by `train`"):
        model.get_latent_representation(block="joint")


def test_components_belong_to_the_data_they_were_computed_from():
    mdata = make_mosaic(n_obs=120)
    model = fit_clue(mdata)
    first = model.cell_components()
    other = mdata[np.arange(120)[::-1]].copy()
    model.adata = other
    second = model.cell_components()
    assert second is not first
    for name in model.modalities:
        for cell in (name for name in mdata[name].obs_names[:20]):
            rows = (found.maps[name][data.obs_names.get_loc(cell)] for found, data in ((first, mdata), (second, other)))
            x, y = (found.values[name][row] for found, row in zip((first, second), rows, strict=True))
            np.testing.assert_allclose(y, x, atol=1e-3)


def test_a_model_without_data_or_sizes_says_how_to_load():
    model = build_clue(make_mosaic(n_obs=60))
    with pytest.raises(ValueError, match="A model without data needs `sizes`: use `CLUE.load`"):
        CLUE(registry=model.registry_)
