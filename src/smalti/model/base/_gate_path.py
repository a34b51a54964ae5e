"""Gates of a model at other prices, and on halves of the cells: which features stay?"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._validate import check_count, check_positive
from smalti.nn import START
from smalti.select import Selection

from ._readouts import ReadoutMixin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SHARE_OF_TRAINING = 0.2
"""Length of the training at each price, relative to that of the model."""
LEAST_STEPS = 200
"""Steps at each price at least: gates move by about a hundredth per step."""
WIDEST = 0.6
"""Where gates that were wide open start again; their order stays."""
N_BATCHES, CELLS = 4, 256
"""Minibatches by which it is judged what features earn."""
N_CHUNKS = 8
"""Parts of the held-out cells, whose losses tell how far apart two prices are."""


class GatePathMixin(ReadoutMixin):
    """Price paths and stability of gates."""

    def gate_path(
        self,
        modality: str,
        *,
        prices: Sequence[float] | None = None,
        n_prices: int = 5,
        stability: int = 0,
        max_epochs: int | None = None,
        batch_size: int | None = None,
    ) -> Selection:
        """Follow the gates of one modality along rising prices of an open feature, as selectors do.

        A copy of the trained network goes on with its gates open again; each price starts from where the one before
        ended. The model itself stays as it is. Taken is the highest price whose loss on held-out cells is at most one
        standard error above the lowest.

        Parameters
        ----------
        modality
            Name of the modality; its gates must be shared by all cells.
        prices
            Prices per open feature in units of the loss, lowest first; by default from what the middle one of the
            features that lower the loss earns when it opens to twice what the best one earns.
        n_prices
            Number of these prices.
        stability
            Number of runs at the price taken, each with a seed of its own on half of the training cells; 0 for none.
            The share of runs in which a gate is open is the column ``gate_stability``; at least 0.7 is called stable.
        max_epochs
            Epochs at each price and in each run; a fifth of those of the model and 200 batches by default.
        batch_size
            Cells per batch; the model's default if not given.

        Returns
        -------
        Table of the gates at the price taken (``effect`` with it), path (``lam``, number of open features, loss on
        held-out cells ``held_out``, ``difference`` to the lowest and its standard error ``se``), and which features
        were open at each price. ``write`` puts them into a MuData, and :func:`smalti.pl.gates` draws them.

        Raises
        ------
        KeyError
            If the modality has no gates.
        ValueError
            If its gates are local ones, or prices are not positive or not rising.
        """
        self._check_gates(modality)
        if self.module.inputs.gates[modality].shared is None:
            raise ValueError(f"Gates of modality {modality!r} differ from cell to cell and have no price path.")
        self._check_if_trained()
        if self.adata is None:
            raise ValueError("The model was loaded without data. Set `model.adata = mdata` first.")
        check_positive(stability, "stability", allow_zero=True)
        lams = self._prices(modality, check_count(n_prices, "n_prices")) if prices is None else list(prices)
        if not lams or min(lams) <= 0 or sorted(lams) != lams:
            raise ValueError(f"Expected positive `prices`, lowest first, found {lams}.")
        epochs = check_count(max_epochs or self._short_training(batch_size or self.default_batch_size), "max_epochs")
        settings = {"max_epochs": epochs, "batch_size": batch_size, "progress": False, "early_stopping": False}
        held = np.asarray(self.validation_indices_ if self.validation_indices_ is not None else [], dtype=np.int64)
        same = {"validation_indices": held} if len(held) else {"train_size": 1.0}
        names, tables, losses, parts = pd.Index(self.get_var_names()[modality]), [], [], []
        with self._on_a_copy():
            self._reopen(modality)
            for lam in lams:
                self._train_gates(modality, lam, {**settings, **same})
                tables.append(self.get_gates(modality))
                losses.append(self._held_out_losses(held))
                parts.append(deepcopy(self.module))
        loss = np.stack(losses)
        best = loss[loss.mean(axis=1).argmin()]
        difference = (loss - best).mean(axis=1)
        se = (loss - best).std(axis=1, ddof=1) / np.sqrt(loss.shape[1]) if loss.shape[1] > 1 else np.zeros(len(lams))
        is_open = np.stack([t["selected"].to_numpy() for t in tables])
        chosen = int(np.flatnonzero((difference <= se) & (is_open.any(axis=1) | ~is_open.any())).max(initial=0))
        table = tables[chosen]
        if stability:
            share = np.zeros(len(names))
            for run in range(stability):
                with self._on_a_copy():
                    self.module, self.random_state = deepcopy(parts[chosen]), self.random_state + 1 + run
                    self._reopen(modality)
                    self._train_gates(modality, lams[chosen], {**settings, "train_size": 0.5})
                    share += self.get_gates(modality)["selected"].to_numpy()
            table = table.assign(gate_stability=share / stability)
        path = pd.DataFrame(
            {
                "lam": lams,
                f"n_{modality}": is_open.sum(axis=1),
                f"p_{modality}": [t["gate_prob"].mean() for t in tables],
                "held_out": loss.mean(axis=1),
                "difference": difference,
                "se": se,
            }
        )
        return Selection(
            method=type(self).__name__,
            tables={modality: table},
            lam=lams[chosen],
            path=path,
            open_along_path={modality: is_open},
        )

    @contextmanager
    def _on_a_copy(self) -> Iterator[None]:
        """Let the model be trained and measured on a copy of its network, without a word, and forget all of it."""
        before = dict(self.__dict__)
        self.module = deepcopy(self.module)
        self.report_gates = self._fit_readouts = lambda: None  # type: ignore[assignment, method-assign, attr-defined]
        try:
            yield
        finally:
            self.__dict__.clear()
            self.__dict__.update(before)

    def _reopen(self, modality: str) -> None:
        shared = self.module.inputs.gates[modality].shared
        if shared is None:
            return
        for gate in (shared, getattr(shared, "within", None)):
            if gate is not None:
                gate.mu.data.clamp_(START, WIDEST)

    def _train_gates(self, modality: str, lam: float, settings: dict[str, Any]) -> None:
        gate = self.module.inputs.gates[modality]
        gate.keep, gate.penalty = None, float(lam)
        shared = gate.shared
        for each in (shared, getattr(shared, "within", None)):
            if each is not None:
                each.closed.fill_(False)
        self.train(**settings)

    def _short_training(self, batch_size: int) -> int:
        lengths = [len(table) for name, table in (self.history_ or {}).items() if name.startswith("train")]
        per_epoch = max(1, self.adata.n_obs // batch_size)
        return max(round(SHARE_OF_TRAINING * max(lengths, default=10)), -(-LEAST_STEPS // per_epoch))

    def _prices(self, modality: str, n_prices: int) -> list[float]:
        """Return prices between what the middle one of the useful features earns and twice what the best one does."""
        drawn: dict[str, torch.Tensor] = {}

        def half_open(own: torch.Tensor) -> torch.Tensor:
            drawn["gate"] = torch.full_like(own, START).requires_grad_()
            return drawn["gate"]

        rng = np.random.default_rng(self.random_state)
        cells = rng.permutation(np.flatnonzero(self.with_modality(None, modality)))[: N_BATCHES * CELLS]
        total = torch.zeros(self.module.inputs.gates[modality].n_features)
        with self._gates_changed(modality, half_open), torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            for minibatch in self.iterate(indices=cells, batch_size=CELLS):
                with torch.enable_grad():
                    loss = self.module(minibatch)[2].loss
                    total -= torch.autograd.grad(loss, drawn["gate"])[0].cpu()
        earned = (total / max(1, len(cells) // CELLS)).numpy()
        useful = earned[earned > 0]
        if not len(useful):
            raise ValueError(f"No feature of modality {modality!r} lowers the loss: give `prices`.")
        return [float(lam) for lam in np.geomspace(np.median(useful), 2 * useful.max(), n_prices)]

    def _held_out_losses(self, held: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the loss without prices of parts of the held-out cells (of all without any), by the same noise."""
        cells = held if len(held) else np.arange(self.adata.n_obs)
        out = []
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            for part in np.array_split(cells, min(N_CHUNKS, max(1, len(cells) // 8))):
                for minibatch in self.iterate(indices=part, batch_size=len(part)):
                    out.append(float(self.module(minibatch)[2].extra_metrics["monitor"]))
        return np.asarray(out)
