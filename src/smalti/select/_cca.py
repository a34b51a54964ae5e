"""Canonical correlation of few features: gates in front of linear maps, or of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smalti._validate import check_count

from ._cca_parts import refit
from ._cca_problem import RIDGE, CCAProblem
from ._common import N_TOP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData

    from ._cca_problem import Parameters
    from ._result import Selection

LAMS = (0.002, 0.005, 0.01)
"""Prices that are compared on held-out cells; beyond rho / (20 k) true features close."""


def sparse_cca(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    *,
    lam: float | None = None,
    batch_size: int | None = None,
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
    lam
        Price of an open feature; by default the best of 0.002, 0.005 and 0.01 on held-out cells.
    batch_size
        Cells per step; all of them up to 4,000 by default, then 512.
    n_steps, lr
        Steps of Adam and their size.
    use_warm_start
        Start from thresholded cross-correlations; without it, hundreds of nuisance features drown the few true ones.
    layers, batch_key, n_top, random_state, write
        See :func:`mmdufs`.

    Returns
    -------
    Tables with a further column ``weight``; ``info`` has the correlation on held-out cells.

    Raises
    ------
    ValueError
        If there are not two modalities, or too few paired cells.
    """

    def run(problem: CCAProblem, price: float) -> Parameters:
        return problem.linear(price, n_steps, lr, use_warm_start)

    arguments = (mdata, modalities, layers, batch_key, n_top, batch_size, random_state)
    return _select(arguments, run, lam, "sparse_cca", write=write, linear=True)


def sparse_dcca(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    *,
    n_components: int = 1,
    n_hidden: int = 32,
    lam: float | None = None,
    batch_size: int | None = None,
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
        Cells per step, at least ten per canonical pair.

    Returns
    -------
    As :func:`sparse_cca`, without weights.

    Raises
    ------
    ValueError
        If there are not two modalities, too few paired cells, or fewer than ten cells per pair in a batch.
    """
    check_count(n_components, "n_components")
    if batch_size is not None and batch_size < 10 * n_components:
        raise ValueError(
            f"Expected batches of at least {10 * n_components} cells for {n_components} canonical pairs, found "
            f"{batch_size}. Raise `batch_size`."
        )

    def run(problem: CCAProblem, price: float) -> Parameters:
        return problem.deep(price, n_steps, lr, use_warm_start, n_components, n_hidden)

    arguments = (mdata, modalities, layers, batch_key, n_top, batch_size, random_state)
    return _select(arguments, run, lam, "sparse_dcca", write=write, linear=False)


def _select(
    arguments: tuple[Any, ...],
    run: Callable[[CCAProblem, float], Parameters],
    lam: float | None,
    method: str,
    *,
    write: bool,
    linear: bool,
) -> Selection:
    """Choose the price by correlation on cells held out, if none is given, then fit all cells."""
    whole = CCAProblem(*arguments, hold_out=False)
    tried: list[tuple[float, Parameters, float]] = []
    if lam is None:
        part = CCAProblem(*arguments, hold_out=True)
        for price in LAMS:
            mu = run(part, price)
            fit = refit(part.values, part.rows, part.out_rows, [(m > 0).numpy() for m in mu], RIDGE)
            tried.append((price, mu, fit.held_out))
        lam = max(tried, key=lambda each: each[2])[0]
    return whole.finish(arguments[0], run(whole, lam), lam, tried, method, write=write, linear=linear)
