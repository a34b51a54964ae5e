"""Contrastive alignment of paired cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

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
        ``(B, d)`` embeddings of unit length; rows of absent cells are ignored whatever they hold.
    present_x, present_y
        ``(B,)`` bool.
    log_scale
        Log of the inverse temperature :math:`s`, a scalar; clamped at log 100.
    label_smoothing
        Share of the target spread over all candidates, in ``[0, 1)``.

    Returns
    -------
    A scalar; exactly 0 (with a gradient of 0) if the batch has no pair.
    """
    pair = present_x & present_y
    if not bool(pair.any()):
        return x[:0].sum() + y[:0].sum() + 0.0 * log_scale
    scale = log_scale.clamp(max=MAX_LOG_SCALE).exp()
    if present_x is present_y:  # one matrix, read by rows and by columns
        logits = scale * x[pair] @ y[pair].T
        own = torch.arange(len(logits), device=x.device)
        to_y = F.cross_entropy(logits, own, label_smoothing=label_smoothing)
        return (to_y + F.cross_entropy(logits.T, own, label_smoothing=label_smoothing)) / 2
    at_x, at_y = (torch.cumsum(p, 0) - 1 for p in (present_x, present_y))
    to_y = F.cross_entropy(scale * x[pair] @ y[present_y].T, at_y[pair], label_smoothing=label_smoothing)
    to_x = F.cross_entropy(scale * y[pair] @ x[present_x].T, at_x[pair], label_smoothing=label_smoothing)
    return (to_y + to_x) / 2
