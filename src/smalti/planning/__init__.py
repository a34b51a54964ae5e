"""Before you sequence: how many cells, how many pairs, how many links, and which batch size."""

from __future__ import annotations

from smalti._batch_rule import recommended_batch_size

from ._batch_size import BatchPlan, batch_size
from ._collapse import PhaseDiagram
from ._curve import CurveFit, fit_curve
from ._learning import learning_curve
from ._links import link_size
from ._phase import phase_diagram
from ._plan import SamplePlan
from ._sample_size import sample_size
from ._scores import linear_fit, model_fit

__all__ = [
    "BatchPlan",
    "CurveFit",
    "PhaseDiagram",
    "SamplePlan",
    "batch_size",
    "fit_curve",
    "learning_curve",
    "linear_fit",
    "link_size",
    "model_fit",
    "phase_diagram",
    "recommended_batch_size",
    "sample_size",
]
