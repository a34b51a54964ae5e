"""Contrastive alignment of paired cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from smalti.nn import rows_of

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_SCALE = 4.6052
"""Largest inverse temperature is 100, as in CLIP; beyond, training becomes unstable."""


def info_nce(
    x: Tensor,
    y: Tensor,
    present_x: Tensor,
    present_y: Tensor,
    log_scale: Tensor,
    label_smoothing: float = 0.0,
    *,
    pair: Tensor | None = None,
) -> Tensor:
    r"""Return the symmetric InfoNCE loss between two modalities :cite:p:`vandenOord2018`.

    .. math::

        -\tfrac12 \frac{1}{|P|} \sum_{i \in P} \Big[
        \log \frac{e^{s \langle x_i, y_i \rangle}}{\sum_{j \in Y} e^{s \langle x_i, y_j \rangle}} +
        \log \frac{e^{s \langle x_i, y_i \rangle}}{\sum_{j \in X} e^{s \langle x_j, y_i \rangle}} \Big]

    with :math:`P` the paired cells of the batch and :math:`X, Y` all its cells that have the modality, so that unpaired
    cells serve as negatives and absent ones never do.

    Parameters
    ----------
    x, y
        ``(B, d)`` embeddings of unit length; rows of absent cells are ignored whatever they hold. Or ``(B, J, d)``:
        ``J`` embeddings of each cell, compared apart from each other; the loss is the mean over them.
    present_x, present_y
        ``(B,)`` bool, or positions, ``(n,)`` int64 ascending. The same tensor twice: pairs alone are candidates.
    log_scale
        Log of the inverse temperature :math:`s`, a scalar; clamped at log 100.
    label_smoothing
        Share of the target spread over all candidates, in ``[0, 1)``.
    pair
        Positions of the cells present in both, where they are known already.

    Returns
    -------
    A scalar; exactly 0 (with a gradient of 0) if the batch has no pair.
    """
    if present_x is present_y:
        in_x = in_y = pair = rows_of(present_x)
    else:
        in_x, in_y = rows_of(present_x), rows_of(present_y)
        pair = in_x[torch.isin(in_x, in_y)] if pair is None else pair
    if not len(pair):
        return x[:0].sum() + y[:0].sum() + 0.0 * log_scale
    with torch.autocast(x.device.type, enabled=False):  # half precision cannot tell neighbours apart
        return _both_ways(x.float(), y.float(), pair, in_x, in_y, log_scale.float(), label_smoothing)


def _both_ways(
    x: Tensor, y: Tensor, pair: Tensor, in_x: Tensor, in_y: Tensor, log_scale: Tensor, label_smoothing: float
) -> Tensor:
    """Return the loss of pairs against candidates; the same positions of candidates twice: one matrix serves both."""
    scale = log_scale.clamp(max=MAX_LOG_SCALE).exp()
    x, y = (z[:, None] if z.dim() == 2 else z for z in (x, y))
    if in_x is in_y:  # one matrix, read by rows and by columns
        logits = scale * torch.einsum("ijd,kjd->jik", x[pair], y[pair])
        own = torch.arange(len(pair), device=x.device).repeat(logits.shape[0])
        to_y = F.cross_entropy(logits.flatten(0, 1), own, label_smoothing=label_smoothing)
        return (to_y + F.cross_entropy(logits.mT.flatten(0, 1), own, label_smoothing=label_smoothing)) / 2
    total = log_scale.new_zeros(())
    for a, b, candidates in ((x, y, in_y), (y, x, in_x)):
        logits = scale * torch.einsum("ijd,kjd->jik", a[pair], b[candidates])
        own = torch.searchsorted(candidates, pair).repeat(logits.shape[0])
        total = total + F.cross_entropy(logits.flatten(0, 1), own, label_smoothing=label_smoothing) / 2
    return total
