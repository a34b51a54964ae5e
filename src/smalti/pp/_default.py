"""Which transform suits a modality, decided by its values and never by its name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ._arrays import as_rows
from ._transforms import CLR, LSI, PCA

if TYPE_CHECKING:
    from ._arrays import Matrix
    from ._base import LinearTransform

logger = logging.getLogger(__name__)

BINARY_SHARE = 0.95
PANEL_DENSITY = 0.5
PANEL_FEATURES = 1000


def default_transform(
    X: Matrix,
    *,
    n_components: int = 30,
    batch_center: bool = True,
    random_state: int = 0,
) -> LinearTransform:
    """Return an unfitted transform that suits the values of a modality.

    ==========================================================================  ====================================
    values                                                                      transform
    ==========================================================================  ====================================
    any negative or not whole                                                   ``PCA(kind="identity")``, standardised
    counts, at least 95 % of the non-zero ones equal to 1                       :class:`LSI`
    counts, more than half of them non-zero, at most 1,000 features             :class:`CLR`
    other counts                                                                :class:`PCA`
    ==========================================================================  ====================================

    Parameters
    ----------
    X
        ``(n, G)`` raw values, sparse or dense.
    n_components, batch_center, random_state
        Passed to the transform.
    """
    X = as_rows(X)
    options: dict[str, Any] = {"batch_center": batch_center, "random_state": random_state}
    stored = X.data if sp.issparse(X) else X.ravel()
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.floor(stored)).all()):
        return PCA(n_components, kind="identity", **options)
    if stored.size and stored.min() < 0:
        return PCA(n_components, kind="identity", **options)
    n_nonzero = np.count_nonzero(stored)
    if n_nonzero and np.count_nonzero(stored == 1) >= BINARY_SHARE * n_nonzero:
        return LSI(n_components, **options)
    if X.shape[1] <= PANEL_FEATURES and n_nonzero > PANEL_DENSITY * X.shape[0] * X.shape[1]:
        return CLR(n_components, **options)
    return PCA(n_components, **options)
