from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti._errors import NotFittedError
from smalti.pl._history import best_epoch


def series(values: dict[int, float], name: str) -> pd.DataFrame:
    return pd.DataFrame({name: values}).rename_axis("epoch")


@pytest.fixture
def logged() -> dict[str, pd.DataFrame]:
    epochs = range(6)
    out = {}
    for term in ("elbo", "kl", "monitor"):
        out[f"{term}_train"] = series({e: 5.0 - e for e in epochs}, f"{term}_train")
    for term, values in {"kl": [3, 2, 1], "monitor": [4, 2, 3]}.items():
        out[f"{term}_validation"] = series(dict(zip((1, 3, 5), values, strict=True)), f"{term}_validation")
    out["kl_weight"] = series(dict.fromkeys(epochs, 1.0), "kl_weight")
    return out


def test_every_term_of_the_model_gets_a_picture_and_the_monitor_comes_first(logged) -> None:
    figure = sm.pl.history(logged)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["monitor", "kl"]


def test_lines_show_what_was_logged_at_the_epochs_it_was_logged(logged) -> None:
    ax = sm.pl.history(logged).axes[1]
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["training"].get_xdata(), range(6))
    np.testing.assert_array_equal(lines["training"].get_ydata(), [5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(lines["validation"].get_xdata(), [1, 3, 5])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), [3, 2, 1])


def test_the_epoch_of_the_lowest_monitor_is_marked_in_every_picture(logged) -> None:
    figure = sm.pl.history(logged)
    for ax, height in zip(figure.axes, (2.0, 2.0), strict=True):
        marks = [line for line in ax.lines if line.get_gid() == "best"]
        assert any(list(mark.get_xdata()) == [3.0] and list(mark.get_ydata()) == [height] for mark in marks)
        assert any(list(mark.get_xdata()) == [3.0, 3.0] for mark in marks)
    assert "best epoch: 3" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_without_validation_nothing_is_marked(logged) -> None:
    train = {key: values for key, values in logged.items() if not key.endswith("_validation")}
    assert best_epoch(train) is None
    figure = sm.pl.history(train)
    assert not [line for ax in figure.axes for line in ax.lines if line.get_gid() == "best"]


def test_terms_can_be_chosen_and_unknown_ones_are_refused(logged) -> None:
    figure = sm.pl.history(logged, terms=["elbo"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["elbo"]
    with pytest.raises(KeyError, match=r"'elbow' not found; available: 'monitor', 'elbo', 'kl'"):
        sm.pl.history(logged, terms=["elbow"])


def test_given_axes_are_used(logged) -> None:
    figure, axes = plt.subplots(1, 2)
    assert sm.pl.history(logged, ax=axes) is figure
    assert all(len(ax.lines) > 0 for ax in axes)
    with pytest.raises(ValueError, match="Expected 2 axes"):
        sm.pl.history(logged, ax=axes[0])


def test_a_trained_model_is_drawn_with_all_of_its_terms() -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=120)
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    model = sm.model.CLUE(mdata, n_components=5)
    with pytest.raises(NotFittedError, match="not trained"):
        sm.pl.history(model)
    model.train(2, progress=False, accelerator="cpu")
    titles = [ax.get_title(loc="left") for ax in sm.pl.history(model).axes]
    assert titles[0] == "monitor"
    assert {"data", "kl", "contrastive", "nll a", "nll b", "nll c"} <= set(titles)
    assert not {"elbo", "kl local"} & set(titles)
