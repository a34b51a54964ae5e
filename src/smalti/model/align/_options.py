"""Options of UnpairedCCA, with the source of every default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from smalti._validate import check_choice, check_count, check_in_range, check_positive
from smalti.align import AlignmentSettings
from smalti.model.base import Options

Encoder = Literal["linear", "deep"]
"""Linear maps alone, or with a small network beside them."""
Solver = Literal["sinkhorn", "gumbel"]
"""Plans between landmarks, fixed while networks train; or plans of each batch, with gradients through them."""
Align = Literal["none", "mmd", "energy", "max_sliced", "ssim", "adversarial"]
"""Further objectives: what the plan is compared with, or added to it."""
Accept = Literal["held_out", "always", "never"]
"""When what was trained replaces the closed form."""


@dataclass(frozen=True, kw_only=True)
class UnpairedOptions(Options):
    """Everything about UnpairedCCA beyond the few arguments of its constructor."""

    n_latent: int = 20
    """Axes of the common latent; columns weigh by their correlation."""
    ridge: float = 0.05
    """Of the covariances, in units of the variance of a component."""
    epsilon: float = 0.02
    """Entropic regularisation of plans, in units of the mean cost."""
    n_rounds: int | None = None
    """Steps of plan and representation at most; by default 1 with links or labels, 6 with known pairs only. Each but
    the first is taken only if held-out evidence agrees better after it."""
    structure: float = 0.0
    """Weight of distances within modalities in further plans, in [0, 1]; they identify nothing by themselves."""
    relax: float | None = None
    """Penalty on the marginals of plans (unbalanced transport), in units of the mean cost; by default they hold."""
    within_batch: bool = False
    """Whether cells are matched within their batch only, such as where modalities share donors."""
    label_weight: float = 1.0
    """Weight of labels beside other evidence; 0 ignores them."""
    n_permutations: int = 20
    """Alignments of permuted evidence that the verdict compares with; 0 for no verdict."""
    n_landmarks: int = 2000
    """Cells that stand for a modality of more than ``max_cells`` cells."""
    max_cells: int = 5000
    """Cells up to which all take part in plans."""
    n_neighbors: int = 25
    """Neighbours that evidence is averaged over."""
    n_components: int | None = None
    """Components of encoder inputs; by default 30, or chosen by cross-validation where there are enough pairs."""
    accept: Accept = "held_out"
    """When trained encoders replace the linear closed form: if a quarter of the evidence, which neither was
    shown, agrees better with them; always; or never."""
    n_hidden: int = 128
    """Width of the hidden layer of deep encoders."""
    dropout_rate: float = 0.2
    """Dropout of that layer, and of encoder inputs."""
    drift: float = 0.1
    """Weight of the change of the latents' covariance in training."""
    align_weight: float = 1.0
    """Weight of the objective chosen by ``align``."""
    structure_weight: float = 0.0
    """Weight of structural similarity under the plan in training."""
    entropy: float = 1e-4
    """Weight of the entropy of plans of the solver ``"gumbel"``."""
    link_cost: float = 1.0
    """Weight of the cost in linked values under plans of the solver ``"gumbel"``."""
    tau: tuple[float, float] = (1.5, 0.5)
    """First and last temperature of the solver ``"gumbel"``."""

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_landmarks", "max_cells", "n_neighbors", "n_hidden"):
            check_count(getattr(self, name), name)
        for name in ("n_rounds", "n_components"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        for name in ("ridge", "epsilon"):
            check_positive(getattr(self, name), name)
        for name in ("label_weight", "drift", "align_weight", "structure_weight", "entropy", "link_cost"):
            check_positive(getattr(self, name), name, allow_zero=True)
        if self.relax is not None:
            check_positive(self.relax, "relax")
        check_in_range(self.structure, 0, 1, "structure")
        check_in_range(self.dropout_rate, 0, 0.95, "dropout_rate")
        check_positive(self.n_permutations, "n_permutations", allow_zero=True)
        check_choice(self.accept, get_args(Accept), "accept")
        object.__setattr__(self, "tau", tuple(float(t) for t in self.tau))  # JSON has lists

    def settings(self, random_state: int) -> AlignmentSettings:
        """Return what concerns plans and verdict."""
        return AlignmentSettings(
            n_latent=self.n_latent,
            ridge=self.ridge,
            epsilon=self.epsilon,
            n_rounds=self.n_rounds,
            structure=self.structure,
            relax=self.relax,
            n_permutations=self.n_permutations,
            random_state=random_state,
        )
