from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from smalti.losses import channel_contrast, channel_pairs, gather_rows

B, M, D = 9, 3, 5
CHANNELS = ((0, 1, 2), (0, 1), (0, 2), (1, 2))
ROWS = ("unimodal_fusion", "unimodal_unimodal", "channel_root", "unimodal_channel")
PRESENT = torch.tensor(
    [[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [1, 1, 1]],
    dtype=torch.bool,
)


def embeddings():
    return F.normalize(torch.randn(B, M, D), dim=2), F.normalize(torch.randn(B, len(CHANNELS), D), dim=2)


def has(names, complete=False):
    """Return which cells have a modality, or a part (all) of a channel, as a list of cells."""
    check = all if complete else any
    return {r for r in range(B) if check(bool(PRESENT[r, m]) for m in names)}


def term(a, b, valid, in_a, in_b, scale):
    """Return one term in loops: a cell against all candidates, in both directions."""
    total = 0.0
    for x, y, candidates in ((a, b, in_b), (b, a, in_a)):
        for r in valid:
            logits = {s: scale * float(x[r] @ y[s]) for s in candidates}
            total += math.log(sum(math.exp(v) for v in logits.values())) - logits[r]
    return total / (2 * len(valid))


def brute_force(u, f, scale, complete=False, negatives="paired"):
    pairs = {row: [] for row in ROWS}
    root = has((0, 1, 2))
    for m in range(M):
        pairs["unimodal_fusion"].append((u[:, m], f[:, 0], has([m]), root))
        for other in range(m):
            pairs["unimodal_unimodal"].append((u[:, m], u[:, other], has([m]), has([other])))
        for c in (1, 2, 3):
            pairs["unimodal_channel"].append((u[:, m], f[:, c], has([m]), has(CHANNELS[c], complete)))
    for c in (1, 2, 3):
        pairs["channel_root"].append((f[:, 0], f[:, c], root, has(CHANNELS[c], complete)))
    out = {}
    for row, found in pairs.items():
        values = []
        for a, b, has_a, has_b in found:
            both = has_a & has_b
            if both:
                in_a, in_b = (both, both) if negatives == "paired" else (has_a, has_b)
                values.append(term(a, b, both, in_a, in_b, scale))
        out[row] = sum(values) / len(values)
    return out


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_rows_are_means_of_cross_entropies_over_the_cells_that_have_both(complete, negatives):
    u, f = embeddings()
    expected = brute_force(u, f, math.exp(1.3), complete, negatives)
    options = {"rows": ROWS, "complete": complete, "negatives": negatives}
    found = channel_contrast(u, f, PRESENT, CHANNELS, torch.tensor(1.3), **options)
    assert list(found) == list(ROWS)
    for row in ROWS:
        assert float(found[row]) == pytest.approx(expected[row], rel=1e-4)


def test_four_modalities_with_all_cardinalities_have_the_sixty_terms_of_the_paper():
    from itertools import combinations

    channels = tuple(c for k in (4, 3, 2) for c in combinations(range(4), k))
    everyone = torch.ones(2, 4, dtype=torch.bool)
    rows = [pair.row for pair in channel_pairs(torch.zeros(2, 4, 3), torch.zeros(2, 11, 3), everyone, channels)]
    assert [rows.count(row) for row in ROWS] == [4, 6, 10, 40]


def gradients(u, f, present=PRESENT):
    u, f, s = u.clone().requires_grad_(), f.clone().requires_grad_(), torch.tensor(1.0, requires_grad=True)
    sum(channel_contrast(u, f, present, CHANNELS, s, rows=ROWS).values()).backward()
    return u.grad, f.grad, s.grad


@pytest.mark.parametrize("poison", [float("nan"), 1e30, 0.0])
def test_embeddings_of_what_is_absent_are_neither_anchors_nor_negatives(poison):
    u, f = embeddings()
    clean = gradients(u, f)
    gone = torch.stack([~PRESENT[:, list(c)].any(1) for c in CHANNELS], dim=1)
    u[~PRESENT], f[gone] = poison, poison
    for found, expected in zip(gradients(u, f), clean, strict=True):
        torch.testing.assert_close(found, expected)
    assert (clean[0][~PRESENT] == 0).all()
    assert (clean[1][gone] == 0).all()


def test_a_batch_without_pairs_gives_zero_and_zero_gradients_where_pairs_are_needed():
    u, f = embeddings()
    single = F.one_hot(torch.arange(B) % 3, 3).bool()
    s = torch.tensor(1.0, requires_grad=True)
    u.requires_grad_()
    loss = channel_contrast(u, f, single, CHANNELS, s, rows=("unimodal_unimodal",))["unimodal_unimodal"]
    assert loss == 0
    loss.backward()
    assert (u.grad == 0).all()
    assert s.grad == 0


def test_only_rows_that_are_asked_for_are_computed():
    u, f = embeddings()
    found = channel_contrast(u, f, PRESENT, CHANNELS, torch.tensor(1.0), rows=ROWS[1:3])
    assert list(found) == list(ROWS[1:3])


@pytest.mark.parametrize(("given", "limit"), [(-3.0, 0.0), (9.0, math.log(100))])
def test_the_inverse_temperature_stays_between_one_and_one_hundred(given, limit):
    u, f = embeddings()
    found, expected = (channel_contrast(u, f, PRESENT, CHANNELS, torch.tensor(s), rows=ROWS) for s in (given, limit))
    for row in ROWS:
        torch.testing.assert_close(found[row], expected[row], rtol=1e-4, atol=1e-4)


def test_without_other_processes_rows_are_left_alone():
    x = torch.randn(3, 2)
    assert gather_rows(x) is x
