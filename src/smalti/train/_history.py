"""What was logged in every epoch, kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping


class History:
    """Numbers of epochs, kept in lists and made into tables when asked: no table grows by a row per number."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[float]]] = {}
        """Pairs of epoch and value, by name."""

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take up the numbers of an epoch."""
        for name, value in values.items():
            self.rows.setdefault(name, []).append([epoch, value])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return a table per name with one column of that name, indexed by epoch."""
        out = {}
        for name, rows in self.rows.items():
            index = pd.Index([int(epoch) for epoch, _ in rows], name="epoch")
            out[name] = pd.DataFrame({name: [float(value) for _, value in rows]}, index=index)
        return out


def joined(earlier: Mapping[str, pd.DataFrame] | None, later: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the history of two trainings in a row, by name; rows of the later one are counted on from the earlier one.

    Parameters
    ----------
    earlier, later
        Tables by name, as :meth:`History.tables` returns them.
    """
    out = dict(earlier or {})
    for name, table in later.items():
        if name in out:
            index = pd.RangeIndex(len(out[name]), len(out[name]) + len(table), name=out[name].index.name)
            table = pd.concat([out[name], table.set_axis(index)])
        out[name] = table
    return out
