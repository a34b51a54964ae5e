"""Loss of class predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


IGNORED = -100
"""Label of rows that a cross-entropy leaves out."""


def class_cross_entropy(logits: Tensor, labels: Tensor, *, balance: bool = False) -> Tensor:
    r"""Return the cross-entropy of the labelled rows.

    Parameters
    ----------
    logits
        ``(B, K)``.
    labels
        ``(B,)`` int64; rows with -1 are left out.
    balance
        Whether each class of the batch counts the same: :math:`\frac1C \sum_c \frac1{n_c} \sum_{i \in c} \ell_i`.

    Returns
    -------
    A scalar; 0 with a gradient of 0 if no row is labelled.
    """
    known = labels >= 0
    loss = F.cross_entropy(logits, torch.where(known, labels, IGNORED), reduction="none", ignore_index=IGNORED)
    if not balance:
        return loss.sum() / known.sum().clamp(min=1)
    labels = labels.clamp(min=0)
    count = loss.new_zeros(logits.shape[1]).index_add_(0, labels, known.to(loss.dtype))
    return (loss / count[labels].clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)
