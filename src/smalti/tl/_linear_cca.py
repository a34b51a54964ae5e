"""The linear baseline: components per modality, linked by canonical correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import check_text
from smalti.pp import N_COMPONENTS, LinearCCA

from ._linear_inputs import apply_linear_inputs, fit_linear_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.pp import LinearTransform, ModalityTransform


CANDIDATES = (*N_COMPONENTS, 50)
"""Numbers of components to choose from; matching may gain from more than a latent for analysis does."""


@dataclass(frozen=True)
class LinearCCAResult:
    """What :func:`linear_cca` fitted; applies to any cells.

    Parameters
    ----------
    transforms
        ``{modality: fitted transform}``.
    cca
        The fitted axes.
    n_components
        Leading components of each modality that entered.
    """

    transforms: dict[str, ModalityTransform]
    cca: LinearCCA
    n_components: int

    @property
    def correlations(self) -> NDArray[np.float64]:
        """Canonical correlations on held-out paired cells, ``(n_axes,)`` in ``[0, 1]``, not increasing."""
        return self.cca.correlations

    def __repr__(self) -> str:
        shown = ", ".join(f"{r:.2f}" for r in self.correlations[:8])
        more = ", ..." if len(self.correlations) > 8 else ""
        lines = [f"Linear CCA of {len(self.transforms)} modalities, {self.n_components} components each"]
        lines += [f"  {name}: {fitted.transform!r}" for name, fitted in self.transforms.items()]
        lines.append(f"  {len(self.correlations)} axes, held-out canonical correlations {shown}{more}")
        return "\n".join(lines)

    def embed(self, mdata: MuData) -> dict[str, NDArray[np.float32]]:
        """Return embeddings from each modality alone, ``{modality: (n_obs, n_axes)}``, NaN where it is absent.

        Parameters
        ----------
        mdata
            Any mosaic with at least one of the modalities, with the features of the fit.
        """
        inputs, maps = self._inputs(mdata)
        return {name: _by_cell(z, maps[name]) for name, z in self.cca.transform(inputs).items()}

    def transform(self, mdata: MuData) -> NDArray[np.float32]:
        """Return the joint embedding of every cell, ``(n_obs, n_axes)``: the mean over its modalities.

        Parameters
        ----------
        mdata
            Any mosaic with at least one of the modalities, with the features of the fit. A cell with none of the
            modalities gets NaN.
        """
        return self.cca.joint(*self._inputs(mdata))

    def _inputs(self, mdata: MuData) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
        return apply_linear_inputs(mdata, self.transforms, self.n_components)


def linear_cca(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    n_components: int | None = None,
    ridge: float = 0.01,
    batch_key: str | None = None,
    layers: Mapping[str, str] | None = None,
    transforms: Mapping[str, LinearTransform] | None = None,
    random_state: int = 0,
    key_added: str = "X_cca",
) -> LinearCCAResult:
    """Integrate a mosaic linearly: components per modality, then ridge CCA of the cells with several modalities.

    A baseline that takes seconds and that any network must beat. Cells with one modality are projected from it.

    Parameters
    ----------
    mdata
        The mosaic. Raw values.
    modalities
        Modalities to use; all by default.
    n_components
        Leading components of each modality; chosen among 15 to 50 by cross-validation on paired cells by default, see
        :func:`smalti.pp.choose_n_components`.
    ridge
        Regularisation, see :class:`smalti.pp.LinearCCA`.
    batch_key
        Column of ``mdata.obs``; components are centred per batch.
    layers
        Layer with raw values by modality; ``.X`` where not given.
    transforms
        Transform by modality, fitted here; by default chosen by :func:`smalti.pp.default_transform` from the values.
    random_state
        Seed of folds and decompositions.
    key_added
        The joint embedding goes to ``mdata.obsm[key_added]``, that of a modality to
        ``mdata.obsm[f"{key_added}_{modality}"]`` with NaN for cells that lack it.

    Returns
    -------
    The fitted transforms and axes.

    Raises
    ------
    ValueError
        If no chain of cells with two modalities links all modalities.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.datasets.pbmc_mosaic()
    >>> result = sm.tl.linear_cca(mdata, batch_key="batch")
    >>> mdata.obsm["X_cca"].shape == (mdata.n_obs, len(result.correlations))
    True
    """
    check_text(key_added, "key_added")
    seen = fit_linear_inputs(
        mdata,
        modalities=modalities,
        n_components=n_components,
        candidates=CANDIDATES,
        ridge=ridge,
        batch_key=batch_key,
        layers=layers,
        transforms=transforms,
        random_state=random_state,
    )
    cca = LinearCCA(ridge=ridge, random_state=random_state).fit(seen.values, seen.maps)
    mdata.obsm[key_added] = cca.joint(seen.values, seen.maps)
    for name, z in cca.transform(seen.values).items():
        mdata.obsm[f"{key_added}_{name}"] = _by_cell(z, seen.maps[name])
    return LinearCCAResult(seen.transforms, cca, seen.n_components)


def _by_cell(z: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return rows of a modality in the order of cells, NaN where absent."""
    out = np.full((len(rows), z.shape[1]), np.nan, dtype=np.float32)
    here = rows >= 0
    out[here] = z[rows[here]]
    return out
