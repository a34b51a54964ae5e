from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from smalti._mudata import build_mudata
from smalti.align import check_links
from smalti.tl._feature_links import MIN_LINKS, find_links, links_code


def modality(cells: str, names: list[str], **columns: list[object]) -> ad.AnnData:
    adata = ad.AnnData(np.ones((3, len(names)), np.float32))
    adata.obs_names = [f"{cells}_{i}" for i in range(3)]
    adata.var = pd.DataFrame(columns, index=pd.Index(names))
    return adata


def genes(n: int, prefix: str = "gene") -> list[str]:
    return [f"{prefix}_{i}" for i in range(n)]


def test_the_way_that_links_most_features_is_found_and_its_table_is_accepted() -> None:
    column = [*genes(6), None, "unknown"]
    names = [*genes(4), *genes(4, "protein")]  # four are named alike, the column links six
    mdata = build_mudata(
        {"rna": modality("x", genes(10)), "adt": modality("y", names, gene=pd.Categorical(column), mass=range(8))}
    )
    (link,) = find_links(mdata, ["rna", "adt"])
    assert (link.named, link.naming, link.column, link.n) == ("rna", "adt", "gene", 6)
    exec(links_code([link]), space := {"mdata": mdata})
    table = check_links(space["links"], {name: adata.var_names for name, adata in mdata.mod.items()})
    assert table["rna"].tolist() == genes(6)
    assert table["adt"].tolist() == names[:6]


def test_tables_of_several_pairs_are_joined() -> None:
    mdata = build_mudata({name: modality(name, genes(n)) for name, n in (("a", 9), ("b", 7), ("c", 5))})
    found = find_links(mdata, list("abc"))
    assert [(link.column, link.n) for link in found] == [(None, 7), (None, 5), (None, 5)]
    exec(links_code(found), space := {"mdata": mdata})
    table = check_links(space["links"], {name: adata.var_names for name, adata in mdata.mod.items()})
    assert len(table) == 17
    assert ((table != "").sum(axis=1) == 2).all()


def test_numbers_as_names_and_a_few_shared_names_link_nothing() -> None:
    numbers = [str(i) for i in range(9)]
    mdata = build_mudata({"a": modality("x", numbers), "b": modality("y", numbers)})
    assert find_links(mdata, ["a", "b"]) == []
    few = MIN_LINKS - 1
    mdata = build_mudata({"a": modality("x", genes(9)), "b": modality("y", [*genes(few), *genes(5, "protein")])})
    assert find_links(mdata, ["a", "b"]) == []
    assert links_code([]) == ""
