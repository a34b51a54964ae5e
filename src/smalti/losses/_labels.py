"""Loss of class predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


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
    if not bool(known.any()):
        return logits.sum() * 0.0
    logits, labels = logits[known], labels[known]
    loss = F.cross_entropy(logits, labels, reduction="none")
    if not balance:
        return loss.mean()
    count = torch.bincount(labels, minlength=logits.shape[1]).to(loss.dtype)
    return (loss / count[labels]).sum() / (count > 0).sum()
