"""Lightning and transformers train with penalties and log statistics; both must be installed for these."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from examples import EXAMPLE, run_example
from small_network import hooks_on
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib.integrations import named_penalties

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks

images = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
labels = torch.arange(12) % 3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def penalty_by_hand(net: nn.Sequential, x: Tensor) -> Tensor:
    entropy = torch.distributions.Categorical(logits=net[:3](x)).entropy().mean()
    return -0.5 * entropy + 0.1 * sl.functional.decorrelation(net[0].weight)


def trained_by_hand(batches: int, accumulated: int) -> nn.Sequential:
    """Plain SGD over the images, each step on the mean over so many batches of loss and penalty."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pairs = [*zip(images.chunk(batches), labels.chunk(batches), strict=True)]
    for i, (x, y) in enumerate(pairs):
        ((F.cross_entropy(net(x), y) + penalty_by_hand(net, x)) / accumulated).backward()
        if (i + 1) % accumulated == 0:
            optimizer.step()
            optimizer.zero_grad()
    return net


def penalties(net: nn.Module) -> tuple[Any, ...]:
    return sl.SparsityReg(net, {"2": 0.5}), sl.DecorrReg(net, {"0": 0.1})


def assert_same_weights(net: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close([*net.parameters()], [*other.parameters()])


def test_penalties_are_named_by_class_and_others_refused() -> None:
    net = network()
    sparsity, decorrelation = penalties(net)
    names = named_penalties((sparsity, decorrelation, sl.SparsityReg(net, {"0": 1.0})))
    assert list(names) == ["SparsityReg", "DecorrReg", "SparsityReg2"]
    for wrong in ((), (net,)):
        with pytest.raises(TypeError, match="penalty"):
            named_penalties(wrong)


@pytest.mark.parametrize(("batches", "accumulated"), [(3, 1), (4, 2)])
@pytest.mark.parametrize("as_dict", [False, True])
def test_lightning_trains_and_monitors_as_a_loop_by_hand(
    batches: int, accumulated: int, as_dict: bool, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning")
    from sparsity_lib.integrations.lightning import MonitorCallback, PenaltyCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Any:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            return {"loss": loss} if as_dict else loss

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    monitoring, adding = MonitorCallback(module.net), PenaltyCallback(*penalties(module.net))
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), batch_size=12 // batches
    )
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=accumulated,
        callbacks=[monitoring, adding],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, data, data)
    assert_same_weights(module.net, trained_by_hand(batches, accumulated))
    with torch.no_grad():
        entropy = sl.functional.rfav_entropy(module.net[0](images)).mean()
    torch.testing.assert_close(trainer.callback_metrics["entropy/0"], entropy)
    assert monitoring.monitor.compute()["0"].samples == 12
    assert {"penalty/SparsityReg", "penalty/DecorrReg"} <= trainer.callback_metrics.keys()
    assert hooks_on(module) == 0
    assert "training_step" not in vars(module)

    module.automatic_optimization = False
    with pytest.raises(ValueError, match="manual optimisation"):
        adding.setup(trainer, module, "fit")


@pytest.mark.parametrize(("batches", "accumulated"), [(3, 1), (4, 2)])
def test_transformers_trains_and_monitors_as_a_loop_by_hand(
    batches: int, accumulated: int, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from sparsity_lib.integrations.transformers import MonitorCallback, penalised

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def train(self, mode: bool = True) -> "Model":
            super().train(mode)
            self.net[0].eval()  # as frozen layers are kept
            return self

        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> dict[str, Tensor]:
            return {"x": images[i], "labels": labels[i]}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *args: Any) -> Iterator[int]:
            return torch.utils.data.SequentialSampler(images)

    def loss(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        summed = F.cross_entropy(outputs["logits"], labels, reduction="sum")
        return summed / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    model = Model()
    args = transformers.TrainingArguments(
        tmp_path,
        num_train_epochs=1,
        per_device_train_batch_size=12 // batches,
        gradient_accumulation_steps=accumulated,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    sparsity, decorrelation = penalties(model.net)
    trainer = InOrder(
        model,
        args,
        train_dataset=Data(),
        eval_dataset=Data(),
        compute_loss_func=penalised(loss, sparsity, decorrelation, args=args),
    )
    callback = MonitorCallback(trainer)
    trainer.add_callback(callback)
    with sparsity:
        trainer.train()
    assert_same_weights(model.net, trained_by_hand(batches, accumulated))
    with torch.no_grad():
        entropy = sl.functional.rfav_entropy(model.net[0](images)).mean().item()
    assert callback.last["entropy/net.0"] == pytest.approx(entropy, rel=1e-5)
    logged = [record for record in trainer.state.log_history if "eval_entropy/net.0" in record]
    assert [record["eval_entropy/net.0"] for record in logged] == [pytest.approx(entropy, rel=1e-5)]
    trainer.predict(Data())
    assert not callback.monitor._sums
    trainer.evaluate({"first": Data(), "second": Data()})
    for name in ("first", "second"):
        (record,) = (each for each in trainer.state.log_history if f"eval_{name}_entropy/net.0" in each)
        assert record[f"eval_{name}_entropy/net.0"] == pytest.approx(entropy, rel=1e-5)
    callback.monitor.remove()
    assert hooks_on(model) == 0
    with pytest.raises(RuntimeError, match="not attached"):
        trainer.train()
    with pytest.raises(TypeError, match="Trainer, not Model"):
        MonitorCallback(model)


@pytest.mark.parametrize(("processes", "averaged", "items"), [(1, 1, 5), (6, 3, 5), (6, 1, None)])
def test_transformers_penalty_is_the_mean_over_processes(
    processes: int, averaged: int, items: int | None
) -> None:
    pytest.importorskip("transformers")
    from sparsity_lib.integrations.transformers import penalised

    args = SimpleNamespace(
        gradient_accumulation_steps=2,
        world_size=processes,
        average_tokens_across_devices=True,
        parallelism_config=SimpleNamespace(tp_size=2) if processes > 1 else None,
    )
    penalty = sl.DecorrReg(network(), {"0": 1.0})
    with_penalty = penalised(lambda outputs, labels, num_items_in_batch: 0 * outputs, penalty, args=args)
    given = with_penalty(torch.ones(()), None, num_items_in_batch=items)
    torch.testing.assert_close(given, penalty() / 2 / averaged)


def test_examples_for_lightning_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = pytest.importorskip("lightning")
    module = importlib.import_module("sparsity_lib.integrations.lightning")
    monkeypatch.chdir(tmp_path)
    namespace = {"sl": sl, "lightning": lightning, "MyModule": lambda net: lightning.LightningModule()}
    namespace |= {name: getattr(module, name) for name in module.__all__}
    for described in (module, module.MonitorCallback, module.PenaltyCallback):
        run_example(described, namespace)


def test_examples_for_transformers_train_gpt_2(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    module = importlib.import_module("sparsity_lib.integrations.transformers")
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    tokens = torch.arange(8) % 20
    sample = {"input_ids": tokens, "labels": tokens, "attention_mask": torch.arange(8) < 5}
    args = transformers.TrainingArguments(
        tmp_path, num_train_epochs=1, report_to=[], use_cpu=True, disable_tqdm=True
    )

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return F.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten())

    namespace = {"sl": sl, "transformers": transformers, "args": args, "loss": loss, "train": [sample] * 4}
    namespace |= {name: getattr(module, name) for name in module.__all__}
    namespace["model"] = transformers.GPT2LMHeadModel(config)
    for described in (module.penalised, module):
        run_example(described, namespace)
    namespace["trainer"].evaluate(namespace["train"])
    (callback,) = (each for each in namespace["trainer"].callback_handler.callbacks if hasattr(each, "last"))
    assert callback.last.keys() >= {"entropy/transformer.h.0.mlp.c_fc", "entropy/transformer.h.1.mlp.c_fc"}


RECIPES = (Path(__file__).resolve().parents[2] / "book/reference/integrations.md").read_text()


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("recipe", EXAMPLE.findall(RECIPES))
def test_recipes_run(recipe: str) -> None:
    namespace: dict[str, Any] = {"sl": sl, "torch": torch, "F": F, "dist": dist}
    if "accelerate" in recipe:
        namespace["accelerate"] = pytest.importorskip("accelerate")
    model = sl.models.vanilla_net(image_size=(8, 8))
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=2)
    namespace |= {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    namespace |= {"images": images, "labels": labels, "loader": loader}
    before = model.conv2.weight.detach().clone()
    exec(recipe, namespace)
    if "optimizer.step" in recipe:
        weight = namespace["model"].conv2.weight.detach()
        assert not torch.equal(getattr(weight, "full_tensor", lambda: weight)(), before)
