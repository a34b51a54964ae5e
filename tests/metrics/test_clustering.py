from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from smalti.metrics import ari, nmi, nmi_ari


def entropy(*partitions):
    _, counts = np.unique(np.column_stack(partitions), axis=0, return_counts=True)
    p = counts / counts.sum()
    return -(p * np.log(p)).sum()


def brute_nmi(a, b):
    return (entropy(a) + entropy(b) - entropy(a, b)) / ((entropy(a) + entropy(b)) / 2)


def brute_ari(a, b):
    """Pairs of cells, one by one."""
    upper = np.triu_indices(len(a), 1)
    same_a, same_b = (np.equal.outer(p, p)[upper] for p in (a, b))
    expected = same_a.sum() * same_b.sum() / len(same_a)
    return ((same_a & same_b).sum() - expected) / ((same_a.sum() + same_b.sum()) / 2 - expected)


def test_agreement_equals_its_definition(rng):
    a = rng.integers(4, size=100)
    b = np.where(rng.random(100) < 0.5, a, rng.integers(5, size=100))
    assert nmi(a, b) == pytest.approx(brute_nmi(a, b), abs=1e-12)
    assert ari(a, b) == pytest.approx(brute_ari(a, b), abs=1e-12)


def test_names_of_clusters_do_not_matter_and_chance_is_zero(rng):
    a = rng.integers(3, size=3000)
    names = np.array(["z", "x", "y"])[a]
    assert nmi(a, names) == pytest.approx(1)
    assert ari(a, names) == 1
    assert ari(a, rng.permutation(a)) == pytest.approx(0, abs=0.01)


def test_unlabelled_cells_are_left_out(rng):
    clusters = rng.integers(3, size=60)
    labels = np.array(["a", "b", "c"])[clusters].astype(object)
    labels[:10], labels[10:20] = None, "?"
    assert ari(labels, clusters, exclude="?") == 1
    assert ari(labels, clusters) < 1
    with pytest.raises(ValueError, match="labelled cells in `labels`, found none"):
        nmi(["?"] * 4, [0, 1, 0, 1], exclude="?")
    with pytest.raises(ValueError, match="`clusters` to hold one label for each of 4"):
        nmi(["a"] * 4, [0, 1, 0])
    with pytest.raises(ValueError, match="`clusters` to have a value for every cell, found 1 missing, first in row 3"):
        nmi(["a"] * 4, [0, 1, 0, None])


@pytest.mark.data
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_equal_the_protocol(protocol, dtype, make_pairs):
    pytest.importorskip("igraph")
    x, _, labels = make_pairs(300, 6, noise=1.5, dtype=dtype)
    expected = protocol.clustering_scores(x, labels)
    kmeans, leiden = nmi_ari(x, labels), nmi_ari(x, labels, method="leiden")
    assert (kmeans.nmi, kmeans.ari) == (expected["nmi_kmeans"], expected["ari_kmeans"])
    assert kmeans.resolution is None
    assert (leiden.nmi, leiden.ari) == (expected["nmi_leiden"], expected["ari_leiden"])
    assert leiden.resolution == expected["leiden_resolution"]


@pytest.mark.parametrize("method", ["kmeans", "leiden"])
def test_planted_clusters_are_found(method, rng):
    if method == "leiden":
        pytest.importorskip("igraph")
    labels = np.repeat(["a", "b", "c", "unknown"], 40)
    x = rng.normal(size=(160, 3)) + 30 * np.unique(labels, return_inverse=True)[1][:, None]
    scores = nmi_ari(x, labels, method=method, exclude="unknown")
    assert scores[:2] == pytest.approx((1, 1))


def test_leiden_takes_the_resolution_of_the_best_nmi(make_pairs):
    pytest.importorskip("igraph")
    x, _, labels = make_pairs(200, 4, noise=1.0)
    single = [nmi_ari(x, labels, method="leiden", resolutions=[r]) for r in (0.2, 1.0, 2.0)]
    best = nmi_ari(x, labels, method="leiden", resolutions=(0.2, 1.0, 2.0))
    assert best == max(single, key=lambda scores: scores.nmi)
    assert len({scores.nmi for scores in single}) > 1


def test_leiden_gives_igraph_its_random_numbers_back(make_pairs):
    igraph = pytest.importorskip("igraph")
    x, _, labels = make_pairs(60)

    def draw():
        random.seed(3)
        return igraph.Graph.Erdos_Renyi(30, 0.3).get_edgelist()

    before = draw()
    nmi_ari(x, labels, method="leiden")
    assert draw() == before


def test_clustering_is_reproducible_by_seed(make_pairs):
    x, _, labels = make_pairs(noise=3.0)
    assert nmi_ari(x, labels, n_init=1, seed=1) == nmi_ari(x, labels, n_init=1, seed=1)
    assert len({nmi_ari(x, labels, n_init=1, seed=s).nmi for s in range(5)}) > 1


def test_leiden_without_igraph_says_what_to_install(monkeypatch, make_pairs):
    monkeypatch.setitem(sys.modules, "igraph", None)
    x, _, labels = make_pairs()
    with pytest.raises(ImportError, match="pip install igraph"):
        nmi_ari(x, labels, method="leiden")


def test_bad_arguments_are_refused(make_pairs):
    x, _, labels = make_pairs(30)
    with pytest.raises(ValueError, match="`method` to be one of 'kmeans', 'leiden'"):
        nmi_ari(x, labels, method="louvain")
    with pytest.raises(ValueError, match="`labels` to have at least 2 classes .* found 1"):
        nmi_ari(x, ["a"] * 30)
    with pytest.raises(ValueError, match="fewer than labelled cells, found 30 .* in 30"):
        nmi_ari(x, np.arange(30))
    with pytest.raises(ValueError, match="`n_neighbors` to be at most 29"):
        nmi_ari(x, labels, method="leiden", n_neighbors=30)
    with pytest.raises(ValueError, match="`resolutions` to hold at least one"):
        nmi_ari(x, labels, method="leiden", resolutions=())
    with pytest.raises(ValueError, match="`n_init` to be a whole number"):
        nmi_ari(x, labels, n_init=0)
