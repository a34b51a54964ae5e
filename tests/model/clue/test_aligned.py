"""The block for matching: networks beside linear CCA, weighted on held-out pairs, without disagreement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _clue import options

from smalti.model.clue._aligned import AlignedBlock
from smalti.model.parts._match_space import SHARE

N = 600


@pytest.fixture
def block():
    return AlignedBlock({"a": 5, "b": 4}, options(n_align=6, n_aligners=2))


def unit(z):
    return torch.nn.functional.normalize(torch.as_tensor(z, dtype=torch.float32), dim=-1)


def planted(rng, *, networks: float, linear: float, against: float = 0.0):
    """Two networks and CCA of two modalities: shared axes with noise, and one axis on which modalities are opposed."""
    shared, opposed = rng.normal(size=(N, 4)), rng.normal(size=(N, 1))
    parts = {}
    for name, sign in (("a", 1), ("b", -1)):
        sets = [
            np.hstack([shared + noise * rng.normal(size=shared.shape), sign * against * opposed, np.zeros((N, 1))])
            for noise in (networks, networks, linear)
        ]
        parts[name] = unit(np.stack(sets, axis=1))
    return parts


def fit(block, parts, held_out=None, batch=None):
    everywhere = {name: np.ones(N, dtype=bool) for name in parts}
    held_out = np.arange(N) % 3 == 0 if held_out is None else held_out
    block.fit(parts, everywhere, np.zeros(N, dtype=int) if batch is None else batch, held_out)
    return block


def test_the_cosine_of_two_profiles_is_the_weighted_mean_of_all_cosines(block, rng):
    parts = planted(rng, networks=0.5, linear=0.5)
    block.share.fill_(0.6)
    u, v = (block.match_space(parts[name]) for name in "ab")
    cosines = (parts["a"] * parts["b"]).sum(-1)
    torch.testing.assert_close((u * v).sum(1), 0.3 * cosines[:, 0] + 0.3 * cosines[:, 1] + 0.4 * cosines[:, 2])


@pytest.mark.parametrize(("networks", "linear", "expected"), [(0.3, 3.0, 1.0), (3.0, 0.3, 0.0)])
def test_who_finds_held_out_partners_gets_the_weight(block, rng, networks, linear, expected):
    fit(block, planted(rng, networks=networks, linear=linear))
    assert float(block.share) == expected


def test_few_held_out_pairs_leave_the_usual_share(block, rng):
    fit(block, planted(rng, networks=3.0, linear=0.3), held_out=np.arange(N) < 20)
    assert float(block.share) == pytest.approx(SHARE)


def test_no_axis_on_which_held_out_pairs_disagree_is_kept(block, rng):
    parts = planted(rng, networks=0.6, linear=0.6, against=2.0)
    side_by_side = {name: part.flatten(1).numpy() for name, part in parts.items()}
    before = [np.corrcoef(side_by_side["a"][:, k], side_by_side["b"][:, k])[0, 1] for k in (4, 10, 16)]
    assert max(before) < -0.9, "the planted disagreement is there"
    held_out = np.arange(N) % 3 == 0
    fit(block, parts, held_out)
    n_axes = int(block.n_axes)
    assert 2 <= n_axes <= 12
    z = {name: (part.flatten(1) @ block.axes[:, :n_axes]).numpy()[held_out] for name, part in parts.items()}
    for k in range(n_axes):
        assert np.corrcoef(z["a"][:, k], z["b"][:, k])[0, 1] >= 0, k
    u, v = (block.match_space(parts[name]).numpy()[held_out] for name in "ab")
    own = (u * v).sum(1)
    assert (u @ v.T > own[:, None]).mean() < 0.08


def test_candidates_of_other_batches_do_not_count(block, rng):
    """CCA tells donors apart perfectly and cells within them not at all; within batches the networks win."""
    donor = np.arange(N) % 2
    parts = planted(rng, networks=0.8, linear=50.0)
    for name in "ab":
        flags = np.zeros((N, 6), dtype=np.float32)
        flags[:, 0] = np.where(donor, 3, -3)
        parts[name][:, 2] = unit(flags + rng.normal(size=(N, 6)))
    fit(block, parts, batch=donor)
    assert float(block.share) == 1.0


def test_without_pairs_nothing_is_chosen(block, rng):
    parts = planted(rng, networks=0.5, linear=0.5)
    nobody = {"a": np.ones(N, dtype=bool), "b": np.zeros(N, dtype=bool)}
    block.fit(parts, nobody, np.zeros(N, dtype=int), np.arange(N) < 100)
    assert float(block.share) == 1.0
    assert int(block.n_axes) == 18
