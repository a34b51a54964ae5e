"""One self-contained page about an integration."""

from __future__ import annotations

from ._section import Section
from ._write import write

__all__ = ["Section", "write"]
