"""Discriminators: guess from a latent which modality it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

if TYPE_CHECKING:
    from torch import Tensor


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
                nn.Dropout(dropout_rate),
            ]
        self.net = nn.Sequential(*layers, bound(nn.Linear(n_hidden, n_classes)))

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(B, n_in)`` to ``(B, n_classes)`` logits."""
        return self.net(z)
