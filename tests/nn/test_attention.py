"""The structured attention against one full masked matrix over all tokens, written out plainly."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from smalti.nn import ChannelTransformer, EverythingAtOnce

D, HEADS, FUSION = 16, 2, 3
SIZES = (5, 1, 4)
ROOT = (0, 1, 2)
CHANNELS = (ROOT, *combinations(range(3), 2))
PRESENT = torch.tensor(
    [[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=torch.bool
)
B = len(PRESENT)


def transformer(channels=CHANNELS, **options) -> ChannelTransformer:
    model = ChannelTransformer(3, channels, D, n_layers=2, n_heads=HEADS, n_fusion=FUSION, **options)
    with torch.no_grad():  # fusion tokens of a size that shows if they are mixed up
        model.fusion.normal_()
        model.queries.normal_()
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def tokens() -> list[torch.Tensor]:
    """Tokens of all cells and modalities; those of absent ones hold numbers that must not matter."""
    return [torch.randn(B, size, D) for size in SIZES]


def run(model, x, present=PRESENT, masks=None, use=None, channels=None):
    streams = [
        model.encode(m, x[m][present[:, m]], None if masks is None else masks[m][present[:, m]]) for m in range(3)
    ]
    return model.pooled(streams, present), model.fuse(streams, present, use, channels)


def attention(model, q, k, v, blocked):
    """Softmax over all keys at once, blocked ones at minus infinity."""
    heads = [part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in (q, k, v)]
    logits = heads[0] @ heads[1].transpose(-1, -2) / (D // HEADS) ** 0.5
    weight = torch.softmax(logits.masked_fill(blocked[:, None], -torch.inf), dim=-1).nan_to_num(0)
    return (weight @ heads[2]).transpose(-2, -3).flatten(-2)


def reference(model, x, present=PRESENT, masks=None):
    """One sequence of all tokens and one mask, as in the paper."""
    n_channels = len(model.channels)
    owner = torch.cat([torch.full((size,), m) for m, size in enumerate(SIZES)])
    channel = torch.arange(n_channels).repeat_interleave(FUSION)
    n = len(owner)
    block = torch.ones(n + len(channel), n + len(channel), dtype=torch.bool)
    block[:n, :n] = owner[:, None] != owner[None]
    for row, c in enumerate(channel.tolist()):
        block[n + row, :n] = ~torch.isin(owner, torch.tensor(model.channels[c]))
        block[n + row, n:] = channel != c
    padded = ~present[:, owner]
    if masks is not None:
        padded = padded | ~torch.cat(masks, dim=1)
    padded = torch.cat([padded, torch.zeros(B, len(channel), dtype=torch.bool)], dim=1)
    blocked = block[None] | padded[:, None]
    stream = torch.cat([*x, model.fusion.flatten(0, 1).expand(B, -1, -1)], dim=1)
    for layer in model.blocks:
        h = layer.norm(stream)
        read = layer.out(attention(model, *layer.qkv(h).chunk(3, dim=-1), blocked))
        if layer.wiring == "pre_norm":
            stream = stream + read
            g = layer.second_norm(stream)
        else:
            g = stream = layer.norm(h + read)
        value, gate = layer.widen(g).chunk(2, dim=-1)
        stream = stream + layer.narrow(F.gelu(gate) * value)
    k, v = model.pool_kv(model.norm(stream)).chunk(2, dim=-1)
    group = torch.cat([owner, 3 + channel])
    away = (torch.arange(3 + n_channels)[:, None] != group[None])[None] | padded[:, None]
    queries = model.queries.expand(B, -1, -1)
    out = queries + model.pool_out(attention(model, model.pool_q(queries), k, v, away))
    some = torch.stack([present[:, list(c)].any(1) for c in model.channels], dim=1)
    return out[:, :3] * present[:, :, None], out[:, 3:] * some[:, :, None]


@pytest.mark.parametrize("wiring", ["pre_norm", "reference"])
@pytest.mark.parametrize("channels", [CHANNELS, (ROOT,), (ROOT, (0, 2))], ids=["mca", "mma", "some"])
def test_embeddings_are_those_of_one_full_masked_attention_matrix(wiring, channels):
    model, x = transformer(channels, wiring=wiring), tokens()
    for found, expected in zip(run(model, x), reference(model, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_one_full_masked_attention_matrix():
    model, x = transformer(), tokens()
    found = []
    for compute in (run, reference):
        model.zero_grad()
        unimodal, fused = compute(model, x)
        (unimodal.square().sum() + fused.pow(3).sum()).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, grad in found[1].items():
        torch.testing.assert_close(found[0][name], grad, rtol=1e-3, atol=1e-3, msg=name)


def test_token_masks_are_those_of_one_full_masked_attention_matrix():
    model, x = transformer(), tokens()
    masks = [torch.rand(B, size) < 0.6 for size in SIZES]
    for mask in masks:
        mask[:, 0] = True
    for found, expected in zip(run(model, x, masks=masks), reference(model, x, masks=masks), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (run(model, x)[1] - run(model, x, masks=masks)[1]).abs().max() > 1e-2


def test_a_cell_whose_panel_measured_nothing_has_a_finite_embedding():
    model, x = transformer(), tokens()
    masks = [torch.zeros(B, size, dtype=torch.bool) for size in SIZES]
    unimodal, fused = run(model, x, masks=masks)
    assert torch.isfinite(unimodal).all()
    assert torch.isfinite(fused).all()


@pytest.mark.parametrize("channels", [CHANNELS, (ROOT,)], ids=["mca", "mma"])
def test_what_is_absent_changes_nothing_and_is_zero(channels):
    model, x = transformer(channels), tokens()
    poisoned = [torch.where(PRESENT[:, m, None, None], part, 1e4) for m, part in enumerate(x)]
    unimodal, fused = run(model, x)
    for found, expected in zip(run(model, poisoned), (unimodal, fused), strict=True):
        assert torch.equal(found, expected)
    assert (unimodal[~PRESENT] == 0).all()
    for c, channel in enumerate(model.channels):
        nothing = ~PRESENT[:, list(channel)].any(1)
        assert (fused[nothing, c] == 0).all()
        assert (fused[~nothing, c].abs().sum(1) > 0).all()


def test_the_embedding_of_a_modality_is_the_same_whatever_else_is_present():
    model, x = transformer(), tokens()
    unimodal, _ = run(model, x)
    for m in range(3):
        only = PRESENT & (torch.arange(3) == m)
        alone, _ = run(model, x, only)
        torch.testing.assert_close(alone[:, m], unimodal[:, m], rtol=0, atol=1e-6)


def test_a_channel_reads_nothing_but_its_modalities():
    model, x = transformer(), tokens()
    _, fused = run(model, x)
    for m in range(3):
        other = [torch.randn_like(part) if i == m else part for i, part in enumerate(x)]
        _, changed = run(model, other)
        moved = (changed - fused).abs().amax(dim=2) > 1e-6
        for c, channel in enumerate(CHANNELS):
            assert torch.equal(moved[:, c], PRESENT[:, m] if m in channel else torch.zeros(B, dtype=torch.bool))


def test_hidden_modalities_are_as_if_they_were_absent():
    model, x = transformer(), tokens()
    use = PRESENT & (torch.arange(3) != 1)
    _, hidden = run(model, x, use=use)
    _, absent = run(model, x, use)
    torch.testing.assert_close(hidden, absent, rtol=1e-5, atol=1e-6)


def test_channels_can_be_computed_alone():
    model, x = transformer(), tokens()
    _, fused = run(model, x)
    _, some = run(model, x, channels=[2, 0])
    torch.testing.assert_close(some, fused[:, [2, 0]], rtol=1e-5, atol=1e-6)


def test_modalities_and_cells_that_no_batch_row_has_give_zero_gradients():
    model = transformer()
    present = torch.zeros(4, 3, dtype=torch.bool)
    x = torch.zeros(0, 5, D, requires_grad=True)
    streams = [model.encode(0, x), None, None]
    out = model.fuse(streams, present)
    assert out.shape == (4, 4, D)
    (out.sum() + model.pooled(streams, present).sum()).backward()
    for name in ("fusion", "queries"):
        assert (dict(model.named_parameters())[name].grad == 0).all()


def test_attention_is_called_for_measured_tokens_only(monkeypatch):
    """Score entries follow the structure: own tokens of each modality, and keys that a pattern has."""
    model, x, entries = transformer(), tokens(), []
    original = F.scaled_dot_product_attention

    def count(q, k, v, **kwargs):
        entries.append(q.shape[0] * q.shape[2] * k.shape[2])
        return original(q, k, v, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", count)
    run(model, x)
    live = torch.stack([PRESENT[:, list(c)].any(1) for c in CHANNELS], dim=1).sum(1) * FUSION
    own = sum(int(PRESENT[:, m].sum()) * size**2 for m, size in enumerate(SIZES))
    fusion = int((live * (live + PRESENT.long() @ torch.tensor(SIZES))).sum())
    pooling = int((PRESENT.long() @ torch.tensor(SIZES)).sum() + live.sum())
    assert sum(entries) == 2 * (own + fusion) + pooling


def test_a_skip_is_added_to_its_modality_and_its_mean_to_every_channel():
    model, x = transformer(), tokens()
    unimodal, fused = run(model, x)
    skips = torch.randn(B, 3, D)
    streams = [model.encode(m, x[m][PRESENT[:, m]], skip=skips[PRESENT[:, m], m]) for m in range(3)]
    torch.testing.assert_close(model.pooled(streams, PRESENT), unimodal + skips * PRESENT[:, :, None])
    found = model.fuse(streams, PRESENT)
    for r in range(B):
        for c, channel in enumerate(CHANNELS):
            here = [m for m in channel if PRESENT[r, m]]
            mean = skips[r, here].mean(0) if here else torch.zeros(D)
            torch.testing.assert_close(found[r, c], fused[r, c] + mean, rtol=1e-4, atol=1e-5)


def test_half_precision_stays_close():
    model, x = transformer(), tokens()
    expected = run(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(model, x)
    for a, b in zip(found, expected, strict=True):
        assert F.cosine_similarity(a.float().flatten(), b.flatten(), dim=0) > 0.999


# ----------------------------------------------------------------------- without fusion tokens


def sequence(model, x: torch.Tensor) -> torch.Tensor:
    """Plain attention of one sequence, ``(1, T, D)``, and its mean."""
    for block in model.blocks:
        residual, q, k, v = block.project(x)
        read = torch.softmax(q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5, dim=-1) @ v
        x = block.finish(residual, read.transpose(1, 2).flatten(2))
    return model.out(model.norm(x).mean(dim=1))


def test_everything_at_once_is_the_mean_over_one_sequence_of_what_a_cell_has():
    torch.manual_seed(0)
    model = EverythingAtOnce(3, CHANNELS, D, n_layers=2, n_heads=HEADS).eval()
    x = tokens()
    masks = [torch.rand(B, size) < 0.7 for size in SIZES]
    for used in (None, masks):
        unimodal, fused = run(model, x, masks=used)
        for cell in range(B):
            for column, channel in enumerate(CHANNELS):
                parts = []
                for m in channel:
                    if PRESENT[cell, m]:
                        keep = slice(None) if used is None else masks[m][cell]
                        if used is not None and not keep.any():
                            keep = slice(1)
                        parts.append(x[m][cell][keep])
                expected = sequence(model, torch.cat(parts)[None])[0] if parts else torch.zeros(D)
                torch.testing.assert_close(fused[cell, column], expected, atol=1e-5, rtol=1e-4)
            alone = [m for m in range(3) if PRESENT[cell, m]]
            if len(alone) == 1:
                torch.testing.assert_close(fused[cell, 0], unimodal[cell, alone[0]])
