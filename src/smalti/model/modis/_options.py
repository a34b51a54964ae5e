"""Options of MODIS, with the source of every default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from smalti._validate import check_choice, check_count, check_in_range, check_keys, check_positive
from smalti.losses import GAMES
from smalti.model.base import Options

if TYPE_CHECKING:
    from smalti.losses import Game
    from smalti.nn import Activation, Norm

Preset = Literal["default", "paper-intersim", "paper-tcga"]
"""``"default"``: what was measured best; the others: networks and weights of the second version of the paper."""


@dataclass(frozen=True, kw_only=True)
class MODISWeights(Options):
    """Weights of the loss terms. Each is a mean over samples of a modality, then summed over modalities."""

    data: float = 1.0
    """Reconstruction from the shared and the private latent, mean over features."""
    shared: float = 1.0
    """Reconstruction from the shared latent alone, which trains the decoder to translate."""
    kl: float = 1.0
    """Divergence of the private latent from the prior, divided by the number of features."""
    kl_shared: float = 0.02
    """Divergence of the shared latent, sum over dimensions: it keeps classes from drifting apart without end.
    Published: beta times samples per batch, 0.0032 (InterSIM) and 0.000032 (TCGA)."""
    label: float = 1.0
    """Cross-entropy of the class head."""
    separation: float = 1.0
    """LC1 of :func:`~smalti.losses.divergence_clustering`."""
    corners: float = 1.0
    """LC2."""
    usage: float = 1.0
    """LC3."""
    adversarial: float = 1.0
    """The encoders' part in the modality game."""
    alignment: float = 5.0
    """Energy distance between modalities within classes. Not in the paper; measured to do what the game does not."""
    consistency: float = 1.0
    """Squared distance between the shared latents of a sample measured in two modalities. Not in the paper."""
    cross: float = 1.0
    """Reconstruction of one modality from the shared latent of another, samples measured in both. Not in the paper."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_positive(value, f"weights.{name}", allow_zero=True)


@dataclass(frozen=True, kw_only=True)
class MODISOptions(Options):
    """Architecture and training of MODIS beyond the few arguments of its constructor."""

    n_latent: int | None = None
    """Width of the shared latent; by default the number of classes, at least 16 and at most 64. Published: 64
    (InterSIM), 512 (TCGA)."""
    n_private: int = 32
    """Width of the latent of each modality that no other sees; published: 0."""
    widths: tuple[int, ...] = (256, 128)
    """Hidden layers of encoders, reversed in decoders."""
    ratios: dict[str, tuple[float, ...]] | tuple[float, ...] | None = None
    """Hidden layers as shares of the number of features, by modality or for all, instead of ``widths``; the last one of
    an encoder then has no norm and no activation (published)."""
    skip: bool = True
    """Linear maps beside the hidden layers of encoders and decoders; published: none."""
    norm: Norm = "layer"
    """Published: batch norm."""
    activation: Activation = "gelu"
    """Published: LeakyReLU(0.2)."""
    dropout_rate: float = 0.3
    """Dropout of hidden layers; published: 0."""
    input_dropout: float = 0.1
    """Dropout of encoder inputs; published: 0."""
    discriminator_widths: tuple[int, ...] = (256, 128)
    """Hidden layers of the shared discriminator; published: (1024, 512, 256)."""
    adversary: Game | Literal["none"] = "ovr"
    """Rules of the modality game, see :func:`~smalti.losses.modality_game`. ``"none"`` is what the published loss
    amounts to."""
    gamma: float = 1.0
    """Weight of the gradient penalty on the discriminator; published: 10 (InterSIM), 160 (TCGA), on other grounds."""
    class_conditional: bool = True
    """Whether game and alignment compare samples of one class only, known or confidently predicted; without labels all
    are compared with all."""
    confidence: float = 0.9
    """Probability above which a predicted class counts for that."""
    judge_samples: bool = False
    """Whether the discriminator sees samples of the latent (published) or means."""
    kernel: Literal["modality", "batch"] = "modality"
    """Whether clustering terms are computed within modalities (published) or over the whole batch."""
    frequency: Literal["labels", "uniform"] = "labels"
    """Wanted class frequencies of LC3: those of the labels of the modality, or uniform (published)."""
    balance: float = 1.0
    """How equally classes are drawn and weighted, 0 to 1; published: 0."""
    labelled_share: float = 0.25
    """Labelled samples appended to each batch, as a share of it; published: 0."""
    augment_below: int = 20
    """Classes with fewer labelled samples in a modality borrow variation from larger ones (0 switches it off)."""
    reconstruction: Literal["likelihood", "mse"] = "likelihood"
    """``"mse"`` is the squared error of standardised values (published), for Gaussian modalities."""
    detach_shared: bool = True
    """Whether reconstruction leaves the shared latent alone, so that only what crosses modalities shapes it: labels,
    pairs, clusters. Without labels, or without a private latent, it never does."""
    n_features_per_step: int | None = 512
    """Features of each modality decoded per training step, drawn at random; ``None`` for all."""
    n_components: int | None = 50
    """Components of encoder inputs that are projections."""
    n_classes: int | None = None
    """Number of clusters to look for where there are no labels; none by default."""

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_features_per_step", "n_components", "n_classes"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        for name in ("n_private", "augment_below", "gamma", "labelled_share"):
            check_positive(getattr(self, name), name, allow_zero=True)
        for name in ("dropout_rate", "input_dropout"):
            check_in_range(getattr(self, name), 0, 0.95, name)
        for name in ("confidence", "balance"):
            check_in_range(getattr(self, name), 0, 1, name)
        check_choice(self.adversary, (*GAMES, "none"), "adversary")
        check_choice(self.norm, ("layer", "batch", "none"), "norm")
        check_choice(self.activation, ("gelu", "leaky_relu"), "activation")
        check_choice(self.kernel, ("modality", "batch"), "kernel")
        check_choice(self.frequency, ("labels", "uniform"), "frequency")
        check_choice(self.reconstruction, ("likelihood", "mse"), "reconstruction")
        for name in ("widths", "discriminator_widths"):  # JSON has lists
            object.__setattr__(self, name, tuple(int(w) for w in getattr(self, name)))
        if self.ratios is not None:
            kept = (
                {name: tuple(r) for name, r in self.ratios.items()}
                if isinstance(self.ratios, Mapping)
                else tuple(self.ratios)
            )
            object.__setattr__(self, "ratios", kept)

    def layers(self, modality: str, n_features: int) -> tuple[tuple[int, ...], int | None]:
        """Return hidden widths of an encoder and the width of its bottleneck, if it has one."""
        if self.ratios is None:
            return self.widths, None
        ratios = self.ratios
        if isinstance(ratios, dict):
            check_keys([modality], list(ratios), "`ratios` by modality (pass `options={'ratios': {...}}`)")
            ratios = ratios[modality]
        widths = tuple(int(ratio * n_features) for ratio in ratios)
        return widths[:-1], widths[-1]

    @property
    def game(self) -> Game:
        """Rules of the modality game.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.adversary == "none":
            raise ValueError("There is no modality game: `adversary` is 'none'.")
        return self.adversary

    def latent_width(self, n_labels: int) -> int:
        """Return the width of the shared latent, decided by the number of classes unless it is given."""
        return self.n_latent or min(max(n_labels, 16), 64)


PAPER = MODISOptions(
    n_latent=64,
    n_private=0,
    ratios=(1.2, 1.0, 0.75, 0.5, 0.25),
    skip=False,
    norm="batch",
    activation="leaky_relu",
    dropout_rate=0.0,
    input_dropout=0.0,
    discriminator_widths=(1024, 512, 256),
    adversary="none",
    gamma=10.0,
    judge_samples=True,
    frequency="uniform",
    balance=0.0,
    labelled_share=0.0,
    augment_below=0,
    reconstruction="mse",
    n_features_per_step=None,
)
TCGA_RATIOS = {"methylation": (1.2, 0.8, 0.6, 0.4, 0.2), "rna": (1.2, 0.8, 0.6, 0.5), "mirna": (1.2, 1.0)}
"""Not in the paper's text: the ones on a coarse grid that give its parameter counts."""
PAPER_WEIGHTS = MODISWeights(kl_shared=0.0032, shared=0, alignment=0, consistency=0, cross=0)
PRESETS: dict[Preset, tuple[MODISOptions, MODISWeights]] = {
    "default": (MODISOptions(), MODISWeights()),
    "paper-intersim": (PAPER, PAPER_WEIGHTS),
    "paper-tcga": (
        replace(PAPER, n_latent=512, ratios=TCGA_RATIOS, gamma=160.0),
        replace(PAPER_WEIGHTS, kl_shared=0.000032),
    ),
}
