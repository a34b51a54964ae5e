"""Options of OverlapManifold, with the source of every default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from smalti._validate import check_choice, check_count, check_in_range, check_positive
from smalti.model.base import Options

Bursts = Literal["given", "neighbours", "metacell", "thinning"]
"""Where repeated observations of one state come from."""
Family = Literal["rigid", "similarity", "affine"]
"""What may happen to a chart when it is laid over another: rotation, reflection and shift; a scale too; any linear
map."""


@dataclass(frozen=True, kw_only=True)
class ManifoldWeights(Options):
    """Weights of the loss terms."""

    white: float = 1.0
    """Distance of the covariance of bursts from a ball, per entry of the matrix beyond five dimensions."""
    data: float = 1.0
    """Reconstruction of the burst points of every modality from its chart; sum over components."""
    registration: float = 1.0
    """Squared distance of a cell's charts, in units of the variance of the coordinates; rises from 0 once the charts
    have been laid over each other. 0 leaves every modality its own chart."""
    cross: float = 0.0
    """Reconstruction of one modality from the chart of another. 0.1 is a value to try."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_positive(value, f"weights.{name}", allow_zero=True)


@dataclass(frozen=True, kw_only=True)
class ManifoldOptions(Options):
    """Charts, bursts and how charts are laid over each other."""

    n_hidden: int = 64
    """Width of hidden layers."""
    n_layers: int = 2
    """Hidden layers of encoders and decoders; smooth (tanh), without norm or dropout, which would change distances."""
    n_burst: int = 20
    """Points of a burst that is made here, at least 5: neighbours, cells of a metacell, or thinned copies."""
    burst_scale: float | None = None
    """Standard deviation of a burst in the latent space, per dimension. Bursts that are given should come with it. By
    default estimated from the data up to a common factor, so that coordinates have a variance of about 1."""
    local_scale: bool = False
    """Whether bursts of neighbours have a scale for every cell, the size of its neighbourhood. Otherwise dense and
    sparse regions are drawn equally dense."""
    keep: float = 0.9
    """Share of counts that thinning keeps."""
    joint_from: float = 0.4
    """Share of the epochs after which charts that were laid over each other are trained together; 1 for never."""
    n_components: int | None = None
    """Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells."""

    def __post_init__(self) -> None:
        for name in ("n_hidden", "n_layers"):
            check_count(getattr(self, name), name)
        if check_count(self.n_burst, "n_burst") < 5:
            raise ValueError(f"Expected `n_burst` to be at least 5, found {self.n_burst}.")
        if self.burst_scale is not None:
            check_positive(self.burst_scale, "burst_scale")
        check_in_range(self.keep, 0.05, 0.99, "keep")
        check_in_range(self.joint_from, 0, 1, "joint_from")


def check_bursts(bursts: str) -> Bursts:
    """Return a kind of bursts that exists."""
    found: Bursts = check_choice(bursts, ("given", "neighbours", "metacell", "thinning"), "bursts")
    return found
