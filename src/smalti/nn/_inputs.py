"""Input layers: what the encoders of a modality see of its raw values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

import torch
from torch import nn

from ._sparse import SparseLinear, SparseRows

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, Mapping

    from torch import Tensor

    from ._feature_gate import DrawnGate

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ByModality(nn.Module, Generic[ModuleT]):
    """Modules by name of modality; unlike ``nn.ModuleDict`` any name is allowed.

    Parameters
    ----------
    modules
        Name to module.
    """

    def __init__(self, modules: Mapping[str, ModuleT]) -> None:
        super().__init__()
        # a dot separates levels in names of weights; escaped so that no two names become one
        self.keys_ = {name: "m_" + name.replace("%", "%25").replace(".", "%2E") for name in modules}
        self.members = nn.ModuleDict({self.keys_[name]: module for name, module in modules.items()})

    def __getitem__(self, name: str) -> ModuleT:
        return cast("ModuleT", self.members[self.keys_[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_)

    def __contains__(self, name: object) -> bool:
        return name in self.keys_

    def __len__(self) -> int:
        return len(self.keys_)

    def items(self) -> ItemsView[str, ModuleT]:
        """Names and modules."""
        return {name: self[name] for name in self.keys_}.items()


def log_normalise(x: SparseRows | Tensor) -> SparseRows | Tensor:
    r"""Return :math:`\log(1 + 10^4 x / N)` of rows of counts with sums :math:`N`; sparse rows stay sparse."""
    if isinstance(x, SparseRows):
        total = x.row_sums().clamp(min=1e-8)
        return x.map_values(torch.log1p(x.values * x.repeat(1e4 / total)))
    return torch.log1p(1e4 * x / x.sum(dim=1, keepdim=True).clamp(min=1e-8))


class CountsInput(nn.Module):
    r"""Trainable first layer on the values themselves, :math:`\log(1 + 10^4 x / N) W + b` for counts.

    Sparse rows stay sparse: the work is proportional to the stored values.

    Parameters
    ----------
    n_features
        Number of features.
    n_out
        Width of the output.
    log
        Whether values are counts, normalised by their sum :math:`N` and logged; reals are taken as they are.
    """

    def __init__(self, n_features: int, n_out: int, *, log: bool) -> None:
        super().__init__()
        self.linear = SparseLinear(n_features, n_out)
        self.log = log

    def forward(self, x: SparseRows | Tensor, batch: Tensor, gate: DrawnGate | None = None) -> Tensor:
        """Map ``B`` rows to ``(B, n_out)``, through gates if there are any."""
        if self.log:
            x = log_normalise(x)
        return self.linear(x if gate is None else gate(x))


class DenseInput(nn.Module):
    """Given components, such as an ``.obsm``, centred per batch and scaled by one number.

    Parameters
    ----------
    n_in
        Number of components.
    n_batch
        Number of batches.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, n_in: int, n_batch: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_batch + 1, n_in))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        """Map ``(B, n_in)`` and batch codes (-1 for an average batch) to ``(B, n_in)``."""
        last = self.centre.shape[0] - 1
        return (x - self.centre[torch.where(batch < 0, last, batch)]) * self.scale


class ScaledInput(nn.Module):
    r"""Every feature itself, in standard deviations from the mean of its batch; no gradient.

    Counts are first normalised by their sum :math:`N`, :math:`\log(1 + 10^4 x / N)`. Features that a batch did not
    measure are zero. Suits panels of up to a few thousand features; only minibatches are ever dense.

    Parameters
    ----------
    n_features
        Number of features ``G``.
    n_batch
        Number of batches.
    log
        Whether values are counts.
    masked
        Whether batches differ in what they measured; if not, no mask is stored.

    Attributes
    ----------
    centre
        ``(n_batch + 1, G)`` means; the last row serves cells of unknown batch.
    scale
        ``(G,)`` inverse standard deviations, 0 for constant features.
    feature_mask
        ``(n_batch + 1, G)`` bool, only if ``masked``.
    """

    centre: Tensor
    scale: Tensor
    feature_mask: Tensor

    def __init__(self, n_features: int, n_batch: int, *, log: bool, masked: bool = False) -> None:
        super().__init__()
        self.log, self.masked = log, masked
        self.register_buffer("centre", torch.zeros(n_batch + 1, n_features))
        self.register_buffer("scale", torch.ones(n_features))
        if masked:
            self.register_buffer("feature_mask", torch.ones(n_batch + 1, n_features, dtype=torch.bool))

    @torch.no_grad()
    def normalised(self, x: SparseRows | Tensor, batch: Tensor) -> SparseRows | Tensor:
        """Return the values before standardisation, zeros where not measured, sparse or ``(B, G)`` as they come."""
        row = self._row(batch)
        if isinstance(x, SparseRows):
            if self.masked:
                x = x.map_values(torch.where(self.feature_mask[x.repeat(row), x.indices], x.values, 0.0))
        else:
            x = x.to(self.centre.dtype)
            x = torch.where(self.feature_mask[row], x, 0.0) if self.masked else x
        return log_normalise(x) if self.log else x

    @torch.no_grad()
    def some(self, x: SparseRows | Tensor, batch: Tensor, columns: Tensor) -> Tensor:
        """Return some standardised features, ``(B, len(columns))``; the others are never dense.

        Parameters
        ----------
        x, batch
            As in :meth:`forward`.
        columns
            ``(D,)`` int64, which features.
        """
        x, row = self.normalised(x, batch), self._row(batch)
        if isinstance(x, SparseRows):
            n_kept = columns.shape[0]
            place = torch.full((self.scale.shape[0],), n_kept, device=columns.device)
            x = x.columns(place.index_copy(0, columns, torch.arange(n_kept, device=columns.device)), n_kept)
        else:
            x = x[:, columns]
        z = (x - self.centre[:, columns][row]) * self.scale[columns]
        return torch.where(self.feature_mask[:, columns][row], z, 0.0) if self.masked else z

    def forward(self, x: SparseRows | Tensor, batch: Tensor, gate: DrawnGate | None = None) -> Tensor:
        """Map ``B`` rows and batch codes (-1 for unknown) to ``(B, G)``, through gates if there are any."""
        with torch.no_grad():
            row = self._row(batch)
            x = self.normalised(x, batch)
            x = x.to_dense(self.scale.shape[0]) if isinstance(x, SparseRows) else x
            z = (x - self.centre[row]) * self.scale
            z = torch.where(self.feature_mask[row], z, 0.0) if self.masked else z
        return z if gate is None else cast("Tensor", gate(z))

    def _row(self, batch: Tensor) -> Tensor:
        return torch.where(batch < 0, self.centre.shape[0] - 1, batch)
