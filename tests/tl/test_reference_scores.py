from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import smalti as sm


def cells(*groups: tuple[float, int], seed: int) -> AnnData:
    rng = np.random.default_rng(seed)
    z = np.concatenate([rng.normal(centre, 1, (n, 3)) for centre, n in groups])
    adata = AnnData(np.zeros((len(z), 1)))
    adata.obs["group"] = np.repeat([str(centre) for centre, _ in groups], [n for _, n in groups])
    adata.obsm["X_clue"] = z
    return adata


@pytest.fixture(scope="module")
def found():
    ref = cells((0, 400), (20, 400), seed=0)
    query = cells((0, 300), (40, 100), seed=1)
    return ref, query, sm.tl.reference_scores(ref, query, use_rep="clue")


def test_cells_that_the_reference_lacks_are_out_of_it_and_others_are_evenly_spread(found) -> None:
    _, query, scores = found
    known = (query.obs["group"] == "0").to_numpy()
    assert (scores.out_of_reference[~known] == 1).all()
    inside = scores.out_of_reference[known]
    assert inside.mean() == pytest.approx(0.5, abs=0.12)
    assert (inside > 0.9).mean() < 0.25


def test_presence_is_none_where_the_query_has_no_such_cells_and_half_where_it_has_as_many(found) -> None:
    ref, _, scores = found
    covered = (ref.obs["group"] == "0").to_numpy()
    assert scores.presence[~covered].max() == 0
    # 300 of 400 query cells where the reference has 400 of 800: 0.75 / (0.75 + 0.5) = 0.6
    assert scores.presence[covered].median() == pytest.approx(0.6, abs=0.07)
    assert "outside the reference" in repr(scores)


def test_cells_without_a_latent_are_missing() -> None:
    ref, query = cells((0, 60), seed=0), cells((0, 30), seed=1)
    query.obsm["X_clue"][4] = np.nan
    scores = sm.tl.reference_scores(ref, query)
    assert np.flatnonzero(scores.out_of_reference.isna()).tolist() == [4]
