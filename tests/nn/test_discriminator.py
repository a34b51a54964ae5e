from __future__ import annotations

import pytest
import torch

from smalti.nn import Discriminator, SharedDiscriminator


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


# ------------------------------------------------------------ one trunk, two heads


@pytest.mark.parametrize(("n_modalities", "n_labels"), [(3, 5), (0, 5), (3, 0), (0, 0)])
def test_there_are_as_many_logits_as_asked_for_and_no_head_for_none(n_modalities, n_labels):
    net = SharedDiscriminator(4, n_modalities, n_labels, widths=(8, 6))
    for n in (0, 1, 5):
        judged = net(torch.randn(n, 4))
        assert judged.modality.shape == (n, n_modalities)
        assert judged.label.shape == (n, n_labels)
        assert judged.hidden.shape == (n, 6)
    assert all(parameter.numel() for parameter in net.parameters())
    assert len(list(net.parameters())) == 4 + 2 * (n_modalities > 0) + 2 * (n_labels > 0)


def test_both_heads_are_linear_in_the_last_hidden_layer_which_both_train():
    net = SharedDiscriminator(4, 2, 3, widths=(8, 6))
    judged = net(torch.randn(5, 4))
    torch.testing.assert_close(judged.modality, net.modality_head(judged.hidden))
    torch.testing.assert_close(judged.label, net.label_head(judged.hidden))
    for logits in (judged.modality, judged.label):
        net.zero_grad()
        logits.square().sum().backward(retain_graph=True)
        assert all(p.grad.abs().max() > 0 for p in net.trunk.parameters())


def test_the_published_discriminator_has_the_published_number_of_parameters():
    for n_latent, n_labels, expected in ((64, 5, 724_744), (512, 10, 1_184_781)):
        net = SharedDiscriminator(n_latent, 3, n_labels, widths=(1024, 512, 256))
        assert sum(p.numel() for p in net.parameters()) == expected
