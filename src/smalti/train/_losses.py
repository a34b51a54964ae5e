"""What becomes of the losses of batches: means over an epoch, and a look at whether they are finite."""

from __future__ import annotations

import torch
from scvi.module.base import LossOutput

from smalti._errors import NonFiniteLossError

from ._processes import gather_sums


class EpochMeans:
    """Means of all logged terms over an epoch, weighted by cells; one addition per term and batch."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], torch.Tensor] = {}
        self.weights: dict[tuple[str, ...], float] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last look."""
        return not self.sums

    def add(self, output: LossOutput, **extra: torch.Tensor) -> None:
        """Add one batch."""
        n = output.n_obs_minibatch
        reconstruction, kl = output.reconstruction_loss_sum / n, output.kl_local_sum / n
        terms = {
            "loss": output.loss,
            "elbo": reconstruction + kl,
            "reconstruction_loss": reconstruction,
            "kl_local": kl,
            **output.extra_metrics,
            **extra,
        }
        values = torch.stack([torch.as_tensor(value).detach() for value in terms.values()]) * n
        names = tuple(terms)
        if names not in self.sums:  # a batch may lack a term, such as that of a modality it has no cell of
            self.sums[names], self.weights[names] = values, 0.0
        else:
            self.sums[names] = self.sums[names] + values
        self.weights[names] += n

    def pop(self) -> dict[str, float]:
        """Return the means, over all processes, and start over."""
        found: dict[str, tuple[float, float]] = {}
        for names, sums in self.sums.items():
            for name, value in zip(names, sums.tolist(), strict=True):
                total, weight = found.get(name, (0.0, 0.0))
                found[name] = total + value, weight + self.weights[names]
        self.sums, self.weights = {}, {}
        return {name: total / weight for name, (total, weight) in gather_sums(found).items()}


class LossWatch:
    """Checks losses: each at once on a CPU, several together elsewhere, since every look waits for the device."""

    every = 50
    """Losses between looks."""

    def __init__(self) -> None:
        self.waits = False
        """Whether to look at several together on a CPU, too."""
        self.held: list[LossOutput] = []

    def add(self, output: LossOutput) -> None:
        """Take up one loss."""
        self.held.append(LossOutput(loss=output.loss.detach(), extra_metrics=output.extra_metrics, n_obs_minibatch=1))
        if len(self.held) == self.every or not (self.waits or output.loss.device.type != "cpu"):
            self.check()

    def check(self) -> None:
        """Look at what was taken up since the last look."""
        held, self.held = self.held, []
        if held and not bool(torch.isfinite(torch.stack([each.loss for each in held])).all()):
            for each in held:
                check_loss(each)


def check_loss(output: LossOutput) -> None:
    """Raise :class:`~smalti._errors.NonFiniteLossError` naming the term that is NaN or infinite."""
    if bool(torch.isfinite(output.loss)):
        return
    bad = [name for name, value in output.extra_metrics.items() if not bool(torch.isfinite(torch.as_tensor(value)))]
    raise NonFiniteLossError(
        f"The loss became {output.loss.item()}; terms that are not finite: {', '.join(bad) or 'only the sum'}. "
        "Look for extreme values in the data, lower the learning rate (`plan_kwargs={'lr': ...}`), or drop the term."
    )
