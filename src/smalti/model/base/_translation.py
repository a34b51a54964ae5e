"""Translation: expected values of one modality from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from smalti._validate import check_choice, check_count
from smalti.model.parts import LOG1P, NORMALIZED, RAW, shared_out, shares_of

from ._host import INFERENCE_BATCH, positions
from ._library_size import read_batch, read_library, target_log_library
from ._pair_translation import EDGE, PairTranslationMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from smalti.data import MosaicBatch

    from ._library_size import Library

NUMBERS, MIN_BATCH = 2_000_000, 32
"""Values that are predicted at once, which should stay in the cache, and the cells that are in any case."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Predicted values of a modality."""

    values: NDArray[np.float32]
    """``(n, G)`` expected values, on the scale that was asked for."""
    obs_names: pd.Index
    """Names of the cells."""
    var_names: pd.Index
    """Names of the features."""
    source: str | None
    """Modality predicted from; ``None`` for all that each cell has."""
    target: str
    """Predicted modality."""
    scale: str = "raw"
    """Scale of the values."""
    by: str = "network"
    """What predicted them."""

    def to_adata(self) -> AnnData:
        """Return an AnnData with the values in ``.X``."""
        out = AnnData(self.values)
        out.obs_names, out.var_names = self.obs_names, self.var_names
        out.uns["translation"] = {"source": self.source or "all", "target": self.target}
        out.uns["translation"] |= {"scale": self.scale, "by": self.by}
        return out

    def __repr__(self) -> str:
        n, g = self.values.shape
        return f"Translation({self.source or 'all modalities'} -> {self.target}: {n} cells x {g} features)"


class TranslationMixin(PairTranslationMixin):
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
        scale: Literal["raw", "log1p", "normalized"] = "raw",
        by: Literal["best", "network"] = "best",
        batch_size: int | None = None,
    ) -> Translation:
        """Predict a modality, whether or not it was measured.

        Linked modalities are translated by kernel ridge regression on the paired cells of training, mixed with the
        network at the share that validation pairs chose; others, and a modality to itself, by the network.

        Parameters
        ----------
        source
            Modality to predict from; ``None`` for all that a cell has.
        target
            Modality to predict.
        mdata, indices
            Data and cells; those of training and all by default. Cells without the source are left out.
        library_size
            Total counts to predict for: ``"source"`` predicts them from the source modality, ``"mean"``
            takes the mean of the training data, ``"observed"`` the cell's own (which it must have), or a number or one
            per cell asked for. Without effect for ``"gaussian"`` and ``"nb_mixture"``.
        batch
            Batch to predict as: the cell's own, the average of all, or a name.
        features
            Names of the features to predict; all by default.
        scale
            ``"raw"``: expected values as measured (counts, reals, probabilities for ``"bernoulli"``). ``"log1p"``:
            expected ``log1p`` of counts, which is less than the ``log1p`` of expected counts: compare with it what is
            analysed on that scale. ``"normalized"``: expected ``log1p`` of counts at the mean library of the training
            data (the exponential of the mean log total), whatever ``library_size``.
        by
            ``"network"`` for the decoders alone.
        batch_size
            Cells per batch; by default as many as make a few million values.

        Returns
        -------
        Expected values with the names of cells and features; ``to_adata()`` makes an AnnData of it.

        Raises
        ------
        ValueError
            If a modality, batch, feature or scale does not exist, or no cell has the source.
        """
        if target is None:
            raise ValueError(f"Name the modality to predict: `target=` one of {self.modalities}.")
        self.check_modality(target, "target")
        if source is not None:
            self.check_modality(source, "source")
        check_choice(by, ("best", "network"), "by")
        scales = (RAW, *(form for form in (LOG1P, NORMALIZED) if form in self.forms(target)))
        check_choice(scale, scales, f"scale of modality {target!r}")
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
        translate = self._by_network if by == "network" else self._by_best
        values = np.empty((len(cells), len(names) if columns is None else len(columns)), dtype=np.float32)
        if batch_size is not None:
            check_count(batch_size, "batch_size")
        step, start = batch_size or max(MIN_BATCH, min(INFERENCE_BATCH, NUMBERS // len(names))), 0
        for minibatch in self.iterate(mdata, cells, step):
            stop = start + len(minibatch["batch"])
            values[start:stop] = translate(minibatch, source, target, library, code, columns, scale)
            start = stop
        return Translation(
            values=values,
            obs_names=mdata.obs_names[cells],
            var_names=pd.Index(names if columns is None else names[columns]),
            source=source,
            target=target,
            scale=scale,
            by="network" if by == "network" else self._who(source, target, scale),
        )

    def _who(self, source: str | None, target: str, scale: str) -> str:
        """Return what translates, in words."""
        form = self.forms(target)[0] if scale == RAW else scale
        names = self.module.translator.sources(self.modalities if source is None else [source], target)
        pairs = self.module.translator.pairs
        if not names:
            return "network"
        if source is not None:
            return pairs[source, target].describe(form)
        each = ", ".join(f"{name}: {pairs[name, target].describe(form)}" for name in names)
        return f"{each}, {target}: network"

    def _by_network(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        columns: NDArray[np.int64] | None,
        scale: str,
    ) -> NDArray[np.float32]:
        """Return what the decoders expect of a minibatch, ``(B, S)``."""
        inputs = self.module.inputs
        if scale == NORMALIZED:
            library = float(inputs.mean_log_library[inputs.position(target)].exp())
        elif library == "source" and source is not None and inputs.uses_library(target):
            pair = self.module.translator.pairs.get((source, target))
            if pair is not None:
                total = pair.library_factor * np.exp(
                    pair.log_library(pair.columns(*self._look(minibatch, source, batch)))
                )
                library = dict(zip(minibatch["index"].tolist(), total.tolist(), strict=True))
        found = self._decoded(minibatch, source, target, library, batch)
        found = found if columns is None else found[:, columns]
        return found if scale == RAW else np.log1p(found, out=found)

    def _by_best(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        columns: NDArray[np.int64] | None,
        scale: str,
    ) -> NDArray[np.float32]:
        """Return what regression mixed with the network expects of a minibatch, ``(B, S)``."""
        inputs, present = self.module.inputs, self.module.inputs.present(minibatch)
        names = self.module.translator.sources(list(present) if source is None else [source], target)
        if not names:
            return self._by_network(minibatch, source, target, library, batch, columns, scale)
        form = self.forms(target)[0] if scale == RAW else scale
        found = self._found(minibatch, names, target, form, batch, means=scale == RAW and form != RAW)
        values, log_library = found.values, found.log_library
        if inputs.uses_library(target) and library != "source":
            wanted = target_log_library(inputs, minibatch, source, target, library).cpu().numpy()
        else:
            wanted = log_library
        if form == NORMALIZED and scale == RAW:
            values = shared_out(np.expm1(values), np.exp(wanted), self._measured_as(minibatch, target, batch))
        elif form == LOG1P and scale == RAW:
            values = np.expm1(values)
        elif form == LOG1P and library != "source" and NORMALIZED in self.forms(target):
            rates = self._found(minibatch, names, target, NORMALIZED, batch, means=True).values
            share = shares_of(np.expm1(rates), self._measured_as(minibatch, target, batch))
            low, high = (np.log1p(share * np.exp(each)[:, None]) for each in (log_library, wanted))
            values = np.maximum(values + high - low, 0)
        elif self.sizes_.modalities[target].likelihood == "bernoulli":
            values = np.clip(values, EDGE, 1 - EDGE, out=values)
            if wanted is not log_library:  # other libraries than those that the sources predict
                values = np.clip(-np.expm1(np.log1p(-values) * np.exp(wanted - log_library)[:, None]), EDGE, 1 - EDGE)
        own = ~found.some
        if source is None and target in present:  # what was measured says most of itself
            own = own | present[target].cpu().numpy()
        values = values if columns is None else values[:, columns]
        if own.any():
            network = self._by_network(minibatch, source, target, library, batch, columns, scale)
            values = np.where(own[:, None], network, values)
        return values.astype(np.float32, copy=False)


def _columns(names: NDArray[Any], wanted: Sequence[str], target: str) -> NDArray[np.int64]:
    if isinstance(wanted, str) or not len(wanted):
        raise ValueError(f"Expected `features` to be a list of names, found {wanted!r}.")
    at = pd.Index(names).get_indexer(pd.Index(wanted))
    for name, position in zip(wanted, at, strict=True):
        if position < 0:
            check_choice(name, tuple(names), f"features of modality {target!r}")
    return np.asarray(at, dtype=np.int64)
