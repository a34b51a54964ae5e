"""Prediction of labels."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray


class LabelMixin:
    """``predict`` of every model with a label head."""

    def predict(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        soft: bool = False,
    ) -> pd.Series | pd.DataFrame:
        """Predict labels with the label head.

        Parameters
        ----------
        mdata, indices, modality
            As in :meth:`get_latent_representation`.
        soft
            Return probabilities, ``(n, n_labels)`` with rows that sum to 1, instead of the most probable label.

        Returns
        -------
        Indexed by cell name; missing for cells without ``modality``.

        Raises
        ------
        ValueError
            If the model was set up without labels, ``modality`` does not exist, or no cell has it.
        """
        if getattr(self.module, "label_head", None) is None:
            raise ValueError(
                "The model has no label head. Pass `labels_key=` to `setup_mudata` and a label weight above 0."
            )
        if modality is not None:
            self.check_modality(modality)
            self.with_modality(mdata, modality, indices)
        parts = [
            torch.softmax(self._label_logits(tensors, modality), dim=1).cpu().numpy()
            for tensors in self.iterate(mdata, indices)
        ]
        data = self._validate_anndata(mdata)
        names = data.obs_names if indices is None else data.obs_names[np.asarray(indices)]
        table = pd.DataFrame(np.concatenate(parts), index=names, columns=self.label_categories)
        return table if soft else _most_probable(table)

    @abstractmethod
    def _label_logits(self, tensors: dict[str, Any], modality: str | None) -> torch.Tensor:
        """Return logits of one minibatch, ``(B, n_labels)``; NaN where the modality is absent."""


def _most_probable(table: pd.DataFrame) -> pd.Series:
    known = ~table.isna().any(axis=1)
    out = pd.Series(None, index=table.index, dtype=object)
    out[known] = table[known].idxmax(axis=1)
    return out
