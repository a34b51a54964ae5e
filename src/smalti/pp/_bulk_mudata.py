"""Preprocessing of the bulk assays of a MuData, fitted on its training samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from smalti._mudata import rebuild_mudata
from smalti._validate import check_keys

from ._bulk import BulkTransform
from ._modality import UNS_KEY, ModalityTransform, apply, fit_modality, get_transform
from ._mudata import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import ArrayLike

    from ._bulk import BulkKind, BulkKindName, Scale

BULK_KEY = "X_bulk"


def bulk(
    mdata: MuData,
    modality: str,
    *,
    kind: BulkKindName | BulkKind,
    train: str | ArrayLike | None = None,
    scale: Scale | None = "zscore",
    n_components: int | None = None,
    layer: str | None = None,
    random_state: int = 0,
    key_added: str = BULK_KEY,
) -> None:
    """Filter, transform, scale and, on request, project one modality of a bulk assay, see :class:`BulkTransform`.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    kind, scale, n_components, random_state
        See :class:`BulkTransform`.
    train
        The samples to fit to: a boolean column of ``mdata.obs``, or a mask ``(n_obs,)``; by default all. What other
        samples hold has no influence on anything that is fitted.
    layer
        Layer of the modality that holds the values; ``.X`` by default.
    key_added
        Results for all samples go to ``mdata[modality].obsm[key_added]``, the fitted transform to
        ``mdata[modality].uns["smalti"][key_added]``. :func:`as_modalities` makes a MuData of them.

    Raises
    ------
    KeyError
        If the modality, layer or column does not exist.
    ValueError
        If values do not fit the kind, or none of the training samples was measured in the modality.
    """
    transform = BulkTransform(kind, scale=scale, n_components=n_components, random_state=random_state)
    write(mdata, modality, fit_modality(mdata, modality, transform, layer=layer, train=train), key_added)


def as_modalities(mdata: MuData, transforms: Mapping[str, ModalityTransform] | str = BULK_KEY) -> MuData:
    """Return a MuData in which modalities hold their transformed values, for models of values on a real scale.

    Parameters
    ----------
    mdata
        The mosaic with raw values; left as it is.
    transforms
        Fitted transforms by modality, such as those of other samples; or the ``key_added`` of the transforms that
        ``mdata`` holds. Modalities without one are taken over unchanged.

    Returns
    -------
    The samples in the same order, with ``.X`` float32. Features keep their names and ``.var`` unless they were
    projected, whereupon they are called ``"<modality>_1"`` and so on. Layers are left out.

    Raises
    ------
    KeyError
        If a modality does not exist, or none has a transform of that key.
    ValueError
        If a modality has other features than its transform was fitted on.
    """
    if isinstance(transforms, str):
        key = transforms
        having = [name for name, adata in mdata.mod.items() if key in adata.uns.get(UNS_KEY, {})]
        if not having:
            raise KeyError(f"No modality has a fitted transform {key!r}. Call `smalti.pp.bulk` first.")
        transforms = {name: get_transform(mdata, name, key) for name in having}
    check_keys(transforms, list(mdata.mod), "Modality")
    made = {
        name: _transformed(mdata, name, transforms[name]) if name in transforms else adata.copy()
        for name, adata in mdata.mod.items()
    }
    out = rebuild_mudata(mdata, made, pd.Series(np.arange(mdata.n_obs), index=mdata.obs_names))
    return out if out.obs_names.equals(mdata.obs_names) else out[mdata.obs_names].copy()


def _transformed(mdata: MuData, modality: str, fitted: ModalityTransform) -> AnnData:
    adata, values = mdata.mod[modality], apply(mdata, modality, fitted)
    made = fitted.transform
    if isinstance(made, BulkTransform) and len(made.explained) == 0:
        var = adata.var[made.kept].copy()
    else:
        var = pd.DataFrame(index=[f"{modality}_{i + 1}" for i in range(values.shape[1])])
    return AnnData(values, obs=adata.obs.copy(), var=var, uns=dict(adata.uns))
