"""How many features of a selection are supported, on graphs that they did not draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti._support import Support, against_decoys, leave_out, neighbours

from ._common import some_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ._common import Supports
    from ._values import Values

    Flags = Mapping[str, NDArray[np.bool_]]

N_CELLS = 1000
LEAST_DRAWN = 2
"""Features that a graph needs at least."""


def own_support(values: Values, rows: NDArray[np.int64], selected: NDArray[np.bool_], seed: int) -> Support:
    """Compare all features with permuted ones on the graph of the selected ones, which leaves out each in turn.

    Parameters
    ----------
    values
        Values of the modality.
    rows
        ``(n,)`` rows to look at.
    selected
        ``(D,)`` bool.
    seed
        Seed of permutations.
    """
    chosen = np.flatnonzero(selected)
    if len(chosen) <= LEAST_DRAWN - 1:
        return Support(np.zeros(len(selected)), np.zeros(len(selected), dtype=bool))
    x, (raw, totals) = values.read(rows), values.unscaled(rows)
    blocks = [(np.flatnonzero(~selected), chosen)]
    blocks += [(part, np.setdiff1d(chosen, part)) for part in leave_out(chosen, seed)]
    drawn = ((part, raw[:, part], neighbours(x[:, drawing])) for part, drawing in blocks if len(part))
    return against_decoys(drawn, len(selected), values.batch[rows], totals=totals, seed=seed)


def own_supports(values: Values, rows: NDArray[np.int64], seed: int) -> Supports:
    """Return :func:`own_support` on some of the rows, for one modality."""
    some = some_cells(rows, N_CELLS, seed)
    return lambda selected: {name: own_support(values, some, flags, seed) for name, flags in selected.items()}


def shared_support(
    values: Mapping[str, Values], rows: NDArray[np.int64], selected: Flags, seed: int
) -> dict[str, Support]:
    """Compare all features with permuted ones on the graph of what is selected in the other modalities.

    Parameters
    ----------
    values
        Values by modality.
    rows
        ``(n, V)`` rows of cells that have all of them.
    selected
        ``(D,)`` bool by modality.
    seed
        Seed of permutations.
    """
    x = {name: each.read(rows[:, i]) for i, (name, each) in enumerate(values.items())}
    out = {}
    for i, (name, each) in enumerate(values.items()):
        others = torch.cat([v[:, np.flatnonzero(selected[other])] for other, v in x.items() if other != name], dim=1)
        d, (raw, totals) = each.n_features, each.unscaled(rows[:, i])
        blocks = [] if others.shape[1] < LEAST_DRAWN else [(np.arange(d), raw, neighbours(others))]
        out[name] = against_decoys(blocks, d, each.batch[rows[:, i]], totals=totals, seed=seed)
    return out
