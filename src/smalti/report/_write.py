"""The page and the file for MultiQC beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from smalti._errors import NotFittedError
from smalti._files import check_writable, write_text
from smalti._mudata import check_mudata
from smalti._validate import check_count, check_path, check_seed
from smalti.model.base import MosaicModel
from smalti.tl import Stability, cell_values

from . import _data_sections as data
from . import _latent_section, _matching_sections
from . import _model_sections as about
from ._section import Facts, Section

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

MAX_CELLS = 20_000
"""Points of the map: about 60 bytes each, so that the page stays below 6 MB with plotly's 4.8 MB."""


def write(
    model: MosaicModel,
    mdata: MuData,
    path: str | Path,
    *,
    batch_key: str | None = None,
    labels_key: str | None = None,
    color: Sequence[str] = (),
    stability: Stability | None = None,
    command: str = "",
    title: str = "",
    max_cells: int = MAX_CELLS,
    random_state: int = 0,
) -> Path:
    """Write one self-contained page about an integration, and a JSON file for MultiQC beside it.

    Who was measured in what, whether batches and modalities can be told apart, training, the latent with switchable
    colours, matching and label transfer beside linear CCA and Harmony, calibration, gates, stability over seeds,
    versions, and how to repeat it. Each section ends in a sentence with a threshold, a baseline and what nothing at all
    would score. The page needs no network.

    Parameters
    ----------
    model
        A trained model.
    mdata
        The mosaic it was trained on; what needs held-out cells is left out for another one. Nothing is written to it.
    path
        File of the page, ``.html``. The file for MultiQC is called the same, ending in ``_mqc.json``.
    batch_key, labels_key
        Columns of ``mdata.obs``; those of the set-up by default. Labels are used for scores only.
    color
        Further names to colour the map by, see :func:`smalti.tl.cell_values`.
    stability
        What :func:`smalti.tl.stability` found; without it the section says how to compute it.
    command
        How to repeat it, as text; by default the calls in Python.
    title
        Name of the data in heading and table; the name of the file by default.
    max_cells
        Most cells to draw; more are thinned at random.
    random_state
        Seed of the map, the rivals and draws.

    Returns
    -------
    The path of the page.

    Raises
    ------
    NotFittedError
        If the model was not trained.
    KeyError
        If a column or colour does not exist.
    OSError
        If the files cannot be written; that is found out before anything is computed.

    Examples
    --------
    >>> sm.report.write(model, mdata, "report.html", color=["CD8A", "adt:cd3.1"])
    """
    if not isinstance(model, MosaicModel):
        raise TypeError(f"Expected a trained model, found the type {type(model).__name__}.")
    check_mudata(mdata)
    if not model.is_trained_:
        raise NotFittedError("The report is about a trained model: call `model.train()` first.")
    page = check_path(path)
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{page} is a web page: name it {page.with_suffix('.html').name}.")
    beside = page.with_name(f"{page.stem}_mqc.json")
    for file in (page, beside):
        check_writable(file)
    check_count(max_cells, "max_cells")
    check_seed(random_state)
    if isinstance(color, str):
        raise TypeError(f"Expected `color` to be a list of names, such as [{color!r}], found {color!r}.")
    if not isinstance(stability, Stability | None):
        raise TypeError(f"Expected `stability` to be what `sm.tl.stability` returned, found {stability!r}.")
    for name in color:
        cell_values(mdata, name)
    facts = Facts(model, mdata, batch_key=batch_key, labels_key=labels_key, random_state=random_state)
    _ = facts.batch, facts.labels  # columns that do not exist are found out now
    map_section, points = _latent_section.latent(facts, color, max_cells)
    held = _matching_sections.held_out(facts)
    found = [
        data.measured(facts),
        data.confounding(facts),
        about.curves(facts),
        map_section,
        _matching_sections.matching(facts, held),
        _matching_sections.calibration(facts, held),
        about.gates(facts),
        about.stability(stability, facts),
        about.repeat(facts, command),
    ]
    sections = [section for section in found if section is not None]
    name = title or page.stem
    write_text(page, render(sections, points, title=name, model=type(model).__name__))
    write_text(beside, json.dumps(multiqc(sections, name, type(model).__name__), indent=1) + "\n")
    return page


def render(sections: Sequence[Section], points: dict[str, Any], *, title: str, model: str) -> str:
    """Return the page as text."""
    environment = Environment(loader=PackageLoader("smalti.report", "."), autoescape=True)
    figures = {f"{s.key}-{i}": figure for s in sections for i, figure in enumerate(s.figures)}
    return environment.get_template("page.html").render(
        sections=sections,
        table=_table,
        title=title,
        model=model,
        version=version("smalti"),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        figures=_script(figures),
        points=_script(points),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )


def multiqc(sections: Sequence[Section], title: str, model: str) -> dict[str, Any]:
    """Return the numbers of all sections in the form of MultiQC's custom content."""
    scores = {key: value for section in sections for key, value in section.scores.items() if np.isfinite(value)}
    levels = {section.key: section.level for section in sections}
    return {
        "id": "smalti",
        "section_name": "smalti: integration of a mosaic",
        "section_href": "https://github.com/smalti-dev/smalti",
        "description": f"{model}, smalti {version('smalti')}. " + " ".join(s.verdict for s in sections if s.verdict),
        "plot_type": "table",
        "pconfig": {"id": "smalti_table", "title": "smalti", "namespace": "smalti"},
        "headers": {key: {"title": key.replace("_", " "), "format": "{:,.3f}"} for key in scores},
        "data": {title: scores},
        "smalti": {"levels": levels, "verdicts": {s.key: s.verdict for s in sections}},
    }


def _script(value: Any) -> Markup:
    """Return JSON that may stand in a script."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _plain(value: Any) -> Any:
    """Return lists and dictionaries with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _table(frame: pd.DataFrame) -> Markup:
    frame = frame.rename_axis(columns=frame.index.name, index=None)
    kinds = "scores words" if "meaning" in frame else "scores"
    return Markup(frame.map(_cell).to_html(border=0, escape=True, classes=kinds))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
