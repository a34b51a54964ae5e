"""Gates trained against a score: the one loop of all selectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from smalti._validate import check_count, check_in_range, check_positive
from smalti.nn import START, GlobalGate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from smalti.nn import GroupGate

    from ._values import Values

Gates = dict[str, "GlobalGate | GroupGate"]
Starts = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """How gates of a selector are trained."""

    n_neighbors: int = 2
    """Which neighbour sets the width of the kernel, the cell itself counted."""
    bandwidth: float = 2.0
    """Factor of that width."""
    n_walk: int = 2
    """Steps of the random walk (one modality)."""
    batch_size: int = 256
    """Cells per step; up to twice as many are taken all at once."""
    n_steps: int = 600
    """Steps of one run."""
    lr: float = 0.02
    """Step size. Plain gradient steps: those of Adam have the size of their sign and open many nuisance features
    together."""
    sigma: float = 0.5
    """Standard deviation of the noise of gates."""
    project: bool = True
    """Whether parameters are clipped after every step; published code does not, and features get stuck open."""

    def __post_init__(self) -> None:
        for name in ("n_neighbors", "n_walk", "batch_size", "n_steps"):
            check_count(getattr(self, name), name)
        for name in ("bandwidth", "lr", "sigma"):
            check_positive(getattr(self, name), name)
        check_in_range(self.batch_size, 8, 100_000, "batch_size")


class SelectionProblem(ABC):
    """Modalities, the cells to draw from, and a score that open gates raise.

    Parameters
    ----------
    values
        Rows by modality.
    rows
        ``(n, V)`` rows of the cells to draw from, one column per modality.
    options
        See :class:`SelectOptions`.
    strata
        ``(n,)`` codes of landmarks: a batch takes as many cells near each, and weighs them by how many are near it.
    """

    lams: tuple[float, ...] = ()
    """Prices of a path where calibration without structure says nothing."""
    between = 0.5
    """Where the price ``"auto"`` lies between what permuted features earn, 0, and what true ones earn, 1."""

    def __init__(
        self,
        values: Mapping[str, Values],
        rows: NDArray[np.int64],
        options: SelectOptions,
        strata: NDArray[np.int64] | None = None,
    ) -> None:
        self.values, self.rows, self.options, self.strata = dict(values), rows, options, strata
        self.permuted = False

    def graph(self) -> str:
        """Return in words which cells a graph is drawn of: all together, or batches if there are many."""
        n, size = len(self.rows), self.options.batch_size
        if n <= 2 * size:
            return f"all {n} cells"
        near = "" if self.strata is None else f", spread over {len(np.unique(self.strata))} landmarks"
        return f"batches of {size} of {n} cells{near}"

    def subset(self, cells: NDArray[np.int64]) -> SelectionProblem:
        """Return the same problem on some of its cells."""
        out = self._copy()
        out.rows, out.strata = self.rows[cells], None if self.strata is None else self.strata[cells]
        return out

    def permute(self) -> SelectionProblem:
        """Return the same problem with every feature permuted over cells by itself: nothing is left to find."""
        out = self._copy()
        out.permuted = True
        return out

    def _copy(self) -> Self:
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        return out

    def make_gates(self) -> Gates:
        """Return fresh gates; one per feature by default."""
        return {name: GlobalGate(v.n_features, sigma=self.options.sigma) for name, v in self.values.items()}

    def prices(self, gates: Gates) -> dict[str, torch.Tensor]:
        """Return the price of open gates by modality."""
        return {name: gate.expected_open() for name, gate in gates.items()}

    @abstractmethod
    def score(
        self, x: dict[str, torch.Tensor], z: dict[str, torch.Tensor], weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what open gates should raise, given values ``(B, D)`` and gates ``(D,)`` by modality."""

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Return the values of one batch by modality, and weights of its cells."""
        n, size = len(self.rows), self.options.batch_size
        cells, weight = np.arange(n), None
        if n > 2 * size:
            if self.strata is None:
                cells = rng.choice(n, size, replace=False)
            else:
                cells, weight = _stratified(self.strata, size, rng)
        x = {name: v.read(self.rows[cells, i]) for i, (name, v) in enumerate(self.values.items())}
        if self.permuted:
            fixed = np.random.default_rng(len(cells)) if n <= 2 * size else rng  # all cells: one permutation for all
            x = {name: _permute(v, fixed) for name, v in x.items()}
        return x, weight


def optimise(
    problem: SelectionProblem,
    lam: Mapping[str, float] | float,
    *,
    seed: int,
    start: Starts | None = None,
    n_steps: int | None = None,
) -> Gates:
    """Train gates to raise the score at a price of ``lam`` per open feature; gradient steps, then projection.

    Parameters
    ----------
    problem
        What to optimise.
    lam
        Price, by modality or for all.
    seed
        Seed of batches and noise.
    start
        Parameters to start from; half open by default.
    n_steps
        Steps, by default those of the options.
    """
    options, rng = problem.options, np.random.default_rng(seed)
    prices = lam if not isinstance(lam, int | float) else dict.fromkeys(problem.values, float(lam))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gates = problem.make_gates()
        for name, gate in gates.items():
            noise = 0.01 * torch.randn_like(gate.mu)
            gate.mu.data.copy_((START if start is None else start[name]) + noise)
        parameters = [p for gate in gates.values() for p in gate.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=options.lr)
        full = None
        for _ in range(n_steps or options.n_steps):
            if full is None or len(problem.rows) > 2 * options.batch_size:
                full = problem.draw(rng)
            x, weight = full
            loss = -problem.score(x, {name: gate.gates() for name, gate in gates.items()}, weight)
            loss = loss + sum(prices[name] * value for name, value in problem.prices(gates).items())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.project:
                for gate in gates.values():
                    gate.project()
    return gates


def parameters_of(gates: Gates) -> Starts:
    """Return a copy of the parameters by modality."""
    return {name: gate.mu.detach().clone() for name, gate in gates.items()}


def _permute(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    order = np.argsort(rng.random(x.shape, dtype=np.float32), axis=0)
    return x.gather(0, torch.from_numpy(order))


def _stratified(
    strata: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Draw as many cells of each landmark as can be; weights undo that in what is averaged."""
    order = rng.permutation(len(strata))
    by = order[np.argsort(strata[order], kind="stable")]
    counts = np.bincount(strata)
    place = np.arange(len(by)) - np.repeat(np.cumsum(counts) - counts, counts)  # a cell's number within its landmark
    chosen = by[np.lexsort((rng.random(len(by)), place))][:size]
    taken = np.bincount(strata[chosen], minlength=len(counts))
    weight = (counts / np.maximum(taken, 1))[strata[chosen]]
    return chosen, torch.from_numpy((weight / weight.mean()).astype(np.float32))
