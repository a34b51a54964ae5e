"""The space for matching as a part of the network, so that it is stored and takes new cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smalti._linalg import unit_rows
from smalti.align import MatchingSpace
from smalti.model.parts import MatchReadout, from_tensors, to_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("components", "latents", "features")


class EvidenceReadout(MatchReadout):
    """Latent, evidence and correction of two modalities, see :class:`~smalti.align.MatchingSpace`.

    Its state is empty before training, and where there are more than two modalities: of these every two have a space of
    their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.space: MatchingSpace | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a space."""
        return self.space is not None

    def transform(self, name: str, own: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors ``(n, d + k)``, from latents ``(n, d)`` and encoder inputs ``(n, p)``."""
        if self.space is None:
            raise RuntimeError("There is no space for matching before training.")
        known = np.asarray(np.isfinite(own)).all(axis=1, keepdims=True)
        z = self.space.place(name, np.where(known, own, 0).astype(np.float64), x.astype(np.float64))
        return np.where(known, unit_rows(z), 0).astype(np.float32)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.space is not None:
            state = {
                part: {name: value.astype(np.float32) for name, value in getattr(self.space, part).items()}
                for part in PARTS
            }
            named = to_tensors({"names": self.space.names, **state})
            destination.update({prefix + name: value for name, value in named.items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        state = from_tensors(state_dict, prefix)
        if state is None:
            self.space = None
            return
        ordered = ({name: state[part][name].astype(np.float64) for name in state["names"]} for part in PARTS)
        self.space = MatchingSpace(*ordered)
