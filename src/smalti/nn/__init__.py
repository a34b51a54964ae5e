"""Tensor parts of networks; knows torch and nothing of AnnData."""

from __future__ import annotations

from ._sparse import SparseLinear, SparseRows, sparse_matmul

__all__ = ["SparseLinear", "SparseRows", "sparse_matmul"]
