"""Translation: expected values of one modality from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from smalti._validate import check_choice, check_positive
from smalti.data import INDEX
from smalti.nn import fuse

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from ._module import CLUEModule

AVERAGE = -1
"""Batch code of an average batch."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Predicted values of a modality."""

    values: NDArray[np.float32]
    """``(n, G)`` expected values, on the scale of the target's raw values (probabilities for ``"bernoulli"``)."""
    obs_names: pd.Index
    """Names of the cells."""
    var_names: pd.Index
    """Names of the features."""
    source: str | None
    """Modality predicted from; ``None`` for all that each cell has."""
    target: str
    """Predicted modality."""

    def to_adata(self) -> AnnData:
        """Return an AnnData with the values in ``.X``."""
        out = AnnData(self.values)
        out.obs_names, out.var_names = self.obs_names, self.var_names
        out.uns["translation"] = {"source": self.source or "all", "target": self.target}
        return out

    def __repr__(self) -> str:
        n, g = self.values.shape
        return f"Translation({self.source or 'all modalities'} -> {self.target}: {n} cells x {g} features)"


def read_batch(batch: str, categories: list[str]) -> int | None:
    """Return the code of a batch to predict as, -1 for the average, ``None`` for each cell's own."""
    if batch == "own":
        return None
    if batch == "average":
        return AVERAGE
    check_choice(batch, ("own", "average", *categories), "batch")
    return categories.index(batch)


def read_library(
    library_size: str | float | ArrayLike, indices: Any, cells: NDArray[np.int64]
) -> str | dict[int, float] | float:
    """Check ``library_size``: a word, a number, or one number per cell (of ``indices``, in their order)."""
    if isinstance(library_size, str):
        return str(check_choice(library_size, ("source", "mean", "observed"), "library_size"))
    given = np.asarray(library_size, dtype=float)
    if given.ndim == 0:
        return float(check_positive(float(given), "library_size"))
    asked = cells if indices is None else np.asarray(indices)
    if given.shape != (len(asked),):
        raise ValueError(f"Expected `library_size` to be a number or {len(asked)} of them, found shape {given.shape}.")
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise ValueError("Expected `library_size` to be positive and finite for every cell.")
    return dict(zip(asked.tolist(), given.tolist(), strict=True))


def decode_expected(
    module: CLUEModule,
    tensors: dict[str, Any],
    source: str | None,
    target: str,
    *,
    library: str | dict[int, float] | float,
    batch: int | None,
    features: NDArray[np.int64] | None,
) -> NDArray[np.float32]:
    """Decode one minibatch.

    Parameters
    ----------
    module, tensors
        Network and minibatch; every cell has the source.
    source, target
        Modalities; ``None`` fuses all.
    library
        From :func:`read_library`.
    batch
        From :func:`read_batch`.
    features
        Positions of features; all by default.

    Returns
    -------
    ``(B, S)``.
    """
    out = module.inference(tensors)
    if source is None:
        z = fuse(out["latents"], out["present"], module.options.fusion).mean
    else:
        z = out["latents"][source].mean
    own = module.inputs.batch(tensors)
    codes = own if batch is None else torch.full_like(own, batch)
    at = None if features is None else torch.from_numpy(features).to(own.device)
    heads = module.decoders[target](module.block(module.place(z), target), module.inputs.covariates(codes), at)
    family = module.families[target]
    if family.uses_library:
        heads = torch.cat(
            [heads[:1] + _log_library(module, tensors, out, source, target, library)[None, :, None], heads[1:]]
        )
    scale = module.decoders[target].scales(codes, at).expand(heads.shape[1:])
    return family.mean(heads, scale).cpu().numpy()


def _log_library(
    module: CLUEModule,
    tensors: dict[str, Any],
    out: dict[str, Any],
    source: str | None,
    target: str,
    library: str | dict[int, float] | float,
) -> torch.Tensor:
    inputs, n = module.inputs, len(tensors[REGISTRY_KEYS.BATCH_KEY])
    mean = inputs.mean_log_library[inputs.position(target)].expand(n)
    if isinstance(library, dict):
        return torch.tensor([library[i] for i in tensors[INDEX].tolist()], device=mean.device, dtype=mean.dtype).log()
    if not isinstance(library, str):
        return torch.full_like(mean, library).log()
    if library == "mean":
        return mean
    if library == "observed":
        if target not in out["present"] or not bool(out["present"][target].all()):
            raise ValueError(
                f"`library_size='observed'` needs cells that were measured in {target!r}. Use 'source' or 'mean'."
            )
        return inputs.log_library(tensors, target)
    if source is not None:
        return inputs.predicted_log_library(tensors, source, target)
    total, count = torch.zeros_like(mean), torch.zeros_like(mean)
    for name, here in out["present"].items():
        own = name == target
        guess = inputs.log_library(tensors, name) if own else inputs.predicted_log_library(tensors, name, target)
        # the target's own total, where it was measured, outweighs any guess
        weight = here * (1e6 if own else 1.0)
        total, count = total + weight * guess, count + weight
    return torch.where(count > 0, total / count.clamp(min=1), mean)
