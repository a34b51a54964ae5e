"""How FusionClustering is trained: the number of clusters, the start of the head, stages, and what is reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from smalti._batch_rule import PER_OUTPUT_RUNNING
from smalti._validate import shorten
from smalti.model.base import MosaicModel, from_plain, to_plain
from smalti.model.parts import warm_start

from ._clusters import (
    BEYOND,
    HEAD_CELLS,
    MAX_AXES,
    choose_n_clusters,
    correlated_axes,
    joint_clusters,
    joint_latent,
    some_rows,
    stability_curve,
    start_clusters,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from smalti.train import MosaicSplitter

    from ._module import FusionModule
    from ._options import FusionOptions, FusionWeights

logger = logging.getLogger(__name__)

HEAD_STEPS, HEAD_RATE = 100, 1e-2
"""Full-batch steps of Adam that fit the head to its start, and their learning rate."""
FEW = 0.1
"""Share of an even number of cells below which a cluster counts as starved."""
GAP = 0.2
"""Difference of mean correlations between training and held-out cells from which on deep CCA counts as overfitted."""


class FusionTraining(MosaicModel):
    """Stages, the head, and diagnostics."""

    module: FusionModule
    options: FusionOptions
    weights: FusionWeights
    n_clusters: int | None
    stability_: pd.DataFrame | None = None
    """Stability by number of clusters, if the number was chosen here."""
    reseeded_: int = 0
    """Number of clusters that were begun anew."""
    _cells: NDArray[np.int64] | None = None

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan; weights of the head must not shrink while they rest."""
        return {"lr": 1e-3, "weight_decay": 1e-4, "kl_warmup": 0.0}

    def least_batch_size(self) -> int:
        """Return five cells per output, since covariances run over batches."""
        return PER_OUTPUT_RUNNING * self.options.n_latent

    def epoch_calls(self) -> list[tuple[int, Callable[[int], None]]]:
        """Set the stage before every epoch, start the head when its stage begins, and watch over the clusters."""
        return [(1, self._before_epoch)]

    def _check_trainable(self) -> None:
        super()._check_trainable()
        if self.weights.correlation > 0 and self.sizes_.alone:
            raise ValueError(
                f"Deep CCA needs cells with two modalities, but no cell of {shorten(self.sizes_.alone)} has "
                "another one. "
                "Leave these modalities out, use a model for unpaired data, or switch the term off: "
                "`FusionClustering(mdata, weights=FusionWeights(correlation=0))`."
            )

    def _before_training(self, splitter: MosaicSplitter) -> None:
        self._cells = splitter.train_idx
        module = self.module
        module.first_clusters = None
        if self.is_trained_:
            return
        components = self.cell_components().of(splitter.train_idx)
        warm_start(module.inputs, [module.encoders], components)
        if self.n_clusters is None and self.options.n_correlated is None and _finite(components.values):
            axes = correlated_axes(components, self.random_state)
            if axes is not None:
                module.n_axes.fill_(min(axes, MAX_AXES, self.options.n_latent))

    def _before_epoch(self, epoch: int) -> None:
        module, n = self.module, self.n_epochs_
        first, second = (int(share * n) for share in self.options.stages)
        module.stage = 3 if self.is_trained_ or epoch >= second else 2 if epoch >= first else 1
        module.cca.start_epoch()
        if module.stage == 1:
            return
        if not module.started:
            self._start_head()
        elif self.options.guard:
            self._guard()
        wanted = self.weights.start > 0 and self.options.start == "joint"
        if wanted and module.first_clusters is None and module.started:  # a training that goes on
            labels = joint_clusters(self._joint_latent(), module.n_clusters, self.random_state)
            module.first_clusters = torch.from_numpy(labels).to(module.device)

    def _noted(self) -> dict[str, Any]:
        state = self.module.cca
        running = [[list(pair), total.cpu().numpy(), state.weights[pair]] for pair, total in state.covariances.items()]
        notes = {"stability": self.stability_, "reseeded": self.reseeded_, "covariances": running}
        return dict(to_plain(notes))

    def _take_notes(self, notes: dict[str, Any]) -> None:
        found, state = from_plain(notes), self.module.cca
        self.stability_, self.reseeded_ = found["stability"], found["reseeded"]
        for pair, total, weight in found["covariances"]:
            state.covariances[tuple(pair)] = torch.from_numpy(total).to(self.module.device)
            state.weights[tuple(pair)] = weight

    # ------------------------------------------------------------------ the head

    def _start_head(self) -> None:
        """Cluster the cells, and fit the head to the clusters."""
        z, views, paired = self._units()
        if not np.isfinite(z).all():
            return  # whoever checks losses says where it comes from
        module = self.module
        if self.options.start == "joint":
            space = self._joint_latent()
            self._choose_number(space[np.isfinite(space).all(axis=1)])
            first = joint_clusters(space, module.n_clusters, self.random_state)
            module.first_clusters = torch.from_numpy(first).to(module.device)
            labels = first[self._training_cells()]
            rows = np.flatnonzero(labels >= 0)
            labels = labels[rows]
        else:
            enough = paired.sum() >= 10 * module.n_clusters
            rows = some_rows(np.flatnonzero(paired) if enough else np.arange(len(z)), self.random_state)
            self._choose_number(z[rows])
            labels = start_clusters(z[rows], module.n_clusters, self.options.start, self.random_state)
        self._fit_head(z, views, rows, labels)
        module.started.fill_(True)

    def _choose_number(self, space: NDArray[np.float32]) -> None:
        if self.n_clusters is not None:
            return
        most = min(int(self.module.n_axes) + BEYOND, self.options.max_clusters, len(space) // 4)
        candidates = range(2, max(most, 2) + 1)
        self.stability_ = stability_curve(space, candidates, start=self.options.start, random_state=self.random_state)
        self.module.n_used.fill_(choose_n_clusters(self.stability_))
        logger.info("%d clusters, by stability on halves of the cells.", self.module.n_clusters)

    def _training_cells(self) -> NDArray[np.int64]:
        return np.arange(self.adata.n_obs) if self._cells is None else self._cells

    def _joint_latent(self) -> NDArray[np.float32]:
        batch = self.adata_manager.codes()["batch"].astype(str)
        return joint_latent(self.cell_components(), batch, self.random_state)

    def _fit_head(
        self, z: NDArray[np.float32], views: dict[str, NDArray[np.float32]], rows: NDArray[np.int64], labels: Any
    ) -> None:
        """Fit the head to clusters of some cells, seen fused and by each of their modalities."""
        module = self.module
        if len(rows) > HEAD_CELLS:
            chosen = some_rows(np.arange(len(rows)), self.random_state)
            rows, labels = rows[chosen], labels[chosen]
        xs, ys = [z[rows]], [labels]
        for units in views.values():
            here = np.isfinite(units[rows, 0])
            xs.append(units[rows][here])
            ys.append(labels[here])
        x = torch.from_numpy(np.concatenate(xs)).to(module.device)
        y = torch.from_numpy(np.concatenate(ys)).to(module.device)
        parameters = [*module.head_body.parameters(), *module.head_out.parameters()]
        with torch.enable_grad():
            optimizer = torch.optim.Adam(parameters, lr=HEAD_RATE)
            for _ in range(HEAD_STEPS):
                optimizer.zero_grad()
                F.cross_entropy(module.head(x), y).backward()
                optimizer.step()
            optimizer.zero_grad()

    @torch.no_grad()
    def _guard(self) -> None:
        """Begin clusters anew that have had hardly any cells for some epochs, at the least certain cells."""
        z, views, paired = self._units()
        if not np.isfinite(z).all():
            return
        module, k = self.module, self.module.n_clusters
        p = torch.softmax(module.head(torch.from_numpy(z).to(module.device)), dim=1).cpu().numpy()
        labels = p.argmax(axis=1)
        few = np.bincount(labels, minlength=k) < FEW * len(z) / k
        counts = module.starved[:k].cpu().numpy()
        counts = np.where(few, counts + 1, 0)
        lost = np.flatnonzero(counts >= self.options.guard)
        if len(lost):
            entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)
            least = np.argsort(-entropy, kind="stable")
            size = max(1, len(z) // (2 * k))
            for i, cluster in enumerate(lost):
                labels[least[i * size : (i + 1) * size]] = cluster
            rows = np.flatnonzero(paired) if paired.sum() >= 10 * k else np.arange(len(z))
            self._fit_head(z, views, rows, labels[rows].astype(np.int64))
            counts[lost] = 0
            self.reseeded_ += len(lost)
            logger.info("Clusters without cells begun anew: %s.", shorten([int(j) + 1 for j in lost]))
        module.starved[:k] = torch.from_numpy(counts).to(module.starved)

    @torch.no_grad()
    def _units(self) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Return, of the training cells, fused and unit embeddings (NaN where absent), and which are paired."""
        module = self.module
        values, maps = self.cell_components()
        cells = np.arange(len(next(iter(maps.values())))) if self._cells is None else self._cells
        weights = {name: float(w) for name, w in module.modality_weights().items()}
        views: dict[str, NDArray[np.float32]] = {}
        total: Any = 0.0
        share: Any = 0.0
        for name, rows in maps.items():
            here = rows[cells] >= 0
            units = np.full((len(cells), self.options.n_latent), np.nan, dtype=np.float32)
            x = torch.from_numpy(np.ascontiguousarray(values[name][rows[cells][here]]))
            parts = [
                F.normalize(module.encoders[name](chunk.to(module.device)), dim=1, eps=1e-8).cpu().numpy()
                for chunk in x.split(4096)
            ]
            if parts:
                units[here] = np.concatenate(parts)
            views[name] = units
            total = total + weights[name] * np.where(here[:, None], units, 0.0)
            share = share + weights[name] * here
        fused = (total / np.maximum(share, 1e-8)[:, None]).astype(np.float32)
        present = np.column_stack([rows[cells] >= 0 for rows in maps.values()])
        return fused, views, present.sum(axis=1) >= 2

    # ------------------------------------------------------------------ afterwards

    def _after_training(self) -> None:
        self.module.eval()
        if not self.module.started:  # so short a training, or the best epoch was before
            self._start_head()
        for line in self._warnings():
            logger.warning("%s", line)

    def _warnings(self) -> list[str]:
        """Return what a user should know before trusting the clusters."""
        said = []
        history = self.history_ or {}
        if "correlation_validation" in history:
            train, held_out = (float(-history[f"correlation_{k}"].iloc[-1, 0]) for k in ("train", "validation"))
            if train - held_out > GAP:
                said.append(
                    f"Modalities are correlated by {train:.2f} on training cells and by {held_out:.2f} on "
                    "held-out ones: "
                    "the encoders fit noise. Lower `n_latent` or `n_hidden`, or raise `dropout_rate`."
                )
        z, _, _ = self._units()
        if np.isfinite(z).all():
            with torch.no_grad():
                labels = self.module.head(torch.from_numpy(z).to(self.module.device)).argmax(dim=1).cpu().numpy()
            used = len(np.unique(labels))
            if used < self.module.n_clusters:
                said.append(f"{used} of {self.module.n_clusters} clusters have cells: ask for fewer.")
        if "coverage_train" in history:
            covered = float(history["coverage_train"].iloc[-1, 0])
            if not 0.2 <= covered <= 0.95:
                said.append(
                    f"{covered:.0%} of the paired cells teach: {'lower' if covered < 0.2 else 'raise'} `threshold`."
                )
        return said


def _finite(values: dict[str, NDArray[np.float32]]) -> bool:
    return all(bool(np.isfinite(x).all()) for x in values.values())
