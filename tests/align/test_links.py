"""Links: which features are summed, on which scale, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from smalti.align import check_links, link_matrices, linked_values, widest

NAMES = {"rna": ["G1", "G2", "G3"], "atac": ["p1", "p2", "p3", "p4"], "adt": ["CD1", "CD2"]}


def table(**columns) -> pd.DataFrame:
    return check_links(pd.DataFrame(columns), NAMES)


def test_regions_of_a_gene_are_summed():
    links = table(rna=["G1", "G1", "G3"], atac=["p4", "p1", "p2"])
    genes, regions, names = link_matrices(links, ("rna", "atac"), NAMES)
    assert names == ("G1", "G3")
    np.testing.assert_array_equal(genes.toarray(), [[1, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(regions.toarray(), [[1, 0], [0, 1], [0, 0], [1, 0]])


def test_the_order_of_the_pair_only_swaps_the_sides():
    links = table(rna=["G1", "G1", "G3"], atac=["p4", "p1", "p2"])
    genes, regions, _ = link_matrices(links, ("rna", "atac"), NAMES)
    first, second, _ = link_matrices(links, ("atac", "rna"), NAMES)
    np.testing.assert_array_equal(first.toarray(), regions.toarray())
    np.testing.assert_array_equal(second.toarray(), genes.toarray())


def test_rows_without_one_of_the_two_are_left_out_and_a_single_link_is_none():
    links = table(rna=["G1", "G2", None, "G3"], adt=["CD1", "CD2", "CD2", None])
    _, _, names = link_matrices(links, ("rna", "adt"), NAMES)
    assert names == ("G1", "G2")
    assert link_matrices(links.iloc[[0]], ("rna", "adt"), NAMES) is None
    assert link_matrices(links, ("rna", "atac"), NAMES) is None


def test_values_are_normalised_before_they_are_summed_and_logged_after():
    x = np.array([[1.0, 3.0, 6.0], [0.0, 0.0, 0.0]])
    features = sp.csr_matrix([[1.0, 0], [1, 0], [0, 1]])
    found = linked_values(sp.csr_matrix(x), features, "depth").toarray()
    np.testing.assert_allclose(found, [np.log1p([4000, 6000]), [0, 0]])
    mean = np.exp(np.log1p(x[0]).mean())
    np.testing.assert_allclose(linked_values(x, features, "clr").toarray()[0], np.log1p(np.array([4, 6]) / mean))
    np.testing.assert_allclose(linked_values(x, features, "none", chunk=1).toarray()[0], [4, 6])


def test_the_widest_columns_vary_in_both():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)) * [1, 5, 5, 0], rng.normal(size=(50, 4)) * [1, 5, 0.01, 9]
    np.testing.assert_array_equal(widest(sp.csr_matrix(x), sp.csr_matrix(y), 2), [0, 1])


@pytest.mark.parametrize(
    ("links", "error", "says"),
    [
        ([("G1", "CD1")], TypeError, "DataFrame"),
        (pd.DataFrame({"rna": ["G1"], "protein": ["CD1"]}), KeyError, "'protein' not found"),
        (pd.DataFrame({"rna": ["G1"]}), ValueError, "at least two modalities"),
        (pd.DataFrame({"rna": ["G1"], "adt": ["CD9"]}), ValueError, "'adt' does not have: 'CD9'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(links, error, says):
    with pytest.raises(error, match=says):
        check_links(links, NAMES)
