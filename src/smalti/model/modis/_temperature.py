"""Temperatures that make probabilities of labels hold on cells the network was not trained on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from smalti.metrics import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.model.base import LabelMixin


logger = logging.getLogger(__name__)

MIN_LABELLED = 20
"""Labelled validation cells of a modality below which all modalities share one temperature."""


def fit_temperatures(model: LabelMixin, labels: NDArray[np.int64]) -> None:
    """Fit one temperature per modality on the labelled validation cells of a model (Guo et al. 2017).

    Parameters
    ----------
    model
        Trained model with ``module.temperature``, ``(M,)``, by which logits are divided.
    labels
        ``(n_obs,)`` codes of the training data, -1 where not known.
    """
    model.module.temperature.fill_(1.0)
    cells = np.asarray(model.validation_indices, dtype=np.int64)
    cells = cells[labels[cells] >= 0]
    if len(cells) == 0:
        logger.info("No labelled cell was held out: probabilities are not calibrated (temperature 1).")
        return
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in model.modalities}
    truth: dict[str, list[NDArray[np.int64]]] = {name: [] for name in model.modalities}
    for minibatch in model.iterate(indices=cells):
        at = minibatch["index"].cpu().numpy()
        for name, here in model.module.inputs.present(minibatch).items():
            if bool(here.any()):
                rows = here.cpu().numpy()
                logits[name].append(model._label_logits(minibatch, name).float().cpu().numpy()[rows])
                truth[name].append(labels[at[rows]])
    pooled = fit_temperature(
        np.concatenate([block for name in logits for block in logits[name]]),
        np.concatenate([block for name in truth for block in truth[name]]),
    )
    for i, name in enumerate(model.modalities):
        known = np.concatenate(truth[name]) if truth[name] else np.empty(0, dtype=np.int64)
        own = len(known) >= MIN_LABELLED
        model.module.temperature[i] = fit_temperature(np.concatenate(logits[name]), known) if own else pooled
