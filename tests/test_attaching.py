"""Regularisers and monitors on any model: names, wrappers, copies, and no traces left."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_network import STRENGTHS, SmallNetwork
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import functional as f


class Wrapped(nn.Module):
    """As DistributedDataParallel and its like wrap a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, 6, 6)


@pytest.fixture
def model() -> nn.Module:
    return SmallNetwork().eval()


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def penalty(model: nn.Module, x: Tensor, layers: dict = STRENGTHS, **options: object) -> Tensor:
    with sl.SparsityReg(model, layers, **options) as reg:
        model(x)
        return reg()


def test_layers_are_named_by_name_glob_or_module(model: SmallNetwork) -> None:
    for layers in (["conv1", "conv2"], ["conv*"], [model.conv2, "conv1"], ["conv?", "conv1"]):
        assert sl.ActivationMonitor(model, layers).layers == ["conv1", "conv2"]
    assert sl.SparsityReg(model, {"conv*": 0.1, model.fc1: 0.2}).layers == ["conv1", "conv2", "fc1"]
    assert sl.SparsityReg(model, {"*": 0.1}).layers == ["conv1", "norm1", "conv2", "fc1", "fc2"]
    assert sl.SparsityReg(model, {"relu": 0.1}).layers == ["relu"]  # globs mean layers, a name any module
    nested = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert sl.ActivationMonitor(nested, ["0.0"]).layers == sl.ActivationMonitor(nested, ["0*"]).layers


def test_bad_layers_and_strengths_are_refused_in_one_line(model: nn.Module) -> None:
    exist = "conv1, norm1, conv2, fc1, fc2"
    cases = [
        ({"conv9": 1.0}, ValueError, f"no layer 'conv9' in the model; it has {exist}"),
        ({"block*": 1.0}, ValueError, rf"no layer 'block\*' in the model; it has {exist}"),
        ({"rel*": 1.0}, ValueError, r"no layer 'rel\*' in the model"),
        ({nn.Linear(2, 2): 1.0}, ValueError, "Linear is not a module of the model"),
        ({"conv*": 1.0, "conv1": 2.0}, ValueError, "layer 'conv1' is named twice"),
        ({"conv1": -1.0}, ValueError, "strength of layer 'conv1' must be a number >= 0, not -1.0"),
        ({"conv1": float("nan")}, ValueError, "not nan"),
        ({"conv1": float("inf")}, ValueError, "not inf"),
        ({"conv1": "strong"}, ValueError, "not 'strong'"),
        ({}, ValueError, "no layer is named"),
        (["conv1"], TypeError, "map each layer to its strength, not be a list"),
        ({3: 1.0}, TypeError, "named by a string or a module, not int"),
    ]
    for kind in (sl.SparsityReg, sl.VarianceReg, sl.DecorrReg):
        for layers, error, message in cases:
            with pytest.raises(error, match=message) as caught:
                kind(model, layers)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown reduction 'max'; choose from mean, sum"):
        sl.SparsityReg(model, {"conv1": 1.0}, reduction="max")
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, not list"):
        sl.SparsityReg([model], {"conv1": 1.0})


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.Conv1d(3, 8, 3), (4, 3, 7), 1),
        (nn.Conv3d(3, 8, 2), (4, 3, 4, 4, 4), 1),
        (nn.ConvTranspose2d(3, 8, 2), (4, 3, 5, 5), 1),
        (nn.Linear(7, 8), (4, 7), 1),
        (nn.Linear(7, 8), (4, 5, 7), 2),
        (nn.LayerNorm(7), (4, 5, 7), 2),
        (nn.RMSNorm(7), (4, 5, 7), 2),
        (nn.BatchNorm1d(5), (4, 5, 7), 1),
        (nn.GroupNorm(2, 6), (4, 6, 7), 1),
        (nn.InstanceNorm1d(5), (4, 5, 7), 1),
        (nn.ReLU(), (4, 5), 1),
        (nn.ReLU(), (4, 5, 3, 3), 1),
    ],
)
def test_the_channel_axis_follows_the_module(layer: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    x = torch.randn(shape)
    expected = -f.rfav_entropy(layer(x), dim=axis).mean()
    torch.testing.assert_close(penalty(layer, x, {layer: 1.0}), expected)


def test_an_axis_that_cannot_be_told_is_asked_for() -> None:
    layer, x = nn.GELU(), torch.randn(4, 5, 7)
    with pytest.raises(
        ValueError, match=r"GELU, returned shape \(4, 5, 7\), in which .* say which with dim="
    ):
        penalty(layer, x, {layer: 1.0})
    expected = -f.rfav_entropy(layer(x), dim=2).mean()
    torch.testing.assert_close(penalty(layer, x, {layer: 1.0}, dim=-1), expected)
    for dim in (0, 3, -4):
        with pytest.raises(ValueError, match=f"dim={dim} is no channel axis"):
            penalty(layer, x, {layer: 1.0}, dim=dim)


def test_outputs_without_samples_or_that_are_no_tensor_are_refused() -> None:
    cases = [
        (nn.Conv1d(3, 4, 2), (3, 5), ValueError, "no batch axis, 3 axes are needed"),
        (nn.Conv2d(3, 4, 2), (3, 5, 5), ValueError, "no batch axis, 4 axes are needed"),
        (nn.InstanceNorm2d(3), (3, 5, 5), ValueError, "no batch axis, 4 axes are needed"),
        (nn.Linear(3, 4), (3,), ValueError, "no batch axis, 2 axes are needed"),
        (nn.LSTM(3, 4), (2, 5, 3), TypeError, "returned tuple; only tensors can be used"),
    ]
    for layer, shape, error, message in cases:
        with pytest.raises(error, match=message):
            penalty(layer, torch.randn(shape), {layer: 1.0})


@pytest.mark.parametrize(
    "wrap", [Wrapped, torch.optim.swa_utils.AveragedModel, lambda m: Wrapped(Wrapped(m))]
)
def test_wrappers_prefixes_may_be_left_out_or_kept(wrap: Callable, model: nn.Module, x: Tensor) -> None:
    wrapped = wrap(model)
    for name in ("conv1", "module.conv1", "conv1*", "module.conv1*"):
        with sl.SparsityReg(wrapped, {name: 1.0}) as reg, sl.ActivationMonitor(wrapped, [name]) as monitor:
            wrapped(x)
            reg()
        assert list(reg.losses) == list(monitor.compute()) == ["conv1"]
    assert sl.DecorrReg(wrapped, {"conv1": 1.0})() == sl.DecorrReg(model, {"module.conv1": 1.0})()
    assert sl.ActivationMonitor(wrapped).layers == ["conv1", "norm1", "conv2", "fc1"]


def test_a_child_that_is_merely_called_module_keeps_its_name() -> None:
    model = nn.ModuleDict({"module": nn.Linear(2, 3), "head": nn.Linear(3, 2)})
    assert sl.SparsityReg(model, {"module": 1.0, "head": 1.0}).layers == ["module", "head"]


def test_distributed_data_parallel(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        torch.testing.assert_close(penalty(parallel, x), penalty(model, x))
    finally:
        torch.distributed.destroy_process_group()


def test_data_parallel_is_refused(model: nn.Module) -> None:
    for wrapped in (nn.DataParallel(model), nn.Sequential(nn.DataParallel(model))):
        for kind in (sl.SparsityReg, sl.DecorrReg, sl.ActivationMonitor):
            with pytest.raises(TypeError, match=r"use torch.nn.parallel.DistributedDataParallel"):
                kind(wrapped, {"*conv1": 1.0})
    layer = nn.Linear(3, 4)
    for attachable in (sl.SparsityReg(layer, {layer: 1.0}), sl.ActivationMonitor(layer, [layer])):
        with attachable:  # wrapped afterwards: its replicas run
            replica = layer._replicate_for_data_parallel()
            replica.weight, replica.bias = layer.weight, layer.bias
            with pytest.raises(RuntimeError, match=r"use torch.nn.parallel.DistributedDataParallel"):
                replica(torch.randn(2, 3))


def test_no_hook_is_left_behind(model: nn.Module, x: Tensor) -> None:
    for _ in range(3):
        with sl.SparsityReg(model, STRENGTHS) as reg, sl.ActivationMonitor(model):
            assert hooks_on(model) == 3 + 4
            model(x)
            reg()
    for attachable in (sl.SparsityReg(model, STRENGTHS), sl.ActivationMonitor(model)):
        with pytest.raises(KeyError), attachable:
            raise KeyError
        attachable.attach()
        attachable.remove()
        attachable.remove()
    sl.DecorrReg(model, {"conv1": 1.0})()
    assert hooks_on(model) == 0


def test_outputs_random_state_and_state_dict_are_untouched(model: nn.Module, x: Tensor) -> None:
    model.train()
    model.add_module("dropout", nn.Dropout())
    outputs, states = [], []
    for attached in (False, True):
        torch.manual_seed(3)
        model.norm1.reset_running_stats()
        with (
            sl.SparsityReg(model, STRENGTHS),
            sl.ActivationMonitor(model) if attached else torch.enable_grad(),
        ):
            outputs.append(model.dropout(model(x)))
            states.append(model.state_dict())
    assert torch.equal(*outputs)
    torch.testing.assert_close(*states, rtol=0, atol=0)


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded]
)
def test_a_copy_of_the_model_works_and_feeds_nothing(
    duplicate: Callable, model: nn.Module, x: Tensor
) -> None:
    with sl.SparsityReg(model, STRENGTHS) as reg, sl.ActivationMonitor(model) as monitor:
        twin = duplicate(model)
        assert torch.equal(twin(x), model.eval()(x))
        collected = reg()
        twin(x)
        with pytest.raises(RuntimeError, match="nothing was collected"):
            reg()
    assert monitor.compute()["conv1"].samples == len(x)
    assert b"sparsity_lib" not in pickle.dumps(twin)
    torch.testing.assert_close(collected, penalty(model, x))
