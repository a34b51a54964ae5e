"""UnpairedCCA for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from smalti._errors import NotFittedError
from smalti._validate import check_choice, shorten
from smalti.align import CellMatch, Verdict, align_baseline, check_links, transport_plan
from smalti.model.base import QueryMixin, resolve_options
from smalti.nn import masked_mean

from ._module import UnpairedModule
from ._options import Align, Encoder, Solver, UnpairedOptions
from ._spaces import UnpairedSpaces

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.align import Baseline
    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes


MatchBy = Literal["alignment", "evidence"]
"""What cells are compared by when they are matched."""


class UnpairedCCA(QueryMixin, UnpairedSpaces):
    r"""Alignment of modalities without pairs: correlation under a transport plan that evidence must support.

    Modalities of different cells share no rows, so that a plan :math:`T` between cells takes the place of pairs. The
    plan comes first, from weak evidence (linked features, a few known pairs, labels), smoothed over neighbours; then
    encoders :math:`f_m` maximise the correlation under it,

    .. math:: \max_f \operatorname{corr}_T(f_1(X_1), f_2(X_2)), \qquad
              T = \arg\min_{T} \langle T, M \rangle + \epsilon H(T),

    in closed form for linear maps; further steps, which take :math:`M` from the latent, and networks instead of linear
    maps are kept only if evidence that they were not shown agrees better. The danger of the method is that flexible
    encoders correlate under any plan; so the correlation reached is never shown as evidence, and :attr:`verdict`
    compares the agreement of held-out evidence with that of permuted evidence.

    Parameters
    ----------
    adata
        MuData registered by :meth:`setup_mudata`. Cells with two modalities are known pairs; labels known in two
        modalities are evidence.
    registry
        Registry of a stored model, instead of data; ``load`` fills it in.
    links
        Table with one column per modality, named like it, and a row per link: features that rise and fall together,
        such as a gene and its protein. Several features linked to one are summed (regions of a gene). Missing entries
        leave a modality out of a row.
    encoder
        ``"linear"``, or ``"deep"`` for a small network beside the linear map, trained under the plan.
    solver
        ``"sinkhorn"``: plans between landmarks. ``"gumbel"``: plans of each batch with gradients through them, for one
        differentiable loss; not for accuracy.
    align
        A further objective of training: ``"mmd"``, ``"energy"``, ``"max_sliced"`` or ``"adversarial"`` between the
        latents' distributions, or ``"ssim"``, structural similarity under the plan. The first four identify nothing.
    n_latent
        Axes of the latent.
    options
        Everything else, see :class:`~smalti.model.UnpairedOptions`; a dictionary changes the default.
    random_state
        Seed of landmarks, folds, permutations, initial weights and batches.
    sizes, verdict
        Of a stored model; ``load`` fills them in.

    Notes
    -----
    Blocks: ``"latent"``, ``(n, n_latent)``, rows of unit length, in which modalities correlate under the plan;
    ``"aligned"``, in which :meth:`match` compares cells, stored with the model and offered for new cells, too: of two
    modalities the latent, the evidence at half weight, and a correction by mutual nearest neighbours, rows of unit
    length (of more than two, the latent); and ``"joint"`` for analysis.

    Encoders see components, standardised: they and landmarks are fitted to all cells. The trace of the whitened
    cross-covariance is maximised instead of the sum of its singular values, so that axes stay matched. Known pairs
    are evidence for all other cells, too, through the similarity of every cell to the two halves of the pair.

    Examples
    --------
    >>> mdata = smalti.simulate.factor_views(200, n_features={"a": 30, "b": 20}, n_clusters=3)
    >>> smalti.model.UnpairedCCA.setup_mudata(mdata)
    >>> model = smalti.model.UnpairedCCA(mdata)
    >>> model.train(progress=False)
    >>> model.get_latent_representation(block="latent").shape
    (200, 20)
    """

    has_gates = False
    blocks = ("latent",)
    aligned_block = "latent"
    default_batch_size = 512

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        links: pd.DataFrame | None = None,
        encoder: Encoder = "linear",
        solver: Solver = "sinkhorn",
        align: Align = "none",
        n_latent: int | None = None,
        options: UnpairedOptions | dict[str, Any] | None = None,
        random_state: int = 0,
        sizes: MosaicSizes | None = None,
        verdict: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry)
        self.encoder = check_choice(encoder, get_args(Encoder), "encoder")
        check_choice(solver, get_args(Solver), "solver")
        check_choice(align, get_args(Align), "align")
        self.options = resolve_options(UnpairedOptions(), options, n_latent=n_latent)
        self.random_state = random_state
        self.links = None if links is None else check_links(links, self.get_var_names())
        self.verdict_ = None if verdict is None else Verdict.from_dict(verdict)
        self.config_ = {
            "links": self.links,
            "encoder": encoder,
            "solver": solver,
            "align": align,
            "options": self.options.to_dict(),
            "random_state": random_state,
            "verdict": verdict,
        }
        self._build(
            lambda found: UnpairedModule(_fixed_inputs(found), encoder, solver, align, self.options),
            sizes,
            n_components=self.options.n_components,
        )
        n_links = 0 if self.links is None else len(self.links)
        self._model_summary_string = (
            f"{encoder} encoders, latent {self.options.n_latent}, links {n_links}, solver {solver}, align {align}"
        )
        self.init_params_ = self._get_init_params(locals())

    @property
    def verdict(self) -> Verdict:
        """What supports the alignment: held-out evidence against permuted evidence. Print it.

        Raises
        ------
        NotFittedError
            Before training.
        """
        if self.verdict_ is None:
            raise NotFittedError("There is no verdict before `train`.")
        return self.verdict_

    # ------------------------------------------------------------------ latents

    def _latent(self, minibatch: MosaicBatch, block: str, modality: str | None) -> torch.Tensor:
        latents, present = self.module.latents(minibatch)
        if modality is None:
            z = F.normalize(masked_mean(latents, present), dim=1, eps=1e-8)
        else:
            z = torch.where(present[modality][:, None], latents[modality], torch.nan)
        return torch.where((z != 0).any(dim=1, keepdim=True), z, torch.nan)  # nothing is known of a row of zeros

    def _joint_axes(self) -> str | None:
        axes = [self.module.closed_form[name].state_dict() for name in self.modalities]
        known = any(bool((value != 0).any()) for state in axes for key, value in state.items() if "weight" in key)
        return super()._joint_axes() if known or bool(self.module.accepted) else None

    # ------------------------------------------------------------------ matching

    def match(self, source: str, target: str, mdata: MuData | None = None, *, by: MatchBy = "alignment") -> CellMatch:
        """Match the cells of one modality to those of another.

        Parameters
        ----------
        source, target
            Modalities.
        mdata
            Data, those of training by default.
        by
            ``"alignment"``: the block ``"aligned"``. ``"evidence"``: the smoothed links, pairs and labels of training
            cells alone, nothing learnt; to look at beside it where the verdict is undecided.

        Returns
        -------
        :class:`~smalti.align.CellMatch`: sparse plan, hard matching and a confidence per cell of ``source``. Cells are
        compared by the block ``"aligned"``, whether of training or new (of more than two modalities, training cells in
        :meth:`matching_space`). The confidence of training cells comes from their evidence, so that types which
        ``target`` lacks get little; for other data, and after loading, from the distances.

        Raises
        ------
        ValueError
            If a modality does not exist, no cell has it, or both are the same.
        NotFittedError
            If other cells than those of training are to be compared by evidence.
        """
        for name in (source, target):
            self.check_modality(name)
        check_choice(by, get_args(MatchBy), "by")
        if source == target:
            raise ValueError(f"Expected two modalities to match, found {source!r} twice.")
        own, note = mdata is None or mdata is self.adata, ""
        data = self._validate_anndata(mdata)
        here = [self.with_modality(data, name) for name in (source, target)]
        if by == "evidence" and not (own and self._aligned is not None):
            raise NotFittedError("Evidence is known of the cells of training alone, and gone after loading.")
        both: list[NDArray[Any]]
        if own and self._aligned is not None:
            known = self._evidence_space(source, target) if by == "evidence" else self.matching_space(source, target)
            if known is None:
                raise ValueError(f"There is no evidence between {source!r} and {target!r} to compare cells by.")
            both = list(known)
            if self.verdict.undecided:
                note = str(self.verdict)
        else:
            both = [
                self.get_latent_representation(data, modality=name, indices=at, block="aligned")
                for name, at in zip((source, target), here, strict=True)
            ]
        plan = transport_plan(*both, n_landmarks=self.options.n_landmarks, random_state=self.random_state)
        if own:
            plan = self._with_evidence(plan, source, target)
        first, second = (data.obs_names[at] for at in here)
        return CellMatch(plan=plan, source=first, target=second, note=note)

    def baseline(self, method: Baseline) -> dict[str, NDArray[np.float64]]:
        """Align the training data by a simpler method, to compare with.

        Parameters
        ----------
        method
            ``"links"``, ``"procrustes"``, ``"mnn"``, ``"gromov"`` or ``"random"``, see
            :func:`~smalti.align.align_baseline`.

        Returns
        -------
        ``{modality: (n_obs, d)}``, NaN where a cell lacks the modality; compare by Euclidean distance.
        """
        self._check_trainable()
        problem = self.problem()
        found = align_baseline(problem, method, n_latent=self.options.n_latent, random_state=self.random_state)
        out = {}
        for name, rows in self.adata_manager.row_maps().items():
            out[name] = np.full((len(rows), found[name].shape[1]), np.nan)
            out[name][rows >= 0] = problem.views[name].members @ found[name]
        return out

    def annotate(self, source: str, target: str, *, key_added: str = "align") -> CellMatch:
        """Write latents, matches and verdict into the training data, and return the match.

        Parameters
        ----------
        source, target
            Modalities, as in :meth:`match`.
        key_added
            ``.obsm["X_" + key_added]``; columns ``_match``, ``_confidence`` and ``_mutual`` of ``.obs`` after it; and
            ``.uns[key_added]`` with the verdict.
        """
        mdata = self._validate_anndata(None)
        found = self.match(source, target)
        table = found.to_frame().reindex(mdata.obs_names)
        mdata.obsm[f"X_{key_added}"] = self.get_latent_representation()
        mdata.obs[f"{key_added}_match"] = table["match"].astype(object).where(table["match"].notna(), "").astype(str)
        mdata.obs[f"{key_added}_confidence"] = table["confidence"].astype(float)
        mdata.obs[f"{key_added}_mutual"] = table["mutual"].eq(True)
        mdata.uns[key_added] = {"verdict": str(self.verdict), "source": source, "target": target}
        return found


def _fixed_inputs(sizes: MosaicSizes) -> MosaicSizes:
    """Return the sizes; raise ``ValueError`` if an input layer would be trained, so that plans had nothing fixed."""
    trainable = [name for name, size in sizes.modalities.items() if size.input_kind == "counts"]
    if trainable:
        raise ValueError(
            f"Plans need fixed components, but the encoder input of {shorten(trainable)} is 'counts'. Use 'pca', "
            "'lsi', 'clr', 'scaled' or a key of `.obsm`."
        )
    return sizes
