"""Options of MCA, with the source of every default."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args

from smalti._validate import check_choice, check_count, check_in_range, check_positive
from smalti.model.base import Options
from smalti.nn import TokenKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smalti.losses import Negatives
    from smalti.nn import Wiring

Variant = Literal["mca", "mma", "eao"]
"""``"mca"``: a fusion channel per set of modalities; ``"mma"``: a single one that sees all of them; ``"eao"``: channels
without fusion tokens, the mean over the tokens of their modalities, which look at each other."""
MAX_FREE_MODALITIES = 5
"""Modalities up to which every cardinality is taken by default; channels double with each further one."""


@dataclass(frozen=True, kw_only=True)
class MCAWeights(Options):
    """Weights of the loss terms. A row is the mean over its terms, so that long rows do not outweigh short ones.

    The authors' code averages over terms instead, which is what weights in proportion to the number of terms of each
    row do: 4, 6, 10 and 40 for four modalities and all cardinalities.
    """

    unimodal_fusion: float = 1.0
    """Embedding of each modality against the root channel."""
    unimodal_unimodal: float = 1.0
    """Embeddings of two modalities of a cell against each other."""
    channel_root: float = 1.0
    """Every channel against the root. Without effect in variant ``"mma"``, which has no other channel."""
    unimodal_channel: float = 1.0
    """Embedding of each modality against every channel but the root. Without effect in variant ``"mma"``."""
    reconstruction: float = 0.0
    """Decoding of every modality of a cell from the root channel over a random part of them. Not in the paper; above 0
    the model has decoders, and ``translate`` works."""
    modality: dict[str, float] = field(default_factory=dict)
    """Relative weight of the reconstruction of each modality, 1 if not named; normalised to mean 1."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "modality":
                check_positive(value, f"weights.{name}", allow_zero=True)
        for name, value in self.modality.items():
            check_positive(value, f"weights.modality[{name!r}]")
        if self.unimodal_fusion + self.reconstruction + self.channel_root == 0:
            raise ValueError(
                "Expected a term that trains the root channel, found `unimodal_fusion`, `channel_root` and "
                "`reconstruction` at weight 0. Give one of them a weight."
            )

    def check_root(self, variant: Variant) -> None:
        """Raise ``ValueError`` if nothing trains the root channel of a variant, which may have no other channel."""
        if variant == "mma" and self.unimodal_fusion + self.reconstruction == 0:
            raise ValueError(
                "Variant 'mma' has no channel but the root, so `channel_root` has no effect: give `unimodal_fusion` "
                "or `reconstruction` a weight, or nothing is trained."
            )

    def rows(self, variant: Variant) -> dict[str, float]:
        """Return the weights above 0 of the contrastive rows that the variant has."""
        names = ["unimodal_fusion", "unimodal_unimodal"]
        names += ["channel_root", "unimodal_channel"] if variant != "mma" else []
        return {name: getattr(self, name) for name in names if getattr(self, name) > 0}


@dataclass(frozen=True, kw_only=True)
class MCAOptions(Options):
    """Architecture of MCA beyond the few arguments of its constructor. The paper's values are for larger data."""

    n_latent: int = 64
    """Width of tokens and embeddings. Paper: 512. Until version 0.1 it was 128, with 3 blocks, 16 tokens and 4 fusion
    tokens: 9 to 14 times the work for no better an embedding of a thousand cells (decision 016)."""
    n_layers: int = 1
    """Transformer blocks. Paper: 5."""
    n_heads: int = 4
    """Attention heads. Paper: 8."""
    n_fusion: int = 2
    """Fusion tokens per channel. Paper: 8. Variant ``"mma"`` has one channel; for a comparison at equal size give it as
    many tokens as all channels of ``"mca"`` have together."""
    dropout_rate: float = 0.1
    """Dropout at the end of attention and feed-forward parts. Paper: 0."""
    readout_dropout: float = 0.7
    """Dropout of what is read off the tokens. Together with that of inputs it decides what few pairs are good for: with
    2,000 pairs of RNA and protein, FOSCTTM of other cells is 0.057 with 0.1 and 0, 0.048 with 0.25 and 0.7, and 0.053
    for linear CCA. Paper: none."""
    input_dropout: float = 0.25
    """Share of the columns of encoder inputs that training drops. Paper: none."""
    modality_dropout: float = 0.0
    """Share of measured modalities that training hides from the model; a cell always keeps one. Not in the paper."""
    tokens: TokenKind | dict[str, TokenKind] = "patches"
    """What the tokens of a modality are, for all or by name: ``"patches"``, a token per group of columns of the encoder
    input; ``"columns"``, one per column (paper; one per feature with ``encoder_input="scaled"`` or ``"counts"``);
    ``"vector"``, a single one."""
    n_tokens: int = 4
    """Groups of ``"patches"``; fewer if there are fewer columns."""
    cardinalities: tuple[int, ...] | Literal["all"] | None = None
    """Numbers of modalities of a channel; the root channel, all modalities, always exists. By default 2, 3, ... for up
    to five modalities, and 2 beyond. ``"all"``: 2, 3, ... for any number. Paper: 2, 3, 4 of four."""
    skip: bool = True
    """Whether embeddings also have a linear map of the encoder input, which starts from linear CCA on the paired
    training cells; a channel has the mean over its modalities. Not in the paper. On 1,200 cells of planted linear
    factors in three views, FOSCTTM after 400 steps is 0.056 without and 0.023 with it (one seed)."""
    complete_channels: bool = False
    """Whether loss terms of a channel need all its modalities instead of one."""
    normalize: bool = True
    """Whether embeddings have unit length. The authors' code compares them by dot products in training, and by cosine
    afterwards."""
    negatives: Negatives = "paired"
    """Whom a cell is told apart from: the other cells for which a term is defined, or all that have the embedding."""
    wiring: Wiring = "pre_norm"
    """Norms and residuals of the blocks; ``"reference"`` is that of the authors' code."""
    n_hidden: int = 128
    """Width of the hidden layer of decoders."""
    n_features_per_step: int | None = 512
    """Features of each modality decoded per training step, drawn at random (unbiased); ``None`` for all."""
    n_components: int | None = None
    """Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells."""

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_layers", "n_heads", "n_fusion", "n_tokens", "n_hidden"):
            check_count(getattr(self, name), name)
        for name in ("dropout_rate", "readout_dropout", "input_dropout", "modality_dropout"):
            check_in_range(getattr(self, name), 0, 0.95, name)
        for kind in self.tokens.values() if isinstance(self.tokens, dict) else [self.tokens]:
            check_choice(kind, get_args(TokenKind), "tokens")
        check_choice(self.negatives, ("paired", "all"), "negatives")
        check_choice(self.wiring, ("pre_norm", "reference"), "wiring")
        if self.n_latent % self.n_heads:
            raise ValueError(
                f"Expected `n_latent` to be a multiple of `n_heads`, found {self.n_latent} and {self.n_heads}."
            )
        if self.n_features_per_step is not None:
            check_count(self.n_features_per_step, "n_features_per_step")
        if isinstance(self.cardinalities, list):  # as JSON stores it
            object.__setattr__(self, "cardinalities", tuple(self.cardinalities))

    def tokens_of(self, modality: str) -> TokenKind:
        """Return the kind of tokens of a modality."""
        return self.tokens.get(modality, "patches") if isinstance(self.tokens, dict) else self.tokens


def make_channels(
    n: int, variant: Variant, cardinalities: Sequence[int] | Literal["all"] | None
) -> tuple[tuple[int, ...], ...]:
    """Return the channels over ``n`` modalities as positions, the root (all of them) first.

    Warns
    -----
    UserWarning
        If there are many modalities and every cardinality was asked for.
    """
    root = tuple(range(n))
    if variant == "mma":
        return (root,)
    if cardinalities is None:
        cardinalities = range(2, n) if n <= MAX_FREE_MODALITIES else (2,)
    elif isinstance(cardinalities, str):
        check_choice(cardinalities, ("all",), "cardinalities")
        cardinalities = range(2, n)
    for k in cardinalities:
        check_in_range(check_count(k, "cardinalities"), 2, n, "cardinalities")
    sizes = sorted({k for k in cardinalities if k < n}, reverse=True)
    channels = (root, *(c for k in sizes for c in combinations(range(n), k)))
    if n > MAX_FREE_MODALITIES and len(sizes) == n - 2:
        warnings.warn(
            f"{n} modalities with all cardinalities make {len(channels)} channels, and the cost grows with them. "
            f"`cardinalities=(2, {n})` makes {n * (n - 1) // 2 + 1}.",
            UserWarning,
            stacklevel=4,
        )
    return channels
