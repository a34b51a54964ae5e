"""What all fitted transforms share: checks, fitting by a truncated decomposition, state, and the frozen projection."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from smalti._disk import DiskMatrix
from smalti._errors import NotFittedError
from smalti._validate import check_choice, check_count, check_positive
from smalti.nn import FrozenProjection, SparseRows

from ._arrays import as_rows, batch_means, check_batch, check_mask
from ._fit import fit_projection
from ._rows import as_tensors, row_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from smalti.nn import ProjectionKind

    from ._arrays import Floats, Matrix
    from ._fit import Recipe

logger = logging.getLogger(__name__)


class LinearTransform(ABC):
    """Base of :class:`LSI`, :class:`PCA` and :class:`CLR`: raw values to components, fitted once, applied to any cells.

    Fitting never densifies a sparse matrix. The map itself is :class:`~smalti.nn.FrozenProjection` and nothing else, so
    an array transformed here and a minibatch transformed inside a network agree.
    """

    _registry: ClassVar[dict[str, type[LinearTransform]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        LinearTransform._registry[cls.__name__] = cls

    def __init__(
        self,
        n_components: int = 30,
        *,
        target_sum: float | None = None,
        batch_center: bool = True,
        random_state: int = 0,
    ) -> None:
        if target_sum is not None:
            check_positive(target_sum, "target_sum")
        self.n_components = check_count(n_components, "n_components")
        self.target_sum = target_sum
        self.batch_center = batch_center
        self.random_state = random_state
        self._module: FrozenProjection | None = None
        self.singular_values: Floats = np.zeros(0)
        """Singular values of the matrix that was decomposed, largest first."""

    @property
    @abstractmethod
    def _recipe(self) -> Recipe:
        """What the transform does."""

    @property
    def kind(self) -> ProjectionKind:
        """The map of single values, see :class:`~smalti.nn.FrozenProjection`."""
        return self._recipe.kind

    @property
    def n_features(self) -> int:
        """Number of features the transform was fitted on."""
        return self.module.n_features

    @property
    def module(self) -> FrozenProjection:
        """The fitted projection itself; copy it with :meth:`to_module` before changing it."""
        if self._module is None:
            raise NotFittedError(f"This {type(self).__name__} was not fitted. Call `fit` first.")
        return self._module

    def __repr__(self) -> str:
        state = "not fitted"
        if self._module is not None:
            module = self._module
            state = f"{module.n_features} features to {module.n_components} components, batches: {module.n_batch}"
        return f"{type(self).__name__}(kind={self.kind!r}, {state})"

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: Matrix,
        *,
        batch: ArrayLike | None = None,
        n_batch: int | None = None,
        feature_mask: ArrayLike | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> Self:
        """Fit to the raw values of some cells.

        Parameters
        ----------
        X
            ``(n, G)`` raw values, sparse, dense, or anything with a ``shape`` and ``iter_chunks()``, which yields the
            numbers of some rows and their values as CSR; it is read several times, never as a whole.
        batch
            ``(n,)`` codes in ``[0, n_batch)``; -1 for a cell of unknown batch. By default all cells are of one batch.
        n_batch
            Number of batches, by default the largest code plus one.
        feature_mask
            ``(n_batch, G)`` boolean, which features a batch measured. Unmeasured ones count as missing.
        rows
            Cells to find directions by, all by default; they are held in memory. Centres of batches are those of all.

        Returns
        -------
        The transform itself.

        Raises
        ------
        ValueError
            If values are not finite, or negative where counts are expected; if shapes disagree; or if nothing varies.
        """
        X = as_rows(X)
        self._check_values(X)
        n, g = X.shape
        codes, n_batch = check_batch(batch, n, n_batch)
        module, singular = fit_projection(
            X if rows is None else X[rows],
            codes if rows is None else codes[rows],
            n_batch,
            check_mask(feature_mask, n_batch, g),
            self._recipe,
            n_components=self.n_components,
            target_sum=self.target_sum,
            random_state=self.random_state,
        )
        if singular.size == 0:
            raise ValueError(f"{type(self).__name__} found no direction along which the {n} cells vary.")
        if singular.size < self.n_components:
            logger.info(
                "%s has %d components instead of %d: %d cells by %d features hold no more.",
                *(type(self).__name__, singular.size, self.n_components, n, g),
            )
        self._module, self.singular_values = module, singular
        if self.batch_center:
            z = self.transform(X, batch=np.where(codes == n_batch, -1, codes)).astype(np.float64)
            known = np.where((z == 0).all(axis=1), n_batch, codes)  # cells without counts say nothing about the centre
            self._module.centre.copy_(torch.from_numpy(batch_means(z, known, n_batch)))
        return self

    def fit_transform(
        self,
        X: Matrix,
        *,
        batch: ArrayLike | None = None,
        n_batch: int | None = None,
        feature_mask: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Fit and return the components of the same cells, ``(n, n_components)``."""
        self.fit(X, batch=batch, n_batch=n_batch, feature_mask=feature_mask)
        return self.transform(X, batch=batch)

    # ------------------------------------------------------------ transform

    def transform(self, X: Matrix, *, batch: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return components ``(n, n_components)``.

        Parameters
        ----------
        X
            ``(n, G)`` raw values of any cells.
        batch
            ``(n,)`` codes as in :meth:`fit`; -1 for cells of a batch that was not seen. By default all cells are of the
            only batch, or of unknown batch if the transform was fitted on several.
        """
        module = self.module
        X = as_rows(X)
        if X.shape[1] != module.n_features:
            raise ValueError(
                f"The {type(self).__name__} was fitted on {module.n_features} features, found {X.shape[1]}. "
                "Pass the same features in the same order."
            )
        self._check_values(X)
        if batch is None:
            codes = np.full(X.shape[0], 0 if module.n_batch == 1 else -1)
        else:
            codes, _ = check_batch(batch, X.shape[0], module.n_batch)
            codes = np.where(codes == module.n_batch, -1, codes)
        out = np.empty((X.shape[0], module.n_components), dtype=np.float32)
        device = module.weight.device
        for at, block in row_blocks(X):
            rows = as_tensors(block)
            if isinstance(rows, SparseRows):
                rows = SparseRows(*(t.to(device) for t in rows))
            else:
                rows = rows.to(device)
            out[at] = module(rows, torch.from_numpy(codes[at]).to(device)).cpu().numpy()
        return out

    def to_module(self) -> FrozenProjection:
        """Return a copy of the fitted map as a module for use inside a network."""
        source = self.module
        copy = FrozenProjection(**source.config)  # type: ignore[arg-type]
        copy.load_state_dict(source.state_dict())
        return copy

    # ---------------------------------------------------------------- state

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "n_components": self.n_components,
            "target_sum": self.target_sum,
            "batch_center": self.batch_center,
            "random_state": self.random_state,
        }

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as plain arrays, numbers and strings, fit for JSON, npz and HDF5."""
        out: dict[str, Any] = {"class": type(self).__name__}
        out |= {f"option_{k}": v for k, v in self.options().items() if v is not None}
        out |= {f"config_{k}": v for k, v in self.module.config.items()}
        out |= {f"buffer_{k}": v.cpu().numpy().copy() for k, v in self.module.state_dict().items()}
        out["singular_values"] = self.singular_values.copy()
        return out

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the transform that :meth:`state` describes; called on the base class, of whatever kind it was."""
        name = check_choice(str(state["class"]), list(LinearTransform._registry), "class")
        made = LinearTransform._registry[name]
        if not issubclass(made, cls):
            raise ValueError(f"Expected the state of a {cls.__name__}, found that of a {name}.")
        transform = made(**{k.removeprefix("option_"): plain(v) for k, v in state.items() if k.startswith("option_")})
        config = {k.removeprefix("config_"): plain(v) for k, v in state.items() if k.startswith("config_")}
        module = FrozenProjection(**config)
        buffers = {k.removeprefix("buffer_"): v for k, v in state.items() if k.startswith("buffer_")}
        module.load_state_dict({k: torch.as_tensor(np.asarray(v)) for k, v in buffers.items()})
        transform._module = module
        transform.singular_values = np.asarray(state["singular_values"], dtype=np.float64)
        return transform

    def _check_values(self, X: Any) -> None:
        if isinstance(X, DiskMatrix) and X.summary.fine(negative=self.kind == "identity"):  # one pass for all who ask
            return
        for _, block in row_blocks(X):
            data = block if isinstance(block, np.ndarray) else block.data
            if not np.isfinite(data).all():
                raise ValueError(
                    f"{type(self).__name__} expected finite values, found NaN or infinity. Impute or remove them."
                )
            if self.kind != "identity" and data.size and data.min() < 0:
                raise ValueError(
                    f"{type(self).__name__} with kind {self.kind!r} expected counts >= 0, found {data.min()!r}. "
                    "Pass raw counts, or use `PCA(kind='identity')` for values on a real scale."
                )


def plain(value: Any) -> Any:
    """Return a Python scalar for what HDF5 or npz made of one."""
    value = np.asarray(value)[()]
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
