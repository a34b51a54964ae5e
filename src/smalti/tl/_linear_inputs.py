"""What both linear methods see: components of each modality, as many as held-out pairs support."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smalti._validate import check_count, check_keys
from smalti.data import CategoryField, row_maps
from smalti.pp import apply, components_by_pairs, default_transform, fit_modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.pp import LinearTransform, ModalityTransform


class LinearInputs(NamedTuple):
    """Fitted transforms, and the components of the cells they were fitted to."""

    transforms: dict[str, ModalityTransform]
    values: dict[str, NDArray[np.float32]]
    """``(n_rows, n_components)`` by modality."""
    maps: dict[str, NDArray[np.int64]]
    """``(n_obs,)`` row of every cell by modality, -1 where absent."""
    batch: NDArray[np.str_] | None
    """``(n_obs,)`` names of batches, None if they are not told."""
    n_components: int


def fit_linear_inputs(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None,
    n_components: int | None,
    candidates: Sequence[int],
    ridge: float,
    batch_key: str | None,
    layers: Mapping[str, str] | None,
    transforms: Mapping[str, LinearTransform] | None,
    random_state: int,
) -> LinearInputs:
    """Fit the transform of every modality and choose how many components enter; arguments as of the two methods."""
    names = list(mdata.mod) if modalities is None else list(modalities)
    layers, transforms = layers or {}, transforms or {}
    check_keys([*layers, *transforms], names, "Modality of `layers` or `transforms`")
    batch, maps = batch_names(mdata, batch_key), row_maps(mdata, names)
    most = max(candidates) if n_components is None else check_count(n_components, "n_components")
    fitted, values = {}, {}
    for name in names:
        layer, transform = layers.get(name), transforms.get(name)
        if transform is None:
            adata = mdata.mod[name]
            x = adata.X if layer is None else adata.layers[layer]
            transform = default_transform(x, n_components=most, random_state=random_state)
        fitted[name] = fit_modality(mdata, name, transform, layer=layer, batch_key=batch_key)
        values[name] = apply(mdata, name, fitted[name])
    if n_components is None:
        codes = None if batch is None else np.unique(batch, return_inverse=True)[1]
        n_components = components_by_pairs(
            values, maps, batch=codes, candidates=candidates, ridge=ridge, random_state=random_state
        )
    return LinearInputs(fitted, {name: z[:, :n_components] for name, z in values.items()}, maps, batch, n_components)


def apply_linear_inputs(
    mdata: MuData, transforms: Mapping[str, ModalityTransform], n_components: int
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
    """Return components and maps of any mosaic with at least one of the modalities."""
    names = [name for name in transforms if name in mdata.mod]
    check_keys(names or list(transforms), list(mdata.mod), "Modality")
    values = {name: apply(mdata, name, transforms[name])[:, :n_components] for name in names}
    return values, row_maps(mdata, names)


def batch_names(mdata: MuData, batch_key: str | None) -> NDArray[np.str_] | None:
    """Return the batch of every cell by name, checked as set-up does."""
    if batch_key is None:
        return None
    CategoryField("batch", batch_key).validate_field(mdata)
    column: NDArray[np.str_] = mdata.obs[batch_key].astype(str).to_numpy()
    return column
