"""Which cells teach which cluster."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti.model.fusion._pseudo import pseudo_labels, soft_cross_entropy, within_cluster_partners

RULE = {"coverage": 0.5, "threshold": 0.5}


def planted(sizes: tuple[int, ...], seed: int = 0):
    """Return clusters, a head that is sure of them, and two modalities in which they are directions."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(sizes)), sizes)
    p = torch.from_numpy(np.eye(len(sizes))[code] * 0.9 + 0.1 / len(sizes) + rng.random((len(code), len(sizes))) * 1e-3)
    views = {
        name: torch.from_numpy(np.eye(6)[code] + 0.1 * rng.normal(size=(len(code), 6))).float() for name in ("a", "b")
    }
    present = {name: torch.ones(len(code), dtype=torch.bool) for name in views}
    return torch.from_numpy(code), p.float(), views, present


@pytest.mark.parametrize("balance", ["equal", "proportional"])
def test_cells_teach_the_cluster_they_are_of(balance) -> None:
    code, p, views, present = planted((20, 20, 20))
    found = pseudo_labels(p, views, present, balance=balance, **RULE)
    for table in (*found.by_modality.values(), found.fused):
        used = table.sum(dim=1) > 0
        assert 20 < int(used.sum()) <= 60
        assert torch.equal(table.argmax(dim=1)[used], code[used])
        torch.testing.assert_close(table.sum(dim=1)[used], torch.ones(int(used.sum())))


def test_as_many_cells_teach_each_cluster_or_in_proportion_to_its_size() -> None:
    code, p, views, present = planted((60, 30, 10))
    counts = {
        balance: pseudo_labels(p, views, present, balance=balance, **RULE).by_modality["a"].gt(0).sum(dim=0).tolist()
        for balance in ("equal", "proportional")
    }
    assert 10 <= counts["equal"][2] <= 17  # wanted are 17, though the cluster has 10
    assert counts["equal"][0] == pytest.approx(17, abs=2) == counts["equal"][1]  # cells with two labels do not teach
    first, second, third = counts["proportional"]
    assert first > 1.6 * second > 2.5 * third


def test_cells_that_modalities_label_differently_do_not_teach() -> None:
    code, p, views, present = planted((20, 20))
    options = {"coverage": 1.0, "threshold": 0.5, "balance": "equal"}
    before = pseudo_labels(p, views, present, **options)
    assert before.by_modality["a"][:3].sum() > 0
    views["b"][:3] = torch.nn.functional.one_hot(torch.ones(3, dtype=torch.long), 6).float()  # b: the other cluster
    after = pseudo_labels(p, views, present, **options)
    assert after.by_modality["a"][:3].sum() == after.by_modality["b"][:3].sum() == after.fused[:3].sum() == 0
    assert after.coverage < before.coverage


def test_cells_of_one_modality_teach_only_if_asked_and_if_one_centre_leads() -> None:
    code, p, views, present = planted((20, 20))
    present["b"][:2] = False
    views["a"][1] = views["a"][0] = torch.tensor([1.0, 0, 0, 0, 0, 0])
    views["a"][1, 1] = 0.99  # between the clusters
    options = {"coverage": 1.0, "threshold": 0.5, "balance": "equal"}
    quiet = pseudo_labels(p, views, present, **options)
    assert quiet.by_modality["a"][:2].sum() == 0
    found = pseudo_labels(p, views, present, unpaired_margin=0.1, **options).by_modality["a"]
    assert found[0, 0] == 1
    assert found[1].sum() == 0


def test_an_embedding_far_from_every_centre_does_not_teach() -> None:
    code, p, views, present = planted((20, 20))
    views["a"][0] = torch.tensor([0.0, 0, 0, 1, 0, 0])
    found = pseudo_labels(p, views, present, coverage=1.0, threshold=0.5, balance="equal")
    assert found.by_modality["a"][0].sum() == 0


def test_without_pairs_nobody_teaches_and_the_loss_is_zero() -> None:
    code, p, views, present = planted((5, 5))
    present["b"][:] = False
    found = pseudo_labels(p, views, present, balance="proportional", **RULE)
    assert found.coverage == 0
    assert soft_cross_entropy(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), found.fused) == 0


def test_soft_cross_entropy_is_the_mean_over_cells_that_teach() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.3, -2.0], [5.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]])
    expected = torch.nn.functional.cross_entropy(logits[:2], labels[:2])
    torch.testing.assert_close(soft_cross_entropy(logits, labels), expected)


def test_partners_share_a_cluster_and_nobody_is_used_twice() -> None:
    generator = np.random.default_rng(0)
    codes = {"a": generator.integers(0, 3, 40), "b": generator.integers(0, 3, 40)}
    labels = {name: torch.from_numpy(np.eye(3)[code]).float() for name, code in codes.items()}
    labels["a"][:5] = 0
    torch.manual_seed(0)
    rows, cluster = within_cluster_partners(labels)
    for name, at in rows.items():
        assert torch.equal(labels[name][at].argmax(dim=1), cluster)
        assert len(at.unique()) == len(at)
        assert labels[name][at].sum() == len(at)
    counts = [min(int((labels[n].argmax(1)[labels[n].sum(1) > 0] == k).sum()) for n in "ab") for k in range(3)]
    assert torch.bincount(cluster, minlength=3).tolist() == counts
