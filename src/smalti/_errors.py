"""Errors that a caller may want to catch; everything else is a plain ``ValueError``/``TypeError``/``KeyError``."""

from __future__ import annotations


class SmaltiError(Exception):
    """Base class of all errors that smalti defines."""


class NotFittedError(SmaltiError, RuntimeError):
    """A transform or model was used before it was fitted or trained."""


class MosaicAlignmentError(SmaltiError, ValueError):
    """The MuData does not say unambiguously which row of a modality belongs to which cell."""


class NonFiniteLossError(SmaltiError, FloatingPointError):
    """Training produced a NaN or infinite loss; the message names the term."""


class OneModalityError(SmaltiError, ValueError):
    """An AnnData that should hold several modalities holds one."""


class UnsafeFileError(SmaltiError, ValueError):
    """A file holds something other than plain weights and JSON and is not opened."""
