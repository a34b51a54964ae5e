"""Options of CLUE, with the source of every default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from smalti._validate import check_choice, check_in_range, check_positive
from smalti.model.base import Options

if TYPE_CHECKING:
    from smalti.nn import Activation, Fusion, MeanLink, Norm

Preset = Literal["default", "paper"]
"""``"default"``: what was measured best on real mosaics; ``"paper"``: the settings of the authors' release."""


@dataclass(frozen=True, kw_only=True)
class CLUEWeights(Options):
    """Weights of the loss terms. Each term is a mean over cells, and reconstructions over features as well."""

    data: float = 1.0
    """Reconstruction of every modality from its own block."""
    kl: float = 1.0
    """Divergence of all blocks from the prior, divided by the number of features of the source."""
    joint: float = 0.1
    """Reconstruction from the blocks fused over all present modalities, cells with at least two."""
    cross: float = 0.1
    """Reconstruction of one modality from the block that another one predicts ("real cross" in the release)."""
    agreement: float = 0.02
    """Distance of each modality's latent from the mean over the cell's modalities."""
    contrastive: float = 1.0
    """InfoNCE between the alignment embeddings of paired cells. Not in the paper; 0 switches the block off."""
    adversarial: float = 0.0
    """Modality game on latents. 0.02 in the release; it did not help matching where we measured it."""
    label: float = 0.1
    """Cross-entropy of the label head on labelled cells; only with a ``labels_key``."""
    modality: dict[str, float] = field(default_factory=dict)
    """Relative weight of the reconstruction of each modality, 1 if not named; normalised to mean 1."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "modality":
                check_positive(value, f"weights.{name}", allow_zero=True)
        for name, value in self.modality.items():
            check_positive(value, f"weights.modality[{name!r}]")


@dataclass(frozen=True, kw_only=True)
class CLUEOptions(Options):
    """Architecture of CLUE beyond the few arguments of its constructor."""

    n_latent: int = 20
    """Width of each latent block; the full latent has one block per modality. Release: 50."""
    n_hidden: int = 128
    """Width of hidden layers of encoders and decoders. Release: 256."""
    n_layers: int = 1
    """Hidden layers of encoders and decoders. Release: 2."""
    dropout_rate: float = 0.1
    """Dropout of encoders and decoders. Release: 0.2."""
    share_trunk: bool = True
    """One encoder trunk per source with a head per block, instead of a network per source and block."""
    norm: Norm = "layer"
    """Layer norm works for batches of any size; the release has batch norm."""
    activation: Activation = "gelu"
    """Release: LeakyReLU(0.2)."""
    norm_first: bool = True
    """Norm before activation; after it in the release."""
    fusion: Fusion = "mean"
    """How several sources of a block are fused."""
    normalize_latent: bool = False
    """Whether samples are put on the unit sphere before decoding, as in the release."""
    mean_link: MeanLink = "log"
    """``"log"`` decodes features independently, so that a step needs only some of them."""
    n_features_per_step: int | None = 512
    """Features of each modality decoded per training step, drawn at random (unbiased); ``None`` for all."""
    batch_dispersion: bool = False
    """Whether dispersions are per feature and batch (release), or per feature."""
    n_align: int = 50
    """Width of each alignment embedding."""
    n_aligners: int = 3
    """Alignment encoders, trained side by side; matching averages their cosines and that of linear CCA. Within batches
    three networks gain 0.001 to 0.003 of FOSCTTM over one (decision 013). The first version had one."""
    align_hidden: int = 256
    """Hidden units of the alignment encoder."""
    align_dropout: float = 0.5
    """Dropout of its hidden layer."""
    align_input_dropout: float = 0.2
    """Dropout of its input."""
    negatives: Literal["paired", "all"] = "paired"
    """Whom a cell is told apart from: the other paired cells of the batch, or all its cells that have the modality.
    Unpaired cells are often of other batches, and telling batches apart is not what is wanted."""
    label_smoothing: float = 0.0
    """Label smoothing of the contrastive term."""
    adversary: Literal["cross_entropy", "uniform"] = "uniform"
    """Encoder side of the modality game: minus the discriminator's loss (release), or no opinion (bounded)."""
    spectral_norm: bool = False
    """Spectral norm on the discriminator."""
    balance: bool = True
    """Whether populations without a counterpart in another modality are weighted down in the modality game."""
    n_components: int | None = 30
    """Components of encoder inputs, however few the pairs: fewer lose what only few cells show, and the ridge of the
    linear start keeps networks from fitting noise (decision 013). ``None``: as many as held-out pairs support."""

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_hidden", "n_layers", "n_align", "n_aligners", "align_hidden"):
            check_positive(getattr(self, name), name)
        for name in ("dropout_rate", "align_dropout", "align_input_dropout", "label_smoothing"):
            check_in_range(getattr(self, name), 0, 0.95, name)
        check_choice(self.norm, ("layer", "batch", "none"), "norm")
        check_choice(self.activation, ("gelu", "leaky_relu"), "activation")
        check_choice(self.fusion, ("mean", "poe", "poe_prior"), "fusion")
        check_choice(self.mean_link, ("log", "softmax"), "mean_link")
        check_choice(self.negatives, ("paired", "all"), "negatives")
        check_choice(self.adversary, ("cross_entropy", "uniform"), "adversary")
        if self.n_features_per_step is not None:
            check_positive(self.n_features_per_step, "n_features_per_step")
            if self.mean_link == "softmax":
                raise ValueError(
                    "`mean_link='softmax'` shares the total among all features, so they must all be decoded: set "
                    "`n_features_per_step=None`, or `mean_link='log'`."
                )


PAPER_OPTIONS = CLUEOptions(
    n_latent=50,
    n_hidden=256,
    n_layers=2,
    dropout_rate=0.2,
    share_trunk=False,
    norm="batch",
    activation="leaky_relu",
    norm_first=False,
    normalize_latent=True,
    mean_link="softmax",
    n_features_per_step=None,
    batch_dispersion=True,
    adversary="cross_entropy",
    n_components=100,
)
PAPER_WEIGHTS = CLUEWeights(joint=0.02, cross=0.02, agreement=0.02, contrastive=0.0, adversarial=0.02, label=0.02)
"""Release defaults :cite:p:`Tu2022`. The library size is the observed one here too: a learned one can reach zero."""

PRESETS: dict[Preset, tuple[CLUEOptions, CLUEWeights]] = {
    "default": (CLUEOptions(), CLUEWeights()),
    "paper": (PAPER_OPTIONS, PAPER_WEIGHTS),
}
