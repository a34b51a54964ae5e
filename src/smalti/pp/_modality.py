"""A fitted transform of one modality of a MuData, stored in it so that new cells get the same."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from smalti._mudata import check_mudata
from smalti._text import as_text
from smalti._validate import check_keys, check_names_equal, check_unique, shorten
from smalti.data import CategoryField, looks_like_counts, matrix_of, measured_matrix, row_maps, stored_matrix

from ._arrays import as_rows
from ._base import LinearTransform
from ._bulk import BulkTransform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

UNS_KEY = "smalti"


@dataclass(frozen=True)
class ModalityTransform:
    """A fitted transform and what it needs to be applied to a modality of another MuData.

    Parameters
    ----------
    transform
        The fitted transform.
    var_names
        ``(G,)``, the features in their order.
    layer
        Layer of the modality that holds raw values; ``None`` is ``.X``.
    batch_key
        Column of ``mdata.obs`` with the batch; ``None`` if all cells are of one batch.
    batches
        ``(n_batch,)``, the batches in the order of their codes.
    counts
        Whether the values of the fit were counts; those of other cells then have to be counts, too.
    """

    transform: LinearTransform | BulkTransform
    var_names: NDArray[np.object_]
    layer: str | None = None
    batch_key: str | None = None
    batches: tuple[str, ...] = ()
    counts: bool = False

    def __repr__(self) -> str:
        return f"ModalityTransform({self.transform!r}, layer={self.layer!r}, batch_key={self.batch_key!r})"

    def state(self) -> dict[str, Any]:
        """Return plain arrays, numbers and strings, fit for ``.uns``."""
        out = self.transform.state() | {"var_names": np.asarray(self.var_names, dtype=object), "counts": self.counts}
        if self.layer is not None:
            out["layer"] = self.layer
        if self.batch_key is not None:
            out |= {"batch_key": self.batch_key, "batches": np.asarray(self.batches, dtype=object)}
        return out

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`state` describes."""
        made = BulkTransform if str(state["class"]) == BulkTransform.__name__ else LinearTransform
        return cls(
            made.from_state(state),
            np.asarray(state["var_names"], dtype=object),
            str(state["layer"]) if "layer" in state else None,
            str(state["batch_key"]) if "batch_key" in state else None,
            tuple(str(b) for b in np.atleast_1d(state.get("batches", ()))),
            bool(state.get("counts", False)),
        )


def fit_modality(
    mdata: MuData,
    modality: str,
    transform: LinearTransform | BulkTransform,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    feature_mask: ArrayLike | None = None,
    train: str | ArrayLike | None = None,
) -> ModalityTransform:
    """Fit any transform to one modality; nothing is written.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    transform
        The transform; it is fitted in place.
    layer, batch_key, feature_mask
        See :func:`lsi`; a :class:`BulkTransform` knows no batches.
    train
        The cells to fit to: a boolean column of ``mdata.obs``, or a mask ``(n_obs,)``; by default all. Batches are then
        those of these cells.

    Raises
    ------
    KeyError
        If the modality, layer or a column does not exist.
    ValueError
        If the transform cannot be fitted to the values, or no cell of the modality is to be fitted.
    """
    x = _values(mdata, modality, layer, fill=not isinstance(transform, BulkTransform))
    check_unique(mdata.mod[modality].var_names, f"Variable names of modality {modality!r}")
    cells = _training_cells(mdata, train)
    batches = () if batch_key is None else tuple(np.unique(_column(mdata, batch_key)[cells]))
    codes = _codes(mdata, modality, batch_key, batches)
    if train is not None:
        rows = row_maps(mdata, [modality])[modality][cells]
        rows = np.sort(rows[rows >= 0])
        if rows.size == 0:
            raise ValueError(f"None of the {int(cells.sum())} cells in `train` was measured in modality {modality!r}.")
        x, codes = as_rows(x)[rows], codes[rows]
    with _naming(modality):
        if not isinstance(transform, BulkTransform):
            transform.fit(x, batch=codes, n_batch=max(len(batches), 1), feature_mask=feature_mask)
        elif batch_key is not None or feature_mask is not None:
            raise ValueError("`batch_key` and `feature_mask` have no meaning for a BulkTransform; leave them out.")
        else:
            transform.fit(x)
    counts = not isinstance(transform, BulkTransform) and _holds_counts(mdata, modality, layer)
    names = mdata.mod[modality].var_names.to_numpy(object)
    return ModalityTransform(transform, names, layer, batch_key, batches, counts)


def get_transform(mdata: MuData, modality: str, key: str) -> ModalityTransform:
    """Return the fitted transform that :func:`lsi`, :func:`pca` or :func:`clr` stored.

    Parameters
    ----------
    mdata
        The mosaic, possibly read from a file.
    modality
        Name of the modality.
    key
        The ``key_added`` it was written under, such as ``"X_lsi"``.

    Raises
    ------
    KeyError
        If there is no such modality or transform.
    """
    check_keys([modality], list(mdata.mod), "Modality")
    stored = mdata.mod[modality].uns.get(UNS_KEY, {})
    check_keys([key], list(stored), f"Fitted transform in `mdata[{modality!r}].uns['{UNS_KEY}']`")
    return ModalityTransform.from_state(stored[key])


def apply(
    mdata: MuData, modality: str, transform: ModalityTransform, *, key_added: str | None = None
) -> NDArray[np.float32]:
    """Apply a fitted transform to a modality of any MuData and return the components ``(n_rows, n_components)``.

    Parameters
    ----------
    mdata
        The mosaic with the new cells; the features must be those of the fit, in the same order. Cells of a batch that
        was not seen are centred by the mean over the batches of the fit.
    modality
        Name of the modality.
    transform
        From :func:`get_transform` or :func:`fit_modality`.
    key_added
        If given, components are also written to ``mdata[modality].obsm[key_added]``.

    Raises
    ------
    ValueError
        If the features differ, or values are no counts where those of the fit were.
    """
    x = _values(mdata, modality, transform.layer, fill=not isinstance(transform.transform, BulkTransform))
    check_names_equal(
        list(mdata.mod[modality].var_names),
        list(transform.var_names),
        f"Modality {modality!r}",
        f"Bring them into the order of the fit first: `mdata.mod[{modality!r}] = adata[:, transform.var_names]`.",
    )
    if transform.counts and not _holds_counts(mdata, modality, transform.layer):
        raise ValueError(
            f"Modality {modality!r} holds values that are no counts, but the transform was fitted to counts: were they "
            "normalised since? Put the raw counts back, or name their layer in the fit."
        )
    codes = _codes(mdata, modality, transform.batch_key, transform.batches)
    made = transform.transform
    with _naming(modality):
        out = made.transform(x) if isinstance(made, BulkTransform) else made.transform(x, batch=codes)
    if key_added is not None:
        mdata.mod[modality].obsm[key_added] = out
    return out


def _values(mdata: MuData, modality: str, layer: str | None, *, fill: bool) -> Any:
    check_mudata(mdata)
    check_keys([modality], list(mdata.mod), "Modality")
    adata = mdata.mod[modality]
    if layer is not None:
        check_keys([layer], [k for k in adata.layers if k], f"Layer of modality {modality!r}")
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        return x
    return (measured_matrix if fill else matrix_of)(adata, layer, modality)


def _holds_counts(mdata: MuData, modality: str, layer: str | None) -> bool:
    """Return whether all values that are known are counts."""
    return looks_like_counts(stored_matrix(mdata.mod[modality], layer, modality))


@contextmanager
def _naming(modality: str) -> Iterator[None]:
    """Say of which modality the values are that an array-level function refused."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Modality {modality!r}: {error}") from error


def _training_cells(mdata: MuData, train: str | ArrayLike | None) -> NDArray[np.bool_]:
    """Return which cells to fit to, ``(n_obs,)``."""
    if train is None:
        return np.ones(mdata.n_obs, dtype=bool)
    what = "`train`"
    if isinstance(train, str):
        check_keys([train], list(mdata.obs), "Column of `mdata.obs` for `train`")
        what, train = f"`mdata.obs[{train!r}]`", mdata.obs[train]
    if isinstance(train, pd.Series) and not train.index.equals(mdata.obs_names):
        raise ValueError(f"Expected {what} to have the index `mdata.obs_names`. Use `train.reindex(mdata.obs_names)`.")
    if isinstance(train, pd.Series) and train.dtype == "boolean" and not train.isna().any():
        train = train.astype(bool)
    mask = np.asarray(train)
    if mask.shape != (mdata.n_obs,) or mask.dtype != bool:
        raise ValueError(
            f"Expected {what} to be boolean, one for each of the {mdata.n_obs} cells, found type {mask.dtype} and "
            f"shape {mask.shape}. For a column of names, write `train=mdata.obs['split'] == 'train'`."
        )
    return mask


def _column(mdata: MuData, batch_key: str) -> pd.Series:
    CategoryField("batch", batch_key).validate_field(mdata)
    return as_text(mdata.obs[batch_key])


def _codes(mdata: MuData, modality: str, batch_key: str | None, batches: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the batch code of every row of the modality; -1 for a batch that is not in ``batches``."""
    rows = row_maps(mdata, [modality])[modality]
    out = np.zeros(mdata.mod[modality].n_obs, dtype=np.int64)
    if batch_key is None:
        return out
    here = rows >= 0
    values = _column(mdata, batch_key)[here]
    out[rows[here]] = pd.Index(batches).get_indexer(values)
    new = sorted(set(values) - set(batches))
    if new:
        logger.info("Batches %s were not seen: their cells are centred by the mean over batches.", shorten(new))
    return out
