"""Contrastive terms and their gradient in two processes; run by ``test_gather.py`` as a script, once per process."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from smalti.losses import channel_contrast, gather_rows

CHANNELS = ((0, 1, 2), (0, 1), (0, 2), (1, 2))
ROWS = ("unimodal_fusion", "unimodal_unimodal", "channel_root", "unimodal_channel")


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs ``(12, 7, 4)`` (3 modalities, 4 channels) and presence ``(12, 3)`` of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(12, 3, generator=generator) < 0.7
    present[:, 0] |= ~present.any(1)
    return torch.randn(12, 7, 4, generator=generator), present


def step(x: torch.Tensor, present: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    """Return loss and gradients of a linear encoder and the temperature, averaged over processes as DDP does."""
    torch.manual_seed(1)
    encoder, scale = nn.Linear(4, 5), nn.Parameter(torch.tensor(1.2))
    z = F.normalize(encoder(x), dim=2)
    z, present = gather_rows(z), gather_rows(present)
    loss = sum(channel_contrast(z[:, :3], z[:, 3:], present, CHANNELS, scale, rows=ROWS).values())
    loss.backward()
    grads = [p.grad for p in (*encoder.parameters(), scale)]
    if dist.is_initialized():
        for grad in grads:
            dist.all_reduce(grad)
            grad /= dist.get_world_size()
    return float(loss.detach()), grads


def main(rank: str, folder: str) -> None:
    """Take this process's half of the batch and write what it found."""
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=int(rank), world_size=2, timeout=timedelta(seconds=60))
    x, present = data()
    mine = slice(6 * int(rank), 6 * int(rank) + 6)
    gathered = gather_rows(present[mine])
    loss, grads = step(x[mine], present[mine])
    torch.save({"loss": loss, "grads": grads, "present": gathered}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(*sys.argv[1:])
