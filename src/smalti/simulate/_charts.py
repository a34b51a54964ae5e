"""A continuum of which every device sees another part, through another lens: data with known coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from smalti._mudata import build_mudata
from smalti._validate import check_choice, check_count, check_in_range, check_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class _Device(NamedTuple):
    name: str
    low: float
    high: float
    lens: Callable[[Floats], Floats]


def _cubic(t: Floats) -> Floats:
    return np.stack([t[..., 0] + t[..., 1] ** 3, t[..., 1] - t[..., 0] ** 3], axis=-1)


def _sphere(t: Floats) -> Floats:
    u = 2 * t - 1
    r = (u**2).sum(axis=-1)
    return np.stack([2 * u[..., 0], 2 * u[..., 1], r - 1], axis=-1) / (1 + r)[..., None]


def _wave(t: Floats) -> Floats:
    a, b = t[..., 0], t[..., 1]
    return np.stack([np.sin(1.5 * a) + 0.3 * b, 1.2 * np.exp(b / 2) - 0.4 * a**2], axis=-1)


DEVICES = {
    2: (_Device("cubic", 0.0, 0.6, _cubic), _Device("sphere", 0.4, 1.0, _sphere)),
    3: (_Device("cubic", 0.0, 0.4, _cubic), _Device("sphere", 0.3, 0.7, _sphere), _Device("wave", 0.6, 1.0, _wave)),
}


def overlap_charts(
    n_obs: int = 1000,
    *,
    n_devices: int = 2,
    n_burst: int = 40,
    burst_scale: float = 0.02,
    mismatch: float = 1.0,
    n_shared: int | None = None,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    r"""Simulate states on the unit square that two or three devices see in part, each with a burst around every state.

    A state :math:`\theta` is uniform on the square. The first device sees
    :math:`(\theta_1 + \theta_2^3, \theta_2 - \theta_1^3)` on the left, the second the stereographic image on a sphere
    on the right (or, of three, in the middle), the third
    :math:`(\sin 1.5 \theta_1 + 0.3 \theta_2,\ 1.2 e^{\theta_2 / 2} - 0.4 \theta_1^2)` on the right. Points of a burst
    are images of :math:`\theta + s \epsilon`.

    Parameters
    ----------
    n_obs
        Number of states.
    n_devices
        2 or 3; three form a chain.
    n_burst
        Points of a burst.
    burst_scale
        Standard deviation :math:`s` of a burst.
    mismatch
        Factor of :math:`s` of all devices but the first, which nobody is told.
    n_shared
        States that remain co-observed, per pair of neighbouring devices; others keep one device. All by default.
    random_state
        Seed or generator.

    Returns
    -------
    MuData of states, one modality per device (``"cubic"``, ``"sphere"``, ``"wave"``), with the image of each state in
    ``.X`` and its burst in ``.obsm["burst"]``, ``(n, n_burst, n_vars)``. The truth is ``.obsm["truth"]``, ``(n_obs,
    2)``; ``.uns["burst_scale"]`` is :math:`s`.

    Raises
    ------
    ValueError
        If there are fewer co-observed states than are wanted.
    """
    check_count(n_obs, "n_obs")
    check_count(n_burst, "n_burst")
    check_positive(burst_scale, "burst_scale")
    check_positive(mismatch, "mismatch")
    check_choice(n_devices, tuple(DEVICES), "n_devices")
    rng = np.random.default_rng(random_state)
    theta = rng.random((n_obs, 2))
    devices = DEVICES[n_devices]
    seen = np.column_stack([(theta[:, 0] >= d.low) & (theta[:, 0] < d.high) for d in devices])
    seen[theta[:, 0] >= devices[-1].high, -1] = True
    if n_shared is not None:
        for i in range(n_devices - 1):
            both = rng.permutation(np.flatnonzero(seen[:, i] & seen[:, i + 1]))
            if len(both) < n_shared:
                raise ValueError(f"Expected {n_shared} co-observed states, found {len(both)}: raise `n_obs`.")
            lost = both[n_shared:]
            seen[lost, i + rng.integers(0, 2, len(lost))] = False
    names = np.array([f"state_{i}" for i in range(n_obs)], dtype=object)
    modalities = {}
    for i, device in enumerate(devices):
        at = np.flatnonzero(seen[:, i])
        s = burst_scale * (mismatch if i else 1.0)
        points = theta[at][:, None] + s * rng.normal(size=(len(at), n_burst, 2))
        x = device.lens(theta[at])
        var = pd.DataFrame(index=[f"{device.name}_{j}" for j in range(x.shape[1])])
        adata = AnnData(x.astype(np.float32), obs=pd.DataFrame(index=names[at]), var=var)
        adata.obsm["burst"] = device.lens(points).astype(np.float32)
        modalities[device.name] = adata
    mdata = build_mudata(modalities)
    order = pd.Index(names).get_indexer(mdata.obs_names)
    mdata.obsm["truth"] = theta[order]
    mdata.uns["burst_scale"] = float(burst_scale)
    return mdata


def noisy_charts(
    n_obs: int = 1000,
    *,
    n_latent: int = 2,
    noise: float = 0.03,
    scales: Sequence[float] = (1.0, 1.0),
    overlap: tuple[float, float] = (0.4, 0.6),
    random_state: int | np.random.Generator = 0,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Simulate what charts of two devices look like: true coordinates with noise, turned, shifted and scaled.

    Parameters
    ----------
    n_obs
        Number of states, uniform in the unit cube.
    n_latent
        Dimension of the cube.
    noise
        Standard deviation of the noise of each chart, in units of the cube.
    scales
        Size of each chart.
    overlap
        The first device sees states whose first coordinate is below the second number, the second device those above
        the first number.
    random_state
        Seed or generator.

    Returns
    -------
    The truth, ``(n_obs, n_latent)``, and charts by device (``"a"``, ``"b"``), NaN where a device did not see the state.
    """
    check_count(n_obs, "n_obs")
    check_count(n_latent, "n_latent")
    check_positive(noise, "noise", allow_zero=True)
    for value in overlap:
        check_in_range(value, 0, 1, "overlap")
    rng = np.random.default_rng(random_state)
    theta = rng.random((n_obs, n_latent))
    seen = {"a": theta[:, 0] < overlap[1], "b": theta[:, 0] > overlap[0]}
    charts = {}
    for (name, here), scale in zip(seen.items(), scales, strict=True):
        turn = np.linalg.qr(rng.normal(size=(n_latent, n_latent)))[0]
        z = scale * (theta + noise * rng.normal(size=theta.shape)) @ turn + rng.normal(size=n_latent)
        charts[name] = np.where(here[:, None], z, np.nan)
    return theta, charts
