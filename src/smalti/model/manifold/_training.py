"""How OverlapManifold is trained: bursts, charts by themselves, laid over each other, then together."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from smalti.model.base import MosaicModel, from_plain, to_plain

from ._burst_making import BurstMaker
from ._dimension import scale_of
from ._module import N_REFERENCE
from ._register import THIN, Placement, minimum, register_charts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from smalti.train import MosaicSplitter

    from ._module import ManifoldModule
    from ._options import Bursts as Kind
    from ._options import ManifoldOptions, ManifoldWeights
    from ._register import Registration

logger = logging.getLogger(__name__)

RAMP = 0.2
"""Share of the epochs over which the registration term rises."""
SCALES = (0.8, 1.25)
"""Ratios of the sizes of charts between which bursts count as consistent."""
FAR = 0.99
"""Quantile of training profiles' distances beyond which a profile lies far from all."""
CHUNK = 4096


class ManifoldTraining(MosaicModel):
    """Bursts, registration and what is said of both."""

    module: ManifoldModule
    options: ManifoldOptions
    weights: ManifoldWeights
    kind: Kind
    burst_key: str | None
    registration: Registration
    n_latent: int
    placements_: dict[str, Placement] | None = None

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan of the prototype: 2e-3 down to zero by a cosine, no decay."""
        return {"lr": 2e-3, "weight_decay": 0.0, "kl_warmup": 0.0}

    def epoch_calls(self) -> list[tuple[int, Callable[[int], None]]]:
        """Lay charts over each other when the time has come, and set the share of the registration term."""
        return [(1, self._before_epoch)]

    def _check_trainable(self) -> None:
        super()._check_trainable()
        if self.weights.registration > 0:
            self._check_connected(self._devices_seen())

    def _devices_seen(self) -> NDArray[np.bool_]:
        """Return which cells, or states where a column names them, every modality saw, ``(n, M)``."""
        here = self.adata_manager.presence()
        mdata = self.adata_manager.adata
        if self.kind == "given" and self.burst_key is not None and self.burst_key in mdata.obs:
            codes = mdata.obs[self.burst_key].astype("category").cat.codes.to_numpy()
            table = np.zeros((int(codes.max(initial=0)) + 1, here.shape[1]), dtype=bool)
            np.logical_or.at(table, codes[codes >= 0], here[codes >= 0])
            return table
        return here

    def _check_connected(self, seen: NDArray[np.bool_]) -> None:
        common = seen.T.astype(np.int64) @ seen
        n, group = connected_components(csr_matrix(common > 0), directed=False)
        if n > 1:
            names = np.array(self.modalities)
            parts = "; ".join(" + ".join(map(repr, names[group == g].tolist())) for g in range(n))
            raise ValueError(
                f"Charts are laid over each other by cells that two modalities saw, but no cell links these "
                f"groups: {parts}. "
                f"Measure at least {max(4 * self.n_latent, 20)} cells in modalities of both, or switch the term "
                "off and keep "
                "the charts apart: `OverlapManifold(mdata, weights=ManifoldWeights(registration=0))`."
            )

    def _before_training(self, splitter: MosaicSplitter) -> None:
        module = self.module
        maker = BurstMaker(self.adata_manager, module.inputs, self.cell_components(), self.options, self.random_state)
        module.bursts = maker.make(self.kind, self.burst_key)
        if self.is_trained_:
            return
        module.burst_scale.fill_(scale_of(module.bursts, self.n_latent, self.options.burst_scale))
        self._keep_reference(splitter.train_idx)

    def _keep_reference(self, cells: NDArray[np.int64]) -> None:
        """Keep a sample of the training profiles, and how far profiles usually are from it."""
        values, maps = self.cell_components()
        rng, module = np.random.default_rng(self.random_state), self.module
        for i, name in enumerate(self.modalities):
            if name not in maps:
                continue
            rows = maps[name][cells]
            x = values[name][rows[rows >= 0]]
            if len(x) == 0 or not np.isfinite(x).all():
                continue
            chosen = rng.choice(len(x), N_REFERENCE, replace=len(x) < N_REFERENCE)
            module.reference(name).copy_(torch.from_numpy(x[chosen]))
            rest = np.setdiff1d(np.arange(len(x)), chosen)
            others = x[rest] if len(rest) >= 20 else x
            distance = NearestNeighbors(n_neighbors=1).fit(x[chosen]).kneighbors(others)[0][:, 0]
            module.far[i] = float(np.quantile(distance, FAR)) if len(rest) >= 20 else torch.inf

    def _before_epoch(self, epoch: int) -> None:
        module, n = self.module, self.n_epochs_
        start = int(self.options.joint_from * n)
        joint = self.weights.registration > 0 and (epoch >= start or self.is_trained_) and self.options.joint_from < 1
        if joint and not module.placed:
            self._register()
            if any(p.family == "affine" for p in (self.placements_ or {}).values()):
                logger.info("Charts differ by an affine map: they are not trained together.")
        affine = any(p.family == "affine" for p in (self.placements_ or {}).values())
        ramp = min(1.0, (epoch - start + 1) / max(RAMP * n, 1))
        module.ramp = 0.0 if not joint or affine else max(ramp, 0.0)

    def _noted(self) -> dict[str, Any]:
        return dict(to_plain({name: asdict(found) for name, found in (self.placements_ or {}).items()}))

    def _take_notes(self, notes: dict[str, Any]) -> None:
        found = {name: Placement(**each) for name, each in from_plain(notes).items()}
        self.placements_ = found or self.placements_

    # ------------------------------------------------------------------ registration

    @torch.no_grad()
    def centre_charts(self) -> dict[str, NDArray[np.float64]]:
        """Return the chart of the centre of every burst by modality, ``(n_obs, d)``, NaN where there is none.

        Charts are those of each modality by itself, not laid over each other.
        """
        out, module = {}, self.module
        for name, bursts in module.bursts.items():
            z = np.full((len(bursts.members), self.n_latent), np.nan)
            cells = torch.from_numpy(np.flatnonzero(bursts.seen))
            for part in cells.split(CHUNK // 4):
                points, exists, _ = bursts.of(part, module.shift.device)
                if bursts.centre_first:
                    found = module.chart(name, points[:, 0])
                else:
                    mask = exists.to(points.dtype)[..., None]
                    found = (module.chart(name, points) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
                z[part.numpy()] = found.cpu().double().numpy()
            out[name] = z
        return out

    def _register(self) -> None:
        charts = self.centre_charts()
        if not all(np.isfinite(z[np.isfinite(z).any(axis=1)]).all() for z in charts.values()):
            return  # whoever checks losses says where it comes from
        if any(not np.isfinite(z).any() for z in charts.values()):
            return
        mdata = self.adata_manager.adata
        if self.kind == "given" and self.burst_key in mdata.obs:  # every state once
            first = np.unique(mdata.obs[self.burst_key].astype(str).to_numpy(), return_index=True)[1]
            charts = {name: z[first] for name, z in charts.items()}
        self.placements_ = register_charts(
            charts,
            registration=self.registration,
            scale_known=self.options.burst_scale is not None,
            random_state=self.random_state,
        )
        module = self.module
        for i, name in enumerate(self.modalities):
            found = self.placements_[name]
            module.transform[i] = torch.from_numpy(found.matrix).to(module.transform)
            module.shift[i] = torch.from_numpy(found.shift).to(module.shift)
        module.placed.fill_(True)

    def _after_training(self) -> None:
        self.module.eval()
        if self.weights.registration > 0:
            self._register()
        for line in self._warnings():
            logger.warning("%s", line)

    def _warnings(self) -> list[str]:
        """Return what a user should know before trusting the coordinates."""
        d, said = self.n_latent, []
        for name, found in (self.placements_ or {}).items():
            if found.family is None:
                continue
            wanted = max(10 * d if found.family == "affine" else 4 * d, 20)
            if found.n < minimum(found.family, d):
                said.append(
                    f"{found.n} co-observed cells do not fix where the chart of {name!r} lies: it may be turned or "
                    f"mirrored. At least {d + 1} are needed, {wanted} are safe."
                )
            elif found.n < wanted:
                said.append(f"{found.n} co-observed cells of {name!r} are few: {wanted} are safe.")
            if found.n >= minimum(found.family, d) and found.flatness < THIN:
                said.append(
                    f"Co-observed cells of {name!r} lie on a line or plane (smallest over largest singular value "
                    f"{found.flatness:.2f}): the reflection is not fixed. Spread them over the overlap."
                )
            if not SCALES[0] <= found.scale <= SCALES[1]:
                said.append(
                    f"Charts of {name!r} and the others differ in size by {found.scale:.2f}: their bursts do not "
                    "have the "
                    "same scale, and a rigid registration would be wrong."
                )
        return said
