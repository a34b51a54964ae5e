"""Parameters of which a step uses some rows only, and whose gradient has these rows only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from torch import Tensor


class _Take(torch.autograd.Function):
    """Rows of a parameter along an axis; the gradient is a sparse tensor of these rows."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, features: Tensor, axis: int) -> Tensor:
        ctx.save_for_backward(features)
        ctx.shape, ctx.axis = parameter.shape, axis
        return _select(parameter, features, axis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (features,) = ctx.saved_tensors
        return row_gradient(grad, features, ctx.shape, ctx.axis), None, None


def row_gradient(values: Tensor, features: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Return the gradient of some rows of a parameter as a sparse tensor of the whole.

    Parameters
    ----------
    values
        Gradient of the rows, as :func:`take_features` returned them.
    features
        ``(S,)`` int64, sorted and distinct.
    shape
        Of the parameter.
    axis
        Axis of features, 0 or 1.
    """
    if axis == 0:
        at = features[None]
    else:
        head = torch.arange(values.shape[0], device=values.device)
        at = torch.stack(torch.meshgrid(head, features, indexing="ij")).flatten(1)
        values = values.flatten(0, 1)
    return torch.sparse_coo_tensor(at, values, shape, is_coalesced=True, check_invariants=False)


def _select(parameter: Tensor, features: Tensor, axis: int) -> Tensor:
    """Return rows along axis 0 or 1; one selection along the first axis of a view is what is fast."""
    if axis == 0:
        return parameter.index_select(0, features)
    n_heads, n_features = parameter.shape[:2]
    at = (torch.arange(n_heads, device=features.device)[:, None] * n_features + features).flatten()
    return parameter.flatten(0, 1).index_select(0, at).view(n_heads, len(features), *parameter.shape[2:])


def take_features(parameter: Tensor, features: Tensor, *, axis: int, row_gradients: bool = False) -> Tensor:
    """Return some rows of a parameter.

    Parameters
    ----------
    parameter
        Any shape.
    features
        ``(S,)`` int64, distinct; sorted if ``row_gradients``.
    axis
        Axis of features, 0 or 1.
    row_gradients
        Whether the gradient of the parameter is a sparse tensor of these rows. Otherwise it is dense, zero elsewhere.
    """
    if row_gradients and torch.is_grad_enabled() and parameter.requires_grad:
        return cast("Tensor", _Take.apply(parameter, features, axis))  # type: ignore[no-untyped-call]
    return _select(parameter, features, axis)
