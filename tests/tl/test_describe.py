from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from _factories import STORAGES, make_mosaic

import smalti as sm
from smalti._mudata import build_mudata
from smalti.data import presence


def test_counts_of_patterns_batches_and_labels_add_up() -> None:
    mdata = make_mosaic(pattern="every", n_obs=105, unlabeled=0.2, n_batches=3)
    found = sm.tl.describe_mosaic(mdata, batch_key="batch", labels_key="label")
    here = presence(mdata)
    for i, row in enumerate(found.patterns.to_numpy()):
        cells = (here == row).all(axis=1)
        assert found.pattern_sizes[i] == cells.sum()
        for batch in found.batches:
            assert found.batches.loc[i, batch] == (cells & (mdata.obs["batch"] == batch)).sum()
    assert found.pattern_sizes.sum() == mdata.n_obs
    for label in found.labels.index:
        mine = (mdata.obs["label"] == label).to_numpy()
        assert found.labels.loc[label].tolist() == [
            *here[mine].sum(axis=0),
            (here[mine].sum(axis=1) > 1).sum(),
            mine.sum(),
        ]
    assert "unknown" not in found.labels.index
    np.testing.assert_array_equal(found.pairs, here.T.astype(int) @ here.astype(int))


@pytest.mark.parametrize("storage", STORAGES)
def test_nothing_is_written(storage: str) -> None:
    mdata = make_mosaic(storage=storage)
    before = (repr(mdata), mdata.obs.copy(), mdata["a"].X.copy())
    print(sm.tl.describe_mosaic(mdata, batch_key="batch", labels_key="label"))
    assert repr(mdata) == before[0]
    pd.testing.assert_frame_equal(mdata.obs, before[1])
    x = mdata["a"].X
    np.testing.assert_array_equal(*(v.toarray() if hasattr(v, "toarray") else v for v in (x, before[2])))


def test_the_real_mosaic_is_told_as_it_is() -> None:
    found = sm.tl.describe_mosaic(sm.datasets.pbmc_mosaic(), batch_key="batch", labels_key="celltype")
    text = repr(found)
    assert "1,600 cells in 2 modalities, 4 batches, 8 labels" in text
    assert found.problems == found.notes == ()
    assert [row.split() for row in text.splitlines() if row.lstrip().startswith("800")] == [
        ["800", "50%", "■", "■", "·", "·", "400", "400"]
    ]
    assert found.recommendation.model == "CLUE"
    assert "modalities={'rna': 'nb', 'adt': 'nb'}, batch_key='batch'" in found.recommendation.code


def test_the_recommended_setup_works() -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=150, n_features={"a": 30, "b": 20}, likelihood="nb")
    mdata["a"].layers["raw"] = mdata["a"].X.copy()
    mdata["a"].X = np.log1p(mdata["a"].X)
    code = sm.tl.describe_mosaic(mdata, batch_key="batch").recommendation.code
    assert "layer='raw'" in code
    exec(code.partition("model.train()")[0], names := {"sm": sm, "mdata": mdata})
    assert [size.likelihood for size in names["model"].sizes_.modalities.values()] == ["nb", "nb"]


def test_many_modalities_give_code_on_several_lines_that_is_python() -> None:
    sizes = {f"modality_{i}": 5 for i in range(4)}
    mdata = make_mosaic(n_features=sizes, likelihood="nb", pattern="paired")
    code = sm.tl.describe_mosaic(mdata, batch_key="batch").recommendation.code
    compile(code, "recommended", "exec")
    assert max(map(len, code.splitlines())) <= 100


def test_text_keeps_to_a_hundred_characters_and_shortens_long_tables() -> None:
    mdata = make_mosaic(n_obs=300, n_batches=12, n_clusters=20, pattern="every")
    found = sm.tl.describe_mosaic(mdata, batch_key="batch", labels_key="label")
    lines = repr(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("6 of 12 shown" in line for line in lines)
    assert any("the 12 most frequent of 20" in line for line in lines)


def test_html_says_what_text_says_and_escapes_names() -> None:
    mdata = make_mosaic(n_features={"a<b": 10, "c": 8}, likelihood="nb", pattern="mosaic")
    found = sm.tl.describe_mosaic(mdata, batch_key="batch")
    html = found._repr_html_()
    assert "a&lt;b" in html
    assert "a<b" not in html
    assert html.count("<table>") == html.count("</table>") == 2
    assert "Recommended: CLUE" in html
    assert "■" in html


def test_a_stale_map_is_reported_not_refused() -> None:
    mdata = make_mosaic(pattern="every")
    mdata.mod["b"] = mdata["b"][4:].copy()
    found = sm.tl.describe_mosaic(mdata, batch_key="batch")
    assert any("mdata.update()" in problem for problem in found.problems)
    assert found.modalities["b"].n_obs == mdata["b"].n_obs
    assert "Solve the problems above first." in repr(found)


def test_a_modality_without_cells_is_reported_and_not_recommended() -> None:
    mdata = make_mosaic()
    empty = ad.AnnData(np.zeros((0, 3), np.float32))
    empty.var_names = ["d0", "d1", "d2"]
    found = sm.tl.describe_mosaic(build_mudata({**mdata.mod, "d": empty}))
    assert any("'d' has no cell" in problem for problem in found.problems)
    assert "'d'" not in found.recommendation.code


def test_cells_without_any_modality_are_reported_by_number_and_name() -> None:
    mdata = make_mosaic(pattern="every")
    lonely = mdata.obs_names[presence(mdata)[:, 1:].any(axis=1) == 0]
    del mdata.mod["a"]
    found = sm.tl.describe_mosaic(mdata)
    problem = next(problem for problem in found.problems if "no modality" in problem)
    assert problem.startswith(f"{len(lonely)} cells")
    assert lonely[0] in problem
    assert found.pattern_sizes[-1] == len(lonely)


def test_a_view_is_reported() -> None:
    mdata = make_mosaic(pattern="paired")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sm.tl.describe_mosaic(mdata[:40])
    assert any("view" in problem for problem in found.problems)


def test_missing_batches_are_a_problem_and_unknown_columns_an_error() -> None:
    mdata = make_mosaic()
    mdata.obs["batch"] = mdata.obs["batch"].astype(object)
    mdata.obs.iloc[3, mdata.obs.columns.get_loc("batch")] = None
    found = sm.tl.describe_mosaic(mdata, batch_key="batch")
    assert any("missing for 1 cells" in problem for problem in found.problems)
    assert found.batches.to_numpy().sum() == mdata.n_obs - 1
    with pytest.raises(KeyError, match="'donor'"):
        sm.tl.describe_mosaic(mdata, batch_key="donor")


def test_a_panel_gap_in_one_batch_is_noted() -> None:
    mdata = make_mosaic(n_obs=300, pattern="mosaic", n_features={"a": 30, "b": 20}, likelihood="poisson", n_batches=2)
    rows = mdata.obs.loc[mdata["b"].obs_names, "batch"].to_numpy() == "batch_0"
    common = int(np.asarray((mdata["b"].X > 0).sum(axis=0)).argmax())
    x = mdata["b"].X.tolil()
    x[np.flatnonzero(rows), common] = 0
    mdata["b"].X = x.tocsr()
    found = sm.tl.describe_mosaic(mdata, batch_key="batch")
    assert any("'batch_0' shows 1 of 20 features of 'b' in no cell" in note for note in found.notes)
