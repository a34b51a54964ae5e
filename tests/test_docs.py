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


def test_every_method_page_opens_with_what_goes_in_what_comes_out_and_when_not_to_use_it() -> None:
    for page in sorted((ROOT / "docs" / "methods").glob("*.md")):
        if page.stem == "index":
            continue
        _, _, first, second, third, after, *_ = page.read_text(encoding="utf-8").splitlines()
        for line, opening in zip(
            (first, second, third), ("What goes in", "What comes out", "When not to use it"), strict=True
        ):
            assert line.startswith(f"- **{opening}:** "), f"{page.name}: {line}"
        assert after == ""
