"""Laying charts over each other by the cells that several of them saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from smalti._validate import check_choice

from ._options import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Registration = Literal["auto", "rigid", "similarity", "affine"]
MAX_LEFT_OUT = 100
"""Cells that are left out one by one; a random sample of more."""
THIN = 0.1
"""Ratio of the smallest to the largest singular value below which co-observed cells lie on a line or plane."""


@dataclass(frozen=True)
class Placement:
    """How the chart of one modality was laid over the others."""

    matrix: NDArray[np.float64]
    """``(d, d)``; coordinates are ``z @ matrix + shift``."""
    shift: NDArray[np.float64]
    """``(d,)``."""
    family: Family | None = None
    """``None`` for the first chart, which stays where it is."""
    n: int = 0
    """Co-observed cells it was fitted to."""
    error: float = float("nan")
    """Root mean squared distance of a cell that was left out, per dimension."""
    flatness: float = float("nan")
    """Smallest over largest singular value of the co-observed cells' coordinates."""
    scale: float = float("nan")
    """Size of the other charts over that of this one, where a similarity is fitted; 1 if bursts are consistent."""


def minimum(family: Family, d: int) -> int:
    """Return the number of co-observed cells that fix a transform, the reflection too."""
    return d + 1


def fit_transform(
    source: NDArray[np.float64], target: NDArray[np.float64], family: Family
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix and shift with which ``source @ matrix + shift`` is nearest to ``target`` by squared distance.

    Parameters
    ----------
    source, target
        ``(m, d)`` coordinates of the same cells.
    family
        What is allowed.
    """
    d = source.shape[1]
    a, b = source.mean(axis=0), target.mean(axis=0)
    x, y = source - a, target - b
    if family == "affine":
        matrix = np.linalg.lstsq(x, y, rcond=None)[0]
    else:
        u, s, vt = np.linalg.svd(x.T @ y)
        matrix = u @ vt
        total = float((x**2).sum())
        if family == "similarity" and total > 0:
            matrix = matrix * (s.sum() / total)
    if matrix.shape != (d, d) or not np.isfinite(matrix).all():
        matrix = np.eye(d)
    return matrix, b - a @ matrix


def left_out_errors(
    source: NDArray[np.float64], target: NDArray[np.float64], family: Family, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the squared distance per dimension of cells that were left out one by one."""
    cells = np.arange(len(source))
    if len(cells) > MAX_LEFT_OUT:
        cells = rng.choice(cells, MAX_LEFT_OUT, replace=False)
    out = np.empty(len(cells))
    for i, cell in enumerate(cells):
        rest = np.arange(len(source)) != cell
        matrix, shift = fit_transform(source[rest], target[rest], family)
        out[i] = np.square(source[cell] @ matrix + shift - target[cell]).mean()
    return out


def choose_family(
    source: NDArray[np.float64], target: NDArray[np.float64], families: Sequence[Family], rng: np.random.Generator
) -> Family:
    """Return the simplest family whose left-out error is within one standard error of the smallest."""
    if len(source) <= source.shape[1] + 1:
        return families[0]
    errors = {family: left_out_errors(source, target, family, rng) for family in families}
    best = min(errors.values(), key=lambda e: float(e.mean()))
    limit = best.mean() + best.std(ddof=1) / np.sqrt(len(best))
    return next(family for family in families if errors[family].mean() <= limit)


def register_charts(
    charts: Mapping[str, NDArray[np.float64]],
    *,
    registration: Registration = "auto",
    scale_known: bool = False,
    random_state: int = 0,
) -> dict[str, Placement]:
    """Lay charts over each other one by one, always the one that shares most cells with those that are placed.

    Parameters
    ----------
    charts
        ``(n, d)`` by modality, the same cells in each, NaN where a modality did not see the cell.
    registration
        Family, or ``"auto"``: the simplest within one standard error of the best left-out error; rigid is a candidate
        only where ``scale_known``.
    scale_known
        Whether the scale of bursts is known, so that charts have one unit.
    random_state
        Seed of the sample of left-out cells.

    Raises
    ------
    ValueError
        If charts are not linked by cells that two of them saw.
    """
    check_choice(registration, ("auto", *get_args(Family)), "registration")
    rng = np.random.default_rng(random_state)
    seen: dict[str, NDArray[np.bool_]] = {n: np.asarray(np.isfinite(z).all(axis=1)) for n, z in charts.items()}
    names = list(charts)
    d = next(iter(charts.values())).shape[1]
    shared = {a: sum(int((seen[a] & seen[b]).sum()) for b in names if b != a) for a in names}
    first = max(names, key=lambda name: shared[name])
    placed = {first: Placement(np.eye(d), np.zeros(d))}
    total, count = np.where(seen[first][:, None], charts[first], 0.0), seen[first].astype(float)
    while len(placed) < len(names):
        left = [name for name in names if name not in placed]
        name = max(left, key=lambda other: int((seen[other] & (count > 0)).sum()))
        both: NDArray[np.bool_] = np.asarray(seen[name] & (count > 0))
        if not both.any():
            raise ValueError(
                f"The charts of {', '.join(map(repr, left))} share no cell with those of "
                f"{', '.join(map(repr, placed))}: measure some cells in both, or keep the charts apart with "
                "`ManifoldWeights(registration=0)`."
            )
        source, target = charts[name][both], total[both] / count[both][:, None]
        found = _place(source, target, registration, scale_known, rng)
        placed[name] = found
        moved = charts[name] @ found.matrix + found.shift
        total = total + np.where(seen[name][:, None], moved, 0.0)
        count = count + seen[name]
    return {name: placed[name] for name in names}


def _place(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    registration: Registration,
    scale_known: bool,
    rng: np.random.Generator,
) -> Placement:
    m = len(source)
    families: list[Family] = ["similarity", "affine"] if not scale_known else ["rigid", "similarity", "affine"]
    family = choose_family(source, target, families, rng) if registration == "auto" else registration
    matrix, shift = fit_transform(source, target, family)
    error = float("nan")
    if m > 2:
        error = float(np.sqrt(left_out_errors(source, target, family, rng).mean()))
    values = np.linalg.svd(source - source.mean(axis=0), compute_uv=False)
    flat = float(values[-1] / values[0]) if m >= source.shape[1] and values[0] > 0 else 0.0
    similar = fit_transform(source, target, "similarity")[0]
    scale = float(np.abs(np.linalg.det(similar)) ** (1 / source.shape[1])) if m > 1 else float("nan")
    return Placement(matrix, shift, family, m, error, flat, scale)
