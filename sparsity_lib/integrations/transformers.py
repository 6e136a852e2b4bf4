"""Transformers: activation statistics in a Trainer's evaluations, and losses with penalties.

```python
import transformers

import sparsity_lib as sl
from sparsity_lib.integrations.transformers import MonitorCallback, penalised

sparsity = sl.SparsityReg(model, {"*.mlp.c_fc": 0.1}, mask="attention_mask")
with_penalty = penalised(loss, sparsity, args=args)
trainer = transformers.Trainer(model, args, compute_loss_func=with_penalty, train_dataset=train)
trainer.add_callback(MonitorCallback(trainer, ["*.mlp.c_fc"], mask="attention_mask"))
with sparsity:
    trainer.train()
```
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lib._activation_penalty import total
from sparsity_lib._settings import needs
from sparsity_lib.integrations import Penalty, named_penalties, scalars_of_all
from sparsity_lib.monitor import ActivationMonitor

with needs("transformers"):
    import transformers

__all__ = ["MonitorCallback", "penalised"]


class _InEvaluation(ActivationMonitor):
    """Monitor of passes while the whole model is in evaluation mode: some layers may always be."""

    def __init__(self, model: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        self._model: nn.Module | None = model

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_model": None}

    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        if self._model is not None and not self._model.training:
            super()._receive(name, module, output, axis)


class MonitorCallback(transformers.TrainerCallback):
    """Logs `ActivationMonitor.scalars()` of each evaluation as `eval_entropy/h.0.mlp.c_fc` and so on.

    ```python
    trainer.add_callback(MonitorCallback(trainer, ["*.mlp.c_fc"], mask="attention_mask"))
    ```

    Names begin as those of the Trainer's own metrics do: `eval_<data set>_entropy/...` where there are
    several data sets. Entropies are in nats, over all evaluation data of all processes. It listens from when
    it is made until `monitor.remove()`, and counts passes while the Trainer's model is in evaluation mode,
    except those of `Trainer.predict`.

    **Attributes:**

    - `monitor`: the `ActivationMonitor`; it is reset after each evaluation.
    - `last`: the scalars of the last evaluation, by `quantity/layer`; empty before.
    """

    def __init__(self, trainer: transformers.Trainer, *args: Any, **options: Any) -> None:
        """**Arguments:**

        - `trainer`: the Trainer, whose model is monitored and whose `log` is used.
        - the others are those of `ActivationMonitor` after its model: layers, `exclude`, `mask` and the rest.
            Without `mask="attention_mask"` padding counts as data.

        **Raises:** as `ActivationMonitor`; `TypeError` for another object than a Trainer.
        """
        if not isinstance(trainer, transformers.Trainer):
            raise TypeError(f"the first argument is the Trainer, not {type(trainer).__name__}")
        self._trainer = trainer
        self.monitor = _InEvaluation(trainer.model, *args, **options).attach()
        self.last: dict[str, float] = {}

    def on_evaluate(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log, and begin anew."""
        self.last = scalars_of_all(self.monitor)
        self.monitor.reset()
        # The Trainer gives all names of metrics one prefix, and its own one, the runtime, has no other part.
        runtimes = [name for name in metrics or () if name.endswith("_runtime")]
        prefix = min(runtimes, key=len, default="eval_runtime").removesuffix("runtime")
        self._trainer.log({prefix + name: value for name, value in self.last.items()})

    def on_predict(self, *args: Any, **kwargs: Any) -> None:
        """Drop what `Trainer.predict` ran, which is no evaluation."""
        self.monitor.reset()


def penalised(
    loss: Callable[..., Tensor], *penalties: Penalty, args: transformers.TrainingArguments
) -> Callable[..., Tensor]:
    """A loss with penalties, as `Trainer(compute_loss_func=...)`.

    ```python
    sparsity = sl.SparsityReg(model, {"*.mlp.c_fc": 0.1}, mask="attention_mask")
    trainer = transformers.Trainer(model, args, compute_loss_func=penalised(loss, sparsity, args=args))
    ```

    The Trainer adds up the losses of the batches of a step, in all processes where
    `average_tokens_across_devices` is set, as its loss function divides by the items of all of them. So a
    penalty is divided by the number of these batches: it is their mean. Where an epoch ends with fewer
    batches than are accumulated, its last step has that share of the penalty. Evaluation has none.

    **Arguments:**

    - `loss`: `(outputs, labels, num_items_in_batch) -> scalar`, the loss function without penalties.
    - `penalties`: penalties of `sparsity_lib`, such as SparsityReg and DecorrReg; attach them while training.
    - `args`: those of the Trainer, for `gradient_accumulation_steps`, `average_tokens_across_devices` and the
        numbers of processes, in all and in `parallelism_config` of tensor parallelism, which must be set
        there: that of a model sharded while it is loaded, or of DeepSpeed, is not seen.

    **Returns:** a function like `loss`.

    **Raises:** `TypeError` for objects that are no penalties; in training `RuntimeError` for a penalty that
    is not attached.
    """
    named = named_penalties(penalties)

    def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        value = loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        if not torch.is_grad_enabled():
            return value
        batches = args.gradient_accumulation_steps
        if args.average_tokens_across_devices and num_items_in_batch is not None:
            # The Trainer multiplies the loss by this number.
            batches *= args.world_size // getattr(args.parallelism_config, "tp_size", 1)
        return value + total(penalty() for penalty in named.values()).to(value.device) / batches

    return compute
