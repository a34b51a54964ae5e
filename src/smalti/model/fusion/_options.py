"""Options of FusionClustering, with the source of every default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from smalti._validate import check_choice, check_count, check_in_range, check_positive
from smalti.model.base import Options

Start = Literal["joint", "graph", "kmeans"]
"""How the head starts: from communities (Leiden, joined by normalised association) of joint linear latents of all
cells (:class:`~smalti.pp.LinearJoint`); of the fused embedding of paired cells; or by k-means on that."""
Balance = Literal["equal", "proportional"]
"""How many cells of a batch teach each cluster: the same number, or in proportion to its size."""
Unpaired = Literal["reconstruct", "pseudo", "borrow"]
"""What cells of one modality take part in: reconstruction alone; pseudo-labels too; or deep CCA with borrowed partners
of the same cluster."""


@dataclass(frozen=True, kw_only=True)
class FusionWeights(Options):
    """Weights of the loss terms. Each is a mean over cells, and reconstructions over components as well."""

    data: float = 1.0
    """Reconstruction of the encoder input of every modality from its own embedding."""
    correlation: float = 1.0
    """Deep CCA between the embeddings of paired cells; 0 for data without pairs."""
    agreement: float = 0.1
    """Distance between the embeddings of a cell's modalities. Not in the paper: deep CCA leaves it open how the axes of
    one modality lie in those of another, and one head is to read both. Small, because it takes away what one modality
    alone sees (PBMC, one seed: ARI .982 with 0, .972 with 1)."""
    start: float = 1.0
    """Cross-entropy of the head on fused cells, of any modalities, against the clusters it started from, from stage II
    on; with ``start="joint"`` only. Not in the paper: it keeps later stages from drifting away (decision 012)."""
    pseudo: float = 0.0
    """Cross-entropy of the head against pseudo-labels, per modality and fused, from stage II on. 1 in the paper; here
    it made clusters worse than those it started from (decision 012)."""
    consistency: float = 0.0
    """Cross-entropy of the head on each modality against what it says of the fused cell, from stage II on. An
    addition."""
    permuted: float = 0.0
    """Cross-entropy of the head on cells put together from modalities of different cells of one pseudo-label, stage
    III. 1 in the paper; no gain in our measurements."""
    permuted_correlation: float = 0.0
    """Deep CCA of such cells, stage III; 0.1 is a value to try."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_positive(value, f"weights.{name}", allow_zero=True)


@dataclass(frozen=True, kw_only=True)
class FusionOptions(Options):
    """Networks, pseudo-labels and the number of clusters."""

    n_latent: int = 32
    """Width of the embedding of each modality. Paper: 128."""
    n_hidden: int = 128
    """Width of hidden layers of encoders, decoders and head."""
    n_layers: int = 2
    """Hidden layers of encoders."""
    dropout_rate: float = 0.0
    """Dropout of encoders."""
    max_clusters: int = 30
    """Outputs of the head when the number of clusters is not given; the rule chooses at most as many."""
    n_correlated: int | None = None
    """Canonical correlations that are summed. By default the number of clusters less one, or, where that is not given,
    the axes of linear CCA that are correlated on held-out cells beyond what shuffled pairs give; at most 10."""
    momentum: float = 0.0
    """Weight of earlier batches in the covariances of deep CCA; raise it where batches hold fewer than ten pairs per
    axis."""
    ridge: float = 1e-3
    """Added to the diagonals of these covariances. Release of the paper."""
    coverage: float = 0.7
    """Share of the cells of a batch that teach. Corresponds to the 20 to 70 cells per cluster of the paper."""
    threshold: float = 0.5
    """Smallest cosine between a cell that teaches and the centre of its cluster."""
    margin: float = 0.1
    """Lead of the best centre over the second that an unpaired cell needs to teach (``unpaired="pseudo"``)."""
    balance: Balance = "proportional"
    """The paper takes as many cells for each cluster, which suits clusters of equal size."""
    start: Start = "joint"
    """How the head starts. The paper leaves it at random; k-means draws clusters of like size, which types of cells
    are not; and communities of the joint latent know cells of one modality, too (decision 012)."""
    unpaired: Unpaired = "reconstruct"
    """What cells of one modality take part in. Other choices lowered the agreement of modalities where we measured
    it."""
    stages: tuple[float, float] = (1 / 3, 2 / 3)
    """Shares of the epochs at which stages II (pseudo-labels) and III (weights of modalities) begin."""
    guard: int = 5
    """Epochs with fewer than a tenth of an even share of the cells after which a cluster is begun anew at the least
    certain cells; 0 for never."""
    n_components: int | None = None
    """Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))  # JSON has lists
        for name in ("n_latent", "n_hidden", "n_layers"):
            check_count(getattr(self, name), name)
        if self.max_clusters < 2:
            raise ValueError(f"Expected `max_clusters` to be at least 2, found {self.max_clusters}.")
        if self.n_correlated is not None:
            check_count(self.n_correlated, "n_correlated")
        check_in_range(self.dropout_rate, 0, 0.95, "dropout_rate")
        check_in_range(self.momentum, 0, 0.999, "momentum")
        check_positive(self.ridge, "ridge")
        check_in_range(self.coverage, 0.01, 1, "coverage")
        check_in_range(self.threshold, -1, 1, "threshold")
        check_in_range(self.margin, 0, 2, "margin")
        check_choice(self.balance, ("equal", "proportional"), "balance")
        check_choice(self.start, ("joint", "graph", "kmeans"), "start")
        check_choice(self.unpaired, ("reconstruct", "pseudo", "borrow"), "unpaired")
        check_positive(self.guard, "guard", allow_zero=True)
        if len(self.stages) != 2 or not 0 <= self.stages[0] <= self.stages[1] <= 1:
            raise ValueError(f"Expected `stages` to be two rising shares in [0, 1], found {self.stages}.")
