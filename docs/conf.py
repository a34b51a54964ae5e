"""Configuration of the documentation; `make docs` builds it with warnings as errors."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import shutil
import typing
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

if typing.TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

project = "smalti"
author = "The smalti developers"
copyright = "2026, the smalti developers"
release = version = installed_version("smalti")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "Thumbs.db"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}  # generated pages get the first
templates_path = ["_templates"]
nitpicky = True
warnings.filterwarnings("ignore", module="sphinx_autodoc_typehints")  # calls what Sphinx 9 deprecates
suppress_warnings = [
    "config.cache",  # `autosummary_context` holds a function
    "sphinx_autodoc_typehints.forward_reference",  # inherited fields whose types only the parent's file imports
]

html_theme = "sphinx_book_theme"
html_title = "smalti"
html_static_path = ["_static"]
html_css_files = ["smalti.css"]
mathjax_path = "mathjax/tex-chtml-full.js"  # copied below: formulas without a network
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # the search is in the sidebar
}

# Notebooks are stored with their output; the tests execute them.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

autosummary_generate = True
autosummary_ignore_module_all = False  # what a package lists in `__all__`, nothing else
autosummary_imported_members = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
always_use_bars_union = True
typehints_defaults = "braces"
typehints_document_rtype_none = False
typehints_use_rtype = False

# Names of other packages can be resolved only with the inventories of their sites, so only where there is a network.
_ONLINE = bool(os.environ.get("READTHEDOCS") or os.environ.get("SMALTI_DOCS_ONLINE"))
if _ONLINE:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/en/latest/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
nitpick_ignore_regex = [
    (r"py:.*", r"smalti\..*[a-z]T"),
    (r"py:.*", r"smalti\.(.*\.)?_.*"),
]  # type variables, private names
if not _ONLINE:
    nitpick_ignore_regex.append((r"py:.*", r"(?!smalti\b).*"))


def own_members(fullname: str) -> dict[str, list[str]]:
    """Return the public fields, properties and methods of a class that smalti defines, inherited ones included."""
    module, _, name = fullname.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    fields = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    found = {"fields": fields or list(getattr(cls, "_fields", [])), "properties": [], "methods": []}
    if "Attributes\n" in (cls.__doc__ or ""):
        found["fields"] = []
    for base in cls.__mro__:
        if not base.__module__.startswith("smalti"):
            continue
        for member, value in vars(base).items():
            if member.startswith("_") or any(member in members for members in found.values()):
                continue
            if isinstance(value, property | functools.cached_property):
                found["properties"].append(member)
            elif inspect.isroutine(value):
                found["methods"].append(member)
    return found


autosummary_context = {"own_members": own_members}


def typehints_formatter(annotation: object, _config: Config) -> str | None:
    """Name the types that unroll into a paragraph; ``None`` leaves the others to the extension."""
    optional = " | None" if annotation == (ArrayLike | None) else ""
    if optional or annotation == ArrayLike:
        return f":py:data:`~numpy.typing.ArrayLike`{optional}"
    if typing.get_origin(annotation) is np.ndarray:
        return ":py:class:`~numpy.ndarray`"
    return None


_fields: dict[str, list[str]] = {}


def before_napoleon(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Protect prose: in fields, of which napoleon reads the text before a colon as a type, and in "Returns"."""
    if what == "attribute":
        _fields[name] = list(lines)
    elif "Returns" in lines:
        start = lines.index("Returns") + 2
        ends = (i - 1 for i in range(start, len(lines)) if lines[i].startswith("---"))
        end = next(ends, len(lines))
        if not any(line.startswith(" ") for line in lines[start:end]):
            lines[start:end] = [":", *(f"    {line}".rstrip() for line in lines[start:end])]


def after_napoleon(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Put them back."""
    if what == "attribute":
        lines[:] = _fields[name]


def copy_mathjax(app: Sphinx, failure: Exception | None) -> None:
    """Put MathJax and its fonts beside the pages, from an installed package."""
    if failure is not None or app.builder.format != "html":
        return
    source = Path(str(importlib.import_module("sphinx-mathjax-offline").__file__)).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    shutil.copytree(source / "output" / "chtml", target / "output" / "chtml", dirs_exist_ok=True)
    shutil.copy2(source / "tex-chtml-full.js", target)


def setup(app: Sphinx) -> None:
    """Frame napoleon, whose priority is the default 500, and serve formulas from here."""
    app.connect("build-finished", copy_mathjax)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
