"""Canonical correlation of few features: gates in front of linear maps, or of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti._validate import check_count

from ._cca_parts import refit
from ._cca_problem import RIDGE, CCAProblem
from ._common import N_TOP
from ._result import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData

    from ._cca_problem import Parameters

LAMS = (0.002, 0.005, 0.01)
"""Prices that are compared on held-out cells; beyond rho / (20 k) true features close."""


def sparse_cca(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    *,
    n_components: int = 1,
    lam: float | None = None,
    batch_size: int | Literal["auto"] = "auto",
    n_steps: int = 1500,
    lr: float = 0.01,
    use_warm_start: bool = True,
    layers: dict[str, str] | None = None,
    batch_key: str | None = None,
    n_top: int | None = N_TOP,
    random_state: int = 0,
    write: bool = True,
) -> Selection:
    r"""Find the few features of two modalities that correlate most, by l0-sparse CCA :cite:p:`Lindenbaum2022`.

    .. math:: \max \; \mathrm{corr}\big((X z_x) a, (Y z_y) b\big) - \lambda \sum_d P(z_{x,d} > 0)
        - \lambda \sum_d P(z_{y,d} > 0)

    over gates and unit vectors, then ordinary CCA (ridge 0.001) of the selected features.

    Parameters
    ----------
    mdata
        The mosaic; cells with both modalities take part.
    modalities
        Two names; those of ``mdata`` by default.
    n_components
        Canonical pairs, one after the other, each on what the former ones leave of all features (deflation).
    lam
        Price of an open feature; by default the best of 0.002, 0.005 and 0.01 on held-out cells.
    batch_size
        Cells per step; ``"auto"`` for what a loss of correlations needs: all of them up to 4,000, then ten per
        canonical pair and at least 128, see :func:`smalti.planning.recommended_batch_size`.
    n_steps, lr
        Steps of Adam and their size.
    use_warm_start
        Start from thresholded cross-correlations; without it, hundreds of nuisance features drown the few true ones.
    layers, batch_key, n_top, random_state, write
        See :func:`mmdufs`.

    Returns
    -------
    Tables with a further column ``weight``; ``info`` has the correlation on held-out cells. With several pairs, weights
    and gates are those of the pair in which the weight is largest, whose number is in the column ``component``, 0 for
    features of none; ``info`` has lists.

    Raises
    ------
    ValueError
        If there are not two modalities, or too few paired cells.
    """

    def run(problem: CCAProblem, price: float) -> Parameters:
        return problem.linear(price, n_steps, lr, use_warm_start)

    arguments = (mdata, modalities, layers, batch_key, n_top, batch_size, random_state)
    problems = _problems(arguments, lam, n_outputs=1)
    found: list[Selection] = []
    for _ in range(check_count(n_components, "n_components")):
        found.append(_select(problems, run, lam, "sparse_cca", linear=True))
        if len(found) < n_components:
            for problem in problems:
                columns = [values.columns for values in problem.values]
                tables = [found[-1].tables[name] for name in problem.names]
                problem.remove([t["weight"].to_numpy()[at] for t, at in zip(tables, columns, strict=True)])
    result = found[0] if n_components == 1 else _joined(found)
    if write:
        result.write(mdata)
    return result


def _joined(found: list[Selection]) -> Selection:
    """Return one table of several canonical pairs; a feature belongs to the pair in which its weight is largest."""
    tables = {}
    for name, first in found[0].tables.items():
        size = np.stack([each.tables[name]["weight"].abs().to_numpy() for each in found])
        best = size.argmax(axis=0)
        table = pd.DataFrame(index=first.index)
        for column in first:
            values = np.stack([each.tables[name][column].to_numpy() for each in found])
            table[column] = values[best, np.arange(len(best))]
        table["selected"] = np.stack([each.tables[name]["selected"].to_numpy() for each in found]).any(axis=0)
        table["component"] = np.where(table["selected"], best + 1, 0)
        tables[name] = table
    path = pd.concat([each.path.assign(component=i + 1) for i, each in enumerate(found)], ignore_index=True)
    info = {key: [each.info[key] for each in found] for key in found[0].info}
    along = {name: np.concatenate([each.open_along_path[name] for each in found]) for name in tables}
    return Selection(
        method=found[0].method, tables=tables, lam=found[0].lam, path=path, open_along_path=along, info=info
    )


def sparse_dcca(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    *,
    n_components: int = 1,
    n_hidden: int = 32,
    lam: float | None = None,
    batch_size: int | Literal["auto"] = "auto",
    n_steps: int = 1500,
    lr: float = 0.01,
    use_warm_start: bool = True,
    layers: dict[str, str] | None = None,
    batch_key: str | None = None,
    n_top: int | None = N_TOP,
    random_state: int = 0,
    write: bool = True,
) -> Selection:
    r"""Find the few features of two modalities whose encodings correlate most, by l0-sparse deep CCA.

    Gates stand in front of encoders :math:`f, g` (one hidden layer beside a linear map), and the mean of the leading
    singular values of the whitened cross-covariance is maximised :cite:p:`Lindenbaum2022`.

    Parameters
    ----------
    mdata, modalities, lam, n_steps, lr, use_warm_start, layers, batch_key, n_top, random_state, write
        See :func:`sparse_cca`.
    n_components
        Number ``r`` of canonical pairs.
    n_hidden
        Width of the hidden layers.
    batch_size
        As there, at least ten per canonical pair.

    Returns
    -------
    As :func:`sparse_cca`, without weights.

    Raises
    ------
    ValueError
        If there are not two modalities, too few paired cells, or fewer than ten cells per pair in a batch.
    """
    check_count(n_components, "n_components")
    if batch_size != "auto" and batch_size < 10 * n_components:
        raise ValueError(
            f"Expected batches of at least {10 * n_components} cells for {n_components} canonical pairs, found "
            f"{batch_size}. Raise `batch_size`."
        )

    def run(problem: CCAProblem, price: float) -> Parameters:
        return problem.deep(price, n_steps, lr, use_warm_start, n_components, n_hidden)

    arguments = (mdata, modalities, layers, batch_key, n_top, batch_size, random_state)
    problems = _problems(arguments, lam, n_outputs=n_components)
    result = _select(problems, run, lam, "sparse_dcca", linear=False)
    if write:
        result.write(mdata)
    return result


def _problems(arguments: tuple[Any, ...], lam: float | None, *, n_outputs: int) -> list[CCAProblem]:
    """Return the problem of all cells, and one with some held out if the price has to be chosen."""
    held_out = (False, True) if lam is None else (False,)
    return [CCAProblem(*arguments, n_outputs=n_outputs, hold_out=each) for each in held_out]


def _select(
    problems: list[CCAProblem],
    run: Callable[[CCAProblem, float], Parameters],
    lam: float | None,
    method: str,
    *,
    linear: bool,
) -> Selection:
    """Choose the price by correlation on cells held out, if none is given, then fit all cells."""
    tried: list[tuple[float, Parameters, float]] = []
    if lam is None:
        part = problems[1]
        for price in LAMS:
            mu = run(part, price)
            fit = refit(part.values, part.rows, part.out_rows, [(m > 0).numpy() for m in mu], RIDGE)
            tried.append((price, mu, fit.held_out))
        lam = max(tried, key=lambda each: each[2])[0]
    whole = problems[0]
    return whole.finish(run(whole, lam), lam, tried, method, linear=linear)
