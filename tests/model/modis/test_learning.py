"""What MODIS learns from planted data; minutes of training, so all of it is slow."""

from __future__ import annotations

import numpy as np
import pytest
from _modis import SCALED, build_modis, fit_modis, options, planted, train
from sklearn.metrics import adjusted_rand_score

from smalti import metrics, simulate
from smalti.data import presence
from smalti.model import MODISOptions

pytestmark = pytest.mark.slow


def test_few_labels_are_enough_in_one_modality_and_the_latent_hides_where_a_sample_came_from():
    everything = planted(600, n_clusters=4, n_features={"a": 40, "b": 30}, n_private=6, noise=0.4)
    labels = {(f"label_{k}", "b"): 3 for k in range(4)}
    mdata = simulate.degrade(everything, labels_key="label", labels=labels)
    here, truth = presence(mdata), everything.obs["label"].astype(str).to_numpy()
    hidden = here[:, 1] & (mdata.obs["label"] == "unknown").to_numpy()
    small = MODISOptions(widths=(64,), discriminator_widths=(64, 32))
    accuracy, betrayed = {}, {}
    for name, changes in {"default": {}, "none": {"adversary": "none", "weights": {"alignment": 0.0}}}.items():
        model = build_modis(mdata, SCALED, options=small, **changes)
        train(model, max_epochs=40, batch_size=128, plan_kwargs={"lr": 5e-3})
        accuracy[name] = (model.predict()[hidden] == truth[hidden]).mean()
        betrayed[name] = metrics.modality_decodability(model.get_latent_representation(block="shared"), here.argmax(1))
    assert accuracy["default"] > 0.8
    assert betrayed["default"] < betrayed["none"] - 0.08


def test_clusters_are_found_without_labels():
    mdata = planted(240, cluster_share=0.97, n_private=1, noise=0.3, pattern="paired")
    model = fit_modis(
        mdata,
        SCALED,
        setup={"labels_key": None},
        n_classes=3,
        adversary="none",
        options=options(discriminator_widths=(32, 16), dropout_rate=0.1),
        training={"max_epochs": 30, "batch_size": 64, "plan_kwargs": {"lr": 5e-3}},
    )
    assert adjusted_rand_score(mdata.obs["label"], model.predict()) > 0.7
    assert np.isfinite(model.get_latent_representation(block="shared")).all()
