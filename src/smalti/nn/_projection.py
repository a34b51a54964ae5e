"""A fixed linear map from raw rows to components, in front of networks that are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from smalti._validate import check_choice

from ._sparse import SparseRows, sparse_matmul

if TYPE_CHECKING:
    from torch import Tensor

    from ._feature_gate import DrawnGate

ProjectionKind = Literal["lognorm", "tfidf", "clr", "identity"]


class FrozenProjection(nn.Module):
    r"""Fixed map from raw rows to ``K`` components, such as a fitted PCA or latent semantic indexing.

    For a row :math:`x` of batch :math:`b`, whose measured features are :math:`m_b \in \{0, 1\}^G`,

    .. math:: z = s \odot \bigl(R\bigl[f(m_b \odot x)\, W - o_b\bigr] - c_b\bigr)

    with a map :math:`f` that keeps zeros (``kind``), offsets :math:`o_b` (the feature means that ``b`` measured, times
    :math:`W`), the optional standardisation of each row :math:`R`, batch centres :math:`c_b` and component scales
    :math:`s`. With row sums :math:`N` and means over measured features,

    ============  ==================================================================================
    kind          :math:`f(x)_j`
    ============  ==================================================================================
    ``lognorm``   :math:`\log(1 + x_j\, t / N)`
    ``tfidf``     :math:`\log(1 + x_j\, t\, w_j / N)`
    ``clr``       :math:`\log(1 + x_j\, t / g)`, :math:`g = \exp(\mathrm{mean}_j \log(1 + x_j))`
    ``identity``  :math:`x_j`
    ============  ==================================================================================

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

    def truncate(self, n_components: int) -> FrozenProjection:
        """Return a projection to the first ``n_components`` components only."""
        k = min(n_components, self.n_components)
        out = FrozenProjection(
            self.n_features, k, self.n_batch, kind=self.kind, row_standardize=self.row_standardize, masked=self.masked
        )
        out.load_state_dict({name: _leading(name, value, k) for name, value in self.state_dict().items()})
        return out

    def with_batches(self, n_new: int) -> FrozenProjection:
        """Return a projection that knows ``n_new`` more batches, which begin as the average one.

        Parameters
        ----------
        n_new
            Number of batches; their codes follow those that are known.
        """
        n = self.n_batch
        out = FrozenProjection(**{**self.config, "n_batch": n + n_new})  # type: ignore[arg-type]
        by_batch = ("offset", "centre", "n_measured", "feature_mask")
        state = {
            name: torch.cat([value[:n], value[n:].expand(n_new + 1, *value.shape[1:])]) if name in by_batch else value
            for name, value in self.state_dict().items()
        }
        out.load_state_dict(state)
        return out

    def extra_repr(self) -> str:
        """Return what ``repr`` shows between the brackets."""
        return ", ".join(f"{k}={v!r}" for k, v in self.config.items())

    def forward(self, x: SparseRows | Tensor, batch: Tensor | None = None, gate: DrawnGate | None = None) -> Tensor:
        """Return components ``(B, K)``.

        Parameters
        ----------
        x
            Raw values of ``B`` rows.
        batch
            ``(B,)`` int64 codes; -1 means a batch that was not seen. By default all rows are of the only batch, or of
            unknown batch if there are several.
        gate
            Gates on the mapped values; only they get a gradient. Open ones change nothing.
        """
        n_rows = x.n_rows if isinstance(x, SparseRows) else x.shape[0]
        if batch is None:
            batch = self.weight.new_full((n_rows,), 0 if self.n_batch == 1 else -1, dtype=torch.int64)
        batch = batch.reshape(-1)
        batch = torch.where(batch < 0, self.n_batch, batch)
        with torch.set_grad_enabled(gate is not None and torch.is_grad_enabled()):
            values, total = self.map_values(x, batch)
            offset = self.offset
            if gate is not None:
                values, offset = gate(values), offset + gate.shift(self.weight)
            z = sparse_matmul(values, self.weight) if isinstance(values, SparseRows) else values @ self.weight
            z = z - offset[batch]
            if self.row_standardize:
                z = z - z.mean(1, keepdim=True)
                z = z / z.square().mean(1, keepdim=True).clamp_min(1e-24).sqrt()
            z = (z - self.centre[batch]) * self.scale
            if self.kind != "identity":
                z = torch.where(total[:, None] > 0, z, 0.0)
            return z

    @torch.no_grad()
    def map_values(self, x: SparseRows | Tensor, batch: Tensor) -> tuple[SparseRows | Tensor, Tensor]:
        """Return :math:`f(x)` and the row sums of ``x`` over measured features, ``(B,)``.

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
        if self.kind == "identity":
            return x, total
        x = x * self._row_factor(total, torch.log1p(x).sum(1) if self.kind == "clr" else None, batch)[:, None]
        return torch.log1p(x * self.feature_weight if self.kind == "tfidf" else x), total

    def _map_sparse(self, x: SparseRows, batch: Tensor) -> tuple[SparseRows, Tensor]:
        values = self.measured(x, batch)
        total = x.map_values(values).row_sums()
        if self.kind == "identity":
            return x.map_values(values), total
        log_total = x.map_values(torch.log1p(values)).row_sums() if self.kind == "clr" else None
        values = values * x.repeat(self._row_factor(total, log_total, batch))
        if self.kind == "tfidf":
            values = values * self.feature_weight[x.indices]
        return x.map_values(torch.log1p(values)), total

    def measured(self, x: SparseRows, batch: Tensor) -> Tensor:
        """Return the stored values of rows of ``batch``, zero where it did not measure a feature, ``(nnz,)``."""
        values = x.values.to(self.weight.dtype)
        return torch.where(self.feature_mask[x.repeat(batch), x.indices], values, 0.0) if self.masked else values

    def _row_factor(self, total: Tensor, log_total: Tensor | None, batch: Tensor) -> Tensor:
        if log_total is None:
            return self.target_sum / total.clamp_min(1e-12)
        return self.target_sum * torch.exp(-log_total / self.n_measured[batch].clamp_min(1.0))


def _leading(name: str, value: Tensor, k: int) -> Tensor:
    """Return the first ``k`` components of a buffer, or all of it if it has none."""
    return value[..., :k] if name in ("weight", "offset", "centre", "scale") else value
