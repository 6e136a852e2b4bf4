"""Monitors without named layers: all that run and can be used, but not what gives the output."""

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from reference import assert_is_reference, monitored
from small_network import Conv1D, Network, SmallNetwork
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import sparsity_lib as sl

x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def three_layers(function: Callable[[Network, Tensor], object]) -> Network:
    """Linear layers `a`, `b`, `c`, defined in this order, which a function uses."""
    return Network(function, **{name: nn.Linear(4, 4) for name in "abc"})


@dataclass
class Heads:
    box: Tensor
    classes: list[Tensor]


HEADS = {
    "defined last": (lambda net, x: net.c(net.b(net.a(x)).relu()), "ab"),
    "defined first": (lambda net, x: net.a(net.b(net.c(x)).relu()), "bc"),
    "reshaped": (lambda net, x: net.a(net.b(net.c(x))).log_softmax(1)[:, 0], "bc"),
    "two heads": (lambda net, x: (net.a(h := net.c(x).relu()), {"other": net.b(h)}), "c"),
    "auxiliary classifier": (lambda net, x: {"aux": net.a(h := net.b(x)), "out": [net.c(h.relu())]}, "b"),
    "dataclass": (lambda net, x: Heads(net.a(h := net.c(x).relu()), [net.b(h)]), "c"),
    "used twice": (lambda net, x: net.a(net.c(net.b(net.a(x)))), "bc"),
    "each step": (lambda net, x: torch.stack([net.b(net.a(net.c(x * i))) for i in (1, 2)]), "ac"),
    "then a function": (lambda net, x: net.c(net.b(net.a(x))) @ x.T, "ab"),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("inference", [False, True])
def test_the_linear_layers_that_give_the_output_are_left_out(name: str, inference: bool) -> None:
    function, expected = HEADS[name]
    model = three_layers(function)
    with torch.inference_mode(inference):
        stats = monitored(model, x, x)
    assert "".join(stats) == expected
    assert len({layer.samples for layer in stats.values()}) == 1 or name == "each step"


def test_a_norm_or_a_convolution_that_runs_last_leaves_all_linear_layers_in() -> None:
    encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    assert monitored(encoder, x[None]).keys() == {"linear1", "linear2", "norm1", "norm2"}
    decoder = nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (8, 1, 1)), nn.ConvTranspose2d(8, 3, 4))
    assert monitored(decoder, x).keys() == {"0", "2"}


def test_parts_of_a_model_may_run_by_themselves() -> None:
    model, images = SmallNetwork().eval(), torch.randn(6, 3, 6, 6)
    features = nn.Sequential(model.conv1, model.norm1, nn.ReLU(), model.conv2, nn.ReLU(), nn.Flatten())
    with sl.ActivationMonitor(model) as monitor:
        for _ in range(3):
            model.fc2(model.fc1(features(images)))
    stats = monitor.compute()
    assert list(stats) == ["conv1", "norm1", "conv2", "fc1"]
    assert {layer.samples for layer in stats.values()} == {18}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("failed", [False, True])
def test_a_part_that_runs_or_a_pass_that_fails_after_the_model_hides_no_layer(
    failed: bool, merged: bool
) -> None:
    def forward(net: Network, x: Tensor) -> Tensor:
        return net.c(net.b(net.a(x)).relu())

    model = three_layers(forward)
    with sl.ActivationMonitor(model) as monitor:
        model(x)
        if failed:
            handle = model.b.register_forward_pre_hook(lambda *given: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                model(x)
            handle.remove()
        else:
            model.a(x)
    if merged:
        monitor = sl.ActivationMonitor(model).merge(pickle.loads(pickle.dumps(monitor)))
    for _ in range(2):  # compute changes nothing
        assert {name: layer.samples for name, layer in monitor.compute().items()} == {"a": 12, "b": 6}
    with monitor:
        model(x)
    assert {name: layer.samples for name, layer in monitor.compute().items()} == {"a": 18, "b": 12}


@pytest.mark.parametrize("every", [2, 3])
def test_every_counts_the_same_outputs_whether_layers_are_named_or_not(every: int) -> None:
    model = three_layers(lambda net, x: net.c(net.b(net.a(net.a(net.a(net.a(x)))))))
    named, found = (monitored(model, x, layers=layers, every=every)["a"] for layers in (["a"], None))
    assert (found.samples, found.entropy) == (named.samples, named.entropy)
    assert found.samples == len(x) * len(range(0, 4, every))


def test_passes_repeated_by_checkpointing_give_no_output() -> None:
    model = three_layers(lambda net, x: net.c(checkpoint(lambda y: net.b(net.a(y)), x, use_reentrant=False)))
    with sl.ActivationMonitor(model) as monitor:
        model(x).sum().backward()
        model(x).sum().backward()
    assert {name: layer.samples for name, layer in monitor.compute().items()} == {"a": 12, "b": 12}


def test_a_large_head_is_not_even_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 100_000, bias=False))
    assert monitored(model, x).keys() == {"0"}  # its covariance alone would be 80 GB


def test_layers_that_did_not_run_are_named_in_one_warning() -> None:
    model, images = SmallNetwork().eval(), torch.randn(2, 3, 6, 6)
    with sl.ActivationMonitor(model) as monitor:
        model.norm1(model.conv1(images))
    with pytest.warns(RuntimeWarning, match="conv2, fc1, fc2"):
        assert list(monitor.compute()) == ["conv1", "norm1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.compute()
        monitor.reset()
        with monitor:
            model.conv1(images)
        monitor.compute()


def test_a_layer_that_put_out_nothing_is_named_too() -> None:
    model = nn.ModuleDict({"empty": nn.Linear(4, 4), "body": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))})
    with sl.ActivationMonitor(model) as monitor:
        model["empty"](x[:0])
        model["body"](x)
    with pytest.warns(RuntimeWarning, match="empty"):
        assert list(monitor.compute()) == ["body.0"]


def test_layers_that_cannot_be_used_are_left_out_and_named() -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> object:
            return {"complex": 1j * super().forward(x), "tuple": (x, x), "wide": x.repeat(1, len(x))}[
                self.kind
            ]

    for kind, named in {"complex": "torch.complex64", "tuple": "tuple", "wide": "12 .*24"}.items():
        odd = Odd(4, 4)
        odd.kind = kind
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        with sl.ActivationMonitor(nn.ModuleDict({"model": model, "odd": odd})) as monitor:
            for batch in (x, x[:3]):
                odd(batch)
                model(batch)
        with pytest.warns(RuntimeWarning, match=f"'odd' .*{named}"):
            assert list(monitor.compute()) == ["model.0"]


def test_if_no_layer_can_be_used_the_error_says_why() -> None:
    class Pair(nn.Conv2d):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, super().forward(x)

    model = Pair(3, 4, 1)
    with sl.ActivationMonitor(model) as monitor:
        model(torch.randn(2, 3, 5, 5))
    with pytest.raises(RuntimeError, match=r"'' .*tuple"):
        monitor.compute()


def test_lazy_layers_are_what_they_become() -> None:
    model = nn.Sequential(nn.LazyConv2d(5, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))
    assert sl.SparsityReg(model, {"*": 1.0}).layers == ["0", "1", "3"]
    stats = monitored(model, torch.randn(2, 3, 6, 6))
    assert {name: layer.channels for name, layer in stats.items()} == {"0": 5, "1": 5}


def test_a_model_of_nothing_but_its_output_has_no_layer_to_monitor() -> None:
    for model in (nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2), nn.ReLU()), nn.Sequential(nn.ReLU())):
        with pytest.raises(ValueError, match="layer"):
            sl.ActivationMonitor(model)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 4))
    with sl.ActivationMonitor(model) as monitor:
        model[1](x)
    with pytest.raises(RuntimeError, match="0"):
        monitor.compute()
    assert monitored(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2)), x).keys() == {"0"}
    assert monitored(nn.Linear(4, 2), x, layers=[""]).keys() == {""}


@pytest.mark.usefixtures("_transformers")
def test_the_conv1d_of_transformers_is_a_linear_layer() -> None:
    model = nn.Sequential(Conv1D(6, 4), nn.ReLU(), Conv1D(5, 6))
    stats = monitored(model, x)
    assert stats.keys() == {"0"}
    assert_is_reference(stats["0"], model[0](x))
    assert sl.ActivationMonitor(model, ["*"]).layers == ["0", "2"]
