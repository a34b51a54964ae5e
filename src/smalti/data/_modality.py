"""The specification of one modality: how its values are distributed and what the encoder sees of them."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from smalti._validate import check_choice, check_keys, check_positive, check_unique, shorten
from smalti.nn import GateKind

from ._finite import check_finite
from ._presence import check_cells
from ._values import (
    check_features,
    check_varies,
    components_of,
    counts_layer,
    describe_bad_counts,
    looks_like_counts,
    mostly_ones,
    nonzero_share,
    stored_matrix,
)

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

Likelihood = Literal["nb", "zinb", "poisson", "bernoulli", "gaussian", "nb_mixture"]
"""Distribution of the values of a modality given the latent."""

EncoderInput = Literal["lsi", "pca", "clr", "scaled", "counts"]
"""Named encoder inputs; any other string is a key of the modality's ``.obsm``."""

COUNT_LIKELIHOODS = ("nb", "zinb", "poisson", "bernoulli", "nb_mixture")
ENCODER_INPUTS: tuple[str, ...] = get_args(EncoderInput)


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How a model reads one modality.

    Every field may stay ``None``; it is then inferred from the values (never from the name) and logged.
    """

    likelihood: Likelihood | None = None
    """Distribution of the values. ``"bernoulli"`` looks at zero against non-zero only; ``"nb_mixture"`` is a mixture
    of background and foreground for proteins :cite:p:`Gayoso2021`."""
    layer: str | None = None
    """Layer that holds the values; ``None`` is ``.X``."""
    encoder_input: str | None = None
    """What the encoder sees: ``"lsi"``, ``"pca"`` or ``"clr"`` (components of a transform that is fitted on the data
    given to the model and stored with it), ``"scaled"`` (every feature in standard deviations, of log-normalised counts
    or of reals; for panels of up to a few thousand features), ``"counts"`` (the values themselves, ``log1p`` for
    counts), or a key of ``.obsm``."""
    feature_mask: str | None = None
    """Key of ``.varm`` with a boolean table, one column per batch: which features the batch's panel measured.
    Unmeasured ones leave loss and encoder."""

    gate: GateKind | None = None
    """Stochastic gates in front of the encoder: ``"global"`` (one per feature), ``"group"`` (one per group),
    ``"sparse_group"`` (per group, and per feature inside it), ``"local"`` (per cell and feature) or
    ``"global+local"``."""
    gate_keep: float | None = None
    """Features to keep, a share below 1 or a number; a fifth by default. The price of open gates is then found in
    training."""
    gate_penalty: float | None = None
    """Price per open feature in units of the loss, instead of ``gate_keep``."""
    gate_groups: str | None = None
    """Column of ``.var`` with the group of each feature; missing values are groups of their own."""

    def __post_init__(self) -> None:
        if self.likelihood is not None:
            check_choice(self.likelihood, get_args(Likelihood), "likelihood")
        if self.gate is None:
            for name in ("gate_keep", "gate_penalty", "gate_groups"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` has no meaning without gates: name them, such as `gate='global'`.")
            return
        check_choice(self.gate, get_args(GateKind), "gate")
        if self.gate_keep is not None and self.gate_penalty is not None:
            raise ValueError("Expected either `gate_keep` or `gate_penalty`, found both.")
        if self.gate_keep is not None:
            check_positive(self.gate_keep, "gate_keep")
        if self.gate_penalty is not None:
            check_positive(self.gate_penalty, "gate_penalty", allow_zero=True)
        if (self.gate_groups is not None) != ("group" in self.gate):
            raise ValueError(
                f"Gates of groups need `gate_groups`, a column of `.var`, and others have no use for it; found "
                f"gate={self.gate!r} and gate_groups={self.gate_groups!r}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary, as stored in the registry."""
        return asdict(self)


ModalityLike = str | dict[str, Any] | Modality | None


def as_modality(name: str, spec: ModalityLike) -> Modality:
    """Turn what a user says of modality ``name`` (a likelihood, fields or ``None``) into a :class:`Modality`.

    Raises
    ------
    ValueError
        If the likelihood does not exist.
    KeyError
        If a dictionary has other keys than the fields of :class:`Modality`.
    TypeError
        If ``spec`` is something else.
    """
    if spec is None:
        return Modality()
    if isinstance(spec, Modality):
        return spec
    where = f"modality {name!r}"
    if isinstance(spec, str):
        spec = {"likelihood": spec}
    if not isinstance(spec, dict):
        raise TypeError(
            f"Expected the specification of {where} to be a likelihood or a `Modality`, found {type(spec).__name__}."
        )
    check_keys(spec, [field.name for field in fields(Modality)], f"Specification of {where}")
    if spec.get("likelihood") is not None:
        check_choice(spec["likelihood"], get_args(Likelihood), f"likelihood of {where}")
    return Modality(**spec)


def infer_likelihood(x: Any) -> Likelihood:
    """Infer the likelihood from the values: counts ``"nb"``, mostly 0/1 ``"bernoulli"``, reals ``"gaussian"``.

    Parameters
    ----------
    x
        ``(n, G)`` sparse or dense.
    """
    if not looks_like_counts(x):
        return "gaussian"
    return "bernoulli" if mostly_ones(x) else "nb"


def infer_encoder_input(x: Any, likelihood: Likelihood) -> EncoderInput:
    """Infer the encoder input from the values.

    0/1 values get ``"lsi"``; counts of a small panel of which most entries are non-zero (proteins) ``"clr"``; all else
    ``"pca"`` (of log-normalised counts, or of standardised reals).
    """
    if likelihood == "bernoulli":
        return "lsi"
    if likelihood != "gaussian" and x.shape[1] <= 1000 and nonzero_share(x) > 0.5:
        return "clr"
    return "pca"


def resolve_modalities(
    mdata: MuData,
    modalities: Mapping[str, ModalityLike] | list[str] | tuple[str, ...] | None,
    *,
    required: bool = True,
) -> dict[str, Modality]:
    """Complete and check the specification of all modalities of a model.

    Parameters
    ----------
    mdata
        The mosaic.
    modalities
        Names, or a mapping of names to likelihoods or :class:`Modality`; all modalities of ``mdata`` by default.
    required
        Whether every modality must exist in ``mdata``; a query may lack some.

    Returns
    -------
    The specifications with every field filled in.

    Raises
    ------
    KeyError
        If a modality, layer or key does not exist.
    ValueError
        If there are fewer than two modalities, a modality has no cell, or its values do not fit its likelihood.
    MosaicAlignmentError
        If the maps between cells and rows are unusable, or a cell has no modality.
    """
    if modalities is None:
        modalities = dict.fromkeys(mdata.mod)
    elif not isinstance(modalities, Mapping):
        modalities = dict.fromkeys(modalities)
    specs = {name: as_modality(name, spec) for name, spec in modalities.items()}
    if len(specs) < 2:
        raise ValueError(f"Expected at least two modalities, found {shorten(specs) or 'none'}.")
    if required:
        check_keys(specs, list(mdata.mod), "`modalities`")
    unnamed = [name for name, spec in specs.items() if spec.likelihood is None]
    here = [name for name in specs if name in mdata.mod]
    if not here:
        raise KeyError(f"None of the modalities {shorten(specs, 20)} is in the MuData, which has {shorten(mdata.mod)}.")
    check_cells(mdata, here)
    found = {
        name: _resolve(mdata, name, spec, must_vary=required) if name in here else spec for name, spec in specs.items()
    }
    if required and unnamed:
        _tell({name: found[name] for name in unnamed})
    return found


def _tell(specs: Mapping[str, Modality]) -> None:
    """Print what was inferred, where a user sees it and no program reads it."""
    said = [
        f"{name!r}: {spec.likelihood!r}{f' (layer {spec.layer!r})' if spec.layer else ''}, encoder sees "
        f"{spec.encoder_input!r}"
        for name, spec in specs.items()
    ]
    print(f"Inferred from the values: {'; '.join(said)}. Name others in `modalities=`.", file=sys.stderr)


def check_values(mdata: MuData, name: str, spec: Modality) -> Any:
    """Return the matrix of a modality after checking names and values against its specification.

    Raises
    ------
    ValueError
        If names of variables repeat, values are not finite, or are not counts where the likelihood needs them.
    """
    adata = mdata.mod[name]
    check_unique(adata.var_names.to_numpy(), f"Variable names of modality {name!r}")
    x = stored_matrix(adata, spec.layer, name)
    check_finite(x, name, adata.obs_names)
    if spec.likelihood in COUNT_LIKELIHOODS and not looks_like_counts(x):
        raise ValueError(
            f"Likelihood {spec.likelihood!r} of modality {name!r} needs counts, but {describe_bad_counts(x)}. Name the "
            f"layer with raw counts (`Modality(likelihood={spec.likelihood!r}, layer=...)`) or use 'gaussian'."
        )
    return x


def _resolve(mdata: MuData, name: str, spec: Modality, *, must_vary: bool) -> Modality:
    adata = mdata.mod[name]
    if spec.layer is None and spec.likelihood is None and must_vary and (layer := counts_layer(adata)) is not None:
        spec = replace(spec, layer=layer)
        warnings.warn(
            f"Modality {name!r}: `.X` holds no counts, but layer {layer!r} does, so it is used. To model `.X` itself, "
            f"name its likelihood, `modalities={{{name!r}: 'gaussian'}}`.",
            UserWarning,
            stacklevel=4,
        )
    x = check_values(mdata, name, spec)
    if must_vary:
        check_features(x, name, adata.var_names)
    likelihood = spec.likelihood
    if likelihood is None:
        likelihood = infer_likelihood(x)
        logger.info("Modality %r: likelihood %r, inferred from the values.", name, likelihood)
    encoder_input = spec.encoder_input
    if encoder_input is None:
        encoder_input = infer_encoder_input(x, likelihood)
        logger.info("Modality %r: encoder input %r, inferred from the values.", name, encoder_input)
    elif encoder_input not in ENCODER_INPUTS:
        components_of(adata, encoder_input, name)
    if must_vary and encoder_input in ("lsi", "pca", "clr"):
        check_varies(x, name)
    if spec.gate is not None and encoder_input not in ENCODER_INPUTS:
        raise ValueError(
            f"Gates act on features, but the encoder of modality {name!r} sees components, `.obsm[{encoder_input!r}]`. "
            "Use `encoder_input='pca'`, 'lsi', 'clr', 'scaled' or 'counts', or leave the gate out."
        )
    if spec.feature_mask is not None:
        check_keys([spec.feature_mask], list(adata.varm), f"Feature mask of modality {name!r} (`.varm`)")
    return replace(spec, likelihood=likelihood, encoder_input=encoder_input)
