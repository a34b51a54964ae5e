from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.metrics import calibration_curve, expected_calibration_error


@pytest.fixture
def probabilities() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.6, 0.6, 0.6], size=300)
    return p, (p.cumsum(axis=1) < rng.random((300, 1))).sum(axis=1)


def test_points_lie_at_confidence_and_accuracy_of_filled_bins(probabilities) -> None:
    curve = calibration_curve(*probabilities, n_bins=10)
    (ax,) = sm.pl.calibration(curve)
    filled = curve[curve["n"] > 0]
    assert 0 < len(filled) < 10
    np.testing.assert_allclose(ax.collections[0].get_offsets(), filled[["confidence", "accuracy"]])
    line = ax.lines[-1]
    np.testing.assert_allclose(np.column_stack(line.get_data()), filled[["confidence", "accuracy"]])
    assert f"ECE {expected_calibration_error(*probabilities, n_bins=10):.3f}, 300 cells" == ax.get_title(loc="right")


def test_bars_and_areas_grow_with_the_cells_in_a_bin(probabilities) -> None:
    curve = calibration_curve(*probabilities, n_bins=10)
    (ax,) = sm.pl.calibration(curve)
    heights = np.array([bar.get_height() for bar in ax.patches])
    np.testing.assert_allclose(heights / heights.max(), curve["n"] / curve["n"].max())
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(curve["low"].tolist())
    sizes = ax.collections[0].get_sizes()
    assert (np.argsort(sizes, kind="stable") == np.argsort(curve["n"][curve["n"] > 0], kind="stable")).all()


def test_a_report_gives_a_picture_for_each_modality() -> None:
    mdata = make_mosaic(n_obs=140)
    names = sorted(mdata.obs["label"].unique())
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=140)
    table = pd.DataFrame(p, index=mdata.obs_names, columns=names)
    report = sm.tl.label_report(mdata, "label", table.idxmax(axis=1), probabilities=table)
    axes = sm.pl.calibration(report)
    assert [ax.get_title(loc="left") for ax in axes] == ["(joint)", "a", "b", "c"]
    for ax in axes:
        name = ax.get_title(loc="left")
        assert ax.get_title(loc="right").startswith(f"ECE {report.summary.loc[name, 'ece']:.3f}")
    figure, given = plt.subplots(1, 2)
    assert sm.pl.calibration(report, modalities=["c", "a"], ax=given) == list(given)


def test_bad_curves_are_refused(probabilities) -> None:
    mdata = make_mosaic()
    report = sm.tl.label_report(mdata, "label", "label")
    with pytest.raises(ValueError, match="made without probabilities. Pass `probabilities=`"):
        sm.pl.calibration(report)
    with pytest.raises(KeyError, match="Column of the curve of 'x': 'n' not found"):
        sm.pl.calibration({"x": calibration_curve(*probabilities).drop(columns="n")})
    with pytest.raises(TypeError, match="label report or calibration curves, found tuple"):
        sm.pl.calibration(probabilities)
