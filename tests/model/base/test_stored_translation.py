from __future__ import annotations

import anndata
import numpy as np
import pytest
from _clue import fit_clue
from _factories import make_mosaic

from smalti._storable import write_mudata
from smalti.data import open_mosaic
from smalti.model.base import _stored_translation

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}


@pytest.fixture(scope="module")
def model():
    return fit_clue(make_mosaic(n_obs=210), MODALITIES)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(_stored_translation, "PIECE_VALUES", 500)


def read(path):
    return anndata.io.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (None, {}),
        ("a", {"scale": "log1p", "features": ["b3", "b1"]}),
        ("c", {"by": "network", "library_size": 100.0, "indices": [200, 3, 100, 7]}),
    ],
)
def test_a_file_holds_what_translate_returns(model, tmp_path, ending, source, options):
    names = model.adata["b"].var_names
    options = {k: [names[3], names[1]] if k == "features" else v for k, v in options.items()}
    expected = model.translate(source, "b", **options)
    model.write_translation(tmp_path / f"out.{ending}", source, "b", **options)
    found = read(tmp_path / f"out.{ending}")
    np.testing.assert_allclose(found.X, expected.values, rtol=1e-4, atol=1e-6)
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.var_names) == list(expected.var_names)
    assert found.uns["translation"] == expected.to_adata().uns["translation"]


def test_a_library_size_per_cell_goes_with_its_cell(model, tmp_path):
    sizes = np.linspace(50, 500, model.adata.n_obs)
    model.write_translation(tmp_path / "out.h5ad", "a", "b", library_size=sizes)
    expected = model.translate("a", "b", library_size=sizes)
    np.testing.assert_allclose(read(tmp_path / "out.h5ad").X, expected.values, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="`library_size` to be a number or 210"):
        model.write_translation(tmp_path / "out.h5ad", "a", "b", library_size=sizes[:-1])


def test_data_on_disk_are_translated_and_not_stored_with_the_model(model, tmp_path):
    write_mudata(model.adata, tmp_path / "x.h5mu")
    lazy = open_mosaic(tmp_path / "x.h5mu")
    model.write_translation(tmp_path / "out.h5ad", "a", "b", mdata=lazy)
    np.testing.assert_allclose(read(tmp_path / "out.h5ad").X, model.translate("a", "b").values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        model.get_latent_representation(lazy), model.get_latent_representation(), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ValueError, match="stay on disk"):
        write_mudata(lazy, tmp_path / "y.h5mu")


def test_mistakes_leave_what_was_there(model, tmp_path):
    path = tmp_path / "out.h5ad"
    model.write_translation(path, "a", "b")
    before = path.read_bytes()
    for options in ({"target": "d"}, {"scale": "odd"}, {"features": ["nothing"]}):
        with pytest.raises(ValueError, match="to be one of"):
            model.write_translation(path, "a", **{"target": "b", **options})
    with pytest.raises(ValueError, match=".h5ad or .zarr"):
        model.write_translation(tmp_path / "out.csv", "a", "b")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["out.h5ad"]
