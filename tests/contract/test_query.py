from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic
from contract._models import ONE_PER_CLASS

from smalti._mudata import build_mudata


@pytest.mark.parametrize("spec", ONE_PER_CLASS, ids=lambda spec: spec.name)
def test_a_query_of_reference_cells_lands_where_they_are_and_a_new_batch_is_admitted(spec, capfd, caplog) -> None:
    mdata = make_mosaic(pattern="every", n_obs=105)
    model = spec.fit(spec.build(mdata))
    parts = {name: adata[::2, ::-1].copy() for name, adata in mdata.mod.items()}
    query = build_mudata(parts, obs=mdata.obs)
    mapped = spec.cls.load_query(query, model)
    whole = build_mudata({name: adata[::2].copy() for name, adata in mdata.mod.items()}, obs=mdata.obs)
    expected = model.get_latent_representation(whole)[whole.obs_names.get_indexer(mapped.adata.obs_names)]
    np.testing.assert_allclose(mapped.get_latent_representation(), expected, atol=1e-5)

    query.obs["batch"] = "a new one"
    mapped = spec.cls.load_query(query, model)
    assert mapped.query_report_.new_batches == ("a new one",)
    assert np.isfinite(mapped.get_latent_representation()).all()
    assert "AnnData" not in "".join(capfd.readouterr()) + caplog.text
