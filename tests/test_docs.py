"""The documentation holds together where a build is not needed to tell."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CITATION = re.compile(r":cite:[a-z]+:`([^`]+)`|\{cite:[a-z]+\}`([^`]+)`")


def texts() -> dict[Path, str]:
    pages = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tutorials").rglob("*.ipynb")]
    return {page: page.read_text(encoding="utf-8") for page in pages if "_build" not in page.parts}


def test_every_citation_is_in_the_references() -> None:
    known = set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert known
    missing = [
        f"{page.relative_to(ROOT)}: {key.strip()}"
        for page, text in texts().items()
        for match in CITATION.findall(text)
        for key in "".join(match).split(",")
        if key.strip() not in known
    ]
    assert not missing, "\n".join(missing)


def test_the_changelog_has_no_section_twice() -> None:
    headings: list[str] = []
    for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            headings = []
        if line.startswith("#"):
            assert line not in headings, f"{line!r} appears twice"
            headings.append(line)
