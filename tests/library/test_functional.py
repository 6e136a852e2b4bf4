"""Entropy and its relatives: precision, bounds, gradients, refusals."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparsity_lib import functional as f

CHANNELS = (2, 3, 16, 512)


def entropy_float64(activations: Tensor, dim: int = 1) -> Tensor:
    log_p = activations.double().log_softmax(dim)
    return -(log_p.exp() * log_p).sum(dim)


def dominated(channels: int, offset: float) -> Tensor:
    """(2000, channels): one logit 0 to 30 above the others, of spread up to 1e4; all shifted by offset."""
    generator = torch.Generator().manual_seed(channels)
    spread = 10 ** (6 * torch.rand(2000, 1, generator=generator) - 2)
    logits = -spread * torch.rand(2000, channels, generator=generator)
    logits[:, 0] = 30 * torch.rand(2000, generator=generator)
    return logits + offset


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_float32_entropy_is_exact_to_1e_5_wherever_it_exceeds_1e_6(channels: int, offset: float) -> None:
    logits = dominated(channels, offset)
    expected = entropy_float64(logits)
    seen = expected > 1e-6
    assert seen.sum() > 200
    assert (expected[seen] < 1e-4).any()
    relative = (f.rfav_entropy(logits).double() - expected).abs() / expected
    assert relative[seen].max() < 1e-5


@pytest.mark.parametrize("channels", [1, *CHANNELS, 4096])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4])
def test_entropy_lies_between_0_and_ln_d(channels: int, scale: float) -> None:
    logits = scale * torch.randn(200, channels) + 1e4 * torch.randn(200, 1)
    entropy = f.rfav_entropy(logits)
    assert entropy.min() >= -1e-6
    assert entropy.max() <= math.log(channels) + 1e-6
    assert f.rfav_entropy(torch.zeros(1, channels)).item() == pytest.approx(math.log(channels), abs=1e-6)


def test_float32_gradient_agrees_with_float64() -> None:
    logits = dominated(16, 1e4).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    f.rfav_entropy(logits).sum().backward()
    entropy_float64(exact).sum().backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-8)


def test_one_copy_is_saved_and_never_the_input() -> None:
    activations = torch.randn(4, 6, 5, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        f.rfav_entropy(activations)
    assert [t.numel() for t in saved] == [120]
    assert all(t.untyped_storage().data_ptr() != activations.untyped_storage().data_ptr() for t in saved)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 5, 3), (4, 6, 2, 3, 2)])
def test_every_axis_can_hold_the_channels(shape: tuple[int, ...]) -> None:
    activations = torch.randn(shape)
    for measure in (f.rfav_entropy, f.perplexity_sparsity, f.variance):
        first = measure(activations)
        assert first.shape == (shape[0], *shape[2:])
        torch.testing.assert_close(measure(activations.movedim(1, -1), dim=-1), first)
    torch.testing.assert_close(
        f.standardize(activations.movedim(1, -1), dim=-1), f.standardize(activations).movedim(1, -1)
    )


def test_one_channel_has_no_entropy_and_no_gradient() -> None:
    activations = torch.randn(3, 1, 4, requires_grad=True)
    entropy = f.rfav_entropy(activations)
    entropy.sum().backward()
    assert torch.equal(entropy, torch.zeros(3, 4))
    assert torch.equal(activations.grad, torch.zeros(3, 1, 4))


def test_perplexity_counts_equal_channels_and_its_sparsity_runs_from_0_to_1() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1e4, -1e4], [0.0, -1e4, -1e4, -1e4]])
    torch.testing.assert_close(f.perplexity(f.rfav_entropy(logits)), torch.tensor([4.0, 2.0, 1.0]))
    torch.testing.assert_close(f.perplexity_sparsity(logits), torch.tensor([0.0, 2 / 3, 1.0]))


def test_vectors_of_unit_variance_ignore_scale_and_offset() -> None:
    activations = torch.randn(20, 32, 3)
    standard = f.standardize(activations)
    torch.testing.assert_close(standard.mean(1), torch.zeros(20, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(standard.std(1, correction=0), torch.ones(20, 3))
    torch.testing.assert_close(f.standardize(1e-6 * activations), standard)
    torch.testing.assert_close(f.standardize(100 * activations + 3), standard, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(f.variance(activations), activations.var(1, correction=0))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4 / 3])
def test_a_constant_vector_at_unit_variance_is_zero(value: float) -> None:
    activations = torch.full((2, 27), value, requires_grad=True)
    standard = f.standardize(activations)
    assert torch.equal(standard, torch.zeros(2, 27))
    standard.sum().backward()
    assert activations.grad.isfinite().all()


EVERY = (
    f.rfav_entropy,
    f.perplexity,
    f.perplexity_sparsity,
    f.standardize,
    f.variance,
    f.filter_correlation,
    f.decorrelation,
    f.sparseout,
)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (torch.ones(3, 4, dtype=torch.complex64), "complex64"),
        (torch.ones(3, 4, dtype=torch.int64), "int64"),
        (torch.ones(3, 4, dtype=torch.bool), "bool"),
        (torch.ones(3, 4).to(torch.float8_e5m2), "float8_e5m2"),
        (torch.ones(3, 4).to_sparse(), "sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged), "nested"),
        ([[1.0, 2.0]], "list"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_than_dense_tensors_of_floats_are_refused_by_name(value: object, named: str) -> None:
    for function in EVERY:
        with pytest.raises(ValueError, match=named) as caught:
            function(value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dim", [True, 1.0, "1", None, (1,)])
def test_an_axis_is_a_whole_number(dim: object) -> None:
    for function in (f.rfav_entropy, f.perplexity_sparsity, f.standardize, f.variance):
        with pytest.raises(ValueError, match="dim"):
            function(torch.ones(3, 4), dim)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: f.rfav_entropy(torch.randn(3), dim=1), r"1 .*\(3,\)"),
        (lambda: f.rfav_entropy(torch.tensor(1.0)), r"1 .*\(\)"),
        (lambda: f.variance(torch.randn(3, 4), dim=-3), r"-3 .*\(3, 4\)"),
        (lambda: f.standardize(torch.randn(3, 0)), r"1 .*\(3, 0\)"),
        (lambda: f.perplexity_sparsity(torch.randn(3, 1)), "2 channels; axis 1 has 1"),
        (lambda: f.decorrelation(torch.randn(3, 4), "mean"), "center 'mean'.* filters, components, none"),
        (lambda: f.filter_correlation(torch.randn(3, 4), "mean"), "filters, components, none"),
        (lambda: f.decorrelation(torch.randn(3, 4), penalty="l2"), "penalty 'l2'.* squared, local"),
        (lambda: f.filter_correlation(torch.randn(3)), r"\(3,\)"),
        (lambda: f.filter_correlation(torch.randn(0, 4)), r"\(0, 4\)"),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_it(call: Callable[[], Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        call()
    assert "\n" not in str(caught.value)


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropies_are_right_up_to_the_largest_number_and_down_to_the_smallest(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    shape = (50, 6)
    for scale in (info.max, info.max / 2, 1.0, info.smallest_normal, info.smallest_normal / 16):
        unit = (2 * torch.rand(shape, dtype=torch.float64) - 1).to(dtype)
        unit[0, :2] = torch.tensor([1.0, -1.0])
        a = (unit * scale).requires_grad_()
        entropy = f.rfav_entropy(a)
        assert entropy.dtype == torch.promote_types(dtype, torch.float32)
        (gradient,) = torch.autograd.grad(entropy.sum(), a)
        exact = a.detach().double()
        spread = (exact - exact.amax(1, keepdim=True)).clamp(min=-1e4)
        expected = entropy_float64(spread)
        torch.testing.assert_close(entropy.double(), expected, rtol=1e-5, atol=1e-6)
        assert gradient.isfinite().all()
        assert f.perplexity_sparsity(a).isfinite().all()
        # Scale-free means just that: it is neither ln D nor 0 for being large or small.
        free = f.rfav_entropy(f.standardize(a)).double()
        rescaled = f.rfav_entropy(f.standardize(exact / scale))
        torch.testing.assert_close(free, rescaled, rtol=1e-4, atol=1e-6)


def test_non_finite_values_are_not_hidden() -> None:
    for value in (math.nan, math.inf):
        a = torch.randn(2, 5)
        a[0, 3] = value
        for function in (f.rfav_entropy, f.perplexity_sparsity, f.standardize, f.variance):
            unknown = function(a).isnan().view(2, -1).any(1)
            assert unknown.tolist() == [True, False]
