"""Gates and weights of sparse canonical correlation on the paired cells of two modalities."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from smalti._batch_rule import REFUSED, recommended_batch_size
from smalti._gate_report import diagnose
from smalti._gate_table import gate_table
from smalti._validate import check_positive
from smalti.losses import canonical_correlations
from smalti.nn import SIGMA, GlobalGate

from ._cca_parts import linear_start, refit
from ._result import Selection, among_all
from ._values import Values, paired_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._cca_parts import LinearStart

logger = logging.getLogger(__name__)

Parameters = list[torch.Tensor]
"""Those of the gates of both modalities."""
HELD_OUT = 0.2
RIDGE = 1e-3


class CCAProblem:
    """Paired cells of two modalities, split into those to fit and those to choose the price by."""

    def __init__(
        self,
        mdata: MuData,
        modalities: Sequence[str] | None,
        layers: dict[str, str] | None,
        batch_key: str | None,
        n_top: int | None,
        batch_size: int | Literal["auto"],
        seed: int,
        *,
        n_outputs: int,
        hold_out: bool,
    ) -> None:
        names = list(mdata.mod) if modalities is None else list(modalities)
        if len(names) != 2:
            raise ValueError(f"Canonical correlation needs two modalities, found {names}. Name them: `modalities=`.")
        layers = layers or {}
        self.values = [Values(mdata, m, layer=layers.get(m), batch_key=batch_key, n_top=n_top) for m in names]
        rows = paired_rows(self.values)
        order = np.random.default_rng(seed).permutation(len(rows))
        n_out = round(HELD_OUT * len(rows)) if hold_out else 0
        self.names, self.seed = names, seed
        self.out_rows, self.rows = rows[order[:n_out]], rows[order[n_out:]]
        if batch_size == "auto":
            batch_size = recommended_batch_size(n_outputs, max(len(self.rows), REFUSED * n_outputs))
        self.batch_size = batch_size
        self._start: LinearStart | None = None

    def batch(self, rng: np.random.Generator, kept: list[torch.Tensor] | None) -> list[torch.Tensor]:
        """Return values of a batch, or ``kept`` if a batch is all cells."""
        if kept is not None and self.batch_size >= len(self.rows):
            return kept
        cells = rng.choice(len(self.rows), min(self.batch_size, len(self.rows)), replace=False)
        return [v.read(self.rows[cells, i]) for i, v in enumerate(self.values)]

    def start(self) -> LinearStart:
        """Return the warm start, computed once."""
        if self._start is None:
            self._start = linear_start(self.values, self.rows)
        return self._start

    def remove(self, weights: Sequence[NDArray[np.float64]]) -> None:
        """Take the scores along weights, ``(D,)`` each, out of both modalities."""
        self._start = None
        for values, weight in zip(self.values, weights, strict=True):
            values.remove(weight)

    def gates(self, warm: bool) -> list[GlobalGate]:
        """Return fresh gates, wider for features with large entries in the warm start."""
        gates = [GlobalGate(v.n_features) for v in self.values]
        if warm:
            for gate, u in zip(gates, self.start(), strict=True):
                gate.mu.data.copy_(0.25 + 0.5 * u.abs() / u.abs().max().clamp(min=1e-12))
        return gates

    def linear(self, lam: float, n_steps: int, lr: float, warm: bool) -> Parameters:
        """Train gates and weights; return parameters of the gates."""
        check_positive(lam, "lam", allow_zero=True)
        rng, kept = np.random.default_rng(self.seed), None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            gates = self.gates(warm)
            weights = list(self.start()) if warm else [torch.randn(v.n_features) for v in self.values]
            weights = [torch.nn.Parameter(w / w.norm()) for w in weights]
            optimizer = torch.optim.Adam([*weights, *(gate.mu for gate in gates)], lr=lr)
            for _ in range(n_steps):
                kept = self.batch(rng, kept)
                u, v = ((x * g.gates()) @ w for x, g, w in zip(kept, gates, weights, strict=True))
                u, v = u - u.mean(), v - v.mean()
                rho = (u @ v) / (u.norm() * v.norm()).clamp(min=1e-8)
                loss = -rho + lam * (gates[0].expected_open() + gates[1].expected_open())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                for gate, w in zip(gates, weights, strict=True):
                    gate.project()
                    w.data /= w.data.norm().clamp(min=1e-8)
        return [gate.mu.detach() for gate in gates]

    def deep(self, lam: float, n_steps: int, lr: float, warm: bool, n_components: int, n_hidden: int) -> Parameters:
        """Train gates and encoders; return parameters of the gates."""
        rng, kept = np.random.default_rng(self.seed), None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            gates = self.gates(warm)
            encoders = [_Encoder(v.n_features, n_hidden, n_components) for v in self.values]
            if warm:
                for encoder, u in zip(encoders, self.start(), strict=True):
                    encoder.skip.weight.data[0] = u / u.norm()
            parameters = [p for part in (*encoders, *gates) for p in part.parameters()]
            optimizer = torch.optim.Adam(parameters, lr=lr)
            for _ in range(n_steps):
                kept = self.batch(rng, kept)
                u, v = (f(x * g.gates()) for x, g, f in zip(kept, gates, encoders, strict=True))
                loss = -canonical_correlations(u, v, ridge=RIDGE).mean() + lam * (
                    gates[0].expected_open() + gates[1].expected_open()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                for gate in gates:
                    gate.project()
        return [gate.mu.detach() for gate in gates]

    def finish(
        self,
        mu: Parameters,
        lam: float,
        tried: list[tuple[float, Parameters, float]],
        method: str,
        *,
        linear: bool,
    ) -> Selection:
        """Refit on the selected features and make tables."""
        final = refit(self.values, self.rows, self.out_rows, [(m > 0).numpy() for m in mu], RIDGE)
        path = [(price, m) for price, m, _ in tried] or [(lam, mu)]
        tables, along = {}, {}
        for i, (name, values) in enumerate(zip(self.names, self.values, strict=True)):
            n, selected = len(values.names), (mu[i] > 0).numpy()
            probability = torch.special.ndtr(mu[i] / SIGMA).numpy()
            weight = {"weight": among_all(final.weights[i], values.columns, n, 0)} if linear else {}
            tables[name] = gate_table(
                values.names,
                selected=among_all(selected, values.columns, n, 0),
                gate=among_all(mu[i].clamp(0, 1).numpy(), values.columns, n, 0),
                gate_prob=among_all(probability, values.columns, n, 0),
                further=weight,
            )
            along[name] = np.stack([among_all((m[i] > 0).numpy(), values.columns, n, False) for _, m in path])
            if message := diagnose(name, probability, selected, f"lam={lam:.3g}"):
                logger.warning(message)
        table = pd.DataFrame({"lam": [price for price, _ in path]})
        for i, name in enumerate(self.names):
            table[f"n_{name}"] = [int((m[i] > 0).sum()) for _, m in path]
        info = {"correlation": final.correlation}
        if tried:
            table["held_out"] = [value for _, _, value in tried]
            info["correlation_held_out"] = max(value for _, _, value in tried)
        return Selection(method=method, tables=tables, lam=lam, path=table, open_along_path=along, info=info)


class _Encoder(torch.nn.Module):
    """A linear map beside one hidden layer that starts at zero."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.skip = torch.nn.Linear(n_in, n_out)
        self.first, self.last = torch.nn.Linear(n_in, n_hidden), torch.nn.Linear(n_hidden, n_out)
        torch.nn.init.zeros_(self.last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.skip(x) + self.last(torch.tanh(self.first(x)))
