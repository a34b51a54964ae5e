"""The models that the contract is checked for. A new model adds one entry to ``MODELS``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from smalti.model import (
    CLUE,
    MCA,
    MODIS,
    CLUEOptions,
    CLUEWeights,
    FusionClustering,
    FusionOptions,
    FusionWeights,
    ManifoldOptions,
    ManifoldWeights,
    MCAOptions,
    MCAWeights,
    MODISOptions,
    MODISWeights,
    OverlapManifold,
    UnpairedCCA,
    UnpairedOptions,
)

if TYPE_CHECKING:
    from mudata import MuData

    from smalti.model.base import MosaicModel


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model, small enough for two epochs on a hundred cells."""

    name: str
    cls: type[MosaicModel]
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the constructor."""
    train: dict[str, Any] = field(default_factory=lambda: {"max_epochs": 2, "batch_size": 32})
    """Arguments of ``train``."""
    modalities: dict[str, Any] | None = None
    """``modalities`` of ``setup_mudata`` for the mosaic of modalities a, b and c."""
    setup_kwargs: dict[str, Any] = field(default_factory=dict)
    """Changes to the arguments of ``setup_mudata``."""
    terms: tuple[str, ...] = ()
    """Names of all loss terms; the history must have each of them, for training and validation."""
    unmonitored: dict[str, float] = field(default_factory=dict)
    """Weights of the terms that early stopping must not look at: what it sees is the loss without them."""
    fitted_afterwards: tuple[str, ...] = ()
    """Entries of the state that training leaves to what comes after it, such as calibration."""
    needs_pairs: bool = False
    """Whether training must be refused where no cell has two modalities."""
    unpaired_kwargs: dict[str, Any] | None = None
    """Changes to ``kwargs`` with which the model needs no pairs."""

    def setup(self, mdata: MuData, **changes: Any) -> None:
        columns = {"batch_key": "batch", "labels_key": "label"}
        keys = {key: column for key, column in columns.items() if column in mdata.obs}
        modalities = self.modalities
        if modalities is not None:
            modalities = {name: spec for name, spec in modalities.items() if name in mdata.mod}
        self.cls.setup_mudata(mdata, **{"modalities": modalities, **keys, **self.setup_kwargs, **changes})

    def build(self, mdata: MuData, **changes: Any) -> MosaicModel:
        """Set up and construct."""
        self.setup(mdata)
        return self.cls(mdata, **{**self.kwargs, **changes})

    def fit(self, model: MosaicModel, **changes: Any) -> MosaicModel:
        model.train(**{"progress": False, "accelerator": "cpu", **self.train, **changes})
        return model


def network_latent(model: MosaicModel, **kwargs: Any) -> Any:
    """Return what the network itself says: the aligned block, or the full latent of a model without one."""
    block = "aligned" if getattr(model.module, "aligners", True) is not None else "full"
    return model.get_latent_representation(block=block, **kwargs)


def own_latent(model: MosaicModel) -> Any:
    """Return a block of the network alone, whose width does not depend on what held-out pairs say."""
    return model.get_latent_representation(block="full" if isinstance(model, CLUE) else model.aligned_block)


TERMS = ("nll_a", "nll_b", "nll_c", "data", "kl", "joint", "cross", "agreement", "label")
SMALL = {"n_latent": 5, "n_hidden": 16}
OPTIONS = CLUEOptions(n_align=8, align_hidden=16, n_features_per_step=16)

default = ModelSpec(
    name="clue",
    cls=CLUE,
    kwargs={"options": OPTIONS, **SMALL},
    terms=(*TERMS, "contrastive"),
    needs_pairs=True,
    unpaired_kwargs={"weights": CLUEWeights(contrastive=0)},
)

MODELS = [
    default,
    ModelSpec(
        name="clue-paper",
        cls=CLUE,
        kwargs={"preset": "paper", **SMALL},
        terms=(*TERMS, "adversarial"),
        unmonitored={"adversarial": 0.02},
    ),
    replace(
        default,
        name="clue-no-shared-trunk",
        kwargs={"options": replace(OPTIONS, share_trunk=False, norm="batch"), **SMALL},
    ),
    replace(default, name="clue-poe", kwargs={"options": OPTIONS, "fusion": "poe", **SMALL}),
    replace(
        default,
        name="clue-adversarial",
        kwargs={"options": OPTIONS, "weights": CLUEWeights(adversarial=0.5), **SMALL},
        terms=(*TERMS, "contrastive", "adversarial"),
        unmonitored={"adversarial": 0.5},
        unpaired_kwargs={"weights": CLUEWeights(contrastive=0, adversarial=0.5)},
    ),
    replace(
        default,
        name="clue-counts",
        modalities={
            "a": {"likelihood": "zinb", "encoder_input": "counts"},
            "b": {"likelihood": "poisson", "encoder_input": "counts"},
            "c": {"likelihood": "gaussian", "encoder_input": "counts"},
        },
    ),
    replace(
        default,
        name="clue-no-contrastive",
        kwargs={"options": OPTIONS, "weights": CLUEWeights(contrastive=0), **SMALL},
        terms=TERMS,
        needs_pairs=False,
        unpaired_kwargs={},
    ),
]

MCA_OPTIONS = MCAOptions(
    n_latent=16, n_layers=2, n_heads=2, n_fusion=2, n_tokens=4, n_hidden=16, n_features_per_step=16
)
MCA_ROWS = ("unimodal_fusion", "unimodal_unimodal", "channel_root", "unimodal_channel")

mca = ModelSpec(
    name="mca",
    cls=MCA,
    kwargs={"options": MCA_OPTIONS},
    terms=MCA_ROWS,
    needs_pairs=True,
    unpaired_kwargs={"weights": MCAWeights(unimodal_unimodal=0)},
)

MODELS += [
    mca,
    replace(mca, name="mca-mma", kwargs={"options": MCA_OPTIONS, "variant": "mma"}, terms=MCA_ROWS[:2]),
    replace(
        mca,
        name="mca-decoders",
        kwargs={
            "options": replace(
                MCA_OPTIONS, tokens={"a": "patches", "b": "vector", "c": "columns"}, modality_dropout=0.3
            ),
            "weights": MCAWeights(reconstruction=0.1),
        },
        modalities={
            "a": {"likelihood": "zinb", "encoder_input": "counts"},
            "b": {"likelihood": "poisson", "encoder_input": "counts"},
            "c": {"likelihood": "gaussian", "encoder_input": "counts"},
        },
        terms=(*MCA_ROWS, "reconstruction", "nll_a", "nll_b", "nll_c"),
        unpaired_kwargs={"weights": MCAWeights(unimodal_unimodal=0, reconstruction=0.1)},
    ),
]

MODIS_OPTIONS = MODISOptions(
    n_latent=5, n_private=4, widths=(16,), discriminator_widths=(16, 8), n_features_per_step=16
)
MODIS_PAPER = {"ratios": (1.0, 0.5, 0.3), "discriminator_widths": (16, 8)}
MODIS_TERMS = ("nll_a", "nll_b", "nll_c", "data", "kl_shared")
CLASSES = {"separation": 1.0, "corners": 1.0, "usage": 1.0}

modis = ModelSpec(
    name="modis",
    cls=MODIS,
    kwargs={"options": MODIS_OPTIONS},
    train={"max_epochs": 2, "batch_size": 32, "plan_kwargs": {"kl_warmup": 0.0, "game_warmup": 0.0}},
    terms=(*MODIS_TERMS, "shared", "kl", "consistency", "cross", "label", "alignment", "adversarial", *CLASSES),
    unmonitored={"kl_shared": 0.02, "consistency": 1.0, "alignment": 5.0, "adversarial": 1.0, **CLASSES},
    fitted_afterwards=("temperature",),
    unpaired_kwargs={},
)

MODELS += [
    modis,
    replace(
        modis,
        name="modis-paper",
        kwargs={"preset": "paper-intersim", "n_latent": 5, "adversary": "pairwise", "options": MODIS_PAPER},
        terms=(*MODIS_TERMS, "label", "adversarial", *CLASSES),
        unmonitored={"kl_shared": 0.0032, "adversarial": 1.0, **CLASSES},
    ),
    replace(
        modis,
        name="modis-label-free",
        kwargs={"options": replace(MODIS_OPTIONS, adversary="ce", n_classes=3, kernel="batch")},
        setup_kwargs={"labels_key": None},
        terms=(*MODIS_TERMS, "shared", "kl", "consistency", "cross", "alignment", "adversarial", *CLASSES),
    ),
    replace(
        modis,
        name="modis-counts",
        kwargs={
            "options": replace(MODIS_OPTIONS, adversary="uniform", skip=False, norm="batch"),
            "weights": MODISWeights(alignment=0.5),
        },
        modalities={
            "a": {"likelihood": "zinb", "encoder_input": "counts"},
            "b": {"likelihood": "poisson", "encoder_input": "scaled"},
            "c": {"likelihood": "gaussian", "encoder_input": "scaled"},
        },
        unmonitored={**modis.unmonitored, "alignment": 0.5},
    ),
]

UNPAIRED_OPTIONS = UnpairedOptions(n_latent=5, n_hidden=16, n_permutations=0, accept="always")
UNPAIRED = {"options": UNPAIRED_OPTIONS, "encoder": "deep"}

unpaired = ModelSpec(
    name="unpaired",
    cls=UnpairedCCA,
    kwargs=UNPAIRED,
    terms=("correlation", "drift"),
    unpaired_kwargs={},
)

MODELS += [
    unpaired,
    replace(unpaired, name="unpaired-linear", kwargs={**UNPAIRED, "encoder": "linear"}),
    replace(
        unpaired,
        name="unpaired-tested",
        kwargs={**UNPAIRED, "options": replace(UNPAIRED_OPTIONS, accept="held_out", n_rounds=1)},
    ),
    replace(
        unpaired,
        name="unpaired-gumbel",
        kwargs={**UNPAIRED, "solver": "gumbel", "align": "ssim"},
        terms=("correlation", "drift", "structure", "entropy", "link_cost"),
    ),
    replace(
        unpaired,
        name="unpaired-adversarial",
        kwargs={**UNPAIRED, "align": "adversarial"},
        terms=("correlation", "drift", "adversarial"),
        unmonitored={"adversarial": 1.0},
    ),
]

FUSION_OPTIONS = FusionOptions(n_latent=5, n_hidden=16, n_layers=1)
FUSION_TERMS = ("nll_a", "nll_b", "nll_c", "data", "correlation", "agreement")

fusion = ModelSpec(
    name="fusion",
    cls=FusionClustering,
    kwargs={"n_clusters": 3, "options": FUSION_OPTIONS},
    terms=(*FUSION_TERMS, "start"),
    fitted_afterwards=(  # where the best epoch was before the head started
        "started",
        "n_used",
        "head_out.weight",
        "head_out.bias",
        *(f"head_body.blocks.0.{part}" for part in ("linear.weight", "linear.bias", "norm.weight", "norm.bias")),
    ),
    needs_pairs=True,
    unpaired_kwargs={"weights": FusionWeights(correlation=0)},
)

MODELS += [
    fusion,
    replace(
        fusion,
        name="fusion-everything",
        kwargs={
            "options": replace(
                FUSION_OPTIONS, max_clusters=8, unpaired="borrow", balance="equal", start="kmeans", momentum=0.5
            ),
            "weights": FusionWeights(pseudo=1.0, consistency=0.5, permuted=1.0, permuted_correlation=0.1),
        },
        terms=(*FUSION_TERMS, "pseudo", "coverage", "consistency", "permuted", "permuted_correlation"),
    ),
]

MANIFOLD_OPTIONS = ManifoldOptions(n_hidden=16, n_burst=8)

manifold = ModelSpec(
    name="manifold",
    cls=OverlapManifold,
    kwargs={"options": MANIFOLD_OPTIONS},
    terms=("white_a", "white_b", "white_c", "data_a", "data_b", "data_c", "white", "data", "registration"),
    unmonitored={"registration": 1.0},
    fitted_afterwards=("transform", "shift", "placed"),
    needs_pairs=True,
    unpaired_kwargs={"weights": ManifoldWeights(registration=0)},
)

MODELS += [
    manifold,
    replace(
        manifold,
        name="manifold-metacell",
        kwargs={
            "bursts": "metacell",
            "registration": "affine",
            "options": MANIFOLD_OPTIONS,
            "weights": ManifoldWeights(registration=0),
        },
        terms=manifold.terms[:-1],
        unmonitored={},
        fitted_afterwards=(),
        needs_pairs=False,
        unpaired_kwargs={},
    ),
]

GATED = {"a": {"gate": "global", "gate_penalty": 0.01}, "b": {"gate": "local", "gate_keep": 5}, "c": None}

MODELS += [
    replace(
        spec,
        name=f"{spec.name}-gated",
        modalities=GATED,
        terms=(*spec.terms, "gates", "open_a", "open_b"),
        unmonitored={**spec.unmonitored, "gates": 1.0},
    )
    for spec in (default, mca, modis)
]

ONE_PER_CLASS = list({spec.cls: spec for spec in reversed(MODELS)}.values())
"""For what happens before any option of a model matters."""

ONE_PER_PLAN = list({(spec.cls, not spec.unmonitored): spec for spec in reversed(MODELS)}.values())
"""For what depends on how a model is trained, not on its network."""
