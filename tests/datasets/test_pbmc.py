from __future__ import annotations

import hashlib
from importlib.resources import files

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from smalti._mudata import no_pull
from smalti.data import presence
from smalti.datasets import pbmc_mosaic


def test_half_of_the_cells_are_paired():
    mdata = pbmc_mosaic()
    assert list(mdata.mod) == ["rna", "adt"]
    assert mdata["rna"].shape == (1200, 500)
    assert mdata["adt"].shape == (1200, 224)
    assert presence(mdata).sum(0).tolist() == [1200, 1200]
    assert presence(mdata).all(1).sum() == 800


def test_each_donor_has_its_presence():
    mdata = pbmc_mosaic()
    here = {batch: presence(mdata)[mdata.obs["batch"] == batch] for batch in mdata.obs["batch"].cat.categories}
    expected = {"p1_0": [True, False], "p2_0": [False, True], "p3_0": [True, True], "p4_0": [True, True]}
    assert here.keys() == expected.keys()
    for batch, rows in here.items():
        assert (rows == expected[batch]).all()
        assert len(rows) == 400


def test_every_cell_has_batch_and_cell_type_and_no_other_column():
    obs = pbmc_mosaic().obs
    assert list(obs) == ["batch", "celltype"]
    assert obs.notna().all(axis=None)
    assert obs["batch"].dtype == "category"
    assert len(obs["celltype"].cat.categories) == 8


def test_values_are_raw_counts_in_sparse_rows():
    for adata in pbmc_mosaic().mod.values():
        assert isinstance(adata.X, sp.csr_matrix)
        assert adata.X.dtype == np.float32
        assert (adata.X.data == np.rint(adata.X.data)).all()
        assert (adata.X.data > 0).all()
        assert adata.X.max() > 1000


def test_each_call_gives_a_new_object():
    first = pbmc_mosaic()
    first["rna"].X.data[:] = 0
    assert pbmc_mosaic()["rna"].X.data.min() > 0


def test_the_licence_notice_and_the_citation_lie_beside_the_file():
    folder = files("smalti.datasets") / "_data"
    assert "Permission is hereby granted, free of charge" in (folder / "LICENSE.scmidas.txt").read_text()
    assert "GSE164378" in (folder / "README.md").read_text()
    assert len((folder / "pbmc_mosaic.h5mu").read_bytes()) < 3e6


@pytest.mark.data
def test_values_and_labels_are_those_of_the_original_file(data_dir):
    path = data_dir / "pbmc_mosaic.h5mu"
    assert hashlib.md5(path.read_bytes()).hexdigest() == "d35e65c4d3213660ffdff5300ae73a46"
    with no_pull():
        original = mudata.read_h5mu(path)
    mdata = pbmc_mosaic()
    assert mdata.obs_names.tolist() == original.obs_names.tolist()
    assert mdata.obs.astype(str).equals(original.obs[["batch", "celltype"]].astype(str))
    for name, adata in mdata.mod.items():
        assert adata.var_names.tolist() == original[name].var_names.tolist()
        assert (adata.X != original[name].X).nnz == 0
