"""What the README promises exists, and what it calls planned does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import smalti as sm

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1)


def table_of_parts() -> list[tuple[str, str, str]]:
    """Return (part, now, planned) of the table under "What there is"."""
    section = TEXT.partition("## What there is")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row) for row in rows[1:] if not row[0].startswith(" ---")]


def names(text: str) -> list[str]:
    return re.findall(r"`([A-Za-z_.]+)`", text)


def exists(name: str) -> bool:
    where = sm.model if name[0].isupper() else sm
    for part in name.split("."):
        where = getattr(where, part, None)
    return where is not None


def test_links_and_pictures_lead_somewhere() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", TEXT) if not t.startswith("http")]
    assert len(targets) > 5
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_code_runs_from_loading_to_the_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    train = sm.model.CLUE.train
    monkeypatch.setattr(sm.model.CLUE, "train", lambda model: train(model, 1, progress=False))
    *lines, picture = CODE.strip().splitlines()
    exec("\n".join(lines), names := {})
    compile(picture, "README.md", "exec")  # the tutorial runs it
    assert np.isfinite(names["mdata"].obsm["X_clue"]).all()
    assert "X_clue" in picture


@pytest.mark.parametrize(("part", "now", "planned"), table_of_parts())
def test_what_exists_exists_and_what_is_planned_does_not(part: str, now: str, planned: str) -> None:
    assert [name for name in names(now) if not exists(name)] == []
    assert [name for name in names(planned) if exists(name)] == []


def test_targets_of_make_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
