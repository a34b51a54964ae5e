"""The spaces in which UnpairedCCA compares cells: one for matching, stored with the model, and evidence alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from smalti._errors import NotFittedError
from smalti._linalg import unit_rows
from smalti.align import evidence_features, fit_matching_space, matching_space

from ._training import UnpairedTraining

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.align import TransportPlan


class UnpairedSpaces(UnpairedTraining):
    """Spaces for matching, fitted after training."""

    def _fit_readouts(self) -> None:
        """Fit the space for matching where there are two modalities, then what other models fit, too."""
        self.module.matching.space = None
        if self._aligned is not None and len(self.modalities) == 2:
            first, second = self.modalities
            latents = self._own_latents((first, second))
            if all(np.isfinite(z).all() for z in latents.values()):
                self.module.matching.space = fit_matching_space(self._aligned[0], (first, second), latents)
        super()._fit_readouts()

    def _own_latents(self, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
        """Return latents of the cells that have each modality, rows of views."""
        maps, latents = self.adata_manager.row_maps(), {}
        for name in names:
            self.check_modality(name)  # rows of views are cells in the order of the mosaic
            at = np.flatnonzero(maps[name] >= 0)
            z = self.get_latent_representation(modality=name, indices=at, block=self.aligned_block)
            latents[name] = z.astype(np.float64)
        return latents

    def matching_space(self, source: str, target: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the space in which :meth:`match` compares training cells of two modalities.

        The latent, the evidence with half its weight, and a correction by mutual nearest neighbours. Use it, not the
        latent, to carry labels or values from one modality to the other by nearest neighbours. Of two modalities it is
        the block ``"aligned"``; of more, every two have a space of their own.

        Parameters
        ----------
        source, target
            Modalities.

        Returns
        -------
        ``(n, d)`` of the cells of each that have the modality, in the order of ``mdata.obs_names``; unit length.

        Raises
        ------
        NotFittedError
            Before training, and after loading where there are more than two modalities.
        """
        if self.module.matching.ready:
            maps = self.adata_manager.row_maps()
            first, second = (
                self.get_latent_representation(modality=n, indices=np.flatnonzero(maps[n] >= 0), block="aligned")
                for n in (source, target)
            )
            return first.astype(np.float64), second.astype(np.float64)
        if self._aligned is None:
            raise NotFittedError(
                "There is no matching space before `train`, and none of a model of more than two modalities that was "
                "loaded: train it, or compare cells by `get_latent_representation`."
            )
        space = matching_space(self._aligned[0], (source, target), self._own_latents((source, target)))
        return unit_rows(space[0]), unit_rows(space[1])

    def _evidence_space(self, source: str, target: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the smoothed evidence of training cells of two modalities, ``None`` without any."""
        if self._aligned is None:
            return None
        problem = self._aligned[0]
        found = evidence_features(problem, (source, target))
        if found is None:
            return None
        first, second = (np.asarray(problem.views[m].members @ f) for m, f in zip((source, target), found, strict=True))
        return first, second

    def _with_evidence(self, plan: TransportPlan, a: str, b: str) -> TransportPlan:
        """Return a plan between training cells with the confidence that their evidence gives."""
        if self._aligned is None:
            return plan
        problem, alignment = self._aligned
        for pair, side in (((a, b), 0), ((b, a), 1)):
            if pair in alignment.confidence:
                kept = np.asarray(problem.views[a].members @ alignment.confidence[pair][side])
                return replace(plan, confidence=kept)
        return plan
