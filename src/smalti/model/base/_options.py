"""Options of models: presets, and what a user changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from smalti._validate import check_keys

if TYPE_CHECKING:
    from smalti.model.parts import MosaicSizes


class Options:
    """Base of option classes, which are frozen dataclasses with keyword-only fields: knows which fields were named.

    ``CLUEOptions(n_layers=3)`` handed to a model with a preset changes the number of layers and nothing else.
    """

    given: frozenset[str]
    """Names of the fields that were named when the object was made."""

    def __new__(cls, **named: Any) -> Self:
        self = object.__new__(cls)
        object.__setattr__(self, "given", frozenset(named))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return all options as a plain dictionary."""
        return asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses


OptionsT = TypeVar("OptionsT", bound=Options)


def resolve_options(preset: OptionsT, changes: OptionsT | Mapping[str, Any] | None, **arguments: Any) -> OptionsT:
    """Return a preset with a user's changes; the one rule of all models.

    Parameters
    ----------
    preset
        Where to start from.
    changes
        A dictionary, or an object of the preset's class: the fields that were named in it replace those of the preset.
    arguments
        The constructor's own arguments; those that are not ``None`` win over both.

    Raises
    ------
    KeyError
        If a field does not exist.
    TypeError
        If the changes are neither.
    """
    named: dict[str, Any] = {}
    if isinstance(changes, Options):
        if not isinstance(changes, type(preset)):
            raise TypeError(f"Expected `{type(preset).__name__}` or a dictionary, found {type(changes).__name__}.")
        named = {name: getattr(changes, name) for name in changes.given}
    elif isinstance(changes, Mapping):
        known = [f.name for f in fields(preset)]  # type: ignore[arg-type]  # subclasses are dataclasses
        check_keys(changes, known, f"Option of {type(preset).__name__}")
        named = dict(changes)
    elif changes is not None:
        raise TypeError(f"Expected `{type(preset).__name__}` or a dictionary, found {type(changes).__name__}.")
    named |= {name: value for name, value in arguments.items() if value is not None}
    return replace(preset, **named) if named else preset  # type: ignore[type-var]  # subclasses are dataclasses


def without_counts(sizes: MosaicSizes, reason: str) -> MosaicSizes:
    """Return ``sizes``; refuse the trainable encoder input 'counts' of a model whose inputs must be fixed.

    ``reason`` begins the message: what the model does with its inputs.
    """
    for name, size in sizes.modalities.items():
        if size.input_kind == "counts":
            raise ValueError(
                f"{reason}, which must be fixed, but modality {name!r} has the trainable encoder input 'counts'. Set "
                "it up with another `encoder_input`, such as 'pca' or 'scaled'."
            )
    return sizes
