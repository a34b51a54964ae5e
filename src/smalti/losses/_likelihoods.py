r"""Negative log-likelihoods of decoded values, written so that zeros are cheap.

Most entries of a count matrix are zero. For every family the loss is therefore computed as

.. math:: \sum_{ij} \ell_{ij}(x_{ij}) = \sum_{ij} \ell_{ij}(0) + \sum_{x_{ij} \ne 0} [\ell_{ij}(x_{ij}) - \ell_{ij}(0)],

where the first sum is free of special functions and the second has as many terms as there are non-zero values.

A family takes ``heads``, the raw outputs of a decoder, ``(n_heads, B, S)``, and ``log_scale``, a parameter per feature
that broadcasts to ``(B, S)`` (dispersion, standard deviation or background level).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ._negative_binomial import clamp_log_mean, nb_constant, nb_nll, nb_zero_nll

if TYPE_CHECKING:
    from torch import Tensor


class LikelihoodFamily(ABC):
    """One family of distributions of the values of a modality."""

    name: str
    n_heads: int = 1
    """Decoder outputs per feature."""
    uses_library: bool = True
    """Whether the mean is proportional to the library size of the cell."""
    uses_scale: bool = True
    """Whether ``log_scale`` has a meaning."""

    @abstractmethod
    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of ``x``; all arguments broadcast elementwise.

        ``constant`` is that of :meth:`constant`, where it is known already.
        """

    def constant(self, x: Tensor, log_scale: Tensor) -> Tensor | None:
        """Return the part of the loss that no head changes, if there is one: decodings of the same values share it."""
        return None

    @abstractmethod
    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        """Return the expected value, ``(B, S)``."""

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        """Return the negative log-likelihood of zeros, ``(B, S)``."""
        return self.nll(torch.zeros_like(heads[0]), heads, log_scale)

    def initial_head(self, mean_rate: Tensor) -> Tensor:
        """Return the bias of the heads, ``(n_heads, G)``, that predicts the mean of every feature for every cell.

        Parameters
        ----------
        mean_rate
            ``(G,)`` mean value; mean share of the library where the family uses it.
        """
        bias = mean_rate.new_zeros((self.n_heads, mean_rate.shape[0]))
        bias[0] = mean_rate.clamp(min=1e-8).log()
        return bias


class NegativeBinomial(LikelihoodFamily):
    r"""Negative binomial with mean :math:`\mu` and inverse dispersion :math:`\theta` (``log_scale`` is its log)."""

    name = "nb"

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        r""":math:`-\log \mathrm{NB}(x; \mu, \theta)`."""
        return nb_nll(x, clamp_log_mean(heads[0]), log_scale, constant)

    def constant(self, x: Tensor, log_scale: Tensor) -> Tensor:
        """Everything without a mean."""
        return nb_constant(x, log_scale)

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\theta \log(1 + \mu / \theta)`."""
        return nb_zero_nll(clamp_log_mean(heads[0]), log_scale)

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\mu`."""
        return clamp_log_mean(heads[0]).exp()


class ZeroInflatedNegativeBinomial(LikelihoodFamily):
    """Negative binomial with extra zeros; the second head is the logit of the inflation."""

    name = "zinb"
    n_heads = 2

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        r""":math:`-\log[\pi 1(x = 0) + (1 - \pi) \mathrm{NB}(x)]`."""
        positive = nb_nll(x, clamp_log_mean(heads[0]), log_scale, constant) + F.softplus(heads[1])
        return torch.where(x > 0, positive, self.zero_nll(heads, log_scale))

    def constant(self, x: Tensor, log_scale: Tensor) -> Tensor:
        """That of the negative binomial."""
        return nb_constant(x, log_scale)

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`-\log[\pi + (1 - \pi) \mathrm{NB}(0)]`."""
        nb = nb_zero_nll(clamp_log_mean(heads[0]), log_scale)
        return F.softplus(heads[1]) - torch.logaddexp(heads[1], -nb)

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`(1 - \pi) \mu`."""
        return clamp_log_mean(heads[0]).exp() * torch.sigmoid(-heads[1])

    def initial_head(self, mean_rate: Tensor) -> Tensor:
        """Start with little inflation (5 %)."""
        bias = super().initial_head(mean_rate)
        bias[1] = -3.0
        return bias


class Poisson(LikelihoodFamily):
    """Poisson; ``log_scale`` is not used."""

    name = "poisson"
    uses_scale = False

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        r""":math:`\mu - x \log \mu + \log x!`."""
        log_mean = clamp_log_mean(heads[0])
        return log_mean.exp() - x * log_mean + torch.lgamma(x + 1)

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\mu`."""
        return clamp_log_mean(heads[0]).exp()

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\mu`."""
        return clamp_log_mean(heads[0]).exp()


class Bernoulli(LikelihoodFamily):
    r"""Zero against non-zero: :math:`P(x > 0) = 1 - e^{-\mu}` with a rate :math:`\mu` proportional to the library.

    This is the complementary log-log link, under which a cell with twice the reads has twice the rate.
    """

    name = "bernoulli"
    uses_scale = False

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        r""":math:`\mu` for a zero, :math:`-\log(1 - e^{-\mu})` for anything else."""
        rate = clamp_log_mean(heads[0]).exp()
        return torch.where(x != 0, -torch.log(-torch.expm1(-rate)), rate)

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\mu`."""
        return clamp_log_mean(heads[0]).exp()

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`1 - e^{-\mu}`, a probability."""
        if torch.is_grad_enabled():
            return -torch.expm1(-clamp_log_mean(heads[0]).exp())
        return heads[0].exp().neg_().expm1_().neg_()  # of many regions at once: no copy beside this one


class Gaussian(LikelihoodFamily):
    """Normal with one standard deviation per feature; ``log_scale`` is its log."""

    name = "gaussian"
    uses_library = False

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        r""":math:`\tfrac12 (x - \mu)^2 / \sigma^2 + \log \sigma + \tfrac12 \log 2 \pi`."""
        log_scale = log_scale.clamp(min=-6)
        return 0.5 * ((x - heads[0]) * torch.exp(-log_scale)).square() + log_scale + 0.5 * math.log(2 * math.pi)

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\mu`."""
        return heads[0]

    def initial_head(self, mean_rate: Tensor) -> Tensor:
        """Start at the mean itself."""
        return mean_rate[None].clone()


class NegativeBinomialMixture(LikelihoodFamily):
    r"""Background and foreground of proteins :cite:p:`Gayoso2021`.

    :math:`x \sim \pi\, \mathrm{NB}(\beta, \theta) + (1 - \pi)\, \mathrm{NB}(\beta (1 + \alpha), \theta)`. The heads are
    :math:`\log \beta` (of the cell and feature), the raw :math:`\alpha` (before a softplus) and the logit of the
    background :math:`\pi`.
    """

    name = "nb_mixture"
    n_heads = 3
    uses_library = False

    def _log_means(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        background = clamp_log_mean(heads[0])
        return background, clamp_log_mean(background + torch.log1p(F.softplus(heads[1])))

    def nll(self, x: Tensor, heads: Tensor, log_scale: Tensor, constant: Tensor | None = None) -> Tensor:
        """Negative log of the mixture density."""
        background, foreground = self._log_means(heads)
        same = nb_constant(x, log_scale) if constant is None else constant  # in both parts
        return -torch.logaddexp(
            F.logsigmoid(heads[2]) - nb_nll(x, background, log_scale, same),
            F.logsigmoid(-heads[2]) - nb_nll(x, foreground, log_scale, same),
        )

    def constant(self, x: Tensor, log_scale: Tensor) -> Tensor:
        """That of both negative binomials."""
        return nb_constant(x, log_scale)

    def zero_nll(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        """Negative log of the mixture density at zero."""
        background, foreground = self._log_means(heads)
        return -torch.logaddexp(
            F.logsigmoid(heads[2]) - nb_zero_nll(background, log_scale),
            F.logsigmoid(-heads[2]) - nb_zero_nll(foreground, log_scale),
        )

    def mean(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r""":math:`\pi \beta + (1 - \pi) \beta (1 + \alpha)`."""
        background, foreground = self._log_means(heads)
        share = torch.sigmoid(heads[2])
        return share * background.exp() + (1 - share) * foreground.exp()

    def foreground(self, heads: Tensor, log_scale: Tensor) -> Tensor:
        r"""Return the denoised protein level :math:`(1 - \pi) \beta (1 + \alpha)`, ``(B, S)``."""
        return torch.sigmoid(-heads[2]) * self._log_means(heads)[1].exp()

    def initial_head(self, mean_rate: Tensor) -> Tensor:
        """Background at half the mean, foreground some times higher, equal shares."""
        bias = super().initial_head(mean_rate / 2)
        bias[1] = 2.0
        return bias


FAMILIES: dict[str, LikelihoodFamily] = {
    family.name: family
    for family in (
        NegativeBinomial(),
        ZeroInflatedNegativeBinomial(),
        Poisson(),
        Bernoulli(),
        Gaussian(),
        NegativeBinomialMixture(),
    )
}
"""All families by the name a user gives in ``setup_mudata``."""
