"""AdamW for parameters of which a step uses some rows only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from smalti._compat import multiply_all, norms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor


class RowAdamW(torch.optim.AdamW):
    r"""AdamW that updates only the rows in a sparse gradient; dense gradients are treated as ever.

    A row has its own moments and its own number :math:`t` of updates. With a share :math:`r` of all rows in the
    gradient, a row that is touched moves by

    .. math:: w \leftarrow (1 - \eta \lambda)^{1/r}\, w
        - \frac{\eta}{\sqrt{r}} \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    so that weights decay as much in the long run as if all rows decayed at every step, and steps are as long as those
    of AdamW with a gradient that is zero elsewhere: there :math:`\hat v` is smaller by :math:`r` and a row moves on
    for :math:`1/r` steps. What differs: a row stands still until it is drawn again, and no pass is made over all rows.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, fused
        As in :class:`torch.optim.AdamW`.
    """

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        super().__init__(params, **options)
        self._step_supports_amp_scaling = False  # of the fused one, which would not see sparse gradients

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update rows of sparse gradients, then all parameters with dense ones."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        touched = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._update_rows(parameter, group)
                    touched.append((parameter, parameter.grad))
                    parameter.grad = None
        super().step()
        for parameter, grad in touched:
            parameter.grad = grad
        return loss

    def _update_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad = cast("Tensor", parameter.grad).coalesce()
        n_axes = grad.sparse_dim()
        rows, values = _flat(grad.indices(), parameter.shape[:n_axes]), grad.values()
        weight, state = parameter.detach().flatten(0, n_axes - 1), self.state[parameter]
        if not state:
            state["step"] = torch.zeros(len(weight), device=weight.device)  # of each row
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = (state[name].flatten(0, n_axes - 1) for name in ("exp_avg", "exp_avg_sq"))
        beta1, beta2 = group["betas"]
        lr, stretch = group["lr"], len(weight) / max(len(rows), 1)
        steps = state["step"].index_select(0, rows) + 1
        m = first.index_select(0, rows).lerp_(values, 1 - beta1)
        v = second.index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        shape = (-1,) + (1,) * (values.dim() - 1)
        length = lr * stretch**0.5 / (1 - beta1**steps)
        size = (v / (1 - beta2**steps).view(shape)).sqrt_().add_(group["eps"])
        new = weight.index_select(0, rows).mul_((1 - lr * group["weight_decay"]) ** stretch)
        new.sub_(length.view(shape) * m / size)
        weight.index_copy_(0, rows, new)
        first.index_copy_(0, rows, m)
        second.index_copy_(0, rows, v)
        state["step"].index_copy_(0, rows, steps)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> None:
    """Scale all gradients, sparse ones too, so that their common norm is at most ``limit``."""
    grads = [p.grad for p in parameters if p.grad is not None]
    values = [grad._values() if grad.is_sparse else grad for grad in grads]
    if not values:
        return
    if values[0].device.type == "cpu":  # many small norms cost more than one of everything
        norm = torch.linalg.vector_norm(torch.cat([value.flatten() for value in values]))
        if bool(norm <= limit):
            return
    else:
        norm = torch.linalg.vector_norm(torch.stack(norms_of(values)))
    multiply_all(values, (limit / (norm + 1e-6)).clamp(max=1.0))


def _flat(at: Tensor, shape: torch.Size) -> Tensor:
    """Return positions along several axes as positions along one."""
    rows = at[0]
    for axis in range(1, len(shape)):
        rows = rows * shape[axis] + at[axis]
    return rows
