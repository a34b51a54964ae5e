"""From MuData to minibatches: modalities, presence, registry fields, manager and dataset."""

from __future__ import annotations

from ._presence import presence, row_maps

__all__ = ["presence", "row_maps"]
