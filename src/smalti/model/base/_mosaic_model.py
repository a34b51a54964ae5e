"""What every model shares: construction and summary, on top of set-up, training, latents, gates and storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smalti._validate import check_seed, shorten
from smalti.model.parts import FittedInputs, MosaicModule

from ._gate_path import GatePathMixin
from ._storage import StorageMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    from smalti.model.parts import MosaicSizes


class MosaicModel(GatePathMixin, StorageMixin):
    """Base of all models: a MuData with any presence pattern in, latents and predictions out.

    A subclass resolves its options, calls :meth:`_build` in its constructor and implements :meth:`_latent`.
    """

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
        self.random_state = check_seed(self.random_state)
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
