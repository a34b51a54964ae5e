"""Features of two modalities that go together by name, and the code that makes a table of them."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

MIN_LINKS = 4
"""Links that two modalities must have: of fewer, UnpairedCCA can hold none out and gives no verdict."""


class FeatureLink(NamedTuple):
    """How features of two modalities are linked."""

    named: str
    """Modality whose variable names are referred to, such as genes."""
    naming: str
    """Modality whose features refer to them, such as proteins."""
    column: str | None
    """Column of the latter's ``.var`` that does; ``None`` if its variable names do: features are named alike."""
    n: int
    """Number of features of ``naming`` that are linked."""

    def __str__(self) -> str:
        how = "named alike" if self.column is None else f"linked by the column {self.column!r} of {self.naming!r}"
        return f"{self.n:,} features of {self.named!r} and {self.naming!r} {how}"


def find_links(mdata: MuData, names: Sequence[str]) -> list[FeatureLink]:
    """Return for every two modalities the way in which most of their features are linked, as far as there is one.

    Looked at are variable names and columns of text in ``.var``. Names that are mere numbers link nothing.

    Parameters
    ----------
    mdata
        The mosaic.
    names
        Modalities to look at.
    """
    known = {name: {n for n in map(str, mdata.mod[name].var_names) if not n.isdigit()} for name in names}
    best: dict[tuple[str, str], FeatureLink] = {}
    for named, naming in permutations(names, 2):
        var = mdata.mod[naming].var
        columns: list[tuple[str | None, pd.Series]] = [(None, var.index.to_series())]
        columns += [(str(c), var[c]) for c in var if not pd.api.types.is_numeric_dtype(var[c])]
        for column, values in columns:
            found = FeatureLink(named, naming, column, int(np.isin(values.astype(str), list(known[named])).sum()))
            key = (min(named, naming), max(named, naming))
            if found.n >= MIN_LINKS and (key not in best or found.n > best[key].n):
                best[key] = found
    return list(best.values())


def links_code(links: Sequence[FeatureLink]) -> str:
    """Return lines that make the table ``links`` with a column per modality; empty for no links."""
    if not links:
        return ""
    lines = ["import pandas as pd", ""]
    for i, link in enumerate(links):
        table = "links" if i == 0 else "more"
        source = f"mdata[{link.naming!r}].var"
        values = f"{source}_names.to_series()" if link.column is None else f"{source}[{link.column!r}].astype(str)"
        lines += [
            f"features = {values}  # names features of {link.named!r}",
            f"{table} = pd.DataFrame({{{link.named!r}: features.to_numpy(), {link.naming!r}: features.index}})",
            f"{table} = {table}[{table}[{link.named!r}].isin(mdata[{link.named!r}].var_names)]",
        ]
        if i:
            lines.append("links = pd.concat([links, more])")
    return "\n".join(lines)
