"""Feature selectors that need no model: stochastic gates against graphs and canonical correlations."""

from __future__ import annotations

from ._agreement import hvg_agreement
from ._cca import sparse_cca, sparse_dcca
from ._dufs import dufs
from ._engine import SelectOptions
from ._groups import group_fs
from ._mmdufs import mmdufs
from ._result import Selection

__all__ = ["SelectOptions", "Selection", "dufs", "group_fs", "hvg_agreement", "mmdufs", "sparse_cca", "sparse_dcca"]
