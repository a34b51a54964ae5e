"""All scores of one real data set, against the scoring script."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from smalti.metrics import cell_type_asw, foscttm, label_transfer, matching_score, nmi_ari, silhouette_mixing


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*pull:FutureWarning")
def test_every_score_of_a_real_mosaic_equals_the_protocol(protocol, data_dir):
    pytest.importorskip("igraph")
    data = protocol.load(data_dir / "pbmc_mosaic.h5mu", label="celltype")
    z_rna, z_other = (
        PCA(12, random_state=0).fit_transform(np.log1p(counts.toarray())) for counts in (data.rna, data.other)
    )
    expected = protocol.score(data, z_rna, z_other)

    test = data.roles() == "test"
    x, y, labels = z_rna[test], z_other[test], data.labels[test]
    both, twice = np.vstack([x, y]), np.concatenate([labels, labels])
    found = {
        "foscttm": foscttm(x, y),
        "foscttm_cos": foscttm(x, y, metric="cosine"),
        "ms_k1": matching_score(x, y, k=1),
        "ms_k10": matching_score(x, y),
        "ms_k20": matching_score(x, y, k=20),
        "lt_rna2other": label_transfer(x, labels, y, labels),
        "lt_other2rna": label_transfer(y, labels, x, labels),
        "mod_mixing": silhouette_mixing(both, np.repeat(["rna", "adt"], len(x))),
        "ct_asw": cell_type_asw(both, twice),
    }

    roles = data.roles()
    paired, rna, other = roles == "paired", np.isin(roles, ("rna", "test")), np.isin(roles, ("other", "test"))
    profiles = np.vstack([(z_rna[paired] + z_other[paired]) / 2, z_rna[rna], z_other[other]])
    labels = np.concatenate([data.labels[rows] for rows in (paired, rna, other)])
    kmeans, leiden = nmi_ari(profiles, labels), nmi_ari(profiles, labels, method="leiden")
    found |= {"nmi_kmeans": kmeans.nmi, "ari_kmeans": kmeans.ari, "nmi_leiden": leiden.nmi, "ari_leiden": leiden.ari}
    assert {name: round(value, 5) for name, value in found.items()} == {name: expected[name] for name in found}
    assert leiden.resolution == expected["leiden_resolution"]
