from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from smalti.losses import class_cross_entropy

LABELS = torch.tensor([0, 0, 0, 1, -1, 2, -1])


def test_it_is_the_cross_entropy_of_labelled_rows():
    logits = torch.randn(7, 4)
    known = LABELS >= 0
    torch.testing.assert_close(class_cross_entropy(logits, LABELS), F.cross_entropy(logits[known], LABELS[known]))


def test_balanced_every_class_of_the_batch_counts_the_same():
    logits = torch.randn(7, 4)
    parts = [F.cross_entropy(logits[LABELS == c], LABELS[LABELS == c]) for c in range(3)]  # class 3 has no row
    torch.testing.assert_close(class_cross_entropy(logits, LABELS, balance=True), torch.stack(parts).mean())
    repeated = torch.cat([logits, logits[:3], logits[:3]]), torch.cat([LABELS, LABELS[:3], LABELS[:3]])
    for balance, same in ((True, True), (False, False)):
        a, b = class_cross_entropy(logits, LABELS, balance=balance), class_cross_entropy(*repeated, balance=balance)
        assert (abs(float(a - b)) < 1e-6) == same


@pytest.mark.parametrize("balance", [True, False])
def test_unlabelled_rows_get_no_gradient_and_no_label_costs_nothing(balance):
    logits = torch.randn(7, 4, requires_grad=True)
    class_cross_entropy(logits, LABELS, balance=balance).backward()
    assert ((logits.grad.abs().sum(1) > 0) == (LABELS >= 0)).all()
    logits = torch.randn(7, 4, requires_grad=True)
    loss = class_cross_entropy(logits, torch.full((7,), -1), balance=balance)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
