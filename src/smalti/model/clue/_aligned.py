"""The block in which modalities are matched: networks and linear CCA side by side, weighted on held-out pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from smalti.model.parts import fit_mixture
from smalti.nn import ByModality, WarmEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from ._options import CLUEOptions


class AlignedBlock(nn.Module):
    r"""Alignment encoders :math:`a^{(j)}`, linear CCA :math:`c`, and how they become one space.

    .. math:: u = \big[\sqrt{w/J}\, a^{(1)}, \dots, \sqrt{w/J}\, a^{(J)}, \sqrt{1-w}\, c\big]\, V

    of unit vectors, so that the cosine of two profiles is the weighted mean of all cosines; :math:`V` drops the
    directions along which two modalities of held-out cells do not agree. Networks are trained, :math:`w` and :math:`V`
    fitted afterwards (:meth:`fit`).

    Parameters
    ----------
    widths
        Width of the encoder input by modality.
    options
        See :class:`~smalti.model.CLUEOptions`.
    """

    share: Tensor
    axes: Tensor
    n_axes: Tensor

    def __init__(self, widths: Mapping[str, int], options: CLUEOptions) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            ByModality(
                {
                    name: WarmEncoder(
                        width,
                        options.n_align,
                        n_hidden=options.align_hidden,
                        unit=True,
                        input_dropout=options.align_input_dropout,
                        dropout_rate=options.align_dropout,
                    )
                    for name, width in widths.items()
                }
            )
            for _ in range(options.n_aligners)
        )
        self.linear = ByModality(
            {name: WarmEncoder(width, options.n_align, n_hidden=None, unit=True) for name, width in widths.items()}
        )
        self.linear.requires_grad_(False)
        width = options.n_align * (options.n_aligners + 1)
        self.register_buffer("share", torch.ones(()))
        self.register_buffer("axes", torch.eye(width))
        self.register_buffer("n_axes", torch.tensor(width))

    def sets(self) -> list[ByModality[WarmEncoder]]:
        """Return the networks, each by modality."""
        return [cast("ByModality[WarmEncoder]", network) for network in self.networks]

    def networks_of(self, name: str, x: Tensor) -> Tensor:
        """Return the unit vectors of all networks, ``(n, J, n_align)``."""
        return torch.stack([network[name](x) for network in self.sets()], dim=1)

    def forward(self, name: str, x: Tensor) -> Tensor:
        """Return the unit vectors of all networks and of linear CCA, ``(n, J + 1, n_align)``."""
        return torch.cat([self.networks_of(name, x), self.linear[name](x)[:, None]], dim=1)

    def match_space(self, parts: Tensor) -> Tensor:
        """Put unit vectors ``(n, J + 1, n_align)`` side by side, ``(n, n_axes)``; compare by cosine."""
        n = parts.shape[1] - 1
        weight = torch.cat([(self.share / n).expand(n), (1 - self.share)[None]]).clamp(min=0).sqrt()
        mixed = (parts * weight[None, :, None]).flatten(1)
        return F.normalize(mixed @ self.axes[:, : int(self.n_axes)], dim=1, eps=1e-8)

    @torch.no_grad()
    def fit(
        self,
        parts: Mapping[str, Tensor],
        present: Mapping[str, NDArray[np.bool_]],
        batch: NDArray[np.int64],
        held_out: NDArray[np.bool_],
    ) -> None:
        """Choose the share of the networks and the axes that are kept, see :func:`~smalti.model.parts.fit_mixture`.

        Parameters
        ----------
        parts
            ``(n, J + 1, n_align)`` by modality, of ``n`` cells; rows of absent cells are ignored.
        present, batch, held_out
            ``(n,)``, as there.
        """
        own, linear = {}, {}
        for name, each in parts.items():
            networks, cca = each[:, :-1], each[:, -1]
            own[name] = (networks.flatten(1) / np.sqrt(networks.shape[1])).cpu().numpy()
            linear[name] = cca.cpu().numpy()
        found = fit_mixture(own, linear, present, batch, held_out)
        self.share.fill_(1.0 if found is None else found.share)
        axes = np.eye(len(self.axes), dtype=np.float32) if found is None else found.axes
        n_axes = axes.shape[1]
        self.axes.zero_()
        self.axes[:, :n_axes] = torch.from_numpy(axes)
        self.n_axes.fill_(n_axes)
