"""What logistic regression says of the labels a model was given: the yardstick beside every label report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._linear_labels import fit_linear, linear_probabilities

from ._linear_inputs import fit_linear_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

N_COMPONENTS = 50


def linear_labels(mdata: MuData, known: pd.Series, modalities: Sequence[str]) -> dict[str, pd.Series]:
    """Return labels predicted from each modality alone by logistic regression on its components.

    Parameters
    ----------
    mdata
        The mosaic, raw values.
    known
        Labels that may be used, indexed by cell name; missing where they are not known.
    modalities
        Those to predict from.

    Returns
    -------
    By modality, for all of its cells; modalities in which fewer than two classes have two labelled cells are left out.
    """
    labels = known.reindex(mdata.obs_names)
    classes = sorted(labels.dropna().unique())
    codes = pd.Categorical(labels, categories=classes).codes.astype(np.int64)
    out = {}
    for name in modalities:
        seen = fit_linear_inputs(
            mdata,
            modalities=[name],
            n_components=N_COMPONENTS,
            candidates=(N_COMPONENTS,),
            ridge=0.01,
            batch_key=None,
            layers=None,
            transforms=None,
            random_state=0,
        )
        rows = seen.maps[name]
        here = np.flatnonzero(rows >= 0)
        own = codes[here]
        count = np.bincount(own[own >= 0], minlength=max(len(classes), 1))
        usable = (own >= 0) & (count[np.maximum(own, 0)] >= 2)
        if len(np.unique(own[usable])) < 2:
            continue
        x = seen.values[name][rows[here]]
        best = linear_probabilities(fit_linear(x, own, usable), x, len(classes)).argmax(axis=1)
        out[name] = pd.Series(np.asarray(classes, dtype=object)[best], index=mdata.obs_names[here])
    return out
