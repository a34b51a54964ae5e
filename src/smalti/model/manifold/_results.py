"""What a fitted OverlapManifold says of cells and of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._errors import NotFittedError
from smalti._validate import check_text
from smalti.model.base import positions

from ._loss import white_floor, whiteness
from ._training import CHUNK, FAR, ManifoldTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._module import ManifoldModule

ROUGH = 3.0
"""Times the floor above which the white term of a cell counts as high."""


class _Region:
    """The part of the continuum that a modality saw in training."""

    def __init__(self, module: ManifoldModule, name: str) -> None:
        profiles = module.reference(name).unique(dim=0)  # few profiles are repeated
        self.seen = module.register(name, module.chart(name, profiles)).detach()
        between = torch.cdist(self.seen, self.seen).fill_diagonal_(torch.inf).min(dim=1).values
        self.limit = between.quantile(FAR) if len(profiles) > 1 else between.new_zeros(())

    def covers(self, z: torch.Tensor) -> torch.Tensor:
        """Return for coordinates ``(n, d)`` whether they lie in it, ``(n,)``."""
        return torch.cdist(z, self.seen).min(dim=1).values <= self.limit


class ManifoldResults(ManifoldTraining):
    """Coordinates with maps of trust, and tables about charts."""

    def chart_table(
        self, mdata: MuData | None = None, *, indices: Sequence[int] | NDArray[Any] | None = None
    ) -> pd.DataFrame:
        """Return how far the coordinates of every cell can be trusted.

        Parameters
        ----------
        mdata
            Data, those of training by default. It may lack modalities.
        indices
            Positions or a boolean mask; all cells by default.

        Returns
        -------
        One row per cell: ``n_devices``, modalities it was measured in; ``spread``, root mean squared distance of its
        charts from their mean, missing with one; ``far``, whether it lies farther from the training profiles than 99 %
        of these, in every modality it has: charts mean nothing there; ``white``, mean deviation of its burst from a
        ball per entry of the covariance (training data only).
        """
        data = self._validate_anndata(mdata)
        module, parts = self.module, []
        for minibatch in self.iterate(data, indices):
            out = module.inference(minibatch)
            present = out["present"]
            count = torch.stack(list(present.values())).sum(dim=0)
            mean = sum(z * present[name][:, None] for name, z in out["coordinates"].items())
            mean = mean / count.clamp(min=1)[:, None]
            gap = sum((z - mean).square().sum(dim=1) * present[name] for name, z in out["coordinates"].items())
            far = torch.ones_like(count, dtype=torch.bool)
            for name, here in present.items():
                if bool(here.any()):
                    x = module.inputs.encode(minibatch, name, here)
                    nearest = torch.cdist(x, module.reference(name)).min(dim=1).values
                    far[here] &= nearest > module.far[module.inputs.position(name)]
            spread = torch.where(count > 1, (gap / count.clamp(min=1)).sqrt(), torch.nan)
            parts.append(
                pd.DataFrame(
                    {"n_devices": count.cpu().numpy(), "spread": spread.cpu().numpy(), "far": far.cpu().numpy()}
                )
            )
        table = pd.concat(parts, ignore_index=True)
        at = positions(data, indices)
        table.index = data.obs_names[at]
        table["white"] = np.nan
        if module.bursts and self.adata is data:
            table["white"] = self._local_white()[at]
        return table

    def decode(
        self,
        modality: str,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[Any] | None = None,
        keep_outside: bool = False,
    ) -> pd.DataFrame:
        """Return what a modality would show at the coordinates of cells, whether or not it saw them.

        A modality knows the part of the continuum that it saw. Coordinates that are farther from its training profiles
        than 99 % of these are from each other lie outside: nothing is decoded there.

        Parameters
        ----------
        modality
            To decode.
        mdata
            Data, those of training by default. It may lack modalities.
        indices
            Positions or a boolean mask; all cells by default.
        keep_outside
            Whether to return what the decoder says outside, too; it is an extrapolation.

        Returns
        -------
        One row per cell: ``covered``, whether the modality saw cells there, and ``component_1`` and so on, encoder
        inputs of the modality (principal components or scaled features), missing outside.

        Raises
        ------
        ValueError
            If there is no such modality.
        """
        self.check_modality(modality)
        data, parts = self._validate_anndata(mdata), []
        region = _Region(self.module, modality)
        for minibatch in self.iterate(data, indices):
            z = self._latent(minibatch, "coordinates", None)
            inside = region.covers(z)
            x = self.module.decode(modality, self.module.own_chart(modality, z))
            if not keep_outside:
                x = torch.where(inside[:, None], x, torch.nan)
            columns = [f"component_{j + 1}" for j in range(x.shape[1])]
            part = pd.DataFrame(x.cpu().numpy(), columns=columns)
            part.insert(0, "covered", inside.cpu().numpy())
            parts.append(part)
        table = pd.concat(parts, ignore_index=True)
        table.index = data.obs_names[positions(data, indices)]
        return table

    def write_charts(self, mdata: MuData | None = None, *, key_added: str = "loca") -> None:
        """Write coordinates and trust into the MuData.

        ``.obsm["X_<key>"]`` gets the coordinates, ``.obs`` the columns of :meth:`chart_table` as ``<key>_n_devices``,
        ``<key>_spread``, ``<key>_far`` and ``<key>_white``, ``.uns[<key>]`` what :meth:`diagnostics` returns.

        Parameters
        ----------
        mdata
            Where to write; the training data by default.
        key_added
            Beginning of all names.
        """
        if not self.is_trained_:
            raise NotFittedError("There are no charts yet: call `train` first.")
        check_text(key_added, "key_added")
        data = self._validate_anndata(mdata)
        data.obsm[f"X_{key_added}"] = self.get_latent_representation(data)
        for column, values in self.chart_table(data).items():
            data.obs[f"{key_added}_{column}"] = values.to_numpy()
        data.uns[key_added] = self.diagnostics()

    def registration_table(self) -> pd.DataFrame:
        """Return how the charts were laid over each other, one row per modality.

        Columns: ``family`` ("reference" for the one that stays), ``n`` co-observed cells, ``recommended`` number,
        ``error`` of a cell that was left out (root mean square per dimension), ``flatness``, smallest over largest
        singular value of the co-observed cells, and ``scale``, size of the others' charts over that of this one.

        Raises
        ------
        NotFittedError
            Before training, after loading, or where charts were kept apart.
        """
        if self.placements_ is None:
            raise NotFittedError("No charts were laid over each other here: train with a registration weight above 0.")
        rows, d = {}, self.n_latent
        for name, p in self.placements_.items():
            wanted = max(10 * d if p.family == "affine" else 4 * d, 20)
            rows[name] = (p.family or "reference", p.n, wanted if p.family else 0, p.error, p.flatness, p.scale)
        columns = ["family", "n", "recommended", "error", "flatness", "scale"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def dimension_table(self) -> pd.DataFrame:
        """Return what was tried to find the dimension, one row per dimension; stored models have it too.

        Columns: ``n_latent``; ``white``, the white term of short charts above its floor, of the modality where it is
        largest (1 for each direction that bursts do not fill); ``unexplained``, the share of the variance of
        components that charts lose, mean over modalities; ``chosen``.

        Raises
        ------
        NotFittedError
            If the dimension was given.
        """
        tried = self.config_.get("tried")
        if tried is None:
            raise NotFittedError("The dimension was given, not found: nothing was tried. Build with `n_latent='auto'`.")
        table = pd.DataFrame(tried)
        table["chosen"] = table["n_latent"] == self.n_latent
        return table

    def diagnostics(self) -> dict[str, Any]:
        """Return what to know of the charts, as plain values and arrays.

        ``modalities``; ``white`` of each (mean per entry of the covariance), ``white_floor`` that a perfect chart has,
        ``rough``, the share of cells above three times the floor; ``burst_scale``; ``fold``, the smallest ratio of
        distances in coordinates to those in components over sampled pairs, relative to the median: near 0 where far
        cells share coordinates; and the columns of :meth:`registration_table`.
        """
        out: dict[str, Any] = {
            "modalities": np.array(self.modalities, dtype=object),
            "burst_scale": float(self.module.burst_scale),
        }
        if self.module.bursts:
            whites = self._white_by_modality()
            floors = {n: self._floor(n) for n in whites}
            d2 = self.n_latent**2
            out["white"] = np.array([float(np.nanmean(w)) / d2 for w in whites.values()])
            out["white_floor"] = np.array([floors[n] / d2 for n in whites])
            out["rough"] = np.array(
                [float(np.nanmean(w > ROUGH * max(floors[n], 0.1 * d2))) for n, w in whites.items()]
            )
            out["fold"] = np.array([self._fold(name) for name in whites])
        if self.placements_ is not None:
            table = self.registration_table()
            out |= {f"registration_{column}": table[column].to_numpy() for column in table}
        return out

    # ------------------------------------------------------------------ parts

    def _floor(self, name: str) -> float:
        return white_floor(self.module.bursts[name].members.shape[1], self.n_latent)

    @torch.no_grad()
    def _white_by_modality(self) -> dict[str, NDArray[np.float64]]:
        """Return the white term of every cell by modality, NaN where it has no burst."""
        module, out = self.module, {}
        module.eval()
        for name, bursts in module.bursts.items():
            white = np.full(len(bursts.members), np.nan)
            for part in torch.from_numpy(np.flatnonzero(bursts.seen)).split(CHUNK // 4):
                points, exists, relative = bursts.of(part, module.shift.device)
                found = whiteness(module.chart(name, points), exists, relative * module.burst_scale.square())
                white[part.numpy()] = found.cpu().double().numpy()
            out[name] = white
        return out

    def _local_white(self) -> NDArray[np.float64]:
        whites = np.stack(list(self._white_by_modality().values()))
        known = np.isfinite(whites)
        total = np.where(known, np.maximum(whites, 0), 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.where(known.any(axis=0), np.sqrt(total) / self.n_latent, np.nan)

    @torch.no_grad()
    def _fold(self, name: str, n_pairs: int = 5000) -> float:
        values = self.cell_components().values[name]
        rng = np.random.default_rng(self.random_state)
        a, b = rng.integers(0, len(values), (2, n_pairs))
        keep = a != b
        x, y = (torch.from_numpy(values[at[keep]]).to(self.module.shift.device) for at in (a, b))
        ambient = (x - y).norm(dim=1)
        inner = (self.module.chart(name, x) - self.module.chart(name, y)).norm(dim=1)
        far = ambient > ambient.median()  # near pairs may be near
        ratio = (inner / ambient.clamp(min=1e-12))[far]
        return float(ratio.min() / ratio.median().clamp(min=1e-12))
