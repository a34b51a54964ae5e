"""Copy scores and picture of ``make demo`` into the README, so that it says what the current code does.

Usage: make demo && .venv/bin/python scripts/readme_from_demo.py
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- demo -->\n", "<!-- /demo -->"
ROWS = (
    ("FOSCTTM, cosine (lower is better)", ("foscttm",), 3),
    ("matching score, k = 10", ("matching_k10",), 3),
    ("true partner among 10 nearest", ("recall_at_10",), 2),
    ("cell type carried from RNA to proteins / back", ("transfer rna -> adt", "transfer adt -> rna"), 2),
    ("mixing of modalities", ("mixing",), 2),
    ("cell types by k-means, NMI / ARI", ("nmi", "ari"), 2),
)


def table(record: dict) -> str:
    """Return the scores as Markdown."""
    columns = {**record["scores"], "chance": record["chance"]}
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for title, keys, digits in ROWS:
        cells = (
            " / ".join("-" if scores[key] is None else f"{scores[key]:.{digits}f}" for key in keys)
            for scores in columns.values()
        )
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite the part of the README between the marks."""
    readme, demo = ROOT / "README.md", ROOT / "demo"
    text = readme.read_text(encoding="utf-8")
    new = START + table(json.loads((demo / "metrics.json").read_text(encoding="utf-8"))) + END
    text, count = re.subn(re.escape(START) + ".*?" + re.escape(END), lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"Expected the marks {START.strip()} and {END} once in README.md, found them {count} times.")
    readme.write_text(text, encoding="utf-8")
    shutil.copy(demo / "umap.png", ROOT / "docs" / "_static" / "demo_umap.png")


if __name__ == "__main__":
    main()
