"""What construction and latents promise, whatever the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import build_clue, fit_clue
from _factories import make_mosaic
from scvi.module.base import BaseModuleClass

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
def test_the_first_block_is_the_default_and_others_are_refused(cls):
    mdata = make_mosaic(n_obs=60)
    cls.setup_mudata(mdata, labels_key="label")
    model = cls(mdata)
    model.is_trained_ = True
    default = model.get_latent_representation()
    np.testing.assert_array_equal(model.get_latent_representation(block=cls.blocks[0]), default)
    with pytest.raises(ValueError, match="`block` to be one of .*found 'nothing'"):
        model.get_latent_representation(block="nothing")


def test_components_belong_to_the_data_they_were_computed_from():
    mdata = make_mosaic(n_obs=120)
    model = fit_clue(mdata)
    first = model.cell_components()
    other = mdata[np.arange(120)[::-1]].copy()
    model.adata = other
    second = model.cell_components()
    a = other.obsmap["a"].ravel() > 0
    rows = second.maps["a"][a]
    expected = first.values["a"][first.maps["a"][::-1][a]]
    np.testing.assert_allclose(second.values["a"][rows], expected, atol=1e-3)


def test_a_model_without_data_or_sizes_says_how_to_load():
    model = build_clue(make_mosaic(n_obs=60))
    with pytest.raises(ValueError, match="A model without data needs `sizes`: use `CLUE.load`"):
        CLUE(registry=model.registry_)
