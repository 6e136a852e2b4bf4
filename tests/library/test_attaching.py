"""Regularisers and monitors on any model: names, wrappers, copies, and no traces left."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from penalties import collected
from small_network import STRENGTHS, SmallNetwork, hooks_on
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib._layers import named_layers


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
        ({"conv9": 1.0}, ValueError, f"'conv9'.* {exist}"),
        ({"block*": 1.0}, ValueError, rf"'block\*'.* {exist}"),
        ({nn.GELU: 1.0}, ValueError, "GELU"),
        ({nn.Linear(2, 2): 1.0}, ValueError, "Linear"),
        ({"conv*": 1.0, "*1": 2.0}, ValueError, "'conv1'"),
        ({"conv1": 1.0, "module.conv1": 1.0}, ValueError, "'conv1'"),
        ({"conv1": -1.0}, ValueError, "'conv1'.* -1.0"),
        ({"conv1": float("nan")}, ValueError, "nan"),
        ({"conv1": float("inf")}, ValueError, "inf"),
        ({"conv1": "strong"}, ValueError, "'strong'"),
        ({}, ValueError, "strength"),
        (["conv1"], TypeError, "list"),
        ({3: 1.0}, TypeError, "int"),
    ]
    for kind in (sl.SparsityReg, sl.VarianceReg, sl.DecorrReg):
        for layers, error, message in cases:
            with pytest.raises(error, match=message) as caught:
                kind(model, layers)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"'max'.* mean, sum"):
        sl.SparsityReg(model, {"conv1": 1.0}, reduction="max")
    with pytest.raises(TypeError, match="list"):
        sl.SparsityReg([model], {"conv1": 1.0})


def test_a_name_or_a_module_overrides_globs(model: SmallNetwork, x: Tensor) -> None:
    entropy = f.rfav_entropy(model.conv1(x)).mean().detach()
    for own in ("conv1", model.conv1):
        for layers in ({"conv*": 1.0, own: 2.0}, {own: 2.0, "*": 1.0, "fc?": 3.0, "fc1": 1.0, "fc2": 1.0}):
            with sl.SparsityReg(model, layers) as reg:
                model(x)
                reg()
            torch.testing.assert_close(reg.losses["conv1"], -2 * entropy)
    tied = nn.Sequential(model.fc1, nn.ReLU(), model.fc1)
    assert sl.ActivationMonitor(tied, ["*", "2"]).layers == ["2"]


@pytest.mark.parametrize("wrap", [AveragedModel, lambda m: AveragedModel(AveragedModel(m))])
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

    class Own(nn.Module):  # with no other child, as a wrapper has, and with a parameter of its own
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1))
            self.scale = nn.Parameter(torch.ones(100))

    model = Own()
    assert sl.SparsityReg(model, {"module.*": 1.0}).layers == ["module.0", "module.1"]
    assert sl.compression(model).parameters == 100 + 16 + 25
    with pytest.raises(ValueError, match=r"'0'.* module"):
        sl.ActivationMonitor(model, ["0"])
    both = nn.ModuleDict({"module": model.module, "head": nn.Conv2d(3, 4, 1)})
    assert sl.SparsityReg(both, {"module.*": 1.0}).layers == ["module.0", "module.1"]


def test_wrappers_inside_a_model_add_no_names(model: SmallNetwork) -> None:
    model.conv1 = checkpoint_wrapper(model.conv1)
    compiled = torch.compile(model)
    compiled.conv2 = torch.compile(model.conv2)
    assert [*named_layers(compiled)] == ["", "conv1", "norm1", "conv2", "fc1", "fc2", "relu"]
    for key in ("conv1", "_orig_mod.conv1._checkpoint_wrapped_module", model.conv1, "conv[1]"):
        assert sl.SparsityReg(compiled, {key: 1.0}).layers == ["conv1"]


def test_data_parallel_is_refused(model: nn.Module) -> None:
    for wrapped in (nn.DataParallel(model), nn.Sequential(nn.DataParallel(model))):
        for kind in (sl.SparsityReg, sl.DecorrReg, sl.ActivationMonitor):
            with pytest.raises(TypeError, match="DistributedDataParallel"):
                kind(wrapped, {"*conv1": 1.0})
    layer = nn.Linear(3, 4)
    for attachable in (sl.SparsityReg(layer, {layer: 1.0}), sl.ActivationMonitor(layer, [layer])):
        with attachable:  # wrapped afterwards: its replicas run
            replica = layer._replicate_for_data_parallel()
            replica.weight, replica.bias = layer.weight, layer.bias
            with pytest.raises(RuntimeError, match="DistributedDataParallel"):
                replica(torch.randn(2, 3))


def test_no_hook_is_left_behind(model: nn.Module, x: Tensor) -> None:
    for _ in range(3):
        with sl.SparsityReg(model, STRENGTHS) as reg, sl.ActivationMonitor(model, ["*"]):
            assert hooks_on(model) == 3 + 5
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


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m, protocol=2))],  # as torch.save
)
def test_a_copy_of_the_model_works_and_feeds_nothing(
    duplicate: Callable, model: nn.Module, x: Tensor
) -> None:
    with sl.SparsityReg(model, STRENGTHS) as reg, sl.ActivationMonitor(model) as monitor:
        twin = duplicate(model)
        assert torch.equal(twin(x), model.eval()(x))
        penalty = reg()
        twin(x)
        with pytest.raises(RuntimeError, match="conv1"):
            reg()
    assert monitor.compute()["conv1"].samples == len(x)
    assert b"sparsity_lib" not in pickle.dumps(twin)
    torch.testing.assert_close(penalty, collected(sl.SparsityReg, model, x, STRENGTHS))
