"""What a description of a mosaic holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ._facts import ModalityDescription
    from ._recommend import Recommendation


@dataclass(frozen=True, kw_only=True)
class MosaicFacts:
    """Tables and sentences about a mosaic."""

    n_obs: int
    """Cells."""
    modalities: dict[str, ModalityDescription]
    """Sizes and kinds of values, by modality."""
    patterns: pd.DataFrame
    """Distinct rows of presence, ``(P, M)`` boolean, one column per modality; those with most modalities first."""
    pattern_sizes: NDArray[np.int64]
    """``(P,)`` number of cells of each pattern."""
    batch_key: str | None
    """Column with batches, if one was given."""
    batches: pd.DataFrame | None
    """Cells by pattern (rows) and batch (columns); ``None`` without batches."""
    labels_key: str | None
    """Column with labels, if one was given."""
    labels: pd.DataFrame | None
    """Cells by label (rows; cells without a label left out) and modality (columns), then ``"paired"`` for cells with
    two or more modalities and ``"all"``; ``None`` without labels."""
    pairs: pd.DataFrame
    """``(M, M)`` cells that two modalities share; on the diagonal the cells of each."""
    problems: tuple[str, ...]
    """What a model would refuse, and what to do about it."""
    notes: tuple[str, ...]
    """What is odd but allowed."""
    recommendation: Recommendation
    """The model that fits, and why."""
