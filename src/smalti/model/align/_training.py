"""How UnpairedCCA is trained: evidence out of the data, closed form, what networks must pass to replace it."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smalti._batch_rule import PER_OUTPUT
from smalti.align import (
    AlignmentProblem,
    PlanTable,
    Verdict,
    fit_alignment,
    held_out_agreement,
    label_evidence,
    link_evidence,
    link_matrices,
    linked_values,
    main_evidence,
    make_view,
    pair_evidence,
    widest,
)
from smalti.data import COUNT_LIKELIHOODS
from smalti.model.base import MosaicModel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from smalti.align import Alignment, Evidence, LinkScale, SoftCCA, View
    from smalti.train import MosaicSplitter

    from ._module import UnpairedModule
    from ._options import UnpairedOptions

MAX_LINKS = 600
"""Links that are smoothed; of these the widest are kept."""
APART = 10.0
"""Cost between cells of different batches, in units of the mean cost."""
EPOCHS = 5

logger = logging.getLogger(__name__)


class UnpairedTraining(MosaicModel):
    """Evidence, alignment in closed form, plans for training, and the test that trained encoders must pass."""

    links: pd.DataFrame | None
    options: UnpairedOptions
    module: UnpairedModule
    encoder: str
    verdict_: Verdict | None
    _aligned: tuple[AlignmentProblem, Alignment] | None = None
    _reserved: tuple[AlignmentProblem, SoftCCA, Evidence, tuple[str, str]] | None = None

    @property
    def closed_form_stands(self) -> bool:
        """Whether training cannot gain on the closed form: linear maps, fixed plans, no further objective."""
        plain = self.encoder == "linear" and self.module.solver == "sinkhorn" and self.module.align == "none"
        return self.options.accept == "never" or (plain and self.options.accept == "held_out")

    def least_batch_size(self) -> int:
        """Return ten cells per output."""
        return PER_OUTPUT * self.options.n_latent

    def suggested_steps(self, splitter: MosaicSplitter) -> int:
        """Return the batches of five epochs, or of one where training changes nothing."""
        return splitter.sampler.n_batches * (1 if self.closed_form_stands else EPOCHS)

    def plan_defaults(self) -> dict[str, Any]:
        """Return the plan; the solver with gradients lowers its temperature over the whole training."""
        return {"lr": 1e-3, "weight_decay": 1e-4, "kl_warmup": 1.0, "burn_in": 0.0, "game_warmup": 0.1}

    def problem(self) -> AlignmentProblem:
        """Return what is aligned: the modalities' components, landmarks, links, known pairs and labels.

        Raises
        ------
        ValueError
            If a modality has a trainable input layer (encoder input ``"counts"``).
        """
        views, maps, cells = self._views()
        evidence: dict[tuple[str, str], list[Evidence]] = {}
        pairs, apart = {}, {}
        for a, b in combinations(self.modalities, 2):
            both = (views[a], views[b])
            found = [e for e in (self._links(a, b, both, cells), self._labels(a, b, both, cells)) if e is not None]
            paired = np.flatnonzero((maps[a] >= 0) & (maps[b] >= 0))
            if len(paired) >= 2:
                rows = (maps[a][paired], maps[b][paired])
                found.append(pair_evidence(both, rows, random_state=self.random_state))
                pairs[a, b] = rows
            if found:
                evidence[a, b] = found
            if self.options.within_batch:
                apart[a, b] = self._apart(both, (cells[a], cells[b]))
        return AlignmentProblem(views, evidence, pairs, apart)

    # ------------------------------------------------------------------ training

    def _before_training(self, splitter: MosaicSplitter) -> None:
        problem = self.problem()
        settings = self.options.settings(self.random_state)
        alignment = fit_alignment(problem, settings)
        self._aligned, self.verdict_ = (problem, alignment), alignment.verdict
        self.config_["verdict"] = asdict(alignment.verdict)
        if not alignment.cca.correlations.any():
            warnings.warn(
                "Nothing ties the modalities together: no axis correlates under the evidence that there is, so that "
                "aligned latents are NaN. Give links, a few pairs or labels that both modalities show.",
                UserWarning,
                stacklevel=2,
            )
        plans, start, self._reserved = alignment.plans, alignment.cca, None
        if self.options.accept == "held_out" and not self.closed_form_stands:
            found = self._reserve(problem)
            if found is not None:
                shown, evidence, pair = found
                plans, start = shown.solve(settings, 1)[0]
                self._reserved = (shown, start, evidence, pair)
        module, maps = self.module, self.cell_components().maps
        for name in self.modalities:
            encoders = {"start": (module.encoders[name], start), "closed": (module.closed_form[name], alignment.cca)}
            if self.is_trained_:  # training goes on from where it is
                del encoders["start"]
            for encoder, cca in encoders.values():
                weight, mean = (torch.from_numpy(v.astype(np.float32)) for v in (cca.axes[name], cca.means[name]))
                encoder.warm_start(weight, mean)
        spread = np.zeros(self.options.n_latent, dtype=np.float32)
        spread[: len(start.correlations)] = np.square(start.correlations)
        module.variance.copy_(torch.from_numpy(np.maximum(spread, 1e-4)))
        module.accepted.fill_(self.options.accept == "always")
        costs = None
        if module.solver == "gumbel":
            used = problem if self._reserved is None else self._reserved[0]
            costs = {pair: used.evidence_cost(pair) for pair in used.evidence}
        module.table = PlanTable(plans, {n: problem.views[n].members for n in self.modalities}, maps, costs)

    def _after_training(self) -> None:
        if self._reserved is None:
            return
        problem, start, evidence, pair = self._reserved
        components = self.cell_components().values
        closed = start.transform({name: components[name] for name in pair})
        self.module.eval()
        trained = {}
        with torch.no_grad():
            for name in pair:
                z = self.module.encoders[name](torch.from_numpy(components[name]).to(self.module.device))
                trained[name] = torch.nn.functional.normalize(z, dim=1, eps=1e-8).cpu().double().numpy()
        scores = [
            held_out_agreement(problem, pair, latents, evidence, random_state=self.random_state)
            for latents in (closed, trained)
        ]
        self.module.accepted.fill_(bool(scores[1] > scores[0]))
        self.acceptance_ = {"closed_form": scores[0], "trained": scores[1]}

    # ------------------------------------------------------------------ evidence

    def _views(self) -> tuple[dict[str, View], dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
        """Return views, the row of every cell in them, and the cells of the rows."""
        components, maps = self.cell_components()
        codes = self.adata_manager.codes()["batch"]
        views, cells = {}, {}
        for name in self.modalities:
            cells[name] = np.flatnonzero(maps[name] >= 0)
            views[name] = make_view(
                components[name],
                batch=codes[cells[name]] if self.options.within_batch else None,
                n_landmarks=self.options.n_landmarks,
                max_cells=self.options.max_cells,
                n_neighbors=self.options.n_neighbors,
                random_state=self.random_state,
            )
        return views, maps, cells

    def _links(self, a: str, b: str, views: tuple[View, View], cells: dict[str, NDArray[np.int64]]) -> Evidence | None:
        found = None if self.links is None else link_matrices(self.links, (a, b), self.get_var_names())
        if found is None:
            if self.links is not None and {a, b} <= set(self.links.columns):
                logger.warning(
                    "Fewer than two different links between %r and %r: they are not used. At least 2 are needed to "
                    "align, and 4 for a verdict.",
                    a,
                    b,
                )
            return None
        rows, values = self.adata_manager.row_maps(), []
        fields = {field.name: field for field in self.adata_manager.modality_fields}
        for name, features in zip((a, b), found[:2], strict=True):
            x = fields[name].get_field_data(self.adata)
            values.append(linked_values(x, features, self._scale(name))[rows[name][cells[name]]])
        kept = widest(values[0], values[1], MAX_LINKS)
        names = tuple(found[2][i] for i in kept)
        return link_evidence(views, (values[0][:, kept].toarray(), values[1][:, kept].toarray()), names)

    def _scale(self, name: str) -> LinkScale:
        spec = {field.name: field for field in self.adata_manager.modality_fields}[name].spec
        if spec.likelihood not in COUNT_LIKELIHOODS:
            return "none"
        return "clr" if spec.encoder_input == "clr" else "depth"

    def _labels(self, a: str, b: str, views: tuple[View, View], cells: dict[str, NDArray[np.int64]]) -> Evidence | None:
        if self.options.label_weight == 0 or not self.sizes_.n_labels:
            return None
        codes = self.adata_manager.codes()["labels"]
        found = label_evidence(views, (codes[cells[a]], codes[cells[b]]), self.label_categories)
        return None if found is None else replace(found, weight=self.options.label_weight)

    def _apart(
        self, views: tuple[View, View], cells: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> NDArray[np.float64]:
        codes, n = self.adata_manager.codes()["batch"], max(self.sizes_.n_batch, 1)
        first, second = (view.landmark_means(np.eye(n)[codes[at]]) for view, at in zip(views, cells, strict=True))
        return APART * (1 - first @ second.T)

    def _reserve(self, problem: AlignmentProblem) -> tuple[AlignmentProblem, Evidence, tuple[str, str]] | None:
        """Take a quarter of the main evidence out of the problem."""
        chosen = main_evidence(problem)
        if chosen is None:
            return None
        pair, at = chosen
        evidence = problem.evidence[pair][at]
        order = np.random.default_rng(self.random_state).permutation(evidence.n)
        n = max(evidence.n // 4, 1)
        shown = {p: list(several) for p, several in problem.evidence.items()}
        shown[pair][at] = evidence.select(np.sort(order[n:]))
        return problem.with_evidence(shown), evidence.select(np.sort(order[:n])), pair
