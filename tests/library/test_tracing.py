"""Only forward passes of data count: not exports, traces, fakes, transforms; and those go on undisturbed."""

from collections.abc import Callable, Iterator

import pytest
import torch
from programs import python
from reference import assert_is_reference
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import sparsity_lib as sl

# Warnings that torch gives of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Memory profiling"),
]
x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Not of torch, so that torch.fx runs it, hooks included."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@pytest.fixture
def model() -> Iterator[nn.Module]:
    torch.manual_seed(0)
    yield nn.Sequential(Block(), nn.ReLU(inplace=True), nn.Linear(6, 3)).eval()
    torch.compiler.reset()


def made_fx(model: nn.Module) -> Callable:
    with torch.no_grad():
        return make_fx(model)(x)


def fake(model: nn.Module) -> Callable:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert model(mode.from_tensor(x)).shape == (5, 3)
    return model


def on_meta(model: nn.Module) -> Callable:
    parameters = {name: parameter.to("meta") for name, parameter in model.named_parameters()}
    assert functional_call(model, parameters, x.to("meta")).is_meta
    return model


# Torch before 2.7 cannot tell a hook whether torch.export or torch.compile traces it: it refuses to export.
old = not hasattr(torch.compiler, "is_exporting")
EXPORTS = {
    "export": lambda model: torch.export.export(model, (x,)).module(),
    "strict export": lambda model: torch.export.export(model, (x,), strict=True).module(),
}
TRACES = {
    **({} if old else EXPORTS),
    "trace": lambda model: torch.jit.trace(model, (x,)),
    "symbolic trace": torch.fx.symbolic_trace,
    **{"make_fx": made_fx, "fake": fake, "meta": on_meta},
}


@pytest.mark.parametrize("transform", TRACES.values(), ids=TRACES)
def test_tensors_without_data_are_not_counted_and_pass(transform: Callable, model: nn.Module) -> None:
    expected = model(x).detach()
    layers = {"0": 1.0, "0.linear": 1.0}
    with sl.ActivationMonitor(model, [*layers]) as monitor, sl.SparsityReg(model, layers) as reg:
        result = transform(model)  # before there is any data, and between two batches
        with pytest.raises(RuntimeError, match="0"):
            reg()
        model(x)
        once = reg()
        transform(model)
        model(x)
        torch.testing.assert_close(reg(), once)
    assert_is_reference(monitor.compute()["0"], expected_of(model[0], x, x))
    torch.testing.assert_close(result(x), expected)
    with sl.ActivationMonitor(model) as monitor:
        transform(model)
        model(x)
    assert {name: stats.samples for name, stats in monitor.compute().items()} == {"0.linear": len(x)}


def expected_of(layer: nn.Module, *batches: Tensor) -> Tensor:
    return layer(torch.cat(batches)).detach()


TRANSFORMS = {
    "vmap": lambda run, model: vmap(lambda row: run(dict(model.named_parameters()), row[None]))(x),
    "grad": lambda run, model: grad(lambda p: run(p, x).sum())(dict(model.named_parameters())),
    "vmap of grad": lambda run, model: vmap(grad(lambda p, row: run(p, row[None]).sum()), (None, 0))(
        dict(model.named_parameters()), x
    ),
}


@pytest.mark.parametrize("kind", [sl.SparsityReg, sl.VarianceReg, sl.PerplexityReg])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_not_monitored_and_do_not_leak_into_the_next_penalty(
    name: str, kind: type[sl.SparsityReg], model: nn.Module
) -> None:
    def run(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        return functional_call(model, parameters, rows)

    expected = TRANSFORMS[name](run, model)
    with sl.ActivationMonitor(model, ["0"]) as monitor, kind(model, {"0": 1.0}) as reg:
        torch.testing.assert_close(TRANSFORMS[name](run, model), expected)
        with pytest.raises(RuntimeError, match="0"):
            reg()
        with pytest.raises(RuntimeError, match="0"):
            monitor.compute()
        TRANSFORMS[name](run, model)
        model(x)
        after = reg()
        model(x)
        torch.testing.assert_close(after, reg())
    assert_is_reference(monitor.compute()["0"], expected_of(model[0], x, x))


@pytest.mark.parametrize("kind", [sl.SparsityReg, sl.VarianceReg, sl.PerplexityReg])
def test_a_penalty_that_is_read_inside_a_transform_is_differentiated(
    kind: type[sl.SparsityReg], model: nn.Module
) -> None:
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        return functional_call(model, parameters, rows).square().mean() + reg()

    with kind(model, {"0": 1.0}) as reg:
        gradients = grad(loss)(parameters, x)
        expected = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
        torch.testing.assert_close(list(gradients.values()), list(expected))
        per_sample = vmap(grad(loss), (None, 0))(parameters, x[:, None])
        torch.testing.assert_close({n: each.mean(0) for n, each in per_sample.items()}, gradients)
        each = vmap(lambda row: loss(parameters, row[None]))(x)
        torch.testing.assert_close(each, torch.stack([loss(parameters, row[None]) for row in x]))


def test_a_functional_call_is_a_forward_pass(model: nn.Module) -> None:
    doubled = {name: 2 * parameter for name, parameter in model.named_parameters()}
    with sl.ActivationMonitor(model, ["0"]) as monitor:
        functional_call(model, doubled, x)
    assert_is_reference(monitor.compute()["0"], 2 * model[0](x).detach())


def test_an_attached_model_cannot_be_scripted(model: nn.Module) -> None:
    with sl.ActivationMonitor(model, ["2"]), pytest.raises(AttributeError, match="script"):
        torch.jit.script(model)


FRESH = """
import sys
import torch
from torch import nn
import sparsity_lib as sl

model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
decorrelation = sl.DecorrReg(model, {"0": 1.0})
with sl.SparsityReg(model, {"0": 1.0}) as sparsity, sl.ActivationMonitor(model) as monitor:
    (model(torch.randn(5, 8)).sum() + sparsity() + decorrelation()).backward()
monitor.compute()
assert "torch._dynamo" not in sys.modules
import torch._dynamo
before = torch._dynamo.config.skip_nnmodule_hook_guards
with sl.ActivationMonitor(model):
    pass
assert torch._dynamo.config.skip_nnmodule_hook_guards == before
"""


def test_the_compiler_is_neither_imported_nor_set_up_where_nothing_is_compiled() -> None:
    done = python("-W", "error", "-c", FRESH)
    assert done.returncode == 0, done.stderr
