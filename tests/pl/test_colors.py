from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from smalti.pl._colors import UNKNOWN, by_name, categorical

# Viénot, Brettel and Mollon (1999): what red-blind and green-blind people see, on linear RGB
BLIND = {
    "red": np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]]),
    "green": np.array([[0.2927, 0.7073, 0.0], [0.2927, 0.7073, 0.0], [-0.0223, 0.0223, 1.0]]),
}


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of linear RGB."""
    xyz = rgb @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-9, None))
    return np.column_stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])])


def smallest_difference(colors: np.ndarray) -> float:
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    return float(distance[np.triu_indices(len(colors), 1)].min())


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_color_blind_can_tell_colors_apart(n: int, kind: str) -> None:
    linear = np.array([to_rgb(c) for c in categorical(n)]) ** 2.2
    seen = np.clip(linear @ BLIND[kind].T, 0, 1)
    assert smallest_difference(lab(seen)) > 12  # a difference of about 2 is just noticeable


def test_red_and_green_would_fail_that_test() -> None:
    linear = np.array([to_rgb("#d62728"), to_rgb("#7a7a00")]) ** 2.2
    assert smallest_difference(lab(np.clip(linear @ BLIND["green"].T, 0, 1))) < 12


@pytest.mark.parametrize("n", [1, 7, 8, 9, 10, 20, 21, 35, 60])
def test_there_are_as_many_colors_as_names(n: int) -> None:
    names = [f"type {i}" for i in range(n)]
    colors = by_name(names)
    assert list(colors) == names
    assert len(set(colors.values())) == n


@pytest.mark.parametrize("n", [10, 20, 30, 40])
def test_thirty_types_can_be_told_apart_from_each_other_and_from_the_grey_of_unknown(n: int) -> None:
    linear = np.array([to_rgb(c) for c in [*categorical(n), UNKNOWN]]) ** 2.2
    assert smallest_difference(lab(linear)) > 20
