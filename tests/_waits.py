"""Operations that would let the host wait for a GPU, counted on a CPU."""

from __future__ import annotations

from collections import Counter

from torch import bool as torch_bool
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("nonzero", "_local_scalar_dense", "item", "is_nonzero", "masked_select", "unique", "equal", "bincount")
"""Operations whose result the host must see before it can go on."""


class Waits(TorchDispatchMode):
    """Counts them; taking by a boolean mask is a ``nonzero``, too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            part is not None and part.dtype == torch_bool for part in args[1]
        )
        if by_mask or name in WAITS or any(name.startswith(f"{wait}.") for wait in WAITS):
            self.found["mask" if by_mask else name] += 1
        return func(*args, **(kwargs or {}))
