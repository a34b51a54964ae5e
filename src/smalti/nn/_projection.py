"""A fixed linear map from raw rows to components, in front of networks that are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from smalti._validate import check_choice

from ._sparse import SparseRows, sparse_matmul

if TYPE_CHECKING:
    from torch import Tensor

ProjectionKind = Literal["lognorm", "tfidf", "clr", "identity"]


class FrozenProjection(nn.Module):
    r"""Fixed map from raw rows to ``K`` components, such as a fitted PCA or latent semantic indexing.

    For a row :math:`x` of batch :math:`b`, whose measured features are :math:`m_b \in \{0, 1\}^G`,

    .. math:: z = s \odot \bigl(R\bigl[(f(x) - r(x)\, m_b) W - o_b\bigr] - c_b\bigr)

    with a map :math:`f` of single values that keeps zeros (``kind``), the row mean :math:`r` (``"clr"`` only), offsets
    :math:`o_b` (the feature means that ``b`` measured, times :math:`W`), the optional standardisation of each row
    :math:`R`, batch centres :math:`c_b` and component scales :math:`s`. With :math:`N` the row sum over measured
    features,

    ============  ============================================
    kind          :math:`f(x_j)`
    ============  ============================================
    ``lognorm``   :math:`\log(1 + x_j\, t / N)`
    ``tfidf``     :math:`\log(1 + x_j\, t\, w_j / N)`
    ``clr``       :math:`\log(1 + x_j)`, minus its row mean
    ``identity``  :math:`x_j`
    ============  ============================================

    Nothing is densified: centring acts on components. A row of counts whose sum is zero carries no information and maps
    to zero, the centre. All state is in buffers, so it is saved with the weights of a network and moves with it; an
    empty projection made from :attr:`config` can load it. There is no gradient.

    Parameters
    ----------
    n_features
        Number of features ``G``.
    n_components
        Number of components ``K``.
    n_batch
        Number of batches, at least 1.
    kind
        The map of single values.
    row_standardize
        Whether each row of components gets mean 0 and standard deviation 1.
    masked
        Whether batches differ in what they measured; if not, no mask is stored.

    Attributes
    ----------
    weight
        ``(G, K)``.
    feature_weight
        ``(G,)``, the :math:`w` of ``"tfidf"``, otherwise ones.
    target_sum
        ``()``, the :math:`t`.
    offset, centre
        ``(n_batch + 1, K)``; the last row serves cells of unknown batch (code -1) and is the mean over batches.
    mask_weight
        ``(n_batch + 1, K)``, the sum of ``weight`` over measured features.
    n_measured
        ``(n_batch + 1,)``, number of measured features.
    scale
        ``(K,)``.
    feature_mask
        ``(n_batch + 1, G)`` boolean, only if ``masked``.
    """

    weight: Tensor
    feature_weight: Tensor
    target_sum: Tensor
    offset: Tensor
    centre: Tensor
    mask_weight: Tensor
    n_measured: Tensor
    scale: Tensor
    feature_mask: Tensor

    def __init__(
        self,
        n_features: int,
        n_components: int,
        n_batch: int = 1,
        *,
        kind: ProjectionKind = "identity",
        row_standardize: bool = False,
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.n_features, self.n_components, self.n_batch = n_features, n_components, n_batch
        self.kind: ProjectionKind = check_choice(kind, get_args(ProjectionKind), "kind")
        self.row_standardize, self.masked = row_standardize, masked
        self.register_buffer("weight", torch.zeros(n_features, n_components))
        self.register_buffer("feature_weight", torch.ones(n_features))
        self.register_buffer("target_sum", torch.ones(()))
        self.register_buffer("offset", torch.zeros(n_batch + 1, n_components))
        self.register_buffer("centre", torch.zeros(n_batch + 1, n_components))
        self.register_buffer("mask_weight", torch.zeros(n_batch + 1, n_components))
        self.register_buffer("n_measured", torch.full((n_batch + 1,), float(n_features)))
        self.register_buffer("scale", torch.ones(n_components))
        if masked:
            self.register_buffer("feature_mask", torch.ones(n_batch + 1, n_features, dtype=torch.bool))

    @property
    def config(self) -> dict[str, int | str | bool]:
        """Arguments that make an empty projection of the same shape."""
        return {
            "n_features": self.n_features,
            "n_components": self.n_components,
            "n_batch": self.n_batch,
            "kind": self.kind,
            "row_standardize": self.row_standardize,
            "masked": self.masked,
        }

    def extra_repr(self) -> str:
        """Return what ``repr`` shows between the brackets."""
        return ", ".join(f"{k}={v!r}" for k, v in self.config.items())

    @torch.no_grad()
    def forward(self, x: SparseRows | Tensor, batch: Tensor | None = None) -> Tensor:
        """Return components ``(B, K)``.

        Parameters
        ----------
        x
            Raw values of ``B`` rows.
        batch
            ``(B,)`` int64 codes; -1 means a batch that was not seen. By default all rows are of the only batch, or of
            unknown batch if there are several.
        """
        n_rows = x.n_rows if isinstance(x, SparseRows) else x.shape[0]
        if batch is None:
            batch = self.weight.new_full((n_rows,), 0 if self.n_batch == 1 else -1, dtype=torch.int64)
        batch = batch.reshape(-1)
        batch = torch.where(batch < 0, self.n_batch, batch)
        values, total, row_mean = self.map_values(x, batch)
        z = sparse_matmul(values, self.weight) if isinstance(values, SparseRows) else values @ self.weight
        if self.kind == "clr":
            z = z - row_mean[:, None] * self.mask_weight[batch]
        z = z - self.offset[batch]
        if self.row_standardize:
            z = z - z.mean(1, keepdim=True)
            z = z / z.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
        z = (z - self.centre[batch]) * self.scale
        if self.kind != "identity":
            z = torch.where(total[:, None] > 0, z, 0.0)
        return z

    @torch.no_grad()
    def map_values(self, x: SparseRows | Tensor, batch: Tensor) -> tuple[SparseRows | Tensor, Tensor, Tensor]:
        """Return :math:`f(x)` and, over measured features, row sums of ``x`` and row means of :math:`f(x)`.

        Parameters
        ----------
        x
            Raw values of ``B`` rows.
        batch
            ``(B,)`` int64 codes in ``[0, n_batch]``, where ``n_batch`` is the unknown batch.
        """
        if isinstance(x, SparseRows):
            return self._map_sparse(x, batch)
        x = x.to(self.weight.dtype)
        if self.masked:
            x = torch.where(self.feature_mask[batch], x, 0.0)
        total = x.sum(1)
        if self.kind in ("lognorm", "tfidf"):
            x = x * (self.target_sum / total.clamp_min(1e-12))[:, None]
        if self.kind == "tfidf":
            x = x * self.feature_weight
        x = x if self.kind == "identity" else torch.log1p(x)
        return x, total, x.sum(1) / self.n_measured[batch].clamp_min(1.0)

    def _map_sparse(self, x: SparseRows, batch: Tensor) -> tuple[SparseRows, Tensor, Tensor]:
        values, row = x.values.to(self.weight.dtype), x.row_index()
        if self.masked:
            values = torch.where(self.feature_mask[batch[row], x.indices], values, 0.0)
        total = x.map_values(values).row_sums()
        if self.kind in ("lognorm", "tfidf"):
            values = values * (self.target_sum / total.clamp_min(1e-12))[row]
        if self.kind == "tfidf":
            values = values * self.feature_weight[x.indices]
        values = values if self.kind == "identity" else torch.log1p(values)
        out = x.map_values(values)
        return out, total, out.row_sums() / self.n_measured[batch].clamp_min(1.0)
