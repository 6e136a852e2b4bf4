"""Regularisers and monitors under activation checkpointing and torch.compile: right, or refused aloud."""

import functools
from collections.abc import Callable

import pytest
import torch
from small_network import STRENGTHS
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError, checkpoint

import sparsity_lib as sl

aten = torch.ops.aten
Run = Callable[[Tensor], Tensor]
# The compiler reads the .grad of what it passes between pieces of a graph, and torch warns about that.
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, 6, 6, requires_grad=True)  # reentrant checkpointing needs an input with gradient


@pytest.fixture(params=[sl.SparsityReg, sl.VarianceReg])
def reg(request: pytest.FixtureRequest, model: nn.Module) -> sl.SparsityReg | sl.VarianceReg:
    return request.param(model, STRENGTHS)


def step(reg: sl.SparsityReg, model: nn.Module, run: Run, x: Tensor) -> list[Tensor]:
    """The loss with its penalty, and its gradients."""
    loss = run(x).square().mean() + reg()
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


def expected(reg: sl.SparsityReg, model: nn.Module, x: Tensor) -> list[Tensor]:
    with reg:
        return step(reg, model, model, x)


def assert_same(actual: list[Tensor], wanted: list[Tensor]) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-6)


def saving(*operations: object) -> Callable:
    """Selective checkpointing, which torch has from 2.5 on, that saves what these operations return."""

    def contexts() -> tuple[object, object]:
        if not hasattr(torch.utils.checkpoint, "CheckpointPolicy"):
            pytest.skip("this torch has no selective checkpointing")
        policies = torch.utils.checkpoint.CheckpointPolicy
        return torch.utils.checkpoint.create_selective_checkpoint_contexts(
            lambda context, operation, *args, **kwargs: (
                policies.MUST_SAVE if operation in operations else policies.PREFER_RECOMPUTE
            )
        )

    return contexts


@pytest.mark.parametrize("monitored", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context_fn": saving(aten.addmm.default, aten.mm.default)},
        {"context_fn": saving(aten.relu.default, aten.exp.default, aten.sum.dim_IntList, aten.mul.Tensor)},
    ],
    ids=["all", "save matmuls", "save what penalties use"],
)
def test_checkpointing_changes_neither_gradients_nor_statistics(
    options: dict, monitored: bool, reg: sl.SparsityReg, model: nn.Module, x: Tensor
) -> None:
    model.relu.inplace = not options  # selective checkpointing refuses in-place operations itself
    wanted = expected(reg, model, x)
    run = functools.partial(checkpoint, model, use_reentrant=False, **options)
    with reg, sl.ActivationMonitor(model, ["*"] if monitored else ["fc2"]) as monitor:
        for _ in range(2):
            assert_same(step(reg, model, run, x), wanted)
    assert {stats.samples for stats in monitor.compute().values()} == {2 * len(x)}


def test_detaching_between_checkpointed_forward_and_backward_fails_aloud(
    reg: sl.SparsityReg, model: nn.Module, x: Tensor
) -> None:
    with reg:
        loss = checkpoint(model, x, use_reentrant=False).square().mean() + reg()
    with pytest.raises(CheckpointError, match="different number of tensors"):
        loss.backward()


def test_reentrant_checkpointing_is_refused_by_penalties_and_counted_once_by_monitors(
    reg: sl.SparsityReg, model: nn.Module, x: Tensor
) -> None:
    with reg, sl.ActivationMonitor(model) as monitor:
        output = checkpoint(model, x, use_reentrant=True)
        with pytest.raises(RuntimeError, match=r"conv1, conv2, fc1.* use_reentrant=False"):
            reg()
        output.sum().backward()
        with pytest.raises(RuntimeError, match="conv1, conv2, fc1"):
            reg()
    assert monitor.compute()["conv1"].samples == len(x)


def compiled_in_place(model: nn.Module, backend: str) -> Run:
    model.compile(backend=backend)
    return model


def compiled_layer(model: nn.Module, backend: str) -> Run:
    model[0] = torch.compile(model[0], backend=backend)
    return model


def two_layers() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))


HOW = {
    "model": lambda model, backend: torch.compile(model, backend=backend),
    "in place": compiled_in_place,
    "layer": compiled_layer,
    "function": lambda model, backend: torch.compile(lambda x: model(x), backend=backend),
}
COMPILATIONS = [
    ("model", "eager"),
    *(
        pytest.param(how, backend, marks=pytest.mark.slow)
        for how in HOW
        for backend in ("aot_eager", "inductor")
    ),
]


@compiles
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(("how", "backend"), COMPILATIONS)
@pytest.mark.parametrize("ran_before", [False, True])
def test_compiled_code_runs_the_hooks_whenever_they_are_attached(
    ran_before: bool, how: str, backend: str
) -> None:
    plain, model = two_layers(), two_layers()
    batches = [torch.randn(5, 6), torch.randn(3, 6)]  # the code is compiled anew for the second size
    wanted = [expected(sl.SparsityReg(plain, {"0": 1.0}), plain, batch) for batch in batches]
    run = HOW[how](model, backend)
    if ran_before:
        run(batches[0]).sum().backward()
    named = run if isinstance(run, nn.Module) else model
    reg, monitor = sl.SparsityReg(named, {"0": 1.0}), sl.ActivationMonitor(named)
    for times in (1, 2):
        with reg, monitor:
            for batch, of_batch in zip(batches, wanted, strict=True):
                assert_same(step(reg, model, run, batch), of_batch)
        run(batches[0])
        assert not any(module._forward_hooks for module in model.modules())
        assert {stats.samples for stats in monitor.compute().values()} == {times * 8}


@compiles
@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_training_step_may_call_the_penalties() -> None:
    model = two_layers()
    sparsity, decorrelation = sl.SparsityReg(model, {"0": 1.0}), sl.DecorrReg(model, {"0": 1.0})

    def loss(x: Tensor) -> Tensor:
        return model(x).square().mean() + sparsity() + decorrelation()

    compiled = torch.compile(loss, backend="eager")
    with sparsity:
        for batch in (torch.randn(5, 6), torch.randn(3, 6), torch.randn(5, 6)):
            of_each = []
            for function in (loss, compiled):
                model.zero_grad()
                function(batch).backward()
                of_each.append([parameter.grad.clone() for parameter in model.parameters()])
            assert_same(*of_each)


@compiles
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_model_in_one_graph_is_refused() -> None:
    compiled = torch.compile(two_layers(), backend="eager", fullgraph=True)
    for attachable in (sl.SparsityReg(compiled, {"0": 1.0}), sl.ActivationMonitor(compiled)):
        with attachable, pytest.raises(torch._dynamo.exc.Unsupported):
            compiled(torch.randn(5, 6))


@compiles
@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("inside", [False, True])
def test_compilation_and_checkpointing_together_change_no_gradient(inside: bool) -> None:
    model, x = two_layers(), torch.randn(5, 6)
    reg = sl.SparsityReg(model, {"0": 1.0})
    wanted = expected(reg, model, x)
    if inside:
        run = torch.compile(functools.partial(checkpoint, model, use_reentrant=False), backend="eager")
    else:
        run = functools.partial(checkpoint, torch.compile(model, backend="eager"), use_reentrant=False)
    with reg:
        for _ in range(2):
            assert_same(step(reg, model, run, x), wanted)
