"""Lightning: a callback that logs activation statistics in validation, and one that adds penalties to losses.

```python
import lightning

import sparsity_lib as sl
from sparsity_lib.integrations.lightning import MonitorCallback, PenaltyCallback

net = sl.models.vanilla_net()
module = MyModule(net)  # a LightningModule whose steps call the network
monitoring = MonitorCallback(net, ["conv*", "fc1"])
sparsity = PenaltyCallback(sl.SparsityReg(net, {"conv3": 0.25, "fc1": 1e-3}))
trainer = lightning.Trainer(max_epochs=10, callbacks=[monitoring, sparsity])
```
"""

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sparsity_lib._activation_penalty import total
from sparsity_lib._settings import needs
from sparsity_lib.integrations import Penalty, named_penalties, scalars_of_all
from sparsity_lib.monitor import ActivationMonitor

with needs("lightning"):
    import lightning

__all__ = ["MonitorCallback", "PenaltyCallback"]


class MonitorCallback(lightning.Callback):
    """Logs `ActivationMonitor.scalars()` of each validation epoch as `entropy/conv1` and so on.

    ```python
    trainer = lightning.Trainer(callbacks=[MonitorCallback(net, ["conv*", "fc1"])])
    ```

    Entropies are in nats, over all validation data of all processes. The sanity check is left out.

    **Attributes:**

    - `monitor`: the `ActivationMonitor`, whose `compute()` returns the last validation epoch's statistics of
        this process.
    """

    def __init__(self, model: nn.Module, *args: Any, **options: Any) -> None:
        """**Arguments:** those of `ActivationMonitor`: the network, layers, `exclude`, `mask` and the rest.

        **Raises:** as `ActivationMonitor`.
        """
        self.monitor = ActivationMonitor(model, *args, **options)

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start to listen."""
        if not trainer.sanity_checking:
            self.monitor.reset()
            self.monitor.attach()

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop listening, and log."""
        if not trainer.sanity_checking:
            self.monitor.remove()
            pl_module.log_dict(scalars_of_all(self.monitor))

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing on the model."""
        self.monitor.remove()


class PenaltyCallback(lightning.Callback):
    """Adds penalties to the loss that `training_step` returns, and logs each as `penalty/SparsityReg`.

    ```python
    sparsity, decorrelation = sl.SparsityReg(net, {"conv3": 0.25}), sl.DecorrReg(net, {"conv1": 1.0})
    trainer = lightning.Trainer(callbacks=[PenaltyCallback(sparsity, decorrelation)])
    ```

    While `fit` runs, the penalties are attached, and the module's `training_step` is wrapped. With gradient
    accumulation Lightning divides their sum with the loss, and in validation they are not computed. The loss
    that the module itself logs is the one without penalties.
    """

    def __init__(self, *penalties: Penalty) -> None:
        """**Arguments:**

        - `penalties`: penalties of `sparsity_lib`, such as SparsityReg and DecorrReg, of a network that the
            module trains, not attached.

        **Raises:** `TypeError` for other objects; `fit` raises `ValueError` for a module that optimises by
        itself, as its loss is not known to Lightning: there, add the penalties in `training_step`.
        """
        self._penalties = named_penalties(penalties)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Attach the penalties and wrap `training_step`."""
        if stage != "fit":
            return
        if not pl_module.automatic_optimization:
            raise ValueError("a module of manual optimisation adds penalties in its own training_step")
        step = pl_module.training_step

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            output = step(*args, **kwargs)
            if output is None:  # the step is skipped
                for penalty in self._penalties.values():
                    penalty.reset()
                return None
            values = {name: penalty() for name, penalty in self._penalties.items()}
            pl_module.log_dict({f"penalty/{name}": value.detach() for name, value in values.items()})
            added = total(values.values())
            if isinstance(output, Tensor):
                return output + added.to(output.device)
            if not isinstance(output, Mapping):
                raise TypeError(f"training_step returned {type(output).__name__}, not a loss")
            return {**output, "loss": output["loss"] + added.to(output["loss"].device)}

        for penalty in self._penalties.values():
            if hasattr(penalty, "attach"):
                penalty.attach()
        vars(pl_module)["training_step"] = training_step

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Leave the module and the network as they were."""
        if stage == "fit":
            self._leave(pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the module and the network as they were."""
        self._leave(pl_module)

    def _leave(self, module: nn.Module) -> None:
        vars(module).pop("training_step", None)
        for penalty in self._penalties.values():
            if hasattr(penalty, "remove"):
                penalty.remove()
