"""What a selector found, and where it is written."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti._gate_table import write_gates
from smalti._validate import check_keys, shorten
from smalti.nn import GATE_CONVENTION

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selected features of one or several modalities."""

    method: str
    """Name of the selector."""
    tables: dict[str, pd.DataFrame]
    """By modality, one row per variable: ``gate`` in ``[0, 1]``, ``gate_prob`` (probability to be open), ``selected``,
    and as far as they were computed ``gate_stability``, ``gate_group``, ``dependence``, ``support``, ``supported``,
    ``weight``, ``component``."""
    lam: float
    """Price of an open feature."""
    lam_null: float | None = None
    """Price that closes everything where there is no structure, if it was calibrated."""
    path: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per price that was tried."""
    open_along_path: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``(n_lam, n_var)`` by modality."""
    groups: dict[str, pd.DataFrame] = field(default_factory=dict)
    """By modality, one row per group: ``gate``, ``gate_prob``, ``n_features``, ``selected``."""
    n_supported: dict[str, int] = field(default_factory=dict)
    """By modality, how many features are told from permuted copies of themselves, at most 5 % of them falsely: keep no
    more. Which ones, is in the columns ``support`` and ``supported`` of the table."""
    info: dict[str, Any] = field(default_factory=dict)
    """Further facts, such as canonical correlations or the cells of graphs; they go to ``.uns["gates"]`` too."""

    def selected(self, modality: str) -> list[str]:
        """Return the names of the selected variables of a modality."""
        check_keys([modality], list(self.tables), "Modality")
        table = self.tables[modality]
        return table.index[table["selected"]].tolist()

    def write(self, mdata: MuData) -> None:
        """Write the columns into ``.var`` of each modality and all else into ``.uns["gates"]``."""
        for name, table in self.tables.items():
            write_gates(mdata.mod[name], table, self._about(name))

    def _about(self, name: str) -> dict[str, Any]:
        out: dict[str, Any] = {"method": self.method, "lam": self.lam, "convention": GATE_CONVENTION, **self.info}
        if self.lam_null is not None:
            out["lam_null"] = self.lam_null
        if len(self.path):
            out["path"] = self.path.copy()
        if name in self.open_along_path:
            out["open_along_path"] = self.open_along_path[name]
        if name in self.n_supported:
            out["n_supported"] = self.n_supported[name]
        if name in self.groups:
            out["groups"] = self.groups[name].copy()
        return out

    def __repr__(self) -> str:
        told = {name: f" ({n} supported)" for name, n in self.n_supported.items()}
        parts = [
            f"{name} {int(t['selected'].sum())} of {len(t)}{told.get(name, '')}" for name, t in self.tables.items()
        ]
        null = "" if self.lam_null is None else f" ({self.lam / self.lam_null:.2f} x that of no structure)"
        graph = f"; graphs of {self.info['graph']}" if "graph" in self.info else ""
        return f"Selection by {self.method}: {', '.join(parts)}; price {self.lam:.3g}{null}{graph}"


def among_all(values: NDArray[Any], columns: NDArray[np.int64], n: int, fill: Any = 0.0) -> NDArray[Any]:
    """Return values of the features that took part among all ``n`` of them."""
    out = np.full(n, fill, dtype=np.asarray(values).dtype)
    out[columns] = values
    return out


def partners(x: NDArray[Any], names: pd.Index, selected: NDArray[np.bool_], limit: float = 0.95) -> dict[str, str]:
    """Return for selected features their duplicates (correlation above ``limit``) that were left out.

    Which of several duplicates stays is chance.

    Parameters
    ----------
    x
        ``(n, D)`` standardised values of some cells.
    names
        Names of the features.
    selected
        ``(D,)`` bool.
    limit
        Correlation.
    """
    z = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    chosen, left = np.flatnonzero(selected), np.flatnonzero(~selected)
    high = np.abs(z[:, chosen].T @ z[:, left]) / len(z) > limit
    return {str(names[chosen[i]]): shorten(names[left[row]]) for i, row in enumerate(high) if row.any()}
