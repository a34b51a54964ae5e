"""From one modality to another by regression on pairs, mixed with the network: fitted once after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._kernel_ridge import MAX_KERNEL_AXES, PENALTIES, WIDTHS, KernelFeatures, RidgeSolver, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    Values = Mapping[str, NDArray[np.float32]]
    """``(n, G)`` by form."""
    Stream = Callable[[Callable[[NDArray[np.int64]], NDArray[np.float32]]], Iterable["Chunk"]]
    """From what predicts log libraries of pairs at given positions, to all pairs in chunks."""

NORMALIZED, LOG1P, RAW = "normalized", "log1p", "raw"
"""Forms in which values are predicted: ``log1p`` of counts at the mean library, of counts, and values as they are."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the network that validation pairs choose from."""
FIXED_SHARE = 0.25
"""Share of the network where there are too few validation pairs to choose by."""
MIN_CHOICE = 20
"""Validation pairs below which nothing is chosen by them."""
CHOICE_CELLS, CHOICE_FEATURES = 1500, 500
"""Cells and features looked at to choose a kernel."""
MAX_NUMBERS = 4_000_000
"""Coefficients per form; modalities with many features get a kernel of fewer axes."""
SHRINKAGE = 0.05


@dataclass(frozen=True)
class Chunk:
    """Some paired cells."""

    rows: NDArray[np.int64]
    """Positions among all pairs of the fit."""
    values: Values
    """Measured values by form, zero where not measured."""
    network: Values
    """What the network predicts of them."""
    counts: NDArray[np.float32] | None
    """Counts at the mean library, for likelihoods that have one."""
    measured: NDArray[np.bool_] | None
    """``(n, G)``; ``None`` for all."""


@dataclass
class PairTranslator:
    """How one modality predicts another."""

    features: KernelFeatures
    coefficients: dict[str, NDArray[np.float32]]
    """``(p, G)`` by form."""
    calibration: dict[str, NDArray[np.float32]]
    """``(2, G)`` by form: slope and intercept that the network's prediction needs."""
    share: dict[str, float]
    """Weight of the network by form, in [0, 1]."""
    variance: dict[str, NDArray[np.float32]]
    """``(G,)`` squared error of cells left out, by form."""
    library: NDArray[np.float32] | None
    """``(p,)`` coefficients of the log library of the target."""
    library_factor: float
    """Observed over predicted totals: the mean of a total is not the exponential of the mean of its log."""
    rate_factor: NDArray[np.float32] | None
    """``(G,)`` the same for each feature."""

    def columns(self, x: NDArray[Any], side: NDArray[Any]) -> NDArray[np.float32]:
        """Return the columns of the regression, ``(n, p)``."""
        return self.features(x, side)

    def predict(
        self, form: str, columns: NDArray[np.float32], network: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Return expected values in a form, ``(n, G)``; ``network`` may be missing where its share is zero."""
        out, share = columns @ self.coefficients[form], self.share[form]
        if share > 0 and network is not None:
            slope, intercept = self.calibration[form]
            out *= np.float32(1 - share)
            out += network * (np.float32(share) * slope) + np.float32(share) * intercept
        return np.asarray(out, dtype=np.float32)

    def precision(self, form: str) -> NDArray[np.float32]:
        """Return the inverse of the squared error of every feature, ``(G,)``, finite."""
        variance = self.variance[form]
        floor = max(1e-4 * float(variance.max()), float(np.finfo(np.float32).tiny) ** 0.5)
        return np.asarray(1 / np.maximum(variance, floor), dtype=np.float32)

    def log_library(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the expected log library of the target, ``(n,)``."""
        if self.library is None:
            return np.zeros(len(columns), dtype=np.float32)
        return np.asarray(columns @ self.library, dtype=np.float32)

    def describe(self, form: str) -> str:
        """Return what predicts, in words."""
        share, name = self.share[form], "kernel ridge" if self.features.width > 0 else "ridge"
        return f"{1 - share:.2f} {name} + {share:.2f} network" if share > 0 else name


def fit_pair(
    x: NDArray[np.float32],
    side: NDArray[np.float32],
    log_library: NDArray[np.float32] | None,
    *,
    sample: Callable[[NDArray[np.int64]], Values],
    stream: Stream,
    held: NDArray[np.bool_],
    n_features: int,
    random_state: int = 0,
) -> PairTranslator:
    """Fit to the pairs of a source and a target.

    Parameters
    ----------
    x, side
        ``(n, k)`` encoder inputs of the source, ``(n, c)`` covariates.
    log_library
        ``(n,)`` log library of the target; ``None`` if it has none.
    sample
        From positions of pairs to their values by form.
    stream
        All pairs in chunks; is given what predicts the log libraries, ``(n,)``, of pairs at given positions.
    held
        ``(n,)`` validation pairs: they choose the share of the network and are in no fit.
    n_features
        Of the target.
    random_state
        Seed of landmarks and of what is looked at to choose.
    """
    rng, fit = np.random.default_rng(random_state), np.flatnonzero(~held)
    some = np.sort(rng.permutation(fit)[:CHOICE_CELLS])
    looked_at = sample(some)
    form = NORMALIZED if NORMALIZED in looked_at else next(iter(looked_at))
    features = np.sort(rng.permutation(n_features)[:CHOICE_FEATURES])
    y = looked_at[form][:, features].astype(np.float64)
    found = []
    for widths in (WIDTHS, WIDTHS[:1]):  # the second is ridge: the floor that validation pairs hold it against
        width, penalty = choose(x[some], side[some], y, widths=widths, random_state=random_state)
        n_axes = int(np.clip(MAX_NUMBERS // n_features - x.shape[1] - side.shape[1], 32, MAX_KERNEL_AXES))
        kernel = KernelFeatures.fit(x[fit], side[fit], width=width, n_axes=n_axes, random_state=random_state)
        found.append(_fit_one(kernel, penalty, kernel(x, side), log_library, held, stream))
        if width == 0 or held.sum() < MIN_CHOICE:
            break
    return min(found, key=lambda each: each[1])[0]


def _fit_one(
    kernel: KernelFeatures,
    penalty: float,
    phi: NDArray[np.float32],
    log_library: NDArray[np.float32] | None,
    held: NDArray[np.bool_],
    stream: Stream,
) -> tuple[PairTranslator, float]:
    """Return a translator by one kernel, and its error on the validation pairs."""
    out = PairTranslator(kernel, {}, {}, {}, {}, None, 1.0, None)
    fit = ~held
    solver = RidgeSolver(phi[fit])
    if log_library is not None:
        y = log_library[fit].astype(np.float64)[:, None]
        own = min(PENALTIES, key=lambda each: float((solver.left_out(y, each) ** 2).sum()))
        out.library = solver.coefficients(phi[fit].T.astype(np.float64) @ y, own)[:, 0]
        out.library_factor = float(np.exp(y).mean() / np.exp(phi[fit] @ out.library).mean())

    def chunks() -> Iterable[Chunk]:
        return stream(lambda rows: out.log_library(phi[rows]))

    _fit_forms(out, phi, penalty, solver, held, chunks)
    error = _choose_shares(out, phi, held, chunks)
    _calibrate(out, phi, held, chunks)
    return out, error


def _fit_forms(
    out: PairTranslator,
    phi: NDArray[np.float32],
    penalty: float,
    solver: RidgeSolver,
    held: NDArray[np.bool_],
    chunks: Callable[[], Iterable[Chunk]],
) -> None:
    """Fit coefficients and calibrations of every form, from sums over chunks."""
    cross: dict[str, NDArray[np.float64]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    mask = None
    for chunk in chunks():
        use = ~held[chunk.rows]
        here = np.ones((int(use.sum()), 1)) if chunk.measured is None else chunk.measured[use].astype(float)
        for form, values in chunk.values.items():
            y, d = values[use].astype(np.float64), chunk.network[form][use] * here
            n = np.broadcast_to(here, y.shape).sum(axis=0)
            found = np.stack([n, d.sum(0), (d * d).sum(0), y.sum(0), (d * y).sum(0), (y * y).sum(0)])
            cross[form] = cross.get(form, 0.0) + phi[chunk.rows[use]].T.astype(np.float64) @ y
            sums[form] = sums.get(form, 0.0) + found
        if chunk.measured is not None:
            mask = np.zeros((len(phi), chunk.measured.shape[1]), dtype=bool) if mask is None else mask
            mask[chunk.rows] = chunk.measured
    fit = ~held
    for form, total in cross.items():
        out.coefficients[form] = solver.coefficients(total, penalty)
        if mask is not None:  # features of one panel are fitted to the cells that measured it
            panels, panel = np.unique(mask[fit], axis=1, return_inverse=True)
            for i in range(panels.shape[1]):
                rows = panels[:, i]
                if not rows.all() and rows.any():
                    own, at = RidgeSolver(phi[fit][rows]), np.ravel(panel) == i
                    out.coefficients[form][:, at] = own.coefficients(total[:, at], penalty)
        n, d, dd, y, dy, yy = sums[form]
        n = np.maximum(n, 1)
        variance = np.maximum(yy / n - (y / n) ** 2, 0)
        spread = np.maximum(dd / n - (d / n) ** 2, 0)
        slope = np.maximum(dy / n - d * y / n**2, 0) / (spread + SHRINKAGE * np.minimum(variance, spread) + 1e-9)
        out.calibration[form] = np.stack([slope, y / n - slope * d / n]).astype(np.float32)
        out.share[form], out.variance[form] = 0.0, variance.astype(np.float32)


def _choose_shares(
    out: PairTranslator, phi: NDArray[np.float32], held: NDArray[np.bool_], chunks: Callable[[], Iterable[Chunk]]
) -> float:
    """Choose the share of the network by the validation pairs; return their error in shares of the variance."""
    if held.sum() < MIN_CHOICE:
        out.share = dict.fromkeys(out.share, FIXED_SHARE)
        return 0.0
    errors = {form: np.zeros(len(SHARES)) for form in out.share}
    for chunk in chunks():
        use = held[chunk.rows]
        for form, values in chunk.values.items():
            weight = out.precision(form)
            for i, share in enumerate(SHARES):
                out.share[form] = share
                error = out.predict(form, phi[chunk.rows[use]], chunk.network[form][use]) - values[use]
                if chunk.measured is not None:
                    error = error * chunk.measured[use]
                errors[form][i] += float((error**2 * weight).sum())
    out.share = {form: SHARES[int(found.argmin())] for form, found in errors.items()}
    return sum(float(found.min()) for found in errors.values())


def _calibrate(
    out: PairTranslator, phi: NDArray[np.float32], held: NDArray[np.bool_], chunks: Callable[[], Iterable[Chunk]]
) -> None:
    """Keep the squared error of features, and what means of counts on the fitted pairs need."""
    chosen = held if held.sum() >= MIN_CHOICE else ~held
    n_features = next(iter(out.variance.values())).shape[0]
    residual = {form: np.zeros(n_features) for form in out.share}
    count, counted, expected = np.zeros(n_features), np.zeros(n_features), np.zeros(n_features)
    for chunk in chunks():
        use, fit = chosen[chunk.rows], ~held[chunk.rows]
        here = np.ones((len(use), n_features)) if chunk.measured is None else chunk.measured
        count += here[use].sum(axis=0)
        for form, values in chunk.values.items():
            found = out.predict(form, phi[chunk.rows], chunk.network[form])
            residual[form] += (((found - values) * here)[use] ** 2).sum(axis=0)
            if chunk.counts is not None and form == next(iter(out.share)):
                counted += (chunk.counts * here)[fit].sum(axis=0)
                expected += (np.expm1(np.maximum(found, 0)) * here)[fit].sum(axis=0)
    for form in out.share:
        out.variance[form] = (residual[form] / np.maximum(count, 1)).astype(np.float32)
    out.rate_factor = np.where(expected > 0, counted / np.maximum(expected, 1e-8), 1.0).astype(np.float32)
