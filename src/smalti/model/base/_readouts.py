"""Latents for users: one for analysis, one for matching, and whether the latter beats the cheap rival."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from smalti._errors import NotFittedError
from smalti._linalg import unit_rows
from smalti._validate import check_choice
from smalti.model.parts import encoder_inputs, linear_alignment, nearer_candidates

from ._training import TrainingMixin

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import CellComponents

logger = logging.getLogger(__name__)

JOINT, ALIGNED = "joint", "aligned"
BatchCorrection = Literal["on", "off"]
MIN_HELD_OUT = 30
"""Held-out pairs below which nothing is said of who matches better."""


@dataclass(frozen=True)
class HeldOutMatching:
    """How well pairs that no network was trained on find each other among the held-out cells of their batch.

    The model's figure is slightly too good: the share of linear CCA in its block was chosen on the same pairs.
    """

    n_pairs: int
    model: float
    """Mean share of candidates nearer than the partner, in [0, 1], lower is better; by the block for matching."""
    linear: float
    """The same by linear CCA of the training pairs."""
    standard_error: float
    """Of the difference."""

    @property
    def model_is_worse(self) -> bool:
        """Whether linear CCA matches better by more than two standard errors."""
        return self.model - self.linear > 2 * self.standard_error

    def __str__(self) -> str:
        return (
            f"{self.n_pairs} held-out pairs: share of nearer candidates {self.model:.3f}, linear CCA {self.linear:.3f} "
            f"(standard error of the difference {self.standard_error:.3f})"
        )


class ReadoutMixin(TrainingMixin):
    """The blocks of a model: ``"joint"`` for analysis, ``"aligned"`` for matching, and its own."""

    blocks: ClassVar[tuple[str, ...]] = ()
    """Names of the model's own latents beside ``"joint"``."""
    aligned_block: ClassVar[str] = ALIGNED
    """The model's own block in which modalities are matched; ``"aligned"`` is another name for it."""
    beside_linear: ClassVar[bool] = False
    """Whether the block for matching is the model's own beside linear CCA, weighted on held-out pairs."""
    analysis_block: ClassVar[str] = JOINT
    """What :meth:`get_latent_representation` gives after training; a model with coordinates of its own names them."""
    held_out_matching_: HeldOutMatching | None = None
    """Whether matching beats linear CCA on the validation pairs; ``None`` if there are too few."""

    @abstractmethod
    def _latent(self, minibatch: MosaicBatch, block: Any, modality: str | None) -> torch.Tensor:
        """Return one of the model's own blocks of a minibatch, ``(B, d)``; NaN where ``modality`` is absent."""

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        block: str | Collection[str] | None = None,
        batch_correction: BatchCorrection = "on",
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the latent of every cell from all that was measured of it, in the order of ``mdata.obs_names``.

        ``block="joint"``, the default after training, is for analysis (neighbours, clusters, UMAP); ``block="aligned"``
        is for matching cells across modalities.

        Parameters
        ----------
        mdata
            Data, those of training by default. It may lack modalities.
        modality
            Use this modality alone; cells without it get NaN. By default all modalities of each cell are used.
        indices
            Positions or a boolean mask; all cells by default.
        block
            ``"joint"``: what modalities share beside what each says alone, completed where it was not measured; not on
            a sphere, compare by Euclidean distance; cell types are kept, batches and presence patterns mixed
            (:class:`~smalti.pp.LinearJoint` on the encoder inputs). ``"aligned"``: the block in which modalities are
            matched, compare by cosine. Others: see the class.
        batch_correction
            ``"off"`` shows the joint latent with batches and presence patterns where they lie.
        batch_size
            Cells per batch.

        Returns
        -------
        ``(n, d)``, float32.

        Raises
        ------
        ValueError
            If ``modality`` or ``block`` does not exist, or no cell has the modality.
        NotFittedError
            If the joint latent is asked for before training.
        """
        check_choice(batch_correction, ("on", "off"), "batch_correction")
        if modality is not None:
            self.check_modality(modality)
            self.with_modality(mdata, modality, indices)
        chosen = self._check_block(self._default_block() if block is None else block, modality)
        self._tell_block(chosen, self.adata if mdata is None else mdata)
        parts = []
        for minibatch in self.iterate(mdata, indices, batch_size):
            if isinstance(chosen, str) and chosen == JOINT:
                parts.append(self._joint(minibatch, modality, mix=batch_correction == "on"))
            elif isinstance(chosen, str) and chosen == ALIGNED and self.module.matching.ready:
                parts.append(self._matched(minibatch, modality))
            else:
                parts.append(self._latent(minibatch, chosen, modality).float().cpu().numpy())
        return np.concatenate(parts)

    def _tell_block(self, block: Any, mdata: MuData | None) -> None:
        """Say what a user should know of a block on these data; nothing by default."""

    def _joint_axes(self) -> str | None:
        """Return the block whose axes enter the joint latent beside those of linear CCA; by default the aligned one."""
        return self.aligned_block

    def _default_block(self) -> str:
        if self.analysis_block != JOINT:
            return self.analysis_block
        return JOINT if self.module.joint.ready else self.aligned_block

    def _check_block(self, block: str | Collection[str], modality: str | None) -> Any:
        """Return the name of a block that exists, ``"aligned"`` resolved."""
        if block == JOINT:
            if not self.module.joint.ready:
                raise NotFittedError(
                    "There is no joint latent: it is fitted by `train`, and needs modalities with fixed encoder inputs "
                    f"(any but 'counts'). Use `block={self.aligned_block!r}`."
                )
            return JOINT
        if block == ALIGNED:
            return ALIGNED if self.module.matching.ready else self.aligned_block
        return str(check_choice(block, (JOINT, ALIGNED, *self.blocks), "block"))

    def cell_components(self) -> CellComponents:
        """Return the encoder inputs of all cells of the data; kept from construction where nothing can change them."""
        if self._components is not None and self._components[0] is self.adata_manager:
            return self._components[1]
        return encoder_inputs(self.adata_manager, self.module.inputs)

    # ------------------------------------------------------------------ after training

    def _fit_readouts(self) -> None:
        """Fit the joint latent to all cells, and compare matching with linear CCA on the validation pairs."""
        if self.analysis_block != JOINT:
            return
        if any(size.input_kind == "counts" for size in self.sizes_.modalities.values()):
            return  # cells with that modality alone would have no place
        components = self.cell_components()
        if not components.values or not all(np.isfinite(x).all() for x in components.values.values()):
            return
        here = np.column_stack([rows >= 0 for rows in components.maps.values()]).any(axis=1)
        latent = None
        axes = self._joint_axes()
        if axes is not None:
            latent = self.get_latent_representation(block=axes)
        if here.sum() > 2:
            codes = self.adata_manager.codes()["batch"].astype(str)
            self.module.joint.fit(
                components.values, components.maps, codes, latent=latent, random_state=self.random_state
            )
        if self.beside_linear and self._matching_block() is not None:
            own = {n: self.get_latent_representation(modality=n, block=self.aligned_block) for n in components.maps}
            held = np.zeros(self.adata.n_obs, dtype=bool)
            held[np.asarray([] if self.validation_indices_ is None else self.validation_indices_, np.int64)] = True
            self.module.matching.fit(own, components, self.adata_manager.codes()["batch"], held)
        self.held_out_matching_ = self._compare_with_linear(components)
        if self.held_out_matching_ is not None and self.held_out_matching_.model_is_worse:
            logger.warning(
                "Linear CCA matches cells better than this model on your own %s. Match by `tl.linear_cca`.",
                self.held_out_matching_,
            )

    def _compare_with_linear(self, components: CellComponents) -> HeldOutMatching | None:
        held = np.asarray([] if self.validation_indices_ is None else self.validation_indices_, dtype=np.int64)
        names = list(components.maps)
        paired = {
            (a, b): held[(components.maps[a][held] >= 0) & (components.maps[b][held] >= 0)]
            for a, b in combinations(names, 2)
        }
        block = self._matching_block()
        if block is None or sum(map(len, paired.values())) < MIN_HELD_OUT:
            return None
        cca = linear_alignment(components.of(np.asarray(self.train_indices_, dtype=np.int64)))
        if cca is None:
            return None
        batch = self.adata_manager.codes()["batch"]
        linear = cca.transform({name: components.values[name] for name in cca.axes})
        ours, theirs = [], []
        for (a, b), cells in paired.items():
            if len(cells) < 2 or a not in cca.axes or b not in cca.axes:
                continue
            x, y = (self.get_latent_representation(modality=n, indices=cells, block=block) for n in (a, b))
            ours.append(nearer_candidates(x, y, batch[cells]))
            x, y = (linear[n][components.maps[n][cells]] for n in (a, b))
            theirs.append(nearer_candidates(x, y, batch[cells]))
        if not ours:
            return None
        mine, rival = np.concatenate(ours), np.concatenate(theirs)
        error = float((mine - rival).std() / np.sqrt(max(len(mine), 1)))
        return HeldOutMatching(len(mine), float(mine.mean()), float(rival.mean()), error)

    # ------------------------------------------------------------------ parts

    def _matching_block(self) -> str | None:
        """Return the block to match by; ``None`` where the model has been told to do without."""
        return ALIGNED

    @torch.no_grad()
    def _matched(self, minibatch: MosaicBatch, modality: str | None) -> NDArray[np.float32]:
        """Return the mean over modalities in the space for matching, of unit length; NaN where there is none."""
        inputs = self.module.inputs
        total: NDArray[np.float32] | None = None
        present = inputs.present(minibatch)
        for name in present if modality is None else [modality]:
            here = present[name]
            has = here.cpu().numpy()
            own = self._latent(minibatch, self.aligned_block, name).float().cpu().numpy()
            x = inputs.encode(minibatch, name, here).float().cpu().numpy()
            z = self.module.matching.transform(name, own[has], x)
            if total is None:
                total = np.zeros((len(has), z.shape[1]), np.float32)
            total[has] += z
        if total is None:
            raise RuntimeError("The minibatch has no modality.")
        some = (total != 0).any(axis=1, keepdims=True)
        return np.where(some, unit_rows(total), np.nan).astype(np.float32)

    @torch.no_grad()
    def _joint(self, minibatch: MosaicBatch, modality: str | None, *, mix: bool) -> NDArray[np.float32]:
        inputs, module = self.module.inputs, self.module
        seen = minibatch if mix else {**minibatch, "batch": torch.full_like(minibatch["batch"], -1)}
        values, maps = {}, {}
        present = inputs.present(minibatch)
        for name in present if modality is None else [modality]:
            if inputs.sizes.modalities[name].input_kind == "counts":
                continue
            here = present[name]
            values[name] = inputs.encode(seen, name, here).float().cpu().numpy()  # type: ignore[arg-type]
            has = here.cpu().numpy()
            maps[name] = np.where(has, np.cumsum(has) - 1, -1)
        latent = None
        axes = self._joint_axes()
        if axes is not None:
            latent = self._latent(minibatch, axes, modality).float().cpu().numpy()
        codes = minibatch["batch"].ravel().cpu().numpy().astype(str)
        return module.joint.transform(values, maps, codes, latent=latent, mix=mix)
