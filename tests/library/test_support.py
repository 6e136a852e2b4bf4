"""Rows of the table of support (book/reference/support.md) that no other file of tests covers."""

import copy
import pickle
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from small_network import SmallNetwork, hooks_on
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import sparsity_lib as sl

x = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def sharded(model: SmallNetwork) -> nn.Module:
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("torch before 2.6")
    mesh = init_device_mesh("cpu", (1,))
    for layer in (model.conv1, model.conv2, model.fc1):
        fsdp.fully_shard(layer, mesh=mesh)
    return fsdp.fully_shard(model, mesh=mesh)


def tensor_parallel(model: SmallNetwork) -> nn.Module:
    model.relu.inplace = False  # torch itself refuses it behind ColwiseParallel
    plan = {"fc1": ColwiseParallel(), "fc2": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (1,)), plan)


def whole(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [getattr(tensor, "full_tensor", lambda t=tensor: t)().detach() for tensor in tensors]


def observed(model: nn.Module, layer: str, **options: object) -> tuple[Tensor, dict[str, float]]:
    """The loss with its penalty on a layer, and the layer's statistics."""
    monitor = sl.ActivationMonitor(model, [layer], **options)
    with monitor, sl.SparsityReg(model, {layer: 1.0}, **options) as reg:
        loss = model(x).square().mean() + reg()
        loss.backward()
    return loss.detach(), monitor.scalars()


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore")  # torch's own, on processes without accelerators
@pytest.mark.parametrize(
    ("wrap", "layer", "options"),
    [
        (DistributedDataParallel, "conv2", {}),
        (sharded, "conv2", {}),
        (sharded, "fc1", {}),
        (tensor_parallel, "fc2", {"output": torch.clone}),
    ],
)
def test_parallel_models_have_whole_activations(wrap, layer: str, options: dict) -> None:
    plain, model = SmallNetwork(), wrap(SmallNetwork())
    expected, stats = observed(plain, layer)
    actual, same_stats = observed(model, layer, **options)
    torch.testing.assert_close(actual, expected)
    assert same_stats == pytest.approx(stats)
    gradients = ([parameter.grad for parameter in each.parameters()] for each in (model, plain))
    torch.testing.assert_close(*map(whole, gradients))


def trained(model: nn.Module, layers: str, compiled: bool = False) -> list[Tensor]:
    """Weights after three steps with DecorrReg, and GradientCoherent for some layers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    decorrelation = sl.DecorrReg(model, {"conv*": 0.1})
    weights = [weight for name, weight in model.named_parameters() if layers in name and weight.dim() > 1]
    coherent = sl.GradientCoherent(optimizer, l1=1e-3, rho=-1, parameters=weights)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean() + decorrelation()
        loss.backward()
        optimizer.step()
        return loss

    step = torch.compile(step, backend="eager") if compiled else step
    for _ in range(3):
        step()
    assert coherent.coherence > 0
    return whole(model.parameters())


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore")  # torch's own, on processes without accelerators
@pytest.mark.parametrize(
    ("wrap", "layers"), [(DistributedDataParallel, ""), (sharded, ""), (tensor_parallel, "fc")]
)
def test_noise_filters_and_gradients_are_those_of_the_bare_model(wrap, layers: str) -> None:
    outputs, weights = [], []
    for make in (lambda model: model, wrap):
        noisy = SmallNetwork()
        noisy.relu = sl.Sparseout(q=1.0)
        torch.manual_seed(1)
        outputs.append(make(noisy)(x).detach())
        weights.append(trained(make(SmallNetwork()), layers))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*weights)


@pytest.mark.slow  # it imports torch's compiler
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_a_compiled_step_may_read_filters_and_shrink_weights() -> None:
    expected = trained(SmallNetwork(), "")
    torch.testing.assert_close(trained(SmallNetwork(), "", compiled=True), expected)
    torch.compiler.reset()


def test_checkpointing_repeats_sparseouts_noise() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), sl.Sparseout(0.5, q=1.0), nn.Linear(6, 4))
    rows, gradients = torch.ones(5, 8), []
    for run in (model, lambda rows: checkpoint(model, rows, use_reentrant=False)):
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(run(rows).sum(), list(model.parameters())))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore")  # torch's own, on processes without accelerators
def test_receptive_fields_are_found_in_parallel_models_and_refused_in_sharded_ones() -> None:
    expected = sl.receptive_fields(SmallNetwork(), (3, 6, 6))["conv2"].rows
    for model in (SmallNetwork(), DistributedDataParallel(SmallNetwork())):
        with torch.autocast("cpu", torch.bfloat16):
            found = sl.receptive_fields(model, (3, 6, 6))["conv2"].rows
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError, match="sharded"):
        sl.receptive_fields(sharded(SmallNetwork()), (3, 6, 6))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_of_penalties_go_with_copies_of_models_or_are_refused(duplicate) -> None:
    model = SmallNetwork()
    decorrelation = sl.DecorrReg(model, {"conv*": 0.1})
    torch.testing.assert_close(duplicate(decorrelation)(), decorrelation())
    with pytest.raises(RuntimeError, match="copied"):
        duplicate(sl.SparsityReg(model, {"conv1": 1.0})).attach()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_an_attached_penalty_is_copied_without_what_it_collected(duplicate) -> None:
    model = SmallNetwork()
    with sl.SparsityReg(model, {"conv1": 1.0}) as reg:
        model(torch.randn(2, 3, 6, 6))
        twin = duplicate(reg)
        twin.remove()
        assert reg() < 0
        assert hooks_on(model) == 1
    with pytest.raises(RuntimeError, match="copied"):
        twin.attach()
