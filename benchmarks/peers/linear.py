"""Linear CCA and Harmony, as in ``smalti.tl.linear_joint``."""

from __future__ import annotations

from _adapter import main

import smalti as sm


def fit(mdata, seed):
    sm.tl.linear_joint(mdata, batch_key="batch" if "batch" in mdata.obs else None, random_state=seed)
    return mdata.obsm["X_joint"]


main(fit)
