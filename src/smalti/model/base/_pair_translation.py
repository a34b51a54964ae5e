"""Translators of linked pairs of modalities: what they look at, how they are fitted, how cells are translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from smalti.data import COUNT_LIKELIHOODS
from smalti.model.parts import LOG1P, NORMALIZED, RAW, Chunk, fit_pair
from smalti.nn import SparseRows

from ._decoded import DecodedMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import PairTranslator

    from ._library_size import Library

MIN_PAIRS, MAX_PAIRS = 50, 20_000
"""Training pairs below which only the network translates; more than the latter are sampled."""
CHUNK_NUMBERS = 8_000_000
"""Values of the target that are dense at once."""
EDGE = 1e-6


class Found(NamedTuple):
    """What one or several sources say of some cells."""

    values: NDArray[np.float32]
    """``(n, G)`` in the form asked for."""
    log_library: NDArray[np.float32]
    """``(n,)``, such that totals are right on average."""
    some: NDArray[np.bool_]
    """``(n,)`` cells that have any of the sources."""


class PairTranslationMixin(DecodedMixin):
    """Regression between linked modalities, mixed with the decoders of a model."""

    def forms(self, target: str) -> tuple[str, ...]:
        """Return the forms in which a modality is predicted, the first of them leading to raw values."""
        likelihood = self.sizes_.modalities[target].likelihood
        if likelihood not in COUNT_LIKELIHOODS or likelihood == "bernoulli":
            return (RAW,)
        return (NORMALIZED, LOG1P) if self.module.inputs.uses_library(target) else (LOG1P,)

    # ------------------------------------------------------------------ fitting

    def _fit_readouts(self) -> None:
        super()._fit_readouts()
        self.module.translator.pairs, self.module.translator.rates = {}, {}
        if self.module.decoding is None:
            return
        self._fit_rates()
        maps = self.adata_manager.row_maps()
        train, held = (
            np.asarray([] if cells is None else cells, dtype=np.int64)
            for cells in (self.train_indices_, self.validation_indices_)
        )
        for source in self.modalities:
            for target in self.modalities:
                both = (maps[source] >= 0) & (maps[target] >= 0)
                if source == target or both[train].sum() < MIN_PAIRS:
                    continue
                if self.sizes_.modalities[source].input_kind != "counts":
                    self._fit_pair(source, target, train[both[train]], held[both[held]])

    def _fit_pair(self, source: str, target: str, train: NDArray[np.int64], held: NDArray[np.int64]) -> None:
        rng, inputs = np.random.default_rng(self.random_state), self.module.inputs
        train, held = (np.sort(rng.permutation(cells)[:MAX_PAIRS]) for cells in (train, held))
        cells = np.concatenate([train, held])
        step = max(1, CHUNK_NUMBERS // self.sizes_.modalities[target].n_features)
        parts = [self._look(each, source, None) for each in self.iterate(indices=cells, batch_size=step)]
        x, side = (np.concatenate(found) for found in zip(*parts, strict=True))
        if not (np.isfinite(x).all() and np.isfinite(side).all()):
            return
        log_library = None
        if inputs.uses_library(target):
            found = [inputs.log_library(each, target) for each in self.iterate(indices=cells, batch_size=step)]
            log_library = torch.cat(found).cpu().numpy()

        def sample(rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
            found = [self._measured(each, target)[0] for each in self.iterate(indices=cells[rows], batch_size=step)]
            return {form: np.concatenate([each[form] for each in found]) for form in found[0]}

        def stream(library: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> Iterator[Chunk]:
            done = 0
            for minibatch in self.iterate(indices=cells, batch_size=step):
                rows = np.arange(done, done + len(minibatch["batch"]))
                values, counts, mask = self._measured(minibatch, target)
                network = self._network_forms(minibatch, source, target, library(rows), None)
                yield Chunk(rows, values, network, counts, mask)
                done += len(rows)

        self.module.translator.pairs[source, target] = fit_pair(
            x,
            side,
            log_library,
            sample=sample,
            stream=stream,
            held=np.arange(len(cells)) >= len(train),
            n_features=self.sizes_.modalities[target].n_features,
            random_state=self.random_state,
        )

    @torch.no_grad()
    def _look(
        self, minibatch: MosaicBatch, source: str, batch: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return encoder inputs and covariates (log library, batch to predict as) of the cells that have the source."""
        inputs, here = self.module.inputs, self.module.inputs.present(minibatch)[source]
        x = inputs.encode(minibatch, source, here).float().cpu().numpy()
        codes = inputs.batch(minibatch)[here].cpu().numpy()
        if batch is not None:
            codes = np.full_like(codes, batch)
        n = self.sizes_.n_batch
        side = np.where(codes[:, None] < 0, 1 / n, codes[:, None] == np.arange(n))
        if self.sizes_.modalities[source].likelihood in COUNT_LIKELIHOODS:
            side = np.column_stack([side, inputs.log_library(minibatch, source)[here].cpu().numpy()])
        return x, side.astype(np.float32)

    @torch.no_grad()
    def _measured(
        self, minibatch: MosaicBatch, target: str
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32] | None, NDArray[np.bool_] | None]:
        """Return measured values by form, counts at the mean library, and what was measured."""
        inputs, size = self.module.inputs, self.sizes_.modalities[target]
        batch = inputs.batch(minibatch)
        found = inputs.measured(minibatch["values"][target], target, batch)
        dense = (found.to_dense(size.n_features) if isinstance(found, SparseRows) else found).float()
        mask = inputs.feature_mask(target, batch, None)
        here = None if mask is None else mask.cpu().numpy()
        forms = self.forms(target)
        if forms == (RAW,):
            values = dense.clamp(0, 1) if size.likelihood == "bernoulli" else dense  # what stands for NaN is a share
            return {RAW: values.float().cpu().numpy()}, None, here
        by_form = {LOG1P: dense.log1p().cpu().numpy()}
        counts = dense
        if NORMALIZED in forms:
            log_share = inputs.mean_log_library[inputs.position(target)] - inputs.log_library(minibatch, target)
            counts = dense * log_share.exp()[:, None]
            by_form = {NORMALIZED: counts.log1p().cpu().numpy(), **by_form}
        return by_form, counts.cpu().numpy(), here

    @torch.no_grad()
    def _network_forms(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        log_library: NDArray[np.float32],
        batch: int | None,
        forms: tuple[str, ...] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Return what the network expects, by form."""
        out: dict[str, NDArray[np.float32]] = {}
        inputs = self.module.inputs
        own = dict(zip(minibatch["index"].tolist(), np.exp(log_library).tolist(), strict=True))
        mean = float(inputs.mean_log_library[inputs.position(target)].exp())
        for form in self.forms(target) if forms is None else forms:
            size: Library = mean if form == NORMALIZED else own
            found = self._decoded(minibatch, source, target, size, batch)
            out[form] = found if form == RAW else np.log1p(found, out=found)
        return out

    # ------------------------------------------------------------------ translating

    def _found(
        self,
        minibatch: MosaicBatch,
        sources: list[str],
        target: str,
        form: str,
        batch: int | None,
        *,
        means: bool = False,
    ) -> Found:
        """Return what the sources say of each cell, weighted by their precision.

        ``means=True``: the exponential of the values minus one has the means of counts.
        """
        n, g = len(minibatch["batch"]), self.sizes_.modalities[target].n_features
        total: NDArray[np.float32] | None = None
        library, count = np.zeros(n, np.float32), np.zeros(n, np.float32)
        for source in sources:
            pair: PairTranslator = self.module.translator.pairs[source, target]
            here = self.module.inputs.present(minibatch)[source].cpu().numpy()
            if not here.any():
                continue
            columns = pair.columns(*self._look(minibatch, source, batch))
            own = pair.log_library(columns)
            library[here] += own + np.float32(np.log(pair.library_factor))
            count[here] += 1
            network = None
            if pair.share[form] > 0:
                guess = np.zeros(n, np.float32)
                guess[here] = own
                network = self._network_forms(minibatch, source, target, guess, batch, (form,))[form][here]
            precision = pair.precision(form)
            values = pair.predict(form, columns, network)
            if form != RAW:
                values = np.maximum(values, 0, out=values)
            if means:
                values = np.log1p(np.maximum(np.expm1(values), EDGE) * pair.rate_factor)
            if len(sources) == 1 and here.all():  # nothing to weigh
                return Found(values, library, count > 0)
            if total is None:
                total, weight = np.zeros((n, g), np.float32), np.zeros((n, g), np.float32)
            total[here] += values * precision
            weight[here] += precision
        some = count > 0
        total = np.zeros((n, g), np.float32) if total is None else total
        total[some] /= weight[some]
        library[some] /= count[some]
        return Found(total, library, some)
