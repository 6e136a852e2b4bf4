"""Rescaled networks: the same logits, other entropies; and an entropy that does not change with them."""

import copy
import math

import pytest
import torch
from refusals import refused
from small_network import SmallNetwork
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib.study import Experiment
from sparsity_lib.study.analysis.rescaling import rescale, to_scales
from sparsity_lib.study.data import Split
from sparsity_lib.study.training.moments import layers_at

LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8)


def prepare(images: Tensor) -> Tensor:
    return images.float() / 255


def network(name: str = "vanillaNet", **fields: object) -> nn.Sequential:
    """One with biases, and running statistics of its norms, as if it had been trained."""
    model = Experiment(network=name, **fields).build(3, (12, 12), 10)
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 3)
    return model.eval()


def observed(model: nn.Module, x: Tensor) -> dict[str, sl.LayerStats]:
    with torch.no_grad(), sl.ActivationMonitor(model, LAYERS) as monitor:
        model(x)
    return monitor.compute()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("factor", [0.125, 64.0])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_powers_of_two_leave_the_logits_to_the_bit(
    layer: str, factor: float, memory_format: torch.memory_format, images: Tensor
) -> None:
    model, x = network().to(memory_format=memory_format), prepare(images)
    before = copy.deepcopy(model.state_dict())
    changed = rescale(model, layer, factor)
    assert torch.equal(changed(x), model(x))
    for name, was, now in zip(LAYERS, *(observed(m, x).values() for m in (model, changed)), strict=True):
        assert now.sd == pytest.approx(factor * was.sd if name == layer else was.sd, rel=1e-5)
        assert now.scale_free_entropy == pytest.approx(was.scale_free_entropy, rel=1e-5)
        if name == layer:
            assert (now.entropy < was.entropy) == (factor > 1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["vanillaNet", "LeNet", "AlexNet", "VGG11"])
def test_other_factors_leave_the_logits_to_rounding(name: str) -> None:
    settings = {} if name == "vanillaNet" else {"size": "quarter"}
    model = Experiment(network=name, **settings).build(3, (32, 32), 10).eval()
    x = torch.rand(4, 3, 32, 32)
    expected = model(x)
    for i, layer in enumerate([n for n, m in model.named_children() if n.startswith(("conv", "fc"))][:-1]):
        if "relu" not in layer:
            model = rescale(model, layer, (0.3, 7.0)[i % 2])
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_channels_may_have_different_factors(images: Tensor) -> None:
    model, x = network(), prepare(images)
    changed = model
    for layer in LAYERS:
        changed = rescale(changed, layer, 2.0 ** torch.randint(-4, 5, model.get_submodule(layer).bias.shape))
    assert torch.equal(changed(x), model(x))
    ratio = changed.conv1(x) / model.conv1(x)
    torch.testing.assert_close(ratio, ratio[:1, :, :1, :1].expand_as(ratio), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["dropNet", "sparseoutNet"])
def test_dropout_with_the_same_mask_keeps_the_logits(name: str, images: Tensor) -> None:
    if name == "sparseoutNet":  # its noise depends on the scale
        with refused("dropout1", "conv2"):
            rescale(network(name, q=1.5), "conv2", 2.0)
        return
    model = network(name, dropout_placement="convolution").train()
    changed = rescale(model, "conv2", 8.0)
    assert changed.training
    outputs = []
    for each in (model, changed):
        torch.manual_seed(3)
        outputs.append(each(prepare(images)))
    assert torch.equal(*outputs)
    torch.manual_seed(4)
    assert not torch.equal(model(prepare(images)), outputs[0])


@pytest.mark.parametrize("norm_placement", ["block", "convolution"])
@pytest.mark.parametrize("batch_norm", ["pytorch", "keras"])
@pytest.mark.parametrize("factor", [0.05, 30.0])
def test_batch_norm_compensates_factors_in_evaluation(
    norm_placement: str, batch_norm: str, factor: float, images: Tensor
) -> None:
    model = network("normNet", norm_placement=norm_placement, batch_norm=batch_norm)
    x = prepare(images)
    for layer in LAYERS:
        changed = rescale(model, layer, factor)
        torch.testing.assert_close(changed(x), model(x), rtol=1e-4, atol=1e-4)
        assert observed(changed, x)[layer].sd == pytest.approx(
            factor * observed(model, x)[layer].sd, rel=1e-4
        )


def test_to_scales_gives_layers_the_requested_sds(images: Tensor) -> None:
    model, x = network().train(), prepare(images)
    was = observed(model, x)
    for wanted in ({"conv3": 0.01, "fc1": 0.02}, {"conv2": 9.0, "conv3": 20.0, "conv4": 5.0}):
        changed = to_scales(model, images, prepare, wanted)
        assert changed.training
        now = observed(changed, x)
        torch.testing.assert_close(changed(x), model(x), rtol=1e-4, atol=1e-4)
        for layer in LAYERS:
            assert now[layer].sd == pytest.approx(wanted.get(layer, was[layer].sd), rel=1e-4)
            moves = now[layer].entropy - was[layer].entropy
            if layer in wanted:
                assert moves * (was[layer].sd - wanted[layer]) > 0
                assert abs(moves) > 0.001
            else:
                assert moves == pytest.approx(0, abs=1e-5)


def test_the_entropy_by_channels_own_sds_does_not_change_with_any_factors(images: Tensor) -> None:
    model = network()
    nn.init.zeros_(model.conv1.weight[3:5])  # constant channels, which count as 0
    changed = rescale(rescale(model, "conv3", torch.logspace(-2, 2, 32)), "fc1", 50.0)
    split = Split(images, torch.zeros(len(images), dtype=torch.long))
    was, now = (layers_at(each, LAYERS, split, prepare) for each in (model, changed))
    for layer in LAYERS:
        name = f"{layer}/channel_scaled_entropy"
        assert 0 < was[name] < math.log(64)
        torch.testing.assert_close(now[name], was[name], rtol=0, atol=1e-5)
    activations = model.conv1(prepare(images)).detach()
    sd = activations.std((0, 2, 3), correction=0, keepdim=True)
    scaled = torch.where(sd > 1e-6, activations / sd, 0)
    expected = f.rfav_entropy(scaled).double().mean()
    torch.testing.assert_close(was["conv1/channel_scaled_entropy"], expected, rtol=0, atol=1e-5)
    of_monitor = [observed(m, prepare(images))["conv3"].scale_free_entropy for m in (model, changed)]
    assert abs(of_monitor[0] - of_monitor[1]) > 0.1


def test_bad_input_is_refused(images: Tensor) -> None:
    model = network()
    for layer, factor, message in (
        ("fc2", 2.0, "'fc2'"),
        ("conv9", 2.0, "conv1, conv2, conv3, conv4, fc1"),
        ("conv1", 0.0, "above 0"),
        ("conv1", -1.0, "above 0"),
        ("conv1", math.nan, "above 0"),
        ("conv1", torch.ones(3), "16 channels"),
    ):
        with refused(message):
            rescale(model, layer, factor)
    with refused("SmallNetwork"):
        rescale(SmallNetwork(), "conv1", 2.0)
    nn.init.zeros_(model.conv3.weight)
    nn.init.zeros_(model.conv3.bias)
    with refused("conv3"):
        to_scales(model, images, prepare, {"conv3": 1.0})
    with refused("conv9"):
        to_scales(model, images, prepare, {"conv9": 1.0})
