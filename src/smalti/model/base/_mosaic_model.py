"""What every model shares: construction, the latent, the summary."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from smalti._validate import check_choice, shorten
from smalti.model.parts import FittedInputs, MosaicModule, encoder_inputs

from ._storage import StorageMixin
from ._training import TrainingMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import CellComponents, MosaicSizes


class MosaicModel(TrainingMixin, StorageMixin):
    """Base of all models: a MuData with any presence pattern in, latents and predictions out.

    A subclass resolves its options, calls :meth:`_build` in its constructor and implements :meth:`_latent`.
    """

    blocks: ClassVar[tuple[str, ...]] = ()
    """Names of the latents that :meth:`get_latent_representation` offers, the default first."""

    def _build(
        self, make: Callable[[MosaicSizes], MosaicModule], sizes: MosaicSizes | None, *, n_components: int | None
    ) -> None:
        """Fit inputs to the data (or take the sizes of a stored model) and make the network, seeded.

        Parameters
        ----------
        make
            Returns the network for the sizes of a mosaic.
        sizes
            Sizes of a stored model; from the data by default.
        n_components
            Components of encoder inputs; by default chosen by cross-validated linear CCA on paired cells.
        """
        fitted = None
        if sizes is None:
            if self.adata is None:
                raise ValueError(f"A model without data needs `sizes`: use `{type(self).__name__}.load`.")
            fitted = FittedInputs(self.adata_manager, n_components=n_components, random_state=self.random_state)
            sizes = fitted.sizes(n_labels=len(self.label_categories))
        self.sizes_ = sizes
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            module = make(sizes)
        if not isinstance(module, MosaicModule):
            raise TypeError(
                f"Expected the network of {type(self).__name__} to be a `smalti.model.parts.MosaicModule`, which "
                f"holds inputs, decoding and gates, found {type(module).__name__}."
            )
        self.module = module
        if fitted is not None:
            self.module.initialise(fitted)
            components = fitted.cell_components()
            self._components = None if components is None else (self.adata_manager, components)

    def cell_components(self) -> CellComponents:
        """Return the encoder inputs of all cells of the data; kept from construction where nothing can change them."""
        if self._components is not None and self._components[0] is self.adata_manager:
            return self._components[1]
        return encoder_inputs(self.adata_manager, self.module.inputs)

    # ------------------------------------------------------------------ latents

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        block: str | Collection[str] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the latent of every cell from all that was measured of it, in the order of ``mdata.obs_names``.

        Parameters
        ----------
        mdata
            Data, those of training by default. It may lack modalities.
        modality
            Use this modality alone; cells without it get NaN. By default all modalities of each cell are fused.
        indices
            Positions or a boolean mask; all cells by default.
        block
            Which latent, see the class; its default one by default.
        batch_size
            Cells per batch.

        Returns
        -------
        ``(n, d)``, float32.

        Raises
        ------
        ValueError
            If ``modality`` or ``block`` does not exist, or no cell has the modality.
        """
        if modality is not None:
            self.check_modality(modality)
            self.with_modality(mdata, modality, indices)
        chosen = self._check_block(block, modality)
        parts = [
            self._latent(minibatch, chosen, modality).float().cpu().numpy()
            for minibatch in self.iterate(mdata, indices, batch_size)
        ]
        return np.concatenate(parts)

    def _check_block(self, block: str | Collection[str] | None, modality: str | None) -> str:
        """Return the name of a block that exists, the default one for ``None``."""
        return str(check_choice(self.blocks[0] if block is None else block, self.blocks, "block"))

    @abstractmethod
    def _latent(self, minibatch: MosaicBatch, block: Any, modality: str | None) -> torch.Tensor:
        """Return a block of one minibatch, ``(B, d)``; NaN where ``modality`` is absent."""

    # ------------------------------------------------------------------ summary

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ({'trained' if self.is_trained_ else 'not trained'})"]
        for name, size in self.sizes_.modalities.items():
            width = size.input_config.get("n_components", size.input_config.get("n_in", ""))
            seen = f"{size.input_kind} {width}".strip()
            lines.append(f"  {name}: {size.n_features} features, {size.likelihood}, encoder sees {seen}")
        cells = f"{self.adata.n_obs} cells" if self.adata is not None else "no data attached"
        pairs = shorten([f"{a}-{b}" for a, b in self.sizes_.pairs]) or "none"
        lines.append(f"  {cells}, batches: {self.sizes_.n_batch}, labels: {self.sizes_.n_labels}, paired: {pairs}")
        n_weights = sum(p.numel() for p in self.module.parameters())
        lines.append(f"  {n_weights:,} weights on {self.module.device}; {self._model_summary_string}")
        return "\n".join(lines)

    def summary(self) -> str:
        """Return what the model is made of, as text."""
        return repr(self)
