"""Translations of more cells than fit into memory, into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from smalti._files import replacing, replacing_folder
from smalti._validate import check_path
from smalti.data import MatrixWriter, editing, write_frame

from ._host import positions
from ._translation import TranslationMixin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

PIECE_VALUES = 20_000_000
"""Values that are in memory at once."""


class StoredTranslationMixin(TranslationMixin):
    """``write_translation`` of every model that decodes."""

    def write_translation(
        self,
        path: str | Path,
        source: str | None = None,
        target: str | None = None,
        *,
        mdata: MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        library_size: Literal["source", "mean", "observed"] | float | ArrayLike = "source",
        **options: Any,
    ) -> None:
        """Predict a modality of any number of cells and write it piece by piece.

        Parameters
        ----------
        path
            AnnData file (``.h5ad``) or folder (``.zarr``) to write; ``.X`` is dense, single precision. It appears when
            it is complete and replaces an older one.
        source, target, mdata, indices, library_size
            As for :meth:`translate`.
        **options
            Other options of :meth:`translate`: ``batch``, ``features``, ``scale``, ``by``, ``batch_size``.

        Raises
        ------
        ValueError
            As :meth:`translate`, or if ``path`` ends in something else.
        OSError
            If ``path`` cannot be written; what was there before stays.
        """
        path = check_path(path)
        if path.suffix not in (".h5ad", ".zarr"):
            raise ValueError(f"Expected `path` to end in .h5ad or .zarr, found {str(path)!r}.")
        mdata = self._validate_anndata(mdata)
        cells = positions(mdata, indices)
        each = None if isinstance(library_size, str) or np.ndim(library_size) == 0 else np.asarray(library_size)
        if each is not None and each.shape != cells.shape:
            raise ValueError(
                f"Expected `library_size` to be a number or {len(cells)} of them, found shape {each.shape}."
            )
        if source is not None:
            here = self.with_modality(mdata, self.check_modality(source, "source"), cells)
            cells, each = cells[here], each if each is None else each[here]

        def predict(at: slice) -> Any:
            library = library_size if each is None else each[at]
            return self.translate(source, target, mdata=mdata, indices=cells[at], library_size=library, **options)

        first = predict(slice(0, 1))
        shape = len(cells), len(first.var_names)
        frame = first.to_adata()
        frame = AnnData(
            sp.csr_matrix(shape, dtype=np.float32),
            obs=pd.DataFrame(index=mdata.obs_names[cells]),
            var=pd.DataFrame(index=first.var_names),
            uns=dict(frame.uns),
        )
        step = max(1, PIECE_VALUES // max(shape[1], 1))
        with (replacing_folder if path.suffix == ".zarr" else replacing)(path) as beside:
            write_frame(beside, frame)
            with editing(beside) as store:
                writer = MatrixWriter(store, shape, 0, np.float32, sparse=False)
                for start in range(0, len(cells), step):
                    writer.add(predict(slice(start, start + step)).values)
                writer.close()
