"""Sparseout traced, scripted, exported and mapped, as nn.Dropout can be."""

import pytest
import torch
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib.functional import sparseout

TRACERS = {
    "symbolic": lambda net, x: torch.fx.symbolic_trace(net),
    "script": lambda net, x: torch.jit.script(net),
    "trace": lambda net, x: torch.jit.trace(net, (x,), check_trace=False),
    "export": lambda net, x: torch.export.export(net, (x.detach(),)).module(),
}


@pytest.mark.parametrize("how", TRACERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_traced_scripted_and_exported_it_is_the_same(how: str) -> None:
    a = torch.randn(5, 6, requires_grad=True)
    for q, gradient in ((0.0, "exact"), (1.0, "exact"), (1.7, "reused"), (2.0, "exact"), (3.0, "reused")):
        net = nn.Sequential(nn.ReLU(), sl.Sparseout(0.3, q, gradient))
        outputs = []
        for network in (net, TRACERS[how](net, a)):
            torch.manual_seed(1)
            outputs.append(network(a))
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(torch.autograd.grad(y.sum(), a)[0] for y in outputs))


@pytest.mark.parametrize("how", ["symbolic", "script"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_traced_as_a_layer_it_heeds_train_and_eval(how: str) -> None:
    a = torch.rand(50)
    for made_in in (True, False):
        traced = TRACERS[how](nn.Sequential(sl.Sparseout(0.5, 1.0)).train(made_in), a)
        assert torch.equal(traced.eval()(a), a)
        assert not torch.equal(traced.train()(a), a)


def test_the_function_is_traced_as_a_call() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sparseout(x, 0.5, self.training, q=1.0)

    traced = torch.fx.symbolic_trace(Net())
    assert sparseout in [node.target for node in traced.graph.nodes]
    assert not torch.equal(traced(torch.ones(50)), torch.ones(50))


def test_mapped_it_is_random_as_dropout() -> None:
    a = torch.ones(4, 30)
    drawn = torch.func.vmap(lambda a: sparseout(a, 0.5, q=1.0), randomness="different")(a)
    assert len(drawn.unique(dim=0)) == 4
    with pytest.raises(RuntimeError, match="random"):
        torch.func.vmap(lambda a: sparseout(a, 0.5, q=1.0))(a)
