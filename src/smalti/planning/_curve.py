"""Learning curves: a power law with a floor, fitted with all that is uncertain about it, and carried further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from smalti._validate import check_positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

EXPONENTS = np.geomspace(0.2, 2.0, 60)
"""Values of b, equally likely on a log scale: 1/2 is that of errors that average out, 1 that of squared errors."""
SHARES = np.linspace(0.0, 1.0, 121)
"""Values of h for scores that fall: the share of the last score that more data can still take away."""
GAINS = np.concatenate([np.linspace(0.0, 1.0, 81), np.linspace(1.05, 3.0, 40)])
"""The same for scores that rise: what more data can add, in units of the last score."""
DISCREPANCY = 0.08
"""Standard deviation of the log of a score about the power law at twice the largest n; it grows like a random walk,
with the root of the number of doublings."""
UNREPLICATED = 0.07
"""Relative error of a single run: the spread of a published curve that does not depend on n (.030 .029 .031 .034)."""
N_SAMPLES = 4000
FLAT = 0.05
"""Probability of a slope at least as steep, if there is none, above which a curve is said not to improve."""
REACH = 8.0
"""Factor beyond the largest n up to which an answer is given."""


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    r"""What is known of a learning curve :math:`s(n) = m (1 \mp h (1 - (n / n_\max)^{-b}))`, as 4,000 draws."""

    n_max: float
    """Largest sample size that was seen."""
    lower_is_better: bool
    level: Floats
    """``(4000,)`` draws of the score ``m`` at ``n_max``."""
    share: Floats
    """``(4000,)`` draws of ``h``."""
    exponent: Floats
    """``(4000,)`` draws of ``b``."""
    off: Floats
    """``(4000,)`` standard normal: how far a draw leaves the power law beyond ``n_max``."""
    level_error: float
    """Relative error of the level that all sizes share: the test cells of a pilot are a sample, too."""
    discrepancy: float
    start: Floats
    """``(4000,)`` how far ``n_max`` lies beyond the rise from chance, ``u`` of :func:`fit_curve`; infinite if no chance
    level was given."""
    p_flat: float
    """Probability that scores which do not depend on n improve at least as much with it."""

    @property
    def improves(self) -> bool:
        """Whether the score gets better with n, beyond doubt at the 5 % level."""
        return self.p_flat < FLAT

    def draws(self, n: ArrayLike) -> Floats:
        """Return 4,000 draws of the score at each n, ``(4000, len(n))``."""
        n = np.atleast_1d(np.asarray(n, dtype=np.float64))
        t = _remaining(n / self.n_max, self.exponent[:, None], self.start[:, None])
        sign = -1.0 if self.lower_is_better else 1.0
        score = self.level[:, None] * (1 + sign * self.share[:, None] * (1 - t))
        doublings = np.maximum(np.log2(n / self.n_max), 0.0)
        return score * np.exp(self.discrepancy * self.off[:, None] * np.sqrt(doublings))

    def predict(self, n: ArrayLike, *, coverage: float = 0.9) -> Floats:
        """Return the median score at each n and the ends of its interval, ``(3, len(n))``: low, median, high."""
        tail = (1 - coverage) / 2
        return np.quantile(self.draws(n), [tail, 0.5, 1 - tail], axis=0)

    def limit(self) -> Floats:
        """Return draws of the score with unlimited data, ``(4000,)``."""
        return self.level * (1 + (-1.0 if self.lower_is_better else 1.0) * self.share)

    def required(self, goal: ArrayLike, *, n_min: float = 10.0) -> Floats:
        """Return draws of the smallest n at which the score reaches ``goal``; infinite if not within 8 times ``n_max``.

        Parameters
        ----------
        goal
            One score, or one for each of 4,000 draws.
        n_min
            Smallest n that is considered.
        """
        n = np.geomspace(min(n_min, self.n_max), REACH * self.n_max, 400)
        score, goals = self.draws(n), np.broadcast_to(np.asarray(goal, dtype=np.float64), self.level.shape)[:, None]
        there = score <= goals if self.lower_is_better else score >= goals
        return np.where(there.any(axis=1), n[there.argmax(axis=1)], np.inf)


def fit_curve(
    n: ArrayLike,
    score: ArrayLike,
    *,
    error: ArrayLike | float = UNREPLICATED,
    lower_is_better: bool = True,
    chance: float | None = None,
    level_error: float = 0.0,
    discrepancy: float = DISCREPANCY,
    random_state: int = 0,
) -> CurveFit:
    r"""Fit a power law with a floor (or ceiling) to scores at several sample sizes.

    :math:`s(n) = s_\infty + a n^{-b}` is written by the score :math:`m` at the largest size and the share :math:`h` of
    it that more data can still change; all three are uncertain, and instead of the best ones a sample of those that the
    scores allow is kept. Before data, :math:`b` lies between 0.2 and 2 and :math:`h` is anything: with a few points,
    curves that go on falling and curves that end here are both in the sample. Beyond the largest size scores may leave
    any power law, which widens the interval with every doubling.

    With ``chance``, half of the sample before data are curves that begin there,
    :math:`s(n) = m (1 \mp h (1 - t))`, :math:`t = (1 + u) / (1 + u (n / n_\max)^b)` with the :math:`u` that puts
    :math:`n = 0` at chance: first a rise that gets steeper on double logarithmic axes, later the same power law.

    Parameters
    ----------
    n, score
        ``(k,)`` sample sizes and positive scores, two or more.
    error
        Standard errors of the scores relative to them, one or ``(k,)``; by default 7 %, for single runs.
    lower_is_better
        Whether the score falls with more data, such as FOSCTTM, or rises.
    chance
        Score without data, if curves may still rise from it; by default they are power laws throughout.
    level_error
        Relative error that all scores have in common.
    discrepancy
        Standard deviation of the log of the score about the power law at twice the largest size; beyond, variances of
        doublings add. The default was chosen on pilots of real data: ``docs/methods/planning.md``.
    random_state
        Seed of the sample.

    Examples
    --------
    >>> from smalti.planning import fit_curve
    >>> n = [250, 500, 1000, 2000]
    >>> fit = fit_curve(n, [0.05 + 2 / i**0.5 for i in n], error=0.02)
    >>> low, middle, high = fit.predict(8000)[:, 0]
    >>> bool(low < 0.05 + 2 / 8000**0.5 < high)
    True
    """
    n, score = (np.asarray(v, dtype=np.float64) for v in (n, score))
    if n.ndim != 1 or n.shape != score.shape or len(np.unique(n)) < 2:
        raise ValueError(
            f"Expected scores at two or more sample sizes, found {n.shape} sizes and {score.shape} scores."
        )
    if not (score > 0).all() or not np.isfinite(score).all():
        raise ValueError(f"Expected positive scores, found {score.tolist()}. Leave out sizes without a score.")
    check_positive(float(np.min(error)), "error")
    order = np.argsort(n)
    n, score = n[order], score[order]
    sd = (
        np.broadcast_to(np.asarray(error, dtype=np.float64), score.shape)[order if np.ndim(error) else slice(None)]
        * score
    )
    shares = SHARES if lower_is_better else GAINS
    prior = np.ones_like(shares) if lower_is_better else 1 / (1 + shares) ** 2
    prior = prior * np.gradient(shares)
    start = _beyond_rise(score[-1], chance, shares)  # (f, h)
    t = _remaining(n / n[-1], EXPONENTS[:, None, None], start[:, None, :, None])  # (f, b, h, k)
    sign = -1.0 if lower_is_better else 1.0
    shape = 1 + sign * shares[None, :, None] * (1 - t)
    weight = 1 / sd**2
    precision = (shape**2 * weight).sum(-1)
    level = (shape * score * weight).sum(-1) / precision
    rest = (weight * (score - level[..., None] * shape) ** 2).sum(-1)
    # A curve that rises too steeply would start below zero: no such score.
    possible = (shape.min(-1) > 0) & (level > 0)
    log_p = np.where(possible, -0.5 * rest - 0.5 * np.log(precision) + np.log(np.maximum(prior, 1e-300)), -np.inf)
    p = np.exp(log_p - log_p.max()).ravel()
    rng = np.random.default_rng(random_state)
    pick = rng.choice(p.size, N_SAMPLES, p=p / p.sum())
    f, b, h = np.unravel_index(pick, log_p.shape)
    m = level[f, b, h] + rng.standard_normal(N_SAMPLES) / np.sqrt(precision[f, b, h])
    m = np.maximum(m, 1e-9) * np.exp(level_error * rng.standard_normal(N_SAMPLES))
    return CurveFit(
        n_max=float(n[-1]),
        lower_is_better=lower_is_better,
        level=m,
        share=shares[h],
        exponent=EXPONENTS[b],
        off=rng.standard_normal(N_SAMPLES),
        level_error=level_error,
        discrepancy=discrepancy,
        start=start[f, h],
        p_flat=_p_flat(np.log(n), np.log(score), sd / score, lower_is_better),
    )


def _remaining(ratio: Floats, exponent: Floats, start: Floats) -> Floats:
    """Return what is left of the part that data can change, 1 at ``n_max``: a power law after a rise from chance."""
    with np.errstate(over="ignore"):
        power = ratio**exponent
    far = ~np.isfinite(start)
    u = np.where(far, 1.0, start)
    return np.where(far, 1 / power, (1 + u) / (1 + u * power))


def _beyond_rise(last: float, chance: float | None, shares: Floats) -> Floats:
    """Return ``u`` for every share, ``(f, h)``: infinite, a power law throughout; or such that it begins at chance."""
    law = np.full_like(shares, np.inf)
    if chance is None:
        return law[None]
    return np.stack([law, np.divide(abs(chance / last - 1), shares, out=law.copy(), where=shares > 0)])


def _p_flat(x: Floats, y: Floats, sd: Floats, lower_is_better: bool) -> float:
    """Return the probability of a slope at least as good if there is none, errors known."""
    w = 1 / sd**2
    x = x - (w * x).sum() / w.sum()
    slope = (w * x * y).sum() / (w * x**2).sum()
    z = slope * np.sqrt((w * x**2).sum())
    return float(norm.cdf(z if lower_is_better else -z))
