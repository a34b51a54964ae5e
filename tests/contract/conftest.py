from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from _factories import make_mosaic
from contract._models import MODELS, ONE_PER_CLASS, ONE_PER_PLAN, ModelSpec

from smalti import simulate

if TYPE_CHECKING:
    from mudata import MuData

    from smalti.model.base import MosaicModel


def contract_mosaic(**changes) -> MuData:
    """Make a mosaic of 100 cells with every presence pattern; in the last of three batches only ``a`` was measured.

    Cells are stamped with their number, a fifth of them has no label, and the first profile of ``a`` and of ``b``
    is empty.
    """
    options = {"n_obs": 120, "n_batches": 3, "stamp": True, "unlabeled": 0.2} | changes
    mdata = make_mosaic(**options)
    keep = np.ones((mdata.n_obs, mdata.n_mod), dtype=bool)
    keep[(mdata.obs["batch"] == "batch_2").to_numpy(), 1:] = False
    mdata = simulate.drop(mdata, keep)
    for name in ("a", "b"):
        x = mdata[name].X.tolil()
        x[0] = 0
        mdata[name].X = x.tocsr()
    return mdata


@dataclass
class Trained:
    """A trained model that tests share: they must not train it or change its data."""

    spec: ModelSpec
    model: MosaicModel
    mdata: MuData
    latent: np.ndarray


@cache
def train_once(index: int) -> Trained:
    """Train the variant at ``index`` of ``MODELS``."""
    spec, mdata = MODELS[index], contract_mosaic()
    model = spec.fit(spec.build(mdata))
    return Trained(spec, model, mdata, model.get_latent_representation())


@pytest.fixture(params=MODELS, ids=lambda spec: spec.name)
def spec(request) -> ModelSpec:
    """Every variant of every model."""
    return request.param


@pytest.fixture(params=ONE_PER_PLAN, ids=lambda spec: spec.name)
def plan_spec(request) -> ModelSpec:
    """One variant of every model and training plan."""
    return request.param


@pytest.fixture(params=ONE_PER_CLASS, ids=lambda spec: spec.name)
def one_spec(request) -> ModelSpec:
    """One variant of every model."""
    return request.param


@pytest.fixture
def trained(spec) -> Trained:
    return train_once(MODELS.index(spec))


@pytest.fixture
def trained_plan(plan_spec) -> Trained:
    return train_once(MODELS.index(plan_spec))


@pytest.fixture
def trained_one(one_spec) -> Trained:
    return train_once(MODELS.index(one_spec))


@pytest.fixture
def mosaic() -> MuData:
    """The same mosaic, fresh."""
    return contract_mosaic()
