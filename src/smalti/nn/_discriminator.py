"""Discriminators: guess from a latent which modality it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ._dropout import Dropout
from ._mlp import MLP

if TYPE_CHECKING:
    from collections.abc import Sequence


class Discriminator(nn.Module):
    """Linear - LeakyReLU(0.2) - dropout, no norm, then ``n_classes`` logits.

    Parameters
    ----------
    n_in
        Width of the latent.
    n_classes
        Number of modalities.
    n_hidden, n_layers, dropout_rate
        Hidden layers.
    spectral
        Whether to bound the spectral norm of every layer by 1, which keeps the adversary's gradients bounded.
    """

    def __init__(
        self,
        n_in: int,
        n_classes: int,
        *,
        n_hidden: int = 128,
        n_layers: int = 2,
        dropout_rate: float = 0.2,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        bound = spectral_norm if spectral else (lambda layer: layer)
        layers: list[nn.Module] = []
        for i in range(n_layers):
            layers += [
                bound(nn.Linear(n_in if i == 0 else n_hidden, n_hidden)),
                nn.LeakyReLU(0.2),
                Dropout(dropout_rate),
            ]
        self.net = nn.Sequential(*layers, bound(nn.Linear(n_hidden, n_classes)))

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(B, n_in)`` to ``(B, n_classes)`` logits."""
        return self.net(z)


class JudgedLatent(NamedTuple):
    """What :class:`SharedDiscriminator` says of latents."""

    modality: Tensor
    """``(B, M)`` logits."""
    label: Tensor
    """``(B, K)`` logits; ``K`` may be 0."""
    hidden: Tensor
    """``(B, width)``, the last hidden layer."""


class SharedDiscriminator(nn.Module):
    """One trunk that sees latents of all modalities, with a head for the modality and one for the class (MODIS).

    Parameters
    ----------
    n_latent
        Width of the latent.
    n_modalities, n_labels
        Numbers of logits; where one is 0, there is no such head.
    widths
        Hidden layers, LeakyReLU(0.2) after each, no norm; published: (1024, 512, 256).
    """

    def __init__(self, n_latent: int, n_modalities: int, n_labels: int, *, widths: Sequence[int] = (256, 128)) -> None:
        super().__init__()
        self.trunk = MLP(n_latent, widths, norm="none", activation="leaky_relu")
        self.modality_head = nn.Linear(self.trunk.n_out, n_modalities) if n_modalities else None
        self.label_head = nn.Linear(self.trunk.n_out, n_labels) if n_labels else None

    def forward(self, z: Tensor) -> JudgedLatent:
        """Judge latents ``(B, n_latent)``."""
        hidden = self.trunk(z)
        none = hidden.new_zeros(len(hidden), 0)
        modality = none if self.modality_head is None else self.modality_head(hidden)
        label = none if self.label_head is None else self.label_head(hidden)
        return JudgedLatent(modality, label, hidden)
