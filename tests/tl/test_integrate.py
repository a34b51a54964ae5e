from __future__ import annotations

import logging

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm


def test_one_call_writes_latent_clusters_and_map_and_says_which_model_and_why(caplog) -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=200, n_features={"a": 25, "b": 12})
    with caplog.at_level(logging.INFO, logger="smalti"):
        model = sm.tl.integrate(mdata, batch_key="batch", max_epochs=7, progress=False)
    assert isinstance(model, sm.model.CLUE)
    np.testing.assert_allclose(mdata.obsm["X_clue"], model.get_latent_representation(), atol=1e-6)
    assert mdata.obs["leiden"].notna().all()
    assert np.isfinite(mdata.obsm["X_umap"]).all()
    assert "CLUE: " in caplog.text
    assert "Training: at most 7 epochs of " in caplog.text
    assert mdata.uns["integrate"]["model"] == "CLUE"
    figure = sm.pl.latent(mdata, "clue", color="leiden")  # draws that UMAP, it does not compute one
    drawn = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(mdata.obsm["X_umap"], axis=0), rtol=1e-5)


def test_where_the_log_is_not_shown_it_is_printed(capsys) -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=200, n_features={"a": 25, "b": 12})
    sm.tl.integrate(mdata, max_epochs=6, progress=True)
    shown = capsys.readouterr()
    assert "CLUE: " in shown.out
    assert "Training: at most 6 epochs of 1 batch, about a few seconds; it stops earlier" in shown.out


def test_data_that_no_model_is_for_are_refused_with_the_reasons() -> None:
    mdata = make_mosaic(pattern="diagonal", n_obs=60, labels=False)
    with pytest.raises(ValueError, match="No cell has two modalities"):
        sm.tl.integrate(mdata)
    with pytest.raises(ValueError, match="model_name"):
        sm.tl.integrate(mdata, model_name="other")
