from __future__ import annotations

import pytest
import torch

from smalti.nn import Discriminator


@torch.no_grad()
def largest_stretch(net, x, y):
    return float(((net(x) - net(y)).norm(dim=1) / (x - y).norm(dim=1)).max())


def blown_up(spectral):
    net = Discriminator(5, 3, n_hidden=8, n_layers=2, spectral=spectral)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("weight", "original")):
                parameter.mul_(50)
    for _ in range(30):  # the estimate of the norm improves by one power iteration per pass
        net.train()(torch.randn(4, 5))
    return net.eval()


def test_spectral_norm_bounds_how_far_logits_move():
    x, y = torch.randn(500, 5), torch.randn(500, 5)
    assert largest_stretch(blown_up(True), x, y) < 1.01
    assert largest_stretch(blown_up(False), x, y) > 100


def test_every_layer_is_bounded():
    net = blown_up(True)
    layers = [layer for layer in net.net if isinstance(layer, torch.nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_shape_is_one_logit_per_modality(n_layers):
    for n in (0, 1, 6):
        assert Discriminator(5, 4, n_layers=n_layers)(torch.randn(n, 5)).shape == (n, 4)


def test_it_learns_to_tell_two_modalities_apart_and_rows_do_not_mix():
    net = Discriminator(2, 2, dropout_rate=0.0)
    code = torch.arange(200) % 2
    z = torch.randn(200, 2) + 3 * code[:, None]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(z), code).backward()
        optimizer.step()
    assert float((net(z).argmax(dim=1) == code).float().mean()) > 0.95
    torch.testing.assert_close(net(z)[[7]], net(z[[7]]))
