"""Which batch size a model needs: quality, time and noise over batch sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti._batch_rule import PER_OUTPUT, recommended_batch_size
from smalti._mudata import take_cells
from smalti._validate import check_choice, check_count, check_in_range

from ._learning import TEST_SHARE, paired_cells
from ._scores import INFO, TARGETS, score_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._scores import Target

SIZES = (32, 64, 128, 256, 512)
TOLERANCE = 0.03
"""Share of the best score that a batch size may cost."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What :func:`batch_size` measured."""

    recommended: int
    """The quickest batch size whose mean score is within the tolerance of the best."""
    rule: int | None
    """What :func:`recommended_batch_size` says for this latent, without training; for losses of correlations alone."""
    target: str
    table: pd.DataFrame
    """One row per batch size and seed: ``score`` of held-out pairs, ``seconds`` of training, ``steps``, ``noise``
    (standard deviation of the training loss from epoch to epoch, over its mean, in the last half)."""

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        means = self.table.groupby("batch_size")[["score", "seconds"]].mean()
        best = means["score"].min() if INFO[self.target].lower_is_better else means["score"].max()
        row = means.loc[self.recommended]
        return (
            f"Batches of {self.recommended} cells: {INFO[self.target].words} of {row['score']:.3g} in "
            f"{row['seconds']:.0f} s; the best of {len(means)} sizes is {best:.3g}."
        )

    def __repr__(self) -> str:
        columns = ["score", "seconds", "steps", "noise"]
        lines = [self.sentence, self.table.groupby("batch_size")[columns].mean().round(3).to_string()]
        if self.rule is not None:
            lines.append(f"A loss of correlations would take {self.rule} (at least {PER_OUTPUT} cells per output).")
        return "\n".join(lines)


def batch_size(
    model_cls: Any,
    mdata: MuData,
    *,
    sizes: Sequence[int] = SIZES,
    n_steps: int | None = 500,
    max_epochs: int | None = None,
    n_seeds: int = 2,
    target: Target = "foscttm",
    modalities: Sequence[str] | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    setup: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    n_outputs: int | None = None,
    tolerance: float = TOLERANCE,
    random_state: int = 0,
) -> BatchPlan:
    """Train a model with several batch sizes and compare what held-out pairs say, and the time.

    A fifth of the paired cells is held out of training altogether. Sizes are compared after equally many steps, which
    is fair to small batches, or equally many epochs, which is what a budget of time looks like.

    Parameters
    ----------
    model_cls
        A class of :mod:`smalti.model`, such as :class:`smalti.model.CLUE`.
    mdata
        The mosaic, with paired cells in two modalities.
    sizes
        Batch sizes; those larger than the training cells are left out.
    n_steps
        Steps of every size; ``None``: equally many epochs.
    max_epochs
        Epochs of every size if ``n_steps`` is ``None``; the model's own by default.
    n_seeds
        Seeds of held-out cells and training.
    target, modalities, batch_key, labels_key
        See :func:`sample_size`.
    setup, options, train
        Further arguments of ``setup_mudata``, of the constructor and of ``train``.
    n_outputs
        Outputs that a loss of correlations compares, for the rule beside the measurement.
    tolerance
        Share of the best score that a quicker size may cost.
    random_state
        Seed.

    Raises
    ------
    ValueError
        If there are too few paired cells, or no size fits.
    """
    check_choice(target, TARGETS, "target")
    check_in_range(tolerance, 0, 1, "tolerance")
    names, paired = paired_cells(mdata, modalities)
    n_test = max(2, round(TEST_SHARE * len(paired)))
    n_train = mdata.n_obs - n_test
    fitting = [size for size in sizes if check_count(size, "sizes") <= n_train]
    if not fitting:
        raise ValueError(f"Expected a batch size of at most {n_train}, the cells to train on, found {list(sizes)}.")
    rows: list[dict[str, float]] = []
    for seed in range(check_count(n_seeds, "n_seeds")):
        test = np.random.default_rng([random_state, seed]).permutation(paired)[:n_test]
        cells = take_cells(mdata, np.sort(test))
        for size in fitting:
            data = take_cells(mdata, np.setdiff1d(np.arange(mdata.n_obs), test))
            model_cls.setup_mudata(data, batch_key=batch_key, **(setup or {}))
            model = model_cls(data, **(options or {}))
            epochs = max_epochs if n_steps is None else max(1, round(n_steps * size / n_train))
            start = time.perf_counter()
            model.train(max_epochs=epochs, **({"batch_size": size, "progress": False} | dict(train or {})))
            seconds = time.perf_counter() - start
            x, y = (model.get_latent_representation(cells, modality=name) for name in names)
            score = score_pair(x, y, target=target, batch=_column(cells, batch_key), labels=_column(cells, labels_key))
            losses = _losses(model)
            steps = len(losses) * max(1, n_train // size)
            rows.append({"batch_size": size, "seed": seed, "score": score.value, "seconds": seconds, "steps": steps})
            rows[-1]["noise"] = _noise(losses)
    table = pd.DataFrame(rows)
    rule = None if n_outputs is None else recommended_batch_size(n_outputs, n_train)
    return BatchPlan(recommended=_quickest(table, target, tolerance), rule=rule, target=target, table=table)


def _quickest(table: pd.DataFrame, target: Target, tolerance: float) -> int:
    means = table.groupby("batch_size")[["score", "seconds"]].mean()
    if INFO[target].lower_is_better:
        good = means["score"] <= means["score"].min() * (1 + tolerance)
    else:
        good = means["score"] >= means["score"].max() * (1 - tolerance)
    return int(means.loc[good, "seconds"].idxmin())


def _losses(model: Any) -> NDArray[np.float64]:
    """Return the training loss per epoch, whatever the model calls it; empty if it has no history."""
    for key, values in dict(getattr(model, "history", None) or {}).items():
        if "train" in key and "loss" in key:
            return np.asarray(values, dtype=np.float64).ravel()
    return np.zeros(0)


def _noise(losses: NDArray[np.float64]) -> float:
    tail = losses[len(losses) // 2 :]
    if len(tail) < 3:
        return float("nan")
    # Differences, so that a loss that still falls does not count as noise.
    return float(np.diff(tail).std() / np.sqrt(2) / max(abs(tail.mean()), 1e-12))


def _column(mdata: MuData, key: str | None) -> NDArray[Any] | None:
    return None if key is None else mdata.obs[key].to_numpy()
