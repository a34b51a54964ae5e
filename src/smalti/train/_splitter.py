"""Splitting a mosaic into training and validation cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from smalti._validate import check_choice, check_count, check_in_range, shorten
from smalti.data import Ahead, PackedBatch, ResidentDataset, can_reside, resident_bytes, to_device

from ._locality import Locality
from ._paired import MosaicBatchSampler
from ._sampler import rank_and_world
from ._streaming import StreamedBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from smalti.data import MosaicDataset, MosaicManager

    from ._sampler import EpochSampler, MakeSampler

VALIDATION_BATCH = 2048
"""Cells per validation batch: contrastive losses of large batches vary less."""


class MosaicSplitter(LightningDataModule):
    """Training and validation cells of a mosaic, split within each presence pattern.

    Parameters
    ----------
    manager
        Manager of the data.
    train_size
        Share of cells to train on, in ``(0, 1]``; the rest is for validation.
    batch_size
        Cells per training batch.
    paired_share
        See :class:`MosaicBatchSampler`.
    validation_indices
        Positions of the cells to validate on, or a boolean mask, instead of a random share.
    strata
        ``(n_obs,)`` codes; a random split takes the same share of each. By default presence patterns. Of strata marked
        by negative codes no cell is held out.
    make_sampler
        Function of the training cells that returns the sampler of batches (positions among them), instead of
        :class:`MosaicBatchSampler`.
    seed
        Seed of split and batches.
    num_workers
        Loader processes; 0 is fastest where the data are in memory, and needed where they are on disk.
    on_device
        Whether the data lie on the device of the training, so that minibatches are gathered there; by default if that
        is a GPU with room for them.

    Notes
    -----
    Of data on disk whole runs of neighbouring cells are held out, and batches are drawn by :class:`Locality`.
    """

    def __init__(
        self,
        manager: MosaicManager,
        *,
        train_size: float = 0.9,
        batch_size: int = 256,
        paired_share: float = 0.5,
        validation_indices: Sequence[int] | NDArray[np.int64] | None = None,
        strata: NDArray[np.int64] | None = None,
        make_sampler: MakeSampler | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_device: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        check_in_range(train_size, 1e-6, 1, "train_size")
        check_count(batch_size, "batch_size")
        check_in_range(paired_share, 0, 1, "paired_share")
        self.manager, self.batch_size, self.paired_share = manager, int(batch_size), paired_share
        self.seed, self.num_workers = seed, num_workers
        self.on_device: bool | Literal["auto"] = check_choice(on_device, (True, False, "auto"), "on_device")
        self._resident: ResidentDataset | None = None
        self.locality = Locality.of(manager.create_torch_dataset(), self.batch_size) if manager.on_disk else None
        if self.locality is not None and num_workers:
            raise ValueError(
                f"Expected `num_workers` to be 0 for data on disk, which a thread reads ahead, found {num_workers}."
            )
        self.presence = manager.presence()
        self.strata = self.presence @ (1 << np.arange(self.presence.shape[1])) if strata is None else strata
        self.val_idx = self._choose(train_size, validation_indices)
        held_out = np.zeros(len(self.presence), dtype=bool)
        held_out[self.val_idx] = True
        self.train_idx = np.flatnonzero(~held_out)
        self.test_idx = np.empty(0, dtype=np.int64)
        if len(self.train_idx) == 0:
            raise ValueError("No cell is left for training: lower the validation share.")
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        self.sampler: EpochSampler
        if make_sampler is None:
            paired = self.presence[self.train_idx].sum(axis=1) >= 2
            self.sampler = MosaicBatchSampler(paired, self.batch_size, paired_share=paired_share, seed=seed)
        else:
            self.sampler = make_sampler(self.train_idx)
        if self.locality is not None:
            self.sampler.locality = self.locality

    @property
    def n_validation_pairs(self) -> int:
        """Number of validation cells with at least two modalities."""
        return int((self.presence[self.val_idx].sum(axis=1) >= 2).sum())

    def _choose(self, train_size: float, given: Sequence[int] | NDArray[np.int64] | None) -> NDArray[np.int64]:
        n = len(self.presence)
        if given is not None:
            given = np.asarray(given)
            if given.dtype == bool and given.shape != (n,):
                raise ValueError(f"A boolean `validation_indices` needs {n} entries, found {given.size}.")
            if given.dtype != bool and given.size and given.dtype.kind not in "iu":
                raise TypeError(
                    f"Expected `validation_indices` to be positions or a boolean mask, found {given.dtype}. For a "
                    "share of the cells, use `train_size`."
                )
            chosen = np.flatnonzero(given) if given.dtype == bool else np.unique(given.astype(np.int64))
            outside = chosen[(chosen < 0) | (chosen >= n)]
            if outside.size:
                raise ValueError(f"`validation_indices` must lie in 0..{n - 1}, found {shorten(outside.tolist())}.")
            return chosen
        rng = np.random.default_rng(self.seed)
        parts = [np.empty(0, dtype=np.int64)]
        for value in np.unique(self.strata[self.strata >= 0]):
            cells = np.flatnonzero(self.strata == value)
            n_held = round((1 - train_size) * len(cells))
            if self.locality is None:
                parts.append(rng.permutation(cells)[:n_held])
            else:
                parts.append(self.locality.hold_out(rng, cells, n_held))
        return np.sort(np.concatenate(parts))

    def train_dataloader(self) -> DataLoader[Any] | StreamedBatches | Ahead:
        """Return the loader of training batches."""
        if self.trainer is not None:
            self.sampler.set_epoch(self.trainer.current_epoch)
        return self._loader(self.train_idx, self.sampler, lambda: self.sampler.windows())

    def val_dataloader(self) -> DataLoader[Any] | StreamedBatches | Ahead | list[Any]:
        """Return the loader of validation batches, in a fixed order that spreads patterns over batches.

        Several processes share the batches, unless there are too few for all: then each has all of them.
        """
        if self.n_val == 0:
            return []
        rng = np.random.default_rng(self.seed)
        size = max(VALIDATION_BATCH, self.batch_size)
        n_batches = int(np.ceil(self.n_val / size))
        windows = [1]
        if self.locality is None:
            order = rng.permutation(self.n_val)
        else:
            ends = replace(self.locality, batches=max(1, self.locality.batches * self.batch_size // size)).ends(
                n_batches
            )
            order = self.locality.order(rng, np.arange(self.n_val), ends * self.n_val // n_batches)
            windows = np.diff(ends, prepend=0).tolist()
        batches = [part.tolist() for part in np.array_split(order, n_batches)]
        rank, world = rank_and_world()
        if self.locality is None and n_batches >= world:
            batches = batches[rank::world]
        return self._loader(self.val_idx, batches, lambda: windows)

    @property
    def device(self) -> torch.device:
        """Where the training runs."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a minibatch; one that is in place is left alone, which saves a walk over its tensors."""
        if isinstance(batch, PackedBatch):
            return batch.on(device)
        first = next(iter(batch.values()))
        return batch if isinstance(first, torch.Tensor) and first.device == device else to_device(batch, device)

    def _loader(
        self, indices: NDArray[np.int64], batches: Any, windows: Callable[[], list[int]]
    ) -> DataLoader[Any] | StreamedBatches | Ahead:
        dataset = self.manager.create_torch_dataset(indices)
        if self._resides(dataset):
            if self._resident is None:
                self._resident = ResidentDataset(dataset, self.device)
            return DataLoader(self._resident.subset(indices), batch_size=None, sampler=batches)
        if self.locality is not None:
            streamed = StreamedBatches(dataset, batches, windows)
            return Ahead(streamed) if self.device.type == "cuda" else streamed
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )
        return Ahead(loader) if self.device.type == "cuda" else loader

    def _resides(self, dataset: MosaicDataset) -> bool:
        """Return whether the data lie on the device."""
        if self._resident is not None or self.on_device == "auto":
            return self._resident is not None or (self.num_workers == 0 and can_reside(dataset, self.device))
        if self.on_device and resident_bytes(dataset) is None:
            raise ValueError("Data on disk cannot lie on the device: leave `on_device` out, or read them into memory.")
        return bool(self.on_device)
