"""Prediction of labels."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ._host import positions
from ._mosaic_model import MosaicModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch


class LabelMixin(MosaicModel):
    """``predict`` and ``predict_proba`` of every model with a label head."""

    def predict_proba(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Return the probability of every label.

        Parameters
        ----------
        mdata, indices, modality, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        ``(n, n_labels)`` in [0, 1], rows sum to 1; indexed by cell name in the order of ``mdata.obs_names``, one column
        per label. Missing for cells without ``modality``.

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
            torch.softmax(self._label_logits(minibatch, modality).float(), dim=1).cpu().numpy()
            for minibatch in self.iterate(mdata, indices, batch_size)
        ]
        data = self._validate_anndata(mdata)
        names = data.obs_names[positions(data, indices)]
        return pd.DataFrame(np.concatenate(parts), index=names, columns=self._label_names())

    def predict(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Return the most probable label of every cell.

        Parameters
        ----------
        mdata, indices, modality, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        ``(n,)``, indexed by cell name in the order of ``mdata.obs_names``; missing for cells without ``modality``.

        Raises
        ------
        ValueError
            As in :meth:`predict_proba`.
        """
        return most_probable(self.predict_proba(mdata, modality=modality, indices=indices, batch_size=batch_size))

    def _label_names(self) -> list[str]:
        """Return the names of the columns of :meth:`predict_proba`."""
        return self.label_categories

    @abstractmethod
    def _label_logits(self, minibatch: MosaicBatch, modality: str | None) -> torch.Tensor:
        """Return logits of one minibatch, ``(B, n_labels)``; NaN where the modality is absent."""


def most_probable(table: pd.DataFrame) -> pd.Series:
    """Return the column with the largest value of every row; missing where a row has missing values."""
    known = ~table.isna().any(axis=1)
    out = pd.Series(None, index=table.index, dtype=object)
    out[known] = table[known].idxmax(axis=1)
    return out
