"""The builders of networks, without the study."""

import pytest
import torch
from torch import nn

from sparsity_lib import models

BUILDERS = {
    "vanilla_net": (models.vanilla_net, 4),
    "lenet": (models.lenet, 16),
    "alexnet": (models.alexnet, 8),
    "vgg11": (models.vgg11, 32),
    "resnet18": (models.resnet18, 8),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_take_any_size_from_the_smallest_on(name):
    build, smallest = BUILDERS[name]
    width = {} if name == "vanilla_net" else {"width": 0.25}
    model = build(1, (smallest, smallest + 1), 7, **width)
    assert model.eval()(torch.rand(2, 1, smallest, smallest + 1)).shape == (2, 7)
    with pytest.raises(ValueError, match=f"{smallest} x {smallest}"):
        build(1, (smallest - 1, smallest), 7, **width)


def test_a_probability_and_a_factory_make_the_same_dropout():
    made = [models.vanilla_net(dropout=dropout) for dropout in (0.25, lambda: nn.Dropout(0.25))]
    kinds = [[type(m) for m in model] for model in made]
    assert kinds[0] == kinds[1]
    assert [m.p for m in made[0] if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    assert not any(isinstance(m, nn.Dropout) for m in models.vanilla_net())


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="4"):
        models.vanilla_net(widths=(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"init 'zeros'.* glorot, pytorch"):
        models.vanilla_net(init="zeros")


@pytest.mark.parametrize("argument", ["norm_placement", "dropout_placement"])
def test_unknown_placements_are_refused(argument):
    with pytest.raises(ValueError, match=rf"{argument} .*conv.* block, convolution"):
        models.vanilla_net(**{argument: "conv"})


@pytest.mark.parametrize("name", ["lenet", "alexnet", "vgg11", "resnet18"])
@pytest.mark.parametrize("width", [0.005, -1.0])
def test_a_width_that_leaves_no_filter_is_refused(name, width):
    with pytest.raises(ValueError, match=f"width {width}"):
        BUILDERS[name][0](width=width)
