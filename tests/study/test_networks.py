"""The paper's networks: shapes, widths, placements, initialisation, matched strengths."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from refusals import refused
from torch import nn

from sparsity_lib import Sparseout, study
from sparsity_lib.models import WIDTHS
from sparsity_lib.study import Experiment, profiles
from sparsity_lib.study.recipes import SHARES, SIZES, TARGETED, layers_of


def network(in_channels=3, image_size=(32, 32), classes=10, seed=0, **fields):
    torch.manual_seed(seed)
    return Experiment(**fields).build(in_channels, image_size, classes)


@pytest.mark.parametrize("size", WIDTHS)
def test_widths_are_table_1(size):
    layers = dict(network(size=size).named_children())
    widths = (*(layers[f"conv{i}"].out_channels for i in range(1, 5)), layers["fc1"].out_features)
    assert widths == WIDTHS[size]


def test_sizes_of_experiments_are_those_of_models():
    assert tuple(WIDTHS) == SIZES


@pytest.mark.parametrize(
    ("fields", "named"),
    [({}, ["3 x 8"]), ({"network": "LeNet", "size": "quarter"}, ["LeNet", "16 x 16"])],
)
def test_too_small_images_are_refused(fields, named):
    with refused(*named):
        network(image_size=(3, 8), **fields)


def test_the_same_seed_gives_every_network_the_same_weights():
    reference = network(network="vanillaNet").state_dict()
    for name in ("dropNet", "normNet", "sr1Net", "varNet"):
        state = network(network=name).state_dict()
        assert all(torch.equal(state[key], value) for key, value in reference.items())
    other = network(network="vanillaNet", seed=1).state_dict()
    assert not torch.equal(other["conv1.weight"], reference["conv1.weight"])


def test_weights_are_glorots_and_biases_zero_unless_stated():
    layer = network(size="m").conv3
    bound = (6 / (layer.weight[0].numel() + 128 * 9)) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert not layer.bias.any()
    assert network(init="pytorch").conv3.bias.any()


@pytest.mark.parametrize(("placement", "count"), [("block", 2), ("convolution", 4)])
def test_norms_and_dropout_are_placed_by_block_or_convolution(placement, count):
    norm = network(network="normNet", norm_placement=placement)
    drop = network(network="dropNet", dropout_placement=placement)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in norm) == count
    assert sum(isinstance(m, nn.Dropout) for m in drop) == count
    names = [name for name, _ in norm.named_children()]
    for name in names:
        if name.startswith("norm"):  # between a convolution and its ReLU
            assert names[names.index(name) - 1].startswith("conv")
            assert names[names.index(name) + 1].endswith("_relu")


def test_keras_batch_norm_has_its_momentum_and_epsilon():
    module = network(network="normNet", batch_norm="keras").norm1
    assert (module.momentum, module.eps) == (0.01, 1e-3)


def factory(in_channels, image_size, classes):
    hidden = nn.Linear(in_channels * image_size[0] * image_size[1], 8)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(8, classes))


def test_a_users_network_is_built_by_name():
    assert network(network=f"{__name__}:factory")(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    with refused("nowhere"):
        network(network="nowhere.at.all:factory")
    with refused("missing"):
        network(network=f"{__name__}:missing")


@pytest.mark.parametrize(
    ("name", "convolutions", "hidden"),
    [("LeNet", (6, 16), (120, 84)), ("srAlexNet", (64, 192, 384, 256, 256), (4096, 4096))],
)
def test_lenet_and_alexnet_have_the_published_widths(name, convolutions, hidden):
    full = dict(network(network=name, size="full").named_children())
    quarter = dict(network(network=name, size="quarter").named_children())
    for i, width in enumerate(convolutions, start=1):
        assert full[f"conv{i}"].out_channels == width
        assert quarter[f"conv{i}"].out_channels == round(width / 4)
    assert [full[f"fc{i}"].out_features for i in range(1, len(hidden) + 2)] == [*hidden, 10]
    assert list(layers_of(name)) == [
        layer for layer in full if layer.startswith(("conv", "fc")) and "_" not in layer
    ]


def test_vgg11_is_torchvisions_but_for_its_dense_layers():
    theirs = torchvision.models.vgg11().features
    model = network(network="VGG11", size="full")
    mine = nn.Sequential(*list(model.children())[: len(theirs)])
    for own, other in zip(mine, theirs, strict=True):
        assert type(own) is type(other)
        own.load_state_dict(other.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(mine(x), theirs(x), rtol=0, atol=0)
    assert model(x).shape == (2, 10)


def test_vgg11_has_norms_behind_convolutions_and_noise_behind_poolings():
    norms = network(network="normVGG11", size="quarter")
    theirs = torchvision.models.vgg11_bn().features
    assert [type(m) for m in norms][: len(theirs)] == [type(m) for m in theirs]
    for name, kind in (("dropVGG11", nn.Dropout), ("sparseoutVGG11", Sparseout)):
        children = dict(network(network=name, size="quarter", dropout=0.4).named_children())
        noisy = [key for key, module in children.items() if isinstance(module, kind)]
        names = list(children)
        assert len(noisy) == 5
        assert all(isinstance(children[names[names.index(key) - 1]], nn.MaxPool2d) for key in noisy)
        assert all(children[key].p == 0.4 for key in noisy)


@pytest.mark.parametrize("size", ["quarter", "full"])
def test_resnet18_is_torchvisions_for_small_images(size):
    model = network(network="ResNet18", size=size, in_channels=1)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    theirs = {name: p.shape for name, p in torchvision.models.resnet18(num_classes=10).named_parameters()}
    share = SHARES[size]
    for name, parameter in model.named_parameters():
        if name == "conv1.weight":
            assert parameter.shape == (64 * share, 1, 3, 3)
        else:
            scaled = [n if n in (1, 3, 10) else n * share for n in theirs[name]]
            assert list(parameter.shape) == scaled
    assert sum(1 for _ in model.parameters()) == len(theirs)


@pytest.mark.parametrize("name", ["VGG11", "ResNet18"])
def test_layers_are_those_with_filters_or_neurons(name):
    model = network(network=name, size="quarter")
    there = [key for key, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert list(layers_of(name)) == there


def test_sparseout_is_where_dropout_is_and_has_the_q_given():
    drop, sparse = (network(network=name) for name in ("dropNet", "sparseoutNet"))
    assert [*dict(drop.named_children())] == [*dict(sparse.named_children())]
    assert {m.q for m in network(network="sparseoutNet", q=1.5) if isinstance(m, Sparseout)} == {1.5}


@pytest.mark.slow
def test_the_matched_strength_gives_the_gradient_of_sparsityreg(tmp_path: Path) -> None:
    """Within a factor of 2 on digits, by the mean of three seeds; single seeds differ by as much."""
    fields = {"dataset": "digits", "lr": 0.1, "label_noise": 0.3, "lambda_conv_scale": 16.0, "epochs": 1}
    logarithms = {}
    for network, strength in (("sfNet", profiles.SCALE_FREE_STRENGTHS["digits"][0]), ("sr2Net", 1e-3)):
        cells = [Experiment(network=network, lambda_=strength, seed=seed, **fields) for seed in range(3)]
        runs = [study.train(cell, folder=tmp_path) for cell in cells]
        ratios = [run.layer(layer)["penalty_gradient_ratio"][-1] for run in runs for layer in TARGETED]
        logarithms[network] = np.log(ratios).mean()
    assert abs(logarithms["sfNet"] - logarithms["sr2Net"]) < np.log(2)
