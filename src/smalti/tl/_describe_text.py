"""A mosaic's description as text and as HTML."""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._description import MosaicFacts
    from ._recommend import Recommendation

WIDTH = 100
MAX_BATCHES = 6
MAX_LABELS = 12
PRESENT, ABSENT = "■", "·"

Rows = list[list[str]]
Section = tuple[str, Rows]


def as_text(found: MosaicFacts) -> str:
    """Return the description as text: tables aligned, sentences broken at 100 characters."""
    lines = [_headline(found)]
    for title, rows in _tables(found):
        lines += ["", title, *(f"  {line}" for line in _aligned(rows))]
    for title, sentences in _lists(found):
        lines += ["", title, *_bullets(sentences)]
    chosen = found.recommendation
    lines += ["", f"Recommended: {chosen.model}", *_bullets(_why(chosen, found.problems))]
    if chosen.code:
        lines += ["", *(f"    {line}" for line in chosen.code.splitlines())]
    return "\n".join(lines)


def as_html(found: MosaicFacts) -> str:
    """Return the description as HTML without scripts or outside resources."""
    parts = [f"<p><b>{escape(_headline(found))}</b></p>"]
    for title, rows in _tables(found):
        head, *body = ["".join(_cell(tag, text, i) for i, text in enumerate(row)) for tag, row in _tagged(rows)]
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody>"
        parts.append(f"<p style='margin:0.6em 0 0.2em'>{escape(title)}</p><table>{table}</table>")
    for title, sentences in _lists(found):
        parts.append(f"<p style='margin:0.6em 0 0'><b>{escape(title)}</b></p>{_html_list(sentences)}")
    chosen = found.recommendation
    parts.append(f"<p style='margin:0.6em 0 0'><b>Recommended: {escape(chosen.model)}</b></p>")
    parts.append(_html_list(_why(chosen, found.problems)))
    if chosen.code:
        parts.append(f"<pre>{escape(chosen.code)}</pre>")
    return f"<div>{''.join(parts)}</div>"


# ------------------------------------------------------------------ what is said


def _headline(found: MosaicFacts) -> str:
    batches = "" if found.batches is None else f", {found.batches.shape[1]} batches"
    labels = "" if found.labels is None else f", {len(found.labels)} labels"
    return f"Mosaic of {found.n_obs:,} cells in {len(found.modalities)} modalities{batches}{labels}"


def _tables(found: MosaicFacts) -> Iterator[Section]:
    rows = [["modality", "cells", "features", "values", "non-zero", "median total", "likelihood", "encoder sees"]]
    for name, facts in found.modalities.items():
        total = "" if facts.median_total is None else f"{facts.median_total:,.0f}"
        layer = "" if facts.layer is None else f" (layer {facts.layer})"
        share = "" if np.isnan(facts.nonzero) else _percent(facts.nonzero)
        rows.append([name, f"{facts.n_obs:,}", f"{facts.n_vars:,}", facts.values + layer, share, total])
        rows[-1] += [facts.likelihood or "", facts.encoder_input or ""]
    yield "What was measured", rows
    yield _pattern_table(found)
    if len(found.modalities) > 2:
        table = found.pairs
        rows = [["", *map(str, table.columns)]]
        rows += [[str(i), *(f"{n:,}" for n in table.loc[i])] for i in table.index]
        yield "Cells that two modalities share", rows
    if found.labels is not None:
        table = found.labels.iloc[:MAX_LABELS]
        rows = [[str(found.labels_key), *map(str, table.columns)]]
        rows += [[str(i), *(f"{n:,}" for n in row)] for i, row in zip(table.index, table.to_numpy(), strict=True)]
        left = len(found.labels) - len(table)
        yield f"Labels{f', the {len(table)} most frequent of {len(found.labels)}' if left else ''}", rows


def _pattern_table(found: MosaicFacts) -> Section:
    batches = found.batches
    shown = [] if batches is None else list(batches.columns[:MAX_BATCHES])
    rows = [["cells", "share", *found.patterns.columns, *shown]]
    for i, row in enumerate(found.patterns.to_numpy()):
        size = int(found.pattern_sizes[i])
        marks = [PRESENT if here else ABSENT for here in row]
        counts = [] if batches is None else [f"{n:,}" if n else ABSENT for n in batches.iloc[i][shown]]
        rows.append([f"{size:,}", _percent(size / max(found.n_obs, 1)), *marks, *counts])
    title = "Who was measured in what"
    if batches is not None:
        more = "" if len(shown) == batches.shape[1] else f", {len(shown)} of {batches.shape[1]} shown"
        title += f", and in which {found.batch_key}{more}"
    return title, rows


def _lists(found: MosaicFacts) -> Iterator[tuple[str, Sequence[str]]]:
    if found.problems:
        yield "Problems: a model will refuse this", found.problems
    if found.notes:
        yield "Worth knowing", found.notes


def _why(chosen: Recommendation, problems: Sequence[str]) -> list[str]:
    said = [*(["Solve the problems above first."] if problems else []), *chosen.reasons]
    if chosen.pairs:
        said.append(chosen.pairs)
    return [*said, *(f"Another choice: {other}." for other in chosen.alternatives)]


# ------------------------------------------------------------------ how it is set


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.01 else f"{share:.1%}"


def _aligned(rows: Rows) -> list[str]:
    """Set columns: the first and those of words to the left, numbers and marks to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [_is_number(column[1:]) for column in columns]
    return [
        "  ".join(
            text.center(width) if text in (PRESENT, ABSENT) else text.rjust(width) if flush else text.ljust(width)
            for text, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _is_number(texts: Sequence[str]) -> bool:
    return all(text in ("", PRESENT, ABSENT) or text[0].isdigit() for text in texts)


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [
        line
        for sentence in sentences
        for line in wrap(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False)
    ]


def _tagged(rows: Rows) -> Iterator[tuple[str, list[str]]]:
    for i, row in enumerate(rows):
        yield ("th" if i == 0 else "td"), row


def _cell(tag: str, text: str, column: int) -> str:
    align = "left" if column == 0 else "right"
    return f"<{tag} style='text-align:{align};padding:0.1em 0.7em'>{escape(text)}</{tag}>"


def _html_list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
