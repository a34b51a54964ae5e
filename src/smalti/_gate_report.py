"""What went wrong with gates, in one sentence with the remedy; the same for selectors and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BETWEEN = (0.1, 0.9)
"""Probabilities between which a gate is undecided."""
STUCK_SHARE = 0.2


def diagnose(name: str, probability: NDArray[Any], selected: NDArray[np.bool_], what: str) -> str | None:
    """Return one sentence and the remedy if gates are all closed, all open or undecided; ``None`` if all is well.

    Parameters
    ----------
    name
        Modality.
    probability
        ``(D,)`` probabilities to be open.
    selected
        ``(D,)`` bool.
    what
        The price, in words, such as ``"lam=0.1"``.
    """
    if not selected.any():
        return f"All {len(selected)} gates of modality {name!r} are closed at {what}: lower the price."
    if selected.all():
        return f"All {len(selected)} gates of modality {name!r} are open at {what}: raise the price."
    between = float(((probability > BETWEEN[0]) & (probability < BETWEEN[1]) & selected).mean())
    if between > STUCK_SHARE:
        return (
            f"{between:.0%} of the gates of modality {name!r} are stuck half open at {what}: train for more steps, or "
            "raise the price."
        )
    return None
