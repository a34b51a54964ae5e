"""What a network needs to know of the data: plain numbers that are stored with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
    """Pairs of modalities with enough training cells in common to be linked, see :func:`~smalti.data.linked_pairs`."""

    @property
    def n_cov(self) -> int:
        """Width of the one-hot covariates of decoders: the number of batches, 0 if there is only one."""
        return self.n_batch if self.n_batch > 1 else 0

    @property
    def alone(self) -> list[str]:
        """Modalities that training cells link to no other one."""
        paired = {name for pair in self.pairs for name in pair}
        return [name for name in self.modalities if name not in paired]

    def has_pairs(self, a: str, b: str) -> bool:
        """Return whether training cells link two modalities."""
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
