"""Trainings over a range of settings and seeds, and which setting is best."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid, ParameterSampler

from smalti._errors import NonFiniteLossError
from smalti._jobs import check_jobs, run_jobs
from smalti._validate import check_choice, check_count, check_path, check_seed

from ._evaluation import SCORES, describe_score, is_score
from ._sweep_file import read_results, training_key, write_results
from ._trials import HELD_OUT, check_sendable, setup_of, train_and_score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from smalti._jobs import Backend
    from smalti.model.base import MosaicModel

logger = logging.getLogger(__name__)

TRAIN = "train."
SETTING, SEED, MONITOR, SECONDS, ERROR = "setting", "seed", "monitor", "seconds", "error"


@dataclass(frozen=True, kw_only=True, repr=False)
class Sweep:
    """What :func:`sweep` found. Print it."""

    model: str
    """Name of the class."""
    table: pd.DataFrame
    """A row per training: its settings, ``seed``, every score, ``monitor`` (lowest validation loss, which cannot be
    compared between settings that change the loss), ``seconds``, and ``error`` where a loss was not finite."""
    names: tuple[str, ...]
    """Settings that were varied."""
    score: str
    """What settings are compared by."""

    @property
    def lower_is_better(self) -> bool:
        """Whether settings with a low score are good ones."""
        return self.score in (HELD_OUT, MONITOR) or describe_score(self.score).lower

    @property
    def summary(self) -> pd.DataFrame:
        """A row per setting, the best first: ``mean`` and ``sd`` of the score over seeds, ``n``, mean ``seconds``."""
        groups = self.table.groupby(SETTING, sort=False)
        found = pd.DataFrame(
            {
                **{name: groups[name].first() for name in self.names},
                "mean": groups[self.score].mean(),
                "sd": groups[self.score].std(ddof=1),
                "n": groups[self.score].count(),
                "seconds": groups[SECONDS].mean(),
            }
        )
        return found.sort_values("mean", ascending=self.lower_is_better, kind="stable").reset_index(drop=True)

    @property
    def best(self) -> dict[str, dict[str, Any]]:
        """Arguments of the best setting: ``"model_kwargs"`` and ``"train_kwargs"``."""
        groups = self.table.groupby(SETTING, sort=False)[self.score].mean()
        chosen = groups.idxmin() if self.lower_is_better else groups.idxmax()
        model_kwargs, train_kwargs = split_setting(json.loads(chosen))
        return {"model_kwargs": model_kwargs, "train_kwargs": train_kwargs}

    def __repr__(self) -> str:
        good = "low" if self.lower_is_better else "high"
        head = f"{self.model}, {len(self.summary)} settings, by {self.score} ({good} is good)"
        return f"{head}\n{self.summary.round(4).to_string(index=False)}"


def sweep(
    model_cls: type[MosaicModel],
    mdata: MuData,
    space: Mapping[str, Any],
    *,
    n_trials: int | None = None,
    n_seeds: int = 1,
    score: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
    n_jobs: int = 1,
    backend: Backend = "loky",
    random_state: int = 0,
) -> Sweep:
    """Train a model with many settings and seeds, here or on a Ray cluster, and compare what comes out.

    Settings are compared by scores of latents, not by the loss, which changes its meaning with weights and sizes. A
    difference smaller than the spread over seeds is none: use ``n_seeds`` of 3 or more before you prefer one.

    Parameters
    ----------
    model_cls
        Class of the model.
    mdata
        The mosaic, set up by ``model_cls.setup_mudata``. Nothing is written.
    space
        Values by name: arguments of the model (``"n_latent"``), fields of its options (``"options.n_hidden"``,
        ``"weights.cross"``), and arguments of training (``"train.batch_size"``, ``"train.plan_kwargs.lr"``). A list is
        tried value by value; with ``n_trials`` a distribution of :mod:`scipy.stats` may stand instead.
    n_trials
        Settings to draw at random; by default all combinations.
    n_seeds
        Trainings of each setting: ``random_state``, ``random_state + 1`` and so on.
    score
        Column to compare by, as :func:`smalti.tl.evaluate` names it, or ``"monitor"``. By default ``"total"``, or the
        matching of held-out pairs where there are no labels, or the monitor without either.
    batch_key, labels_key
        Columns of ``mdata.obs`` for the scores.
    model_kwargs, train_kwargs
        Arguments that all trainings share.
    path
        CSV file that results are added to as they come; trainings that it holds are not run again. It is of one model,
        one mosaic and the same ``model_kwargs``, ``train_kwargs`` and keys.
    n_jobs
        Trainings at a time; -1: as many as there are cores. Each gets a copy of the data.
    backend
        ``"loky"`` (processes of this machine), ``"threading"``, or ``"ray"``: a Ray cluster (extra ``tune``).
    random_state
        First seed, and that of the draw of settings.

    Returns
    -------
    :class:`Sweep`.

    Raises
    ------
    ValueError
        If the space is empty, distributions come without ``n_trials``, the score is not among those found, or ``path``
        holds something else.
    OSError
        If ``path`` cannot be written.
    ImportError
        If the backend is Ray and it is not installed.

    Examples
    --------
    >>> mdata = smalti.datasets.pbmc_mosaic()
    >>> smalti.model.CLUE.setup_mudata(mdata, batch_key="batch")
    >>> space = {"n_latent": [5, 10]}
    >>> found = smalti.tl.sweep(smalti.model.CLUE, mdata, space, train_kwargs={"max_epochs": 1})
    >>> len(found.summary)
    2
    """
    check_seed(random_state)
    settings = _settings(space, n_trials, random_state)
    check_count(n_seeds, "n_seeds")
    check_jobs(n_jobs)
    setup, keys = setup_of(model_cls, mdata, batch_key, labels_key), (batch_key, labels_key)
    check_sendable(mdata, n_jobs, backend)
    if score is not None and score != MONITOR and not is_score(score):
        check_choice(score, (HELD_OUT, MONITOR, *SCORES), "score")
    file, key = None if path is None else check_path(path), ""
    done = pd.DataFrame()
    if file is not None:
        key = training_key(model_cls, mdata, setup, model_kwargs, train_kwargs, keys)
        done = read_results(file, key, (SETTING, SEED))
    known = set(zip(done[SETTING], done[SEED], strict=True)) if len(done) else set()
    jobs, wanted = [], []
    for setting in settings:
        text = json.dumps(setting, sort_keys=True)
        varied = split_setting(setting)
        for seed in range(random_state, random_state + n_seeds):
            wanted.append((text, seed))
            if (text, seed) not in known:
                own = [_merged(a or {}, b) for a, b in zip((model_kwargs, train_kwargs), varied, strict=True)]
                jobs.append((setting, seed, (model_cls, mdata, setup, {**own[0], "random_state": seed}, own[1], *keys)))
    tables = [done]
    for rows in run_jobs(_train, jobs, n_jobs=n_jobs, backend=backend, at_once=max(abs(n_jobs), 1)):
        tables.append(pd.DataFrame(rows))
        if file is not None:
            write_results(file, tables, key)
    table = pd.concat([each for each in tables if len(each)], ignore_index=True)
    table = table.set_index([SETTING, SEED]).loc[wanted].reset_index()  # a file may hold other settings
    if score is None:
        score = "total" if "total" in table and table["total"].notna().any() else HELD_OUT
        if score not in table:
            logger.warning(
                "Settings are compared by the validation loss, which means nothing where they change the loss itself: "
                "without labels (`labels_key`) and with few pairs held out there is no other score."
            )
            score = MONITOR
    check_choice(score, [c for c in table if c not in (SETTING, SEED, ERROR, *space)], "score")
    return Sweep(model=model_cls.__name__, table=table, names=tuple(space), score=score)


def _settings(space: Mapping[str, Any], n_trials: int | None, random_state: int) -> list[dict[str, Any]]:
    """Return the settings to try, plain values by name."""
    if not isinstance(space, Mapping) or not space:
        raise ValueError('Expected `space` to name at least one setting, such as {"n_latent": [10, 20]}.')
    for name, values in space.items():
        if hasattr(values, "rvs"):
            continue
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable) or not list(values):
            raise ValueError(f"Expected the values of {name!r} in `space` to be a list, found {values!r}.")
    drawn = [name for name, values in space.items() if hasattr(values, "rvs")]
    if n_trials is None and drawn:
        raise ValueError(f"A distribution ({drawn[0]!r}) has no end of values: say how many to draw by `n_trials`.")
    grid: Sequence[Any] = [] if drawn else list(ParameterGrid({name: list(v) for name, v in space.items()}))
    if n_trials is not None and (drawn or check_count(n_trials, "n_trials") < len(grid)):
        grid = list(ParameterSampler(dict(space), n_trials, random_state=random_state))
    return [{name: v.item() if isinstance(v, np.generic) else v for name, v in each.items()} for each in grid]


def split_setting(setting: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arguments of the model and of training out of dotted names.

    Parameters
    ----------
    setting
        Values by name, as in ``space`` of :func:`sweep`.
    """
    out: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, value in setting.items():
        target = out[name.startswith(TRAIN)]
        *above, last = name.removeprefix(TRAIN).split(".")
        for part in above:
            target = target.setdefault(part, {})
        target[last] = value
    return out


def _merged(given: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with those of a setting on top, dictionaries merged."""
    out = dict(given)
    for name, value in varied.items():
        earlier = out.get(name)
        out[name] = _merged(earlier, value) if isinstance(earlier, Mapping) and isinstance(value, Mapping) else value
    return out


def _train(setting: dict[str, Any], seed: int, job: tuple[Any, ...]) -> dict[str, Any]:
    row = {SETTING: json.dumps(setting, sort_keys=True), SEED: seed, **setting}
    try:
        trial = train_and_score(*job)
    except NonFiniteLossError as error:  # a learning rate too high is a finding
        return {**row, ERROR: str(error)}
    return {**row, **trial.scores.to_dict(), MONITOR: trial.monitor, SECONDS: trial.seconds}
