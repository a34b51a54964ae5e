"""Translation: expected values of one modality from another."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from smalti._text import text_of
from smalti._validate import check_choice, check_positive

from ._host import BATCH_WORDS, positions
from ._mosaic_model import MosaicModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicInputs

Library = str | dict[int, float] | float
"""A word, one number for all cells, or one per position."""
AVERAGE = -1
"""Batch code of an average batch."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Predicted values of a modality."""

    values: NDArray[np.float32]
    """``(n, G)`` expected values, on the scale of the target's raw values (probabilities for ``"bernoulli"``)."""
    obs_names: pd.Index
    """Names of the cells."""
    var_names: pd.Index
    """Names of the features."""
    source: str | None
    """Modality predicted from; ``None`` for all that each cell has."""
    target: str
    """Predicted modality."""

    def to_adata(self) -> AnnData:
        """Return an AnnData with the values in ``.X``."""
        out = AnnData(self.values)
        out.obs_names, out.var_names = self.obs_names, self.var_names
        out.uns["translation"] = {"source": self.source or "all", "target": self.target}
        return out

    def __repr__(self) -> str:
        n, g = self.values.shape
        return f"Translation({self.source or 'all modalities'} -> {self.target}: {n} cells x {g} features)"


class TranslationMixin(MosaicModel):
    """``translate`` of every model that decodes."""

    def translate(
        self,
        source: str | None = None,
        target: str | None = None,
        *,
        mdata: MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        library_size: Literal["source", "mean", "observed"] | float | ArrayLike = "source",
        batch: str | Literal["own", "average"] = "own",
        features: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> Translation:
        """Predict a modality, whether or not it was measured.

        Parameters
        ----------
        source
            Modality to predict from; ``None`` for all that a cell has.
        target
            Modality to predict.
        mdata, indices
            Data and cells; those of training and all by default. Cells without the source are left out.
        library_size
            Total counts to predict for: ``"source"`` estimates them from the totals of the source modality, ``"mean"``
            takes the mean of the training data, ``"observed"`` the cell's own (which it must have), or a number or one
            per cell asked for. Without effect for ``"gaussian"`` and ``"nb_mixture"``.
        batch
            Batch to predict as: the cell's own, the average of all, or a name.
        features
            Names of the features to predict; all by default.
        batch_size
            Cells per batch.

        Returns
        -------
        Expected values with the names of cells and features; ``to_adata()`` makes an AnnData of it.

        Raises
        ------
        ValueError
            If a modality, batch or feature does not exist, or no cell has the source.
        """
        if target is None:
            raise ValueError(f"Name the modality to predict: `target=` one of {self.modalities}.")
        self.check_modality(target, "target")
        if source is not None:
            self.check_modality(source, "source")
        mdata = self._validate_anndata(mdata)
        cells = positions(mdata, indices)
        library = read_library(library_size, cells)
        if source is not None:
            cells = cells[self.with_modality(mdata, source, cells)]
        if isinstance(library_size, str) and library_size == "observed":
            self.with_modality(mdata, target, cells)
        code = read_batch(batch, self.batch_categories)
        names = np.asarray(self.get_var_names()[target])
        columns = None if features is None else _columns(names, features, target)
        values = [
            self._expected(minibatch, source, target, library, code, columns).cpu().numpy()
            for minibatch in self.iterate(mdata, cells, batch_size)
        ]
        return Translation(
            values=np.concatenate(values),
            obs_names=mdata.obs_names[cells],
            var_names=pd.Index(names if columns is None else names[columns]),
            source=source,
            target=target,
        )

    @abstractmethod
    def _expected(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        features: NDArray[np.int64] | None,
    ) -> torch.Tensor:
        """Return expected values of one minibatch, ``(B, S)``; see :func:`read_library` and :func:`read_batch`."""


def read_batch(batch: str, categories: list[str]) -> int | None:
    """Return the code of a batch to predict as, -1 for the average, ``None`` for each cell's own."""
    if batch == "own":
        return None
    if batch == "average":
        return AVERAGE
    name = text_of(batch)
    if name not in categories:
        check_choice(batch, (*BATCH_WORDS, *categories), "batch")
    return categories.index(str(name))


def read_library(library_size: str | float | ArrayLike, cells: NDArray[np.int64]) -> Library:
    """Check ``library_size``: a word, a number, or one number for each of the ``cells``, in their order."""
    if isinstance(library_size, str):
        return str(check_choice(library_size, ("source", "mean", "observed"), "library_size"))
    given = np.asarray(library_size, dtype=float)
    if given.ndim == 0:
        return float(check_positive(float(given), "library_size"))
    if given.shape != (len(cells),):
        raise ValueError(f"Expected `library_size` to be a number or {len(cells)} of them, found shape {given.shape}.")
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise ValueError("Expected `library_size` to be positive and finite for every cell.")
    return dict(zip(cells.tolist(), given.tolist(), strict=True))


def target_log_library(
    inputs: MosaicInputs,
    minibatch: MosaicBatch,
    source: str | None,
    target: str,
    library: Library,
) -> torch.Tensor:
    """Return the log library size to predict for, ``(B,)``."""
    n, present = len(minibatch["batch"]), inputs.present(minibatch)
    mean = inputs.mean_log_library[inputs.position(target)].expand(n)
    if isinstance(library, dict):
        return torch.tensor(
            [library[i] for i in minibatch["index"].tolist()], device=mean.device, dtype=mean.dtype
        ).log()
    if not isinstance(library, str):
        return torch.full_like(mean, library).log()
    if library == "mean":
        return mean
    if library == "observed":
        if target not in present or not bool(present[target].all()):
            raise ValueError(
                f"`library_size='observed'` needs cells that were measured in {target!r}. Use 'source' or 'mean'."
            )
        return inputs.log_library(minibatch, target)
    if source is not None:
        return inputs.predicted_log_library(minibatch, source, target)
    total, count = torch.zeros_like(mean), torch.zeros_like(mean)
    for name, here in present.items():
        own = name == target
        guess = inputs.log_library(minibatch, name) if own else inputs.predicted_log_library(minibatch, name, target)
        # the target's own total, where it was measured, outweighs any guess
        weight = here * (1e6 if own else 1.0)
        total, count = total + weight * guess, count + weight
    return torch.where(count > 0, total / count.clamp(min=1), mean)


def _columns(names: NDArray[Any], wanted: Sequence[str], target: str) -> NDArray[np.int64]:
    at = pd.Index(names).get_indexer(pd.Index(wanted))
    for name, position in zip(wanted, at, strict=True):
        if position < 0:
            check_choice(name, tuple(names), f"features of modality {target!r}")
    return np.asarray(at, dtype=np.int64)
