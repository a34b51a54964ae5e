"""``python -m smalti``."""

from __future__ import annotations

from smalti.cli import app

if __name__ == "__main__":
    app(prog_name="smalti")
