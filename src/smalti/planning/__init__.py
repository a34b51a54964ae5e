"""Before you sequence: how many cells, how many pairs, how many links, and which batch size."""

from __future__ import annotations

from smalti._batch_rule import recommended_batch_size

from ._collapse import PhaseDiagram
from ._phase import phase_diagram

__all__ = ["PhaseDiagram", "phase_diagram", "recommended_batch_size"]
