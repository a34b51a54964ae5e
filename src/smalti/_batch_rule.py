"""How many cells a batch needs for a loss that is made of correlations. Measured in ``docs/methods/planning.md``."""

from __future__ import annotations

from smalti._validate import check_count

PER_OUTPUT = 10
"""Cells per output with covariances of the batch alone."""
PER_OUTPUT_RUNNING = 5
"""Cells per output with covariances that run over batches (decay 0.9)."""
FEWEST = 128
"""Cells of a batch however few the outputs."""
REFUSED = 2
"""Cells per output below which covariances have hardly a gradient: at one per output every correlation is 1."""
WHOLE = 4000
"""Cells up to which all of them are one batch."""


def recommended_batch_size(n_outputs: int, n_obs: int, *, running: bool = False, allow_full: bool = True) -> int:
    """Return how many cells a batch should have for a loss of correlations between ``n_outputs`` outputs.

    All cells if they are at most 4,000; otherwise ten per output, at least 128, and five per output if covariances run
    over batches. A correlation that is estimated from ``B`` cells is too large by about ``0.86 sqrt(n_outputs / B)``,
    so that a small batch rewards chance.

    Parameters
    ----------
    n_outputs
        Canonical pairs, or outputs of each encoder.
    n_obs
        Cells there are to train on, pairs for a loss of pairs.
    running
        Whether covariances run over batches.
    allow_full
        Whether all cells may be one batch; ``False`` where a decoder makes large batches slow.

    Raises
    ------
    ValueError
        If there are fewer than two cells per output.

    Examples
    --------
    >>> from smalti.planning import recommended_batch_size
    >>> recommended_batch_size(32, 50_000)
    320
    """
    check_count(n_outputs, "n_outputs")
    check_count(n_obs, "n_obs")
    check_batch_size(n_obs, n_outputs)
    if allow_full and n_obs <= WHOLE:
        return n_obs
    return min(n_obs, max((PER_OUTPUT_RUNNING if running else PER_OUTPUT) * n_outputs, FEWEST))


def check_batch_size(batch_size: int, n_outputs: int) -> int:
    """Return ``batch_size``, or raise ``ValueError`` if correlations of so many outputs mean nothing in it."""
    if check_count(batch_size, "batch_size") < REFUSED * n_outputs:
        raise ValueError(
            f"Expected at least {REFUSED * n_outputs} cells in a batch for correlations of {n_outputs} outputs, found "
            f"{batch_size}. Take larger batches or fewer outputs; {PER_OUTPUT * n_outputs} cells are recommended."
        )
    return batch_size
