from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.nn import FrozenProjection, SparseRows

KINDS = ("lognorm", "tfidf", "clr", "identity")
G, K, B = 12, 4, 3


def rows_of(x: np.ndarray) -> SparseRows:
    x = sp.csr_matrix(x)
    return SparseRows(
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
        torch.from_numpy(x.data.astype(np.float32)),
    )


def random_projection(kind: str, seed: int = 0, *, row_standardize: bool = False, masked: bool = True):
    rng = np.random.default_rng(seed)
    module = FrozenProjection(G, K, B, kind=kind, row_standardize=row_standardize, masked=masked)
    for name in ("weight", "offset", "centre"):
        buffer = getattr(module, name)
        buffer.copy_(torch.from_numpy(rng.normal(size=buffer.shape)))
    module.scale.copy_(torch.from_numpy(rng.uniform(0.5, 2, K)))
    module.feature_weight.copy_(torch.from_numpy(rng.uniform(1, 5, G)))
    module.target_sum.fill_(7.0)
    if masked:
        mask = rng.random((B + 1, G)) < 0.7
        module.feature_mask.copy_(torch.from_numpy(mask))
        module.n_measured.copy_(torch.from_numpy(mask.sum(axis=1)))
    return module


def by_hand(module: FrozenProjection, x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """The formula of the docstring, one row at a time in float64."""
    state = {k: v.double().numpy() for k, v in module.state_dict().items()}
    out = []
    for row, b in zip(x.astype(float), batch, strict=True):
        measured = state["feature_mask"][b].astype(bool) if module.masked else np.ones(G, bool)
        v, w = row[measured], state["weight"][measured]
        total = v.sum()
        if module.kind != "identity" and total == 0:
            out.append(np.zeros(K))
            continue
        if module.kind == "lognorm":
            v = np.log1p(v * 7.0 / total)
        elif module.kind == "tfidf":
            v = np.log1p(v * 7.0 * state["feature_weight"][measured] / total)
        elif module.kind == "clr":
            v = np.log1p(v * 7.0 / np.exp(np.log1p(v).mean()))
        z = v @ w - state["offset"][b]
        if module.row_standardize:
            z = (z - z.mean()) / z.std()
        out.append((z - state["centre"][b]) * state["scale"])
    return np.array(out)


@pytest.mark.parametrize("row_standardize", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_and_dense_rows_follow_the_formula(kind, masked, row_standardize, rng):
    module = random_projection(kind, masked=masked, row_standardize=row_standardize)
    x = rng.poisson(1.0, (20, G)).astype(np.float32)
    batch = rng.integers(-1, B, 20)
    expected = by_hand(module, x, batch)
    code = torch.from_numpy(batch)
    np.testing.assert_allclose(module(rows_of(x), code).numpy(), expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(module(torch.from_numpy(x), code).numpy(), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("row_standardize", [False, True])
def test_rows_without_counts_map_to_zero(kind, row_standardize):
    module = random_projection(kind, row_standardize=row_standardize)
    x = np.zeros((3, G), np.float32)
    batch = torch.tensor([0, 1, -1])
    assert (module(rows_of(x), batch) == 0).all()
    assert (module(torch.from_numpy(x), batch) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_unmeasured_values_cannot_move_components(kind, rng):
    module = random_projection(kind)
    x = rng.poisson(1.0, (10, G)).astype(np.float32)
    batch = torch.from_numpy(rng.integers(0, B, 10))
    poisoned = np.where(module.feature_mask[batch].numpy(), x, 99.0).astype(np.float32)
    np.testing.assert_array_equal(module(torch.from_numpy(x), batch), module(torch.from_numpy(poisoned), batch))
    np.testing.assert_allclose(module(rows_of(x), batch), module(rows_of(poisoned), batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_an_empty_projection_loads_the_state_of_another(masked, rng):
    module = random_projection("tfidf", masked=masked)
    empty = FrozenProjection(**module.config)
    empty.load_state_dict(module.state_dict())
    x, batch = rows_of(rng.poisson(1.0, (10, G))), torch.arange(10) % B
    assert torch.equal(empty(x, batch), module(x, batch))


def test_all_state_is_buffers_and_nothing_has_a_gradient(rng):
    module = random_projection("tfidf")
    assert list(module.parameters()) == []
    x = torch.from_numpy(rng.poisson(1.0, (4, G)).astype(np.float32)).requires_grad_()
    assert not module(x, torch.zeros(4, dtype=torch.int64)).requires_grad


def test_without_batches_rows_are_of_the_only_one_or_unknown(rng):
    x = rows_of(rng.poisson(1.0, (5, G)))
    several = random_projection("lognorm")
    assert torch.equal(several(x), several(x, torch.full((5,), -1)))
    single = FrozenProjection(G, K, 1)
    single.centre[0] = 1.0
    single.centre[1] = 5.0
    assert torch.equal(single(x), single(x, torch.zeros(5, dtype=torch.int64)))


def test_no_rows_give_no_components():
    module = random_projection("tfidf")
    none = SparseRows(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    assert module(none, torch.zeros(0, dtype=torch.int64)).shape == (0, K)


def test_truncation_keeps_the_leading_components(rng):
    module = random_projection("clr")
    x, batch = rows_of(rng.poisson(1.0, (10, G))), torch.arange(10) % B
    torch.testing.assert_close(module.truncate(2)(x, batch), module(x, batch)[:, :2])
    assert module.truncate(99).n_components == K


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="Expected `kind` to be one of 'lognorm'"):
        FrozenProjection(G, K, kind="log")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_gives_what_the_cpu_gives(kind, rng):
    module = random_projection(kind)
    x, batch = rows_of(rng.poisson(1.0, (50, G))), torch.arange(50) % B
    expected = module(x, batch)
    found = module.to("cuda")(SparseRows(*(t.cuda() for t in x)), batch.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
