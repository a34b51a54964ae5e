"""What a network needs to know of the data: plain numbers that are stored with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

InputKind = Literal["projection", "scaled", "counts", "dense"]
"""A fixed transform of the values, standardised features, the values themselves, or given components."""


@dataclass(frozen=True, kw_only=True)
class ModalitySize:
    """One modality."""

    n_features: int
    likelihood: str
    input_kind: InputKind
    input_config: dict[str, Any] = field(default_factory=dict)
    """Arguments of the input layer, see :class:`~smalti.nn.FrozenProjection` and friends."""
    masked: bool = False
    """Whether batches differ in the features they measured."""
    gate: dict[str, Any] | None = None
    """Arguments of :class:`~smalti.nn.FeatureGate` and ``"context"``, those of the projection that local gates look
    at (``None``: the encoder input itself); ``"convention"`` says how parameters are to be read."""


@dataclass(frozen=True, kw_only=True)
class MosaicSizes:
    """The whole mosaic."""

    modalities: dict[str, ModalitySize]
    n_batch: int = 1
    n_labels: int = 0
    """Number of known classes; 0 without labels."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of modalities that at least one training cell has in common."""

    @property
    def n_cov(self) -> int:
        """Width of the one-hot covariates of decoders: the number of batches, 0 if there is only one."""
        return self.n_batch if self.n_batch > 1 else 0

    @property
    def alone(self) -> list[str]:
        """Modalities that share no training cell with another one."""
        paired = {name for pair in self.pairs for name in pair}
        return [name for name in self.modalities if name not in paired]

    def has_pairs(self, a: str, b: str) -> bool:
        """Return whether any training cell has both modalities."""
        return (a, b) in self.pairs or (b, a) in self.pairs

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> MosaicSizes:
        """Rebuild from :meth:`to_dict`."""
        return cls(
            modalities={name: ModalitySize(**size) for name, size in state["modalities"].items()},
            n_batch=state["n_batch"],
            n_labels=state["n_labels"],
            pairs=tuple((a, b) for a, b in state["pairs"]),
        )


def largest_linked_group(maps: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Return the largest set of modalities that chains of paired cells connect, of equal ones that with most pairs.

    Parameters
    ----------
    maps
        Row of every cell in each modality, ``(n_obs,)``, -1 where absent. Two common cells link two modalities.
    """
    names = np.array(list(maps), dtype=object)
    if len(names) < 2:
        return names.tolist()
    present = np.column_stack([rows >= 0 for rows in maps.values()])
    shared = present.T.astype(np.int64) @ present
    _, group = connected_components(shared > 1, directed=False)
    pairs = [int((present[:, group == g].sum(axis=1) >= 2).sum()) for g in group]
    sizes = np.bincount(group)[group]
    return names[group == group[max(range(len(names)), key=lambda i: (sizes[i], pairs[i]))]].tolist()
