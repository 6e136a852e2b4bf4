"""Weights and optimizers that two processes share, compared with one process that has it all."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import sparsity_lib as sl
from sparsity_lib.integrations import scalars_of_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="torch before 2.6"),
]

STRENGTHS = {"0": 1.0, "2": 0.5}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def sharded() -> nn.Sequential:
    mesh, net = init_device_mesh("cpu", (2,)), network()
    fsdp.fully_shard(net[0], mesh=mesh)
    return fsdp.fully_shard(net, mesh=mesh)


def images() -> Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(1))


def full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gradients(net: nn.Module, x: Tensor, decorrelation_first: bool) -> list[Tensor]:
    reg = sl.DecorrReg(net, STRENGTHS)
    penalty = reg() if decorrelation_first else 0.0
    loss = net(x).square().mean()
    (loss + (penalty if decorrelation_first else reg())).backward()
    return [full(parameter.grad) for parameter in net.parameters()]


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> tuple[list[Tensor], list[float]]:
    coherent = sl.GradientCoherent(optimizer, l1=1e-2, l2=0.1, rho=0.3)
    coherences = []
    for t in range(4):
        optimizer.zero_grad()
        net(x * (1 - 0.6 * t)).square().mean().backward()
        optimizer.step()
        coherences.append(0.0 if coherent.coherence is None else float(coherent.coherence))
    return [full(parameter.detach()) for parameter in net.parameters()], coherences


def process(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    everything, mine = images(), images()[rank::2]
    with torch.no_grad():
        net, shards = network(), sharded()
        net[0].weight[:3] = 0
        for parameter, values in zip(shards.parameters(), net.parameters(), strict=True):
            parameter.copy_(torch.distributed.tensor.distribute_tensor(values, parameter.device_mesh))
    assert sl.compression(shards) == sl.compression(net)
    assert sl.compression(DistributedDataParallel(network())).layers.keys() == {"0", "2"}
    for first in (True, False):
        expected = gradients(network(), everything, first)
        torch.testing.assert_close(gradients(sharded(), mine, first), expected)
        torch.testing.assert_close(gradients(DistributedDataParallel(network()), mine, first), expected)

    def adam(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(net.parameters(), lr=0.01)

    def zero(net: nn.Module) -> torch.optim.Optimizer:
        return ZeroRedundancyOptimizer(net.parameters(), optimizer_class=torch.optim.AdamW, lr=0.01)

    net = network()
    expected = trained(net, adam(net), everything)
    for make, optimizer in ((sharded, adam), (network, adam), (network, zero)):
        net = make()
        net = net if make is sharded else DistributedDataParallel(net)
        torch.testing.assert_close(trained(net, optimizer(net), mine), expected)
    net = network()
    with torch.no_grad(), sl.ActivationMonitor(net) as whole, sl.ActivationMonitor(net) as part:
        part.remove()
        net(everything)
    with torch.no_grad(), part:
        net(mine)
    assert scalars_of_all(part) == pytest.approx(whole.scalars(), rel=1e-5)
    assert part.compute()["0"].samples == 4
    wrapped = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))
    for read in (sl.compression, lambda net: sl.DecorrReg(net, STRENGTHS)):
        with pytest.raises(TypeError, match="fully_shard"):
            read(wrapped)
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
@pytest.mark.filterwarnings("ignore")  # torch's own, on processes without accelerators
def test_two_processes_do_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, (str(tmp_path / "store"),), nprocs=2)
