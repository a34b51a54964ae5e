"""What both linear methods see: components of each modality, as many as held-out pairs support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smalti._mudata import check_mudata
from smalti._text import as_text
from smalti._validate import check_count, check_keys, check_positive, check_seed, check_unique, shorten
from smalti.data import CategoryField, matrix_of, row_maps
from smalti.pp import LinearTransform, apply, components_by_pairs, default_transform, fit_modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.pp import ModalityTransform


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
    every_cell: bool = False,
) -> LinearInputs:
    """Fit the transform of every modality and choose how many components enter; arguments as of the two methods."""
    check_mudata(mdata)
    check_seed(random_state)
    check_positive(ridge, "ridge", allow_zero=True)
    if isinstance(modalities, str):
        raise TypeError(f"Expected `modalities` to be a list of names, found {modalities!r}.")
    names = list(mdata.mod) if modalities is None else list(modalities)
    if not names:
        raise ValueError("Expected at least one modality, found none.")
    check_unique(names, "Names in `modalities`")
    check_keys(names, list(mdata.mod), "Modality")
    for mapping, what in ((layers, "layers"), (transforms, "transforms")):
        if not isinstance(mapping, Mapping | None):
            raise TypeError(f"Expected `{what}` to be a mapping by modality, found {mapping!r}.")
    layers, transforms = layers or {}, transforms or {}
    check_keys([*layers, *transforms], names, "Modality of `layers` or `transforms`")
    for name, given in transforms.items():
        if not isinstance(given, LinearTransform | None):
            raise TypeError(
                f"Expected the transform of modality {name!r} to be one of `sm.pp`, such as `sm.pp.PCA()`, found "
                f"{given!r}."
            )
    batch, maps = batch_names(mdata, batch_key), row_maps(mdata, names)
    absent = np.flatnonzero(np.all([rows < 0 for rows in maps.values()], axis=0))
    if every_cell and len(absent):
        raise ValueError(
            f"{len(absent)} cells were measured in none of the modalities {shorten(names)}: "
            f"{shorten(mdata.obs_names[absent])}. Name more modalities, or leave these cells out of the fit."
        )
    most = max(candidates) if n_components is None else check_count(n_components, "n_components")
    fitted, values = {}, {}
    for name in names:
        layer, transform = layers.get(name), transforms.get(name)
        if transform is None:
            adata = mdata.mod[name]
            x = matrix_of(adata, layer, name)
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
    check_mudata(mdata)
    names = [name for name in transforms if name in mdata.mod]
    check_keys(names or list(transforms), list(mdata.mod), "Modality")
    values = {name: apply(mdata, name, transforms[name])[:, :n_components] for name in names}
    return values, row_maps(mdata, names)


def batch_names(mdata: MuData, batch_key: str | None) -> NDArray[np.str_] | None:
    """Return the batch of every cell by name, checked as set-up does."""
    if batch_key is None:
        return None
    CategoryField("batch", batch_key).validate_field(mdata)
    return as_text(mdata.obs[batch_key]).to_numpy(dtype=str)
