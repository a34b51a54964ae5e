"""Training through few labels: what is held out, what batches hold and what is learnt beside the network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti._validate import shorten
from smalti.model.base import MosaicModel
from smalti.train import BalancedBatchSampler

from ._belief import frequent, leave_out
from ._cluster_share import cluster_share
from ._infer import infer_centres
from ._label_floor import LabelFloor
from ._temperature import fit_temperatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.train import MakeSampler, MosaicSplitter

    from ._label_floor import FloorReport
    from ._module import MODISModule
    from ._options import MODISOptions

logger = logging.getLogger(__name__)

MIN_PER_CLASS = 10
"""Labelled samples of a class in a modality below which all of them are needed for training."""


class ClassTraining(MosaicModel):
    """Balanced batches, class frequencies, class references and calibration."""

    module: MODISModule
    options: MODISOptions
    label_floor_: dict[str, FloorReport] | None = None
    """By modality, what logistic regression on the same labels is worth, and the network's share in probabilities;
    ``None`` before training and after ``load``, which has the classifiers and shares but not how they were found."""

    def strata(self) -> NDArray[np.int64]:
        """Hold out the same share of every pattern and class, and nothing of classes with few labelled samples."""
        presence, labels = self.adata_manager.presence(), self._labels()
        pattern = presence @ (1 << np.arange(presence.shape[1]))
        code = pattern * (labels.max(initial=0) + 2) + labels + 1
        for column in presence.T:
            here = column & (labels >= 0)
            few = np.bincount(labels[here], minlength=labels.max(initial=0) + 1) < MIN_PER_CLASS
            code[here & few[np.maximum(labels, 0)]] = -1
        return code

    def make_sampler(self, batch_size: int) -> MakeSampler:
        """Return what draws as many samples of every modality, and labelled ones in each batch."""
        presence, labels = self.adata_manager.presence(), self._labels()
        return lambda cells: BalancedBatchSampler(
            presence[cells],
            labels[cells],
            batch_size,
            labelled_share=self.options.labelled_share,
            balance=self.options.balance,
            seed=self.random_state,
        )

    def _labels(self) -> NDArray[np.int64]:
        codes = self.adata_manager.codes()["labels"]
        return codes if self.sizes_.n_labels else np.full_like(codes, -1)

    def _before_training(self, splitter: MosaicSplitter) -> None:
        if self.sizes_.n_labels == 0:
            return
        labels, module = self._labels(), self.module
        training = np.zeros(len(labels), dtype=bool)
        training[splitter.train_idx] = True
        for i, here in enumerate(splitter.presence.T):
            known = labels[here & training]
            count = np.bincount(known[known >= 0], minlength=module.n_labels).astype(np.float64)
            if self.options.frequency == "labels" and count.any():
                missing = (known < 0).any()  # unlabelled samples may be of any class
                natural = (count + 0.5 * ((count > 0) | missing)) / (count + 0.5 * ((count > 0) | missing)).sum()
                uniform = ((count > 0) | missing) / ((count > 0) | missing).sum()
                share = self.options.labelled_share  # what batches are made of
                mixed = (natural + share * uniform) / (1 + share)
                module.frequency[i] = torch.from_numpy(mixed)
        self._warn_of_unlinked_classes(splitter.presence, np.where(training, labels, -1))
        components, maps = self.cell_components()
        module.cluster_share = cluster_share(components, maps, np.where(training, labels, -1), self.random_state)
        for name, reference in module.references.items():
            cells = training & (maps[name] >= 0) if name in maps else np.zeros_like(training)
            if cells.any() and np.isfinite(components[name]).all():  # else whoever checks losses says why
                reference.fit(components[name][maps[name][cells]], labels[cells])
        infer_centres([reference for _, reference in module.references.items()])

    def _warn_of_unlinked_classes(self, presence: NDArray[np.bool_], labels: NDArray[np.int64]) -> None:
        """Say which classes nothing ties to the modalities that have no label of them."""
        if presence.shape[1] < 2 or presence.sum(axis=1).max(initial=0) > 1:
            return
        labelled = np.stack(
            [np.bincount(labels[here & (labels >= 0)], minlength=self.module.n_labels) for here in presence.T]
        )
        alone = np.flatnonzero((labelled > 0).sum(axis=0) == 1)
        if len(alone):
            logger.warning(
                "No sample was measured in two modalities, and classes have labels in one of them only: %s. In the "
                "others do not rely on predictions of these classes: few of their samples or none are found. Label "
                "some of each in every modality, or add samples measured in both.",
                shorten([self.label_categories[c] for c in alone]),
            )

    def _after_training(self) -> None:
        if self.sizes_.n_labels:
            self.module.floor = LabelFloor()
            fit_temperatures(self, self._labels())
            self._fit_floor()

    def _fit_floor(self) -> None:
        """Fit logistic regression beside the network, and say where the network contradicts its labels."""
        labels, maps = self._labels(), self.cell_components()
        held = np.zeros(len(labels), dtype=bool)
        held[np.asarray([] if self.validation_indices_ is None else self.validation_indices_, dtype=np.int64)] = True
        self.label_floor_ = {}
        cells = {name: np.flatnonzero(maps.maps[name] >= 0) for name in maps.values}
        values = {name: maps.values[name][maps.maps[name][here]] for name, here in cells.items()}
        known = {name: frequent(labels[cells[name]]) for name, x in values.items() if np.isfinite(x).all()}
        left_out = {
            name: leave_out(values[name], labels[cells[name]], rows, self.module.n_labels)
            for name, rows in known.items()
            if rows is not None
        }
        for name in left_out:
            here = cells[name]
            network = self.predict_proba(modality=name, indices=here).to_numpy()
            report = self.module.floor.fit(name, values[name], labels[here], network, held[here], left_out)
            if report is None:
                continue
            self.label_floor_[name] = report
            if report.share == 0:
                logger.warning(
                    "Modality %r: %s. Predictions from it come from logistic regression on the same labels, and "
                    "latents should not be trusted for these classes. More labels, or other features, would help.",
                    *(name, report.reason),
                )
