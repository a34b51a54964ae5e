"""LSI, PCA and CLR of one modality of a MuData, written into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._modality import UNS_KEY, apply, fit_modality
from ._transforms import CLR, LSI, PCA

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import ArrayLike

    from ._base import LinearTransform
    from ._modality import ModalityTransform
    from ._transforms import PCAKind


def lsi(
    mdata: MuData,
    modality: str,
    *,
    n_components: int = 30,
    target_sum: float | None = None,
    drop_first: bool = False,
    row_standardize: bool = False,
    layer: str | None = None,
    batch_key: str | None = None,
    feature_mask: ArrayLike | None = None,
    random_state: int = 0,
    key_added: str = "X_lsi",
) -> None:
    """Latent semantic indexing of one modality of mostly binary counts, see :class:`LSI`.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    n_components, target_sum, drop_first, row_standardize, random_state
        See :class:`LSI`.
    layer
        Layer of the modality that holds raw counts; ``.X`` by default.
    batch_key
        Column of ``mdata.obs``; components are centred per batch, or over all cells without it.
    feature_mask
        ``(n_batch, G)`` boolean, which features each batch (sorted by name) measured.
    key_added
        Components go to ``mdata[modality].obsm[key_added]``, the fitted transform to
        ``mdata[modality].uns["smalti"][key_added]``.
    """
    transform = LSI(
        n_components,
        target_sum=target_sum,
        drop_first=drop_first,
        row_standardize=row_standardize,
        random_state=random_state,
    )
    _fit_and_write(mdata, modality, transform, layer, batch_key, feature_mask, key_added)


def pca(
    mdata: MuData,
    modality: str,
    *,
    n_components: int = 30,
    kind: PCAKind = "tfidf",
    target_sum: float | None = None,
    standardize: bool | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    feature_mask: ArrayLike | None = None,
    random_state: int = 0,
    key_added: str = "X_pca",
) -> None:
    """Principal components of one modality, see :class:`PCA`.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    n_components, kind, target_sum, standardize, random_state
        See :class:`PCA`.
    layer
        Layer of the modality that holds raw values; ``.X`` by default.
    batch_key
        Column of ``mdata.obs``; components are centred per batch, or over all cells without it.
    feature_mask
        ``(n_batch, G)`` boolean, which features each batch (sorted by name) measured.
    key_added
        Components go to ``mdata[modality].obsm[key_added]``, the fitted transform to
        ``mdata[modality].uns["smalti"][key_added]``.
    """
    transform = PCA(n_components, kind=kind, target_sum=target_sum, standardize=standardize, random_state=random_state)
    _fit_and_write(mdata, modality, transform, layer, batch_key, feature_mask, key_added)


def clr(
    mdata: MuData,
    modality: str,
    *,
    n_components: int = 30,
    standardize: bool = False,
    layer: str | None = None,
    batch_key: str | None = None,
    feature_mask: ArrayLike | None = None,
    random_state: int = 0,
    key_added: str = "X_clr",
) -> None:
    """Principal components of centred log-ratios of one modality, see :class:`CLR`.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    n_components, standardize, random_state
        See :class:`CLR`.
    layer
        Layer of the modality that holds raw counts; ``.X`` by default.
    batch_key
        Column of ``mdata.obs``; components are centred per batch, or over all cells without it.
    feature_mask
        ``(n_batch, G)`` boolean, which features each batch (sorted by name) measured.
    key_added
        Components go to ``mdata[modality].obsm[key_added]``, the fitted transform to
        ``mdata[modality].uns["smalti"][key_added]``.
    """
    transform = CLR(n_components, standardize=standardize, random_state=random_state)
    _fit_and_write(mdata, modality, transform, layer, batch_key, feature_mask, key_added)


def _fit_and_write(
    mdata: MuData,
    modality: str,
    transform: LinearTransform,
    layer: str | None,
    batch_key: str | None,
    feature_mask: ArrayLike | None,
    key_added: str,
) -> None:
    fitted = fit_modality(mdata, modality, transform, layer=layer, batch_key=batch_key, feature_mask=feature_mask)
    write(mdata, modality, fitted, key_added)


def write(mdata: MuData, modality: str, fitted: ModalityTransform, key_added: str) -> None:
    """Write the components of a fitted transform, and its state, into the modality."""
    apply(mdata, modality, fitted, key_added=key_added)
    uns = mdata.mod[modality].uns
    uns[UNS_KEY] = {**uns.get(UNS_KEY, {}), key_added: fitted.state()}
