"""Preprocessing that transfers: transforms fitted once and applied to any cells."""

from __future__ import annotations

from ._base import LinearTransform
from ._default import default_transform
from ._transforms import CLR, LSI, PCA

__all__ = ["CLR", "LSI", "PCA", "LinearTransform", "default_transform"]
