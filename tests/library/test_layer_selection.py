"""Which layers are meant, which axis, which part of an output and which positions count."""

import copy
import dataclasses
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from penalties import collected
from reference import assert_is_reference, monitored
from small_network import SmallNetwork
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib._outputs import MaskOfPass


class Tagger(nn.Module):
    """Tokens `(N, T, 5)` and which of them are no padding `(N, T)`; `pooled` has no positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rnn = nn.Linear(5, 6), nn.LSTM(6, 4, batch_first=True)
        self.act, self.pooled, self.head = nn.GELU(), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x, _ = self.rnn(self.act(self.first(x)))
        return self.head(self.pooled(x[:, 0]))


x, mask = torch.randn(3, 4, 5), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])


def layers_of(layers: object, **options: object) -> list[str]:
    return sl.ActivationMonitor(SmallNetwork(), layers, **options).layers


def test_types_and_globs_name_modules_without_children() -> None:
    assert layers_of([nn.Conv2d]) == ["conv1", "conv2"]
    assert layers_of([nn.ReLU, "fc*"]) == ["fc1", "fc2", "relu"]
    assert layers_of(["rel*"]) == ["relu"]
    assert layers_of(["*1"]) == ["conv1", "norm1", "fc1"]
    with pytest.raises(ValueError, match="'conv1'"):
        sl.SparsityReg(SmallNetwork(), {nn.Conv2d: 0.1, "*1": 0.2})
    with pytest.raises(TypeError, match="Tensor"):
        layers_of([Tensor])
    with pytest.raises(TypeError, match="list"):
        layers_of(nn.ReLU)


def test_globs_and_types_mean_layers_that_run_and_filters_that_are_known() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for key in ("*", nn.Linear):
        assert "self_attn.out_proj" not in sl.ActivationMonitor(encoder, [key]).layers
        assert "self_attn.out_proj" not in sl.SparsityReg(encoder, {key: 0.1}).layers
        assert sl.DecorrReg(encoder, {key: 0.1}).layers == ["self_attn.out_proj", "linear1", "linear2"]
    assert sl.ActivationMonitor(encoder, ["self_attn.out_proj"]).layers == ["self_attn.out_proj"]


def test_excluded_layers_are_left_out() -> None:
    assert layers_of(["*"], exclude=["fc*", nn.BatchNorm2d]) == ["conv1", "conv2"]
    assert layers_of([nn.ReLU, "conv1"], exclude=["rel*"]) == ["conv1"]
    for kind in (sl.SparsityReg, sl.DecorrReg):
        assert kind(SmallNetwork(), {"*": 0.1}, exclude=["norm1"]).layers == ["conv1", "conv2", "fc1", "fc2"]
        with pytest.raises(ValueError, match="layers"):
            kind(SmallNetwork(), {"fc1": 0.1}, exclude=["fc1"])
    for exclude, error in ((["fc9"], ValueError), ("fc1", TypeError), ([nn.GELU], ValueError)):
        with pytest.raises(error):
            layers_of(None, exclude=exclude)


@pytest.mark.parametrize("key", ["head", "module.head", "module", "type", "hea?"])
def test_a_part_of_a_model_is_left_out_with_the_layers_in_it(key: str) -> None:
    class Head(nn.Sequential):
        pass

    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)))
    model.add_module("head", Head(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    exclude = [{"module": model.head, "type": Head}.get(key, key)]
    for receiver in (
        sl.ActivationMonitor(model, ["*"], exclude=exclude),
        sl.SparsityReg(model, {"*": 0.1}, exclude=exclude),
        sl.DecorrReg(model, {nn.Linear: 0.1}, exclude=exclude),
    ):
        assert receiver.layers == ["body.0", "body.2"]
    assert list(monitored(model, torch.randn(2, 3), exclude=exclude)) == ["body.0", "body.2"]


def test_without_the_head_the_layer_before_it_stays() -> None:
    stats = monitored(SmallNetwork().eval(), torch.randn(2, 3, 6, 6), exclude=["fc2", "norm*"])
    assert list(stats) == ["conv1", "conv2", "fc1"]


def test_each_layer_may_have_an_axis_of_its_own() -> None:
    layer = nn.Sequential(nn.Linear(5, 5), nn.GELU())
    x = torch.randn(3, 5, 5)
    for dim in ({nn.GELU: 1}, {"1": 1}, {"*": 2, "1": 1}, {layer[1]: 1, "*": 2}):
        stats = monitored(layer, x, layers=["0", "1"], dim=dim)
        assert_is_reference(stats["0"], layer[0](x).movedim(2, 1))
        assert_is_reference(stats["1"], layer(x))
    for dim, message in (
        ({"7": 1}, "'7'"),
        ({"*": 2, nn.GELU: 1}, r"'1'.* \[1, 2\]"),
        ({"": 1}, "''.* 0, 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.ActivationMonitor(layer, ["0", "1"], dim=dim)
    for dim in (True, "1", {"1": 1.0}):
        with pytest.raises(TypeError, match="dim"):
            sl.ActivationMonitor(layer, ["0", "1"], dim=dim)


def test_a_part_of_an_output_is_monitored_and_penalised() -> None:
    model = Tagger()
    expected = model.rnn(model.act(model.first(x)))[0]
    for output in (0, lambda output: output[0] if isinstance(output, tuple) else output):
        stats = monitored(model, x, layers=["first", "rnn"], output=output)
        assert_is_reference(stats["rnn"], expected.movedim(2, 1))
        assert_is_reference(stats["first"], model.first(x).movedim(2, 1))
        penalty = collected(sl.SparsityReg, model, x, {"rnn": 1.0}, output=output)
        torch.testing.assert_close(penalty, -f.rfav_entropy(expected, dim=2).mean())
    attention = nn.MultiheadAttention(6, 2, batch_first=True)
    y = torch.randn(2, 6, 6)  # as many tokens as channels
    with sl.ActivationMonitor(attention, [attention], output=0) as monitor:
        z = attention(y, y, y)[0]
    assert_is_reference(monitor.compute()[""], z.movedim(2, 1))
    with (
        sl.ActivationMonitor(model, ["rnn"], output=3),
        pytest.raises(TypeError, match=r"'rnn'.* tuple.* 3"),
    ):
        model(x)


@pytest.mark.parametrize("kind", [nn.GRU, nn.MultiheadAttention])
@pytest.mark.parametrize("output", [0, lambda output: output[0]])
def test_samples_are_found_by_batch_first(kind: type[nn.Module], output: object) -> None:
    class Model(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.layer, self.first = kind(6, 2, batch_first=batch_first), batch_first

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            x = x if self.first else x.transpose(0, 1)
            return self.layer(*[x] * (3 if kind is nn.MultiheadAttention else 1))[0]

    x, mask, found = torch.randn(3, 5, 6), torch.arange(5) < torch.tensor([[5], [4], [2]]), []
    for model in (Model(True), Model(False)):
        options = {"output": output, "mask": "mask"}
        with (
            sl.SparsityReg(model, {"layer": 1.0}, reduction="sum", **options) as reg,
            sl.ActivationMonitor(model, ["layer"], maps=2, **options) as monitor,
        ):
            model(x, mask)
            found.append((reg(), torch.from_numpy(monitor.compute()["layer"].maps)))
    torch.testing.assert_close(*found, equal_nan=True)
    assert found[0][1].shape == (2, 5)


MASKS = {
    "name": ("attention_mask", mask),
    "bool": ("attention_mask", mask.bool()),
    "function": (lambda x, attention_mask: attention_mask == 0, 1 - mask),
}


@pytest.mark.parametrize("how", MASKS)
def test_only_positions_of_the_mask_count(how: str) -> None:
    model, (which, given) = Tagger(), MASKS[how]
    counted = {
        "first": model.first(x)[mask.bool()],
        "rnn": model.rnn(model.act(model.first(x)))[0][mask.bool()],
        "pooled": model.pooled(model.rnn(model.act(model.first(x)))[0][:, 0]),
    }
    with sl.ActivationMonitor(model, [*counted], mask=which, output=0, maps=3) as monitor:
        model(x, given)
        model(x[:1], attention_mask=given[:1])
    for name, values in counted.items():
        stats = monitor.compute()[name]
        values = torch.cat([values, values[: 1 if name == "pooled" else 4]])
        assert stats.samples == (4 if name == "pooled" else 3)
        assert_is_reference(dataclasses.replace(stats, samples=len(values), positions=1), values)
    maps = torch.from_numpy(monitor.compute()["first"].maps)
    torch.testing.assert_close(
        maps, f.rfav_entropy(model.first(x), dim=2).detach().masked_fill(mask == 0, torch.nan), equal_nan=True
    )
    options = {"mask": which, "output": 0}
    strengths = {"first": 0.5, "pooled": 0.25}
    for reduction, count in (("mean", mask.sum()), ("sum", 3)):
        for kind, of in (
            (sl.SparsityReg, lambda a: -f.rfav_entropy(a)),
            (sl.VarianceReg, lambda a: f.variance(a) / 2),
        ):
            with kind(model, strengths, reduction=reduction, **options) as reg:
                model(x, given)
                value = reg()
            expected = 0.5 * of(counted["first"]).sum() / count + 0.25 * of(counted["pooled"]).mean()
            torch.testing.assert_close(value, expected)
            parameters = [*model.first.parameters(), *model.pooled.parameters()]
            torch.testing.assert_close(
                torch.autograd.grad(value, parameters),
                torch.autograd.grad(expected, parameters, retain_graph=True),
            )


@pytest.mark.parametrize("width", [8, 2**17])  # in one piece, and a piece for each sample
def test_samples_where_nothing_counts_have_maps_of_nan(width: int) -> None:
    class Masked(nn.Linear):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return super().forward(x)

    layer, x = Masked(2, width), torch.randn(6, 4, 2)
    counts = torch.tensor([0, 0, 1, 0, 1, 1])[:, None].expand(6, 4)

    def seen(*parts: slice) -> sl.ActivationMonitor:
        with sl.ActivationMonitor(layer, [layer], mask="mask", maps=5, rank_channels=0) as monitor:
            for part in parts:
                layer(x[part], counts[part])
        return monitor

    first, others = slice(2), slice(2, 6)
    whole = seen(slice(6)).compute()[""]
    assert whole.samples == 3
    assert np.isnan(whole.maps).all(1).tolist() == [True, True, False, True, False]
    for monitor in (seen(first, others), seen(first).merge(seen(others))):
        assert monitor.scalars() == pytest.approx(seen(slice(6)).scalars(), rel=1e-5, nan_ok=True)
        np.testing.assert_allclose(monitor.compute()[""].maps, whole.maps, rtol=1e-5)
    with pytest.raises(RuntimeError, match="no output was seen"):
        seen(first).compute()


def test_a_mask_may_be_an_argument_without_a_place() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tagger = Tagger()

        def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
            return self.tagger(*args, **kwargs)

    model = Wrapped()
    with sl.ActivationMonitor(model, ["tagger.first"], mask="attention_mask") as monitor:
        model(x, attention_mask=mask)
        with pytest.raises(ValueError, match="'attention_mask'"):
            model(x, mask)
        model(x, attention_mask=None)
    assert monitor.compute()["tagger.first"].samples == 2 + 3


@pytest.mark.parametrize("which", ["attention_mask", lambda x, attention_mask: attention_mask])
def test_copies_of_a_model_with_a_mask_run_without_it(which: object) -> None:
    model = Tagger()
    with sl.ActivationMonitor(model, ["first"], mask=which) as monitor:
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x, "no mask"), model(x, mask))
    assert monitor.compute()["first"].samples == 2 * 2


def test_a_model_may_call_itself() -> None:
    class TwoScales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor, mask: Tensor, again: bool = True) -> Tensor:
            return self.layer(x + self(x, mask[:, :1].expand(3, 4), False) if again else x)

    model = TwoScales()
    with sl.ActivationMonitor(model, ["layer"], mask="mask") as monitor:
        model(torch.randn(3, 4, 4), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]))
    stats = monitor.compute()["layer"]
    assert (stats.samples, stats.positions) == (4, (8 + 5) // 4)


def test_the_mask_of_an_interrupted_pass_is_forgotten() -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    model = Tagger()
    monitor = sl.ActivationMonitor(model, ["first"], mask="attention_mask")
    handle = model.act.register_forward_pre_hook(interrupt)
    with monitor, pytest.raises(KeyboardInterrupt):
        model(x, mask)
    handle.remove()
    with monitor, pytest.raises(ValueError, match="'first'"):
        model.first(x)


def test_a_monitor_may_be_attached_within_a_pass() -> None:
    model = Tagger()
    monitor = sl.ActivationMonitor(model, ["first"], mask="attention_mask")

    def attach(*args: object) -> None:
        monitor.attach()

    handle = model.register_forward_pre_hook(attach)
    with pytest.raises(ValueError, match="'first'"):
        model(x, mask)
    handle.remove()
    model(x, mask)
    assert monitor.compute()["first"].samples == 2


def test_receptive_fields_are_found_while_a_mask_is_awaited() -> None:
    class Masked(nn.Conv2d):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(x)

    layer = Masked(1, 2, 3)
    with sl.ActivationMonitor(layer, [layer], mask=lambda x, mask=None: mask.bool()) as monitor:
        assert len(sl.receptive_fields(layer, (1, 8, 8), [""])[""].rows) == 6
        layer(torch.randn(2, 1, 8, 8), torch.ones(2, 6, 6))
    assert monitor.compute()[""].samples == 2


def test_a_mask_of_single_tokens_applies_to_outputs_without_positions() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 6)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.layer(x.flatten(0, 1))

    model, counts = Flat(), torch.tensor([[1], [0], [1]])
    for tokens, counted in ((x[:, :1], counts), (x[:1, :3], counts.T)):
        with (
            sl.ActivationMonitor(model, ["layer"], mask="mask") as monitor,
            sl.SparsityReg(model, {"layer": 1.0}, mask="mask") as reg,
        ):
            output = model(tokens, counted)
            value = reg()
        assert_is_reference(monitor.compute()["layer"], output[[0, 2]])
        torch.testing.assert_close(value, -f.rfav_entropy(output[[0, 2]]).mean())


def test_a_mask_goes_to_the_device_of_the_output() -> None:
    of_pass = MaskOfPass(Tagger(), "attention_mask")
    of_pass.begin(nn.Identity(), (x, mask), {})
    found = of_pass.of("first", torch.empty(*mask.shape, 5, device="meta"), 2, False)
    assert (found.device.type, found.shape) == ("meta", mask.shape)


@pytest.mark.parametrize("default", [torch.float16, torch.bfloat16])
def test_masked_means_do_not_depend_on_the_default_dtype(default: torch.dtype) -> None:
    model, many, given = Tagger(), torch.randn(40, 30, 5), torch.ones(40, 30, dtype=torch.bool)
    given[0, 0] = False
    expected = -f.rfav_entropy(model.first(many), dim=2)[given].mean()
    torch.set_default_dtype(default)
    try:
        with sl.SparsityReg(model, {"first": 1.0}, mask="attention_mask") as reg:
            model(many, given)
            torch.testing.assert_close(reg(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_mask_that_cannot_be_used_is_refused() -> None:
    model = Tagger()
    with pytest.raises(ValueError, match=r"'mask'.* x, attention_mask"):
        sl.ActivationMonitor(model, mask="mask")
    encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    with pytest.raises(ValueError, match="src_key_padding_mask"):
        sl.ActivationMonitor(encoder, mask="src_key_padding_mask")
    for given, error, message in (
        (mask[:, :3], ValueError, r"'first'.* \(3, 4\).* \(3, 3\)"),
        (mask.float(), TypeError, "torch.float32"),
        (mask.tolist(), TypeError, "list"),
    ):
        with sl.ActivationMonitor(model, ["first"], mask="attention_mask") as monitor:
            with pytest.raises(error, match=message):
                model(x, given)
            model(x, mask)
        assert monitor.compute()["first"].samples == 2
    with sl.ActivationMonitor(model, ["first"], mask="attention_mask") as monitor:
        with pytest.raises(ValueError, match="'first'"):
            model.first(x)
        model(x)
    assert monitor.compute()["first"].samples == 3
    for other in (3, mask):
        with pytest.raises(TypeError, match=f"mask .*{type(other).__name__}"):
            sl.SparsityReg(model, {"first": 1.0}, mask=other)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", [sl.SparsityReg, sl.PerplexityReg, sl.VarianceReg])
def test_checkpointing_changes_no_gradient_of_a_masked_penalty(kind: type, reduction: str) -> None:
    def gradients(run: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        with kind(model, {"first": 1.0}, mask="attention_mask", reduction=reduction) as reg:
            loss = sum(run(x, given).square().mean() + reg() for given in (mask, mask[[1, 0, 2]], None))
            return torch.autograd.grad(loss, [*model.first.parameters()])

    model = Tagger()
    plain = gradients(model)
    whole = model.forward

    def repeated(x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return checkpoint(whole, x, attention_mask, use_reentrant=False)

    model.forward = repeated
    torch.testing.assert_close(gradients(model), plain)
    assert any(gradient.abs().max() > 1e-4 for gradient in plain)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("masked", [True, False])
def test_tokens_of_nested_tensors_are_those_that_are_no_padding(masked: bool) -> None:
    def counts(src: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        return ~src_key_padding_mask

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens, padding = torch.randn(3, 7, 8), torch.arange(7) >= torch.tensor([[6], [5], [2]])
    found = {}
    for nested in (True, False):
        model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval()
        options = {"mask": counts} if masked or not nested else {}
        with torch.no_grad(), sl.ActivationMonitor(model, maps=2, **options) as monitor:
            model(tokens, src_key_padding_mask=padding)
        found[nested] = monitor.compute()
    assert found[True].keys() == found[False].keys() >= {"layers.0.linear1", "layers.1.norm2"}
    for name, stats in found[True].items():
        assert (stats.samples, stats.positions) == (3, 4)
        wanted = found[False][name]
        assert stats.entropy == pytest.approx(wanted.entropy, rel=1e-5)
        assert stats.effective_rank == pytest.approx(wanted.effective_rank, rel=1e-4)
        np.testing.assert_allclose(stats.maps[:, :6], wanted.maps[:, :6], rtol=1e-4)


def test_a_mask_counts_under_the_compiler() -> None:
    model = Tagger()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad(), sl.ActivationMonitor(compiled, ["first"], mask="attention_mask") as monitor:
        compiled(x, mask)
        compiled(x, mask[[1, 0, 2]])
    values = torch.cat([model.first(x)[mask.bool()], model.first(x)[mask[[1, 0, 2]].bool()]])
    assert monitor.compute()["first"].entropy == pytest.approx(f.rfav_entropy(values).mean().item(), rel=1e-5)
