"""Check licences and pins of everything that smalti pulls in; run by ``make check``.

    python scripts/check_dependencies.py

Every distribution that is needed at run time must have a licence on the list, every pin of ``constraints.txt`` must be
exact and from the index (no address), and what is installed must be what is pinned.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = re.compile(
    r"\b(mit|bsd|apache|isc|python software foundation|psf|zlib|unlicense|0bsd|public domain|cc0|historical permission|"
    r"hpnd|mpl|mozilla|redistribution and use in source and binary forms|license agreement for matplotlib)",
    re.IGNORECASE,
)
"""Licences under which smalti (BSD-3-Clause) may be used and passed on with its dependencies."""
CHOSEN = {
    "igraph": "GPL-2.0-or-later, imported and not passed on",
    "leidenalg": "GPL-3.0-or-later, imported and not passed on",
    "harmonypy": "GPL-3.0-or-later, imported and not passed on",
}
"""Exceptions, each with its reason."""
NVIDIA = re.compile(r"^(nvidia-|cuda-)")
"""Libraries of the driver's maker, which torch needs on Linux: proprietary, free to use."""


def licence(found: Distribution) -> str:
    """Return all that a distribution says of its licence."""
    meta = found.metadata
    parts = [meta.get("License-Expression") or "", meta.get("License") or ""]
    parts += [text for text in meta.get_all("Classifier") or [] if text.startswith("License")]
    return " ".join(" ".join(parts).split())[:300]


def needed(name: str, seen: dict[str, Distribution]) -> None:
    """Collect a distribution and what it needs at run time."""
    key = canonicalize_name(name)
    if key in seen:
        return
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return  # for another system
    seen[key] = found
    for text in found.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, seen)


def main() -> int:
    """Print complaints; return how many there are."""
    seen: dict[str, Distribution] = {}
    needed("smalti", seen)
    complaints = []
    for key, found in sorted(seen.items()):
        if key != "smalti" and key not in CHOSEN and not NVIDIA.match(key) and not ALLOWED.search(licence(found)):
            complaints.append(f"{key} {found.version}: licence {licence(found)!r} is on no list")
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
            if pin.url is not None or len(pin.specifier) != 1 or not str(pin.specifier).startswith("=="):
                complaints.append(f"{line}: expected one exact version from the index")
    for key, found in sorted(seen.items()):
        mine = [p for p in pins.get(key, []) if p.marker is None or p.marker.evaluate()]
        if key != "smalti" and not mine:
            complaints.append(f"{key} {found.version} is needed, but not pinned")
        elif key != "smalti" and not mine[0].specifier.contains(found.version, prereleases=True):
            complaints.append(f"{key} {found.version} is installed, pinned is {mine[0].specifier}")
    for text in complaints:
        print(text)
    print(f"{len(seen)} distributions, {len(complaints)} complaints")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
