"""Draw the decision tree of the landing page: writes docs/_static/decision_tree.svg."""

from __future__ import annotations

from html import escape
from pathlib import Path

QUESTIONS = [
    ("Some cells were measured in", "two modalities, in a chain?"),
    ("Class labels in", "every modality?"),
    ("Linked features (genes and", "their proteins, regions)?"),
]
NONE = ("no method can tell a right", "match from a wrong one")
PAIRED = [
    ("a latent, translation, matching", "CLUE"),
    ("3+ modalities, most missing", "MCA"),
    ("clusters only", "FusionClustering"),
    ("parts of one continuum", "OverlapManifold"),
    ("an answer in seconds", "tl.linear_joint"),
]
W, H = 860, 400
X, Y, STEP, BOX = 20, 30, 118, (232, 56)


def box(x: float, y: float, w: float, h: float, lines: list[str], kind: str) -> str:
    """Return a box with centred lines of text."""
    at = y + h / 2 + 5 - 9 * (len(lines) - 1)
    text = "".join(f'<text x="{x + w / 2}" y="{at + 18 * i}">{escape(line)}</text>' for i, line in enumerate(lines))
    return f'<g class="{kind}"><rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6"/>{text}</g>'


def arrow(points: list[tuple[float, float]], word: str, at: tuple[float, float]) -> str:
    """Return an arrow with a word beside it."""
    path = " L".join(f"{x} {y}" for x, y in points)
    label = f'<text class="word" x="{at[0]}" y="{at[1]}">{word}</text>' if word else ""
    return f'<path d="M{path}" marker-end="url(#tip)"/>{label}'


def draw() -> str:
    """Return the picture as SVG."""
    parts = []
    for i, lines in enumerate(QUESTIONS):
        y = Y + i * STEP
        parts.append(box(X, y, *BOX, list(lines), "question"))
        if i:
            parts.append(arrow([(X + 105, y - STEP + BOX[1]), (X + 105, y - 4)], "no", (X + 122, y - 24)))
    for i, (wish, model) in enumerate(PAIRED):
        y = Y - 24 + i * 44
        parts.append(box(400, y, 230, 34, [wish], "wish"))
        parts.append(box(670, y, 170, 34, [model], "model"))
        parts.append(arrow([(630, y + 17), (666, y + 17)], "", (0, 0)))
        parts.append(arrow([(320, Y + 28), (360, Y + 28), (360, y + 17), (396, y + 17)], "", (0, 0)))
    parts.append(f'<path d="M{X + BOX[0]} {Y + 28} L330 {Y + 28}"/><text class="word" x="276" y="{Y + 20}">yes</text>')
    for i, model, top in ((1, "MODIS", 240), (2, "UnpairedCCA", 296)):
        y = Y + i * STEP
        parts.append(box(670, top, 170, 34, [model], "model"))
        end = top + 17
        parts.append(
            arrow([(X + BOX[0], y + 28), (330, y + 28), (330, end), (666, end)], "", (0, 0))
            + f'<text class="word" x="276" y="{y + 20}">yes</text>'
        )
    y = Y + 3 * STEP - 20
    parts.append(arrow([(X + 105, Y + 2 * STEP + BOX[1]), (X + 105, y - 4)], "no", (X + 122, y - 14)))
    parts.append(box(X, y, *BOX, list(NONE), "none"))
    style = (
        "text{font:14px system-ui,'DejaVu Sans',sans-serif;text-anchor:middle;fill:#222}"
        ".word{fill:#666;font-size:13px}path{fill:none;stroke:#888;stroke-width:1.4}#tip path{fill:#888;stroke:none}"
        ".question rect{fill:#fff;stroke:#0072B2;stroke-width:1.6}.wish rect{fill:#f2f4f6;stroke:none}"
        ".model rect{fill:#0072B2;stroke:none}.model text{fill:#fff;font-weight:600}.none rect{fill:#eee;stroke:none}"
    )
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    title = "Which model: pairs lead to CLUE, MCA and others, labels to MODIS, links to UnpairedCCA, nothing to none"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H + 60}" role="img"><title>{title}</title>'
        f'<style>{style}</style><rect width="{W}" height="{H + 60}" fill="#fff"/>'
        f'<defs>{tip}<path d="M0 0 L8 4 L0 8 z"/></marker></defs>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[1] / "docs" / "_static" / "decision_tree.svg"
    target.write_text(draw(), encoding="utf-8")
