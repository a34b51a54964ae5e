"""Weighted nearest neighbours of completed components of each modality, as a spectral embedding of the graph."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from _adapter import main
from sklearn.manifold import SpectralEmbedding

import smalti as sm
from smalti.data import row_maps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _wnn import weighted_neighbors


def fit(mdata, seed):
    views = {}
    for name in mdata.mod:
        fitted = sm.pp.fit_modality(mdata, name, sm.pp.default_transform(mdata.mod[name].X, n_components=20))
        views[name] = sm.pp.apply(mdata, name, fitted)
    maps = row_maps(mdata)
    filled = sm.pp.Completion().fit(views, maps).transform(views, maps)
    graph = weighted_neighbors([filled[name] for name in views])
    graph = graph.maximum(graph.T)
    return SpectralEmbedding(15, affinity="precomputed", random_state=seed).fit_transform(np.asarray(graph.todense()))


main(fit)
