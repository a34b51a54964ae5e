"""Where training finds the plan of the cells of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray
    from torch import Tensor


class PlanTable:
    """Plans between landmarks, and which landmarks the cells of the training data consist of.

    Parameters
    ----------
    plans
        ``(L_a, L_b)`` by pair of modalities.
    members
        ``(n, L)`` shares of landmarks by modality.
    maps
        ``(n_obs,)`` row of every cell by modality, -1 where absent.
    costs
        ``(L_a, L_b)`` cost of evidence by pair, for plans with gradients.
    """

    def __init__(
        self,
        plans: dict[tuple[str, str], NDArray[np.float64]],
        members: dict[str, sp.csr_matrix],
        maps: dict[str, NDArray[np.int64]],
        costs: dict[tuple[str, str], NDArray[np.float64]] | None = None,
    ) -> None:
        self.plans = {pair: torch.from_numpy(plan.astype(np.float32)) for pair, plan in plans.items()}
        self.costs = {pair: torch.from_numpy(cost.astype(np.float32)) for pair, cost in (costs or {}).items()}
        self.near, self.share = {}, {}
        for name, shares in members.items():
            at, weight = _padded(shares)
            cells = maps[name]
            self.near[name] = torch.from_numpy(at[np.maximum(cells, 0)])
            self.share[name] = torch.from_numpy(weight[np.maximum(cells, 0)].astype(np.float32))

    def plan(self, a: str, b: str, first: Tensor, second: Tensor) -> Tensor | None:
        """Return the plan between cells, ``(n_a, n_b)``, in any unit; ``None`` if the pair has none."""
        return self._between(self.plans, a, b, first, second)

    def cost(self, a: str, b: str, first: Tensor, second: Tensor) -> Tensor | None:
        """Return the cost of evidence between cells, ``(n_a, n_b)``, mean about 1."""
        return self._between(self.costs, a, b, first, second)

    def _between(
        self, tables: dict[tuple[str, str], Tensor], a: str, b: str, first: Tensor, second: Tensor
    ) -> Tensor | None:
        if (a, b) not in tables:
            swapped = tables.get((b, a))
            if swapped is None:
                return None
            found = self._between(tables, b, a, second, first)
            return None if found is None else found.T
        table, device = tables[a, b], first.device
        x, y = first.cpu(), second.cpu()
        near_a, near_b = self.near[a][x], self.near[b][y]
        values = table[near_a.reshape(-1)][:, near_b.reshape(-1)].view(*near_a.shape, *near_b.shape)
        values = torch.einsum("ipjq,ip,jq->ij", values, self.share[a][x], self.share[b][y])
        return values.to(device)


def _padded(shares: sp.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return landmarks and shares of every cell, ``(n, k)``, padded by shares of 0."""
    counts = np.diff(shares.indptr)
    k = max(int(counts.max(initial=1)), 1)
    at, weight = np.zeros((len(counts), k), dtype=np.int64), np.zeros((len(counts), k))
    rows = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(rows)) - np.repeat(shares.indptr[:-1], counts)
    at[rows, place], weight[rows, place] = shares.indices, shares.data
    return at, weight
