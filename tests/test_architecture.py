"""The shape of the house: who may import whom, how long a file may get, what never enters the repository."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "smalti"
FILES = sorted(PACKAGE.rglob("*.py"))

# Low numbers know nothing of high ones. Private modules at the top (`_errors`, `_validate`, ...) have rank 0.
RANKS = {
    "nn": 1,
    "losses": 2,
    "model": 4,
    "benchmark": 4,
    "tl": 5,
    "planning": 5,
    "pl": 5,
    "report": 6,
    "__init__": 7,
    "cli": 8,
    "_console": 8,
    "_commands": 8,
    "_cli_options": 8,
    "__main__": 9,
}
RANKS |= dict.fromkeys(("data", "pp", "metrics", "simulate", "datasets", "train", "select", "align"), 3)
RANKS["settings"] = 0

MAX_LINES = 300
# Spelled with one-letter classes, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(?:[r]oot|[w]ork|[t]mp|[h]ome/\w+|[U]sers/\w+)/",
    "the host of a package registry": r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|debian[.]org",
    "words about how it is developed": r"(?i)\b(?:[c]laude|[a]nthropic|[c]hatgpt|(?:llm|coding) [a]gent|[s]ubagent)",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> list[tuple[str, str | None, int]]:
    """Return every import of a file, typing-only ones too, as (module, name or None, line), relative ones resolved."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: list[tuple[str, str | None, int]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(module, alias.name, node.lineno) for alias in node.names]
    return found


def part_of(module: str, name: str | None = None) -> str | None:
    """Return the part of the package (``"nn"``, ``"_errors"``) that an import leads to; ``None`` for other packages."""
    root, *rest = module.split(".")
    if root != "smalti":
        return None
    if rest:
        return rest[0]
    return name if name is not None and (name in RANKS or (PACKAGE / f"{name}.py").is_file()) else "__init__"


def rank(part: str) -> int:
    return RANKS.get(part, 0 if is_private(part) else -1)


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def arrows() -> list[tuple[str, str, str]]:
    """Return (importing part, imported part, place) for imports between parts of the package."""
    found = []
    for path in FILES:
        start = part_of(module_name(path)) or "__init__"
        for module, name, line in imports(path):
            end = part_of(module, name)
            if end is not None and end != start:
                found.append((start, end, place(path, line)))
    return found


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    if not paths:
        pytest.skip("git tracks nothing here")
    return [path for path in paths if path.is_file()]


def test_every_part_has_a_rank() -> None:
    unknown = {part for path in FILES if rank(part := part_of(module_name(path)) or "__init__") < 0}
    assert not unknown, f"give these a rank: {sorted(unknown)}"


def test_imports_point_downwards() -> None:
    upwards = [f"{where}: {start} imports {end}" for start, end, where in arrows() if rank(end) > rank(start)]
    assert not upwards, "\n".join(upwards)


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for start, end, _ in arrows():
        graph.setdefault(start, set()).add(end)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def modules_imported(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, typing-only ones too."""
    modules = {module_name(other) for other in FILES}
    found = set()
    for module, name, _ in imports(path):
        inner = f"{module}.{name}"
        found.add(inner if inner in modules else module)
    return (found & modules) - {module_name(path)}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {module_name(path): modules_imported(path) for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_private_names_stay_in_their_package() -> None:
    """What a package calls ``_name`` is for itself and the packages inside; so those at the top are for everybody."""
    wrong = []
    for path in FILES:
        home = module_name(path).split(".")
        home = home if path.name == "__init__.py" else home[:-1]
        for module, name, line in imports(path):
            target = [*module.split("."), *([name] if name else [])]
            if target[0] == "smalti" and any(
                is_private(part) and home[:depth] != target[:depth] for depth, part in enumerate(target)
            ):
                wrong.append(f"{place(path, line)}: {'.'.join(target)}")
    assert not wrong, "make these public where they live, or move them down:\n" + "\n".join(wrong)


def rooms(path: Path) -> list[str]:
    """Return the packages that a file of ``model`` is in: ``["clue"]``, ``["parts"]``; ``[]`` for other files."""
    parts = module_name(path).split(".")
    return parts[2:3] if parts[1:2] == ["model"] and len(parts) > 2 and not parts[2].startswith("_") else []


def rooms_imported(path: Path) -> list[tuple[str, str]]:
    """Return (room of ``model``, place) of all imports of a file that lead there; ``""`` for ``model`` itself."""
    found = []
    for module, name, line in imports(path):
        target = [*module.split("."), *([name] if name else [])]
        if target[:2] == ["smalti", "model"]:
            room = target[2] if len(target) > 2 and (PACKAGE / "model" / target[2]).is_dir() else ""
            found.append((room, place(path, line)))
    return found


@pytest.mark.parametrize(("room", "below"), [("parts", {"parts"}), ("base", {"parts", "base"})])
def test_shared_rooms_know_what_is_below_them(room: str, below: set[str]) -> None:
    """Networks (``parts``) know nothing of the user's side (``base``), and neither knows a model."""
    if not (PACKAGE / "model" / room).is_dir():
        pytest.skip(f"there is no `model/{room}`")
    wrong = [
        f"{where}: {room} imports {target or 'model'}"
        for path in FILES
        if rooms(path) == [room]
        for target, where in rooms_imported(path)
        if target not in below
    ]
    assert not wrong, "\n".join(wrong)


def test_models_know_the_shared_rooms_but_not_each_other() -> None:
    wrong = [
        f"{where}: {room} imports {target or 'model'}"
        for path in FILES
        for room in rooms(path)
        for target, where in rooms_imported(path)
        if room not in {"parts", "base"} and target not in {room, "parts", "base"}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("part", ["nn", "losses"])
def test_tensor_code_knows_no_anndata(part: str) -> None:
    banned = {"anndata", "mudata", "scvi", "lightning", "scanpy"}
    wrong = [
        f"{place(path, line)}: {module}"
        for path in sorted((PACKAGE / part).rglob("*.py"))
        for module, name, line in imports(path)
        if module.split(".")[0] in banned or part_of(module, name) == "_compat"
    ]
    assert not wrong, "\n".join(wrong)


def test_only_compat_touches_private_names_of_other_packages() -> None:
    wrong = []
    for path in FILES:
        if path.name == "_compat.py":
            continue
        foreign: set[str] = set()
        for module, name, line in imports(path):
            root = module.split(".")[0]
            if root in {"smalti", "__future__"}:
                continue
            foreign.add(name or root)
            if any(is_private(part) for part in [*module.split("."), name or ""]):
                wrong.append(f"{place(path, line)}: {module} {name or ''}")
        foreign |= {
            alias.asname
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if alias.asname and not (getattr(node, "module", None) or alias.name).startswith("smalti")
        }
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                root_node: ast.expr = node
                while isinstance(root_node, ast.Attribute):
                    root_node = root_node.value
                if isinstance(root_node, ast.Name) and root_node.id in foreign:
                    wrong.append(f"{place(path, node.lineno)}: {ast.unparse(node)}")
    assert not wrong, "move these to `_compat.py`:\n" + "\n".join(wrong)


def test_source_files_stay_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = [f"{place(path, n)} lines" for path, n in lengths.items() if n > MAX_LINES]
    assert not long, "\n".join(long)


@pytest.mark.parametrize(
    "package", sorted({module_name(path) for path in FILES if path.name == "__init__.py"}), ids=lambda name: name
)
def test_public_names_exist_and_are_described(package: str) -> None:
    module = importlib.import_module(package)
    bare = []
    for name in getattr(module, "__all__", []):
        obj = getattr(module, name)
        if inspect.isclass(obj) or inspect.isroutine(obj):
            doc = obj.__doc__ or ""
            if not doc.strip() or doc.startswith(f"{name}("):  # dataclasses write their signature there
                bare.append(name)
    assert not bare, f"{package}: no docstring on {bare}"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_tracked_files_speak_of_the_project_alone(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and data
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{place(path, number)}: {match.group()}")
    assert not found, f"{what}:\n" + "\n".join(found)
