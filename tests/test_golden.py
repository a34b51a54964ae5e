"""Models that earlier versions stored load, and say what they said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from _factories import make_mosaic

from smalti import model as models

if TYPE_CHECKING:
    from smalti.model.base import MosaicModel

GOLDEN = Path(__file__).parent / "golden"
STORED = sorted(path.parent for path in GOLDEN.glob("*/*/model.json"))
"""One folder per version and class, made by ``scripts/make_golden.py``, with the latent of that version."""


@pytest.mark.parametrize("folder", STORED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_model_of_an_earlier_version_loads_and_gives_its_latent(folder, tmp_path):
    cls: type[MosaicModel] = getattr(models, folder.name)
    mdata = make_mosaic(n_obs=40, n_features={"a": 8, "b": 6, "c": 5}, pattern="paired", n_batches=2)
    model = cls.load(folder, mdata)
    expected = np.array(json.loads((folder / "latent.json").read_text()))
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=2e-3)
    model.save(tmp_path / "again")
    assert cls.load(tmp_path / "again", mdata).is_trained_


def test_every_class_has_a_golden_file():
    assert {path.name for path in STORED} >= {
        "CLUE",
        "MCA",
        "MODIS",
        "UnpairedCCA",
        "FusionClustering",
        "OverlapManifold",
    }


def test_missing_values_are_refused_by_a_model_that_knows_no_means_for_them(tmp_path):
    folder = shutil.copytree(GOLDEN / "0.1" / "CLUE", tmp_path / "model")
    mdata = make_mosaic(n_obs=40, n_features={"a": 8, "b": 6, "c": 5}, pattern="paired", n_batches=2)
    model = models.CLUE.load(folder, mdata)
    query = make_mosaic(n_obs=40, n_features={"a": 8, "b": 6, "c": 5}, pattern="paired", n_batches=2)
    query["c"].X[0, 0] = np.nan
    with pytest.raises(ValueError, match="knows no means"):
        model.get_latent_representation(query)
