"""Train one experiment and record it. Read `train`, then `Training`, from top to bottom.

Language models are trained by `train` too, with `language.LanguageTraining`.

Runs are bit-for-bit repeatable on a CPU at the same number of threads, also across an interruption: every
random choice of an epoch is drawn from a stream named by the seed and the epoch.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_lib import ActivationMonitor, DecorrReg, GradientCoherent
from sparsity_lib._compression import compression
from sparsity_lib._fusion import compiles
from sparsity_lib._layers import named_layers
from sparsity_lib.study import recipes
from sparsity_lib.study.data import Data, Split
from sparsity_lib.study.errors import NonFiniteLoss, Stopped, StudyError
from sparsity_lib.study.experiment import AnyExperiment, Experiment
from sparsity_lib.study.files import lock
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.contents import as_tree
from sparsity_lib.study.runs.networks import save_networks
from sparsity_lib.study.runs.provenance import code, environment
from sparsity_lib.study.training import calibration, moments, observation
from sparsity_lib.study.training.checkpoint import Record, ResumableTraining
from sparsity_lib.study.training.language import LanguageTraining
from sparsity_lib.study.training.preparation import (
    compiling_saves_time,
    device_of,
    keep_freed_memory,
    load_on,
    penalties,
    scaling,
)
from sparsity_lib.study.training.random_streams import random_stream, reproducible

MAPS = 16  # images whose entropy maps are kept
CHECKPOINT_SECONDS = 120.0  # at most one checkpoint in this time, and at most one an epoch

EpochRecord = dict[str, Tensor | int]  # "epoch", and the observations after it by their names in the run file


def train(
    experiment: AnyExperiment,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    folder: str | Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stop: Callable[[], bool] | None = None,
) -> runs.Run:
    """Train the experiment, or resume from its last checkpoint; a finished run is returned unchanged.

    ```python
    run = study.train(experiment, on_epoch=lambda record: print(record["val_loss"]))
    ```

    **Arguments:**

    - `on_epoch`: called after each epoch (first with epoch -1, before training) with the observations by
      their names in the run file; a layer's as `"conv1/entropy"`.
    - `folder`: where runs are kept; the project's `runs/` by default.
    - `checkpoint_seconds`: the shortest time between two checkpoints.
    - `stop`: called after each epoch; if true, a checkpoint is written, and `Stopped` raised.

    **Raises:** `NonFiniteLoss` when training diverges, which is noted in the folder; `StudyError` for a layer
    the network lacks, missing data, or a device that is not there.
    """
    path, made_by = runs.path_of(experiment, folder), code(experiment.numerical_parts)
    with lock(path, stop=stop):
        if run := runs.find(experiment, folder):
            return run
        runs.make_room(experiment, folder)
        device = device_of(experiment.device)
        keep_freed_memory()
        with reproducible(experiment, device):
            training = new_training(experiment, device)
            training.restore(path.with_suffix(".ckpt"))
            saved_at = time.monotonic()
            while training.epoch < experiment.epochs:
                try:
                    record = training.next_epoch()
                except NonFiniteLoss as error:
                    runs.note_divergence(experiment, folder, str(error))
                    raise
                if on_epoch:
                    on_epoch(record)
                stopped = stop is not None and stop()
                if training.epoch < experiment.epochs and (
                    stopped or time.monotonic() - saved_at >= checkpoint_seconds
                ):
                    training.save(path.with_suffix(".ckpt"))
                    saved_at = time.monotonic()
                    if stopped:
                        raise Stopped(
                            f"{experiment.id}: stopped after epoch {training.epoch - 1}; resumes from there"
                        )
        run = training.finish(path, made_by)
        path.with_suffix(".ckpt").unlink(missing_ok=True)
        return run


def load_or_train(experiment: Experiment) -> runs.Run:
    """The experiment's run from `runs/` if it is there, else trained now; never a published one.

    ```python
    run = study.load_or_train(experiment)
    ```
    """
    return runs.find(experiment) or train(experiment)


def new_training(experiment: AnyExperiment, device: torch.device) -> ResumableTraining:
    """Build an experiment's training, before its first epoch; `StudyError` for missing data."""
    if isinstance(experiment, LanguageExperiment):
        return LanguageTraining(experiment, device)
    return Training(experiment, device, load_on(device, experiment))


class Training(ResumableTraining):
    """The state of one training: network, optimizer, and the log of observations.

    `data` lie on the device. An epoch is `train_epoch` and then `observe`.
    """

    experiment: Experiment
    data: Data

    def __init__(self, experiment: Experiment, device: torch.device, data: Data) -> None:
        super().__init__(experiment, device, data)
        images = self.data.train.images
        torch.manual_seed(random_stream(experiment.seed, "initialisation"))
        self.model = experiment.build(
            images.shape[1], (images.shape[2], images.shape[3]), len(self.data.classes)
        )
        self.model = self.model.to(device).to(memory_format=torch.channels_last)
        self.prepare = scaling(experiment, images)
        self.monitored = recipes.monitored_layers(experiment.architecture, self.model)

        try:
            regularised = self.make_observers(compiled=False)
        except ValueError as error:
            raise StudyError(f"{experiment.network}: {error}") from None
        compiled = experiment.compiled
        if compiled is None:
            compiled = compiling_saves_time(self.model, experiment, data, self.prepare)
        if compiled:
            self.make_observers(compiled)
        modules = named_layers(self.model)
        self.layers = {name: modules[name] for name in self.monitors[0].layers}
        self.weights = {n: m.weight for n, m in self.layers.items() if isinstance(m, nn.Conv2d | nn.Linear)}
        weights = {name: getattr(modules[name], "weight", None) for name in regularised}
        self.regularised = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}

        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[experiment.optimizer]
        self.optimizer = optimizer(
            self.model.parameters(), lr=experiment.learning_rate(), weight_decay=experiment.weight_decay
        )
        self.coherent = self._coherent()

    def make_observers(self, compiled: bool) -> list[str]:
        """Make the penalties and monitors, compiled if requested; return the penalties' layers."""
        self.compiled = compiled and compiles(self.device)
        self.penalties, regularised = penalties(self.model, self.experiment, self.compiled)
        self.monitors = [
            ActivationMonitor(self.model, self.monitored, maps=maps, compiled=self.compiled)
            for maps in (MAPS, 0)
        ]
        return regularised

    def _coherent(self) -> GradientCoherent | None:
        """Return the object that applies L1 and L2 and measures gradient coherence, where either is used."""
        experiment = self.experiment
        if not (experiment.l1 or experiment.l2 or experiment.rho is not None):
            return None
        steps = math.ceil(len(self.data.train.labels) / experiment.batch_size)
        return GradientCoherent(
            self.optimizer,
            l1=experiment.l1,
            l2=experiment.l2,
            rho=-1.0 if experiment.rho is None else experiment.rho,
            start=experiment.delay * steps,
        )

    def train_and_observe(self) -> Record:
        """Train one epoch (none before epoch 0), then observe."""
        start = time.monotonic()
        record = self.train_epoch() if self.epoch >= 0 else {}
        trained = time.monotonic()
        record |= self.observe()
        for name in ("val_loss", "monitor_loss"):  # training losses are finite if the last step diverges
            if not record[name].isfinite().all():
                raise self._non_finite(f"{name} is not finite after epoch {self.epoch}")
        if self.epoch >= 0 and record["val_loss"] < self.lowest_loss:
            self.lowest_loss = float(record["val_loss"])
            self.weights_kept = {n: v.detach().cpu().clone() for n, v in self.model.state_dict().items()}
        record["epoch_seconds"] = torch.tensor(trained - start)
        record["monitor_seconds"] = torch.tensor(time.monotonic() - trained)
        return record

    def train_epoch(self) -> Record:
        """Train on every image once; the means of the loss, the penalties and the accuracy."""
        images, labels = self.data.train.images, self.data.train.labels
        generator = torch.Generator().manual_seed(random_stream(self.experiment.seed, "order", self.epoch))
        order = (
            torch.randperm(len(labels), generator=generator).to(self.device).split(self.experiment.batch_size)
        )
        torch.manual_seed(random_stream(self.experiment.seed, "noise", self.epoch))  # dropout

        smoothing = self.experiment.label_smoothing
        names = ["loss", *self.penalties, *(["label_smoothing"] if smoothing else [])]
        # Read once an epoch: no wait per step.
        terms = torch.empty(len(order), len(names), device=self.device)
        correct = torch.zeros((), device=self.device)
        # By step: coherence; whether L1 and L2 act.
        coherence = torch.full((len(order), 2), torch.nan, device=self.device)
        self.model.train()
        with self._attached():
            for step, batch in enumerate(order):
                x, y = self.prepare(images[batch]), labels[batch]
                with self.autocast():
                    logits = self.model(x)
                loss = F.cross_entropy(logits.float(), y)
                parts = [loss, *(penalty() for penalty in self.penalties.values())]
                if smoothing:  # as a penalty, so that the logged loss is the cross-entropy alone
                    parts.append(F.cross_entropy(logits.float(), y, label_smoothing=smoothing) - loss)
                self.optimizer.zero_grad(set_to_none=True)
                sum(parts[1:], start=loss).backward()
                self.optimizer.step()
                if self.coherent is not None:
                    if self.coherent.coherence is not None:
                        coherence[step, 0] = self.coherent.coherence
                    coherence[step, 1] = self.coherent.applied
                terms[step] = torch.stack(parts).detach()
                correct += (logits.detach().argmax(1) == y).sum()

        self._refuse_non_finite(terms, names)
        shares = torch.tensor([len(batch) for batch in order], device=self.device) / len(labels)
        means = shares @ terms
        record = {"train_loss": means[0], "train_accuracy": correct / len(labels)}
        if self.coherent is not None:
            record |= {"coherence": coherence[:, 0].nanmean(), "coherence_gate": coherence[:, 1].mean()}
            record |= observation.observe_gradient_norms(self.weights, self.experiment.l1, self.experiment.l2)
        return record | {f"penalty_{name}": mean for name, mean in zip(names[1:], means[1:], strict=True)}

    def observe(self) -> Record:
        """Observe the network in evaluation mode (T16)."""
        with self.autocast():
            validation = observation.evaluate(self.model, self.data.validation, self.prepare)
            splits = (self.data.monitor, self.data.train_monitor)
            record, on_monitor = observation.observe_activations(
                self.model, self.monitors, splits, self.prepare
            )
        record |= observation.observe_filters(self.weights)
        if self.coherent is not None:
            of_all = compression(self.model)
            record["nonzero_share"] = torch.tensor(of_all.nonzero / of_all.parameters)
        record |= {"val_loss": validation.loss.mean(), "val_accuracy": validation.correct.float().mean()}
        record |= {"val_image_loss": validation.loss, "val_image_correct": validation.correct}
        fitted = calibration.temperature(on_monitor.logits, self.data.monitor.labels)
        calibrated = F.cross_entropy(
            validation.logits / fitted, self.data.validation.labels, reduction="none"
        )
        record |= {"temperature": torch.tensor(fitted), "val_loss_calibrated": calibrated.mean()}
        record["val_image_loss_calibrated"] = calibrated
        if self.regularised:
            x, y = next(
                observation.batches(self.data.train_monitor, self.prepare, self.experiment.batch_size)
            )
            with self._attached(), self.autocast():
                record |= observation.observe_gradients(
                    self.model,
                    lambda: torch.stack([p() for p in self.penalties.values()]).sum(),
                    self.regularised,
                    x,
                    y,
                )
        return {name: value.detach().cpu() for name, value in record.items()}

    def _refuse_non_finite(self, terms: Tensor, names: list[str]) -> None:
        finite = terms.isfinite().all(1)
        if finite.all():
            return
        step = int((~finite).nonzero()[0])
        values = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(names, terms[step].tolist(), strict=True)
        )
        raise self._non_finite(f"the loss is not finite at epoch {self.epoch}, step {step} ({values})")

    def _non_finite(self, what: str) -> NonFiniteLoss:
        rate = self.experiment.learning_rate()
        return NonFiniteLoss(
            f"{self.experiment.id}: {what}; try a smaller learning rate than {rate} or weaker penalties"
        )

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for penalty in self.penalties.values():
                if not isinstance(penalty, DecorrReg):  # reads weights: nothing to attach
                    stack.enter_context(penalty)
            yield

    def autocast(self) -> torch.autocast:
        """The precision in which the network computes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.experiment.precision == "bf16")

    def _knock_out(self) -> dict[str, Tensor]:
        if self.experiment.architecture == "ResNet18":
            return {}  # its layers share their ReLUs, and have norms before them
        generator = torch.Generator().manual_seed(random_stream(self.experiment.seed, "knock-out"))
        with self.autocast():
            record = observation.ablate_channels(
                self.model, list(self.layers), self.data.monitor, self.prepare, generator
            )
        return {name: value.cpu() for name, value in record.items()}

    def _at_kept_moments(self) -> dict[str, Tensor]:
        """`moments.layers_at` with the weights of each of `dimensions.KEPT`, stacked; the last ones stay."""
        last = {name: value.clone() for name, value in self.model.state_dict().items()}
        found = []
        for weights in (self.weights_kept, last):
            self.model.load_state_dict(weights)
            with self.autocast():
                found.append(moments.layers_at(self.model, [*self.layers], self.data.monitor, self.prepare))
        return {name: torch.stack([each[name].cpu() for each in found]) for name in found[0]}

    def finish(self, path: Path, made_by: dict[str, Any]) -> runs.Run:
        """Write the run's file, and a file with its networks."""
        log = self.log.stacked() | self._knock_out()
        epochs = moments.epochs_of(log)
        log |= moments.outcomes_at(log, epochs) | self._at_kept_moments()
        for name, (per_image, sign) in observation.RISES.items():
            rise = observation.rise_to_end(log.pop(per_image), sign)
            log |= zip((name, f"{name}_low", f"{name}_high"), rise, strict=True)
        shown = Split(self.data.monitor.images[:MAPS].cpu(), self.data.monitor.labels[:MAPS].cpu())
        tree = as_tree(self.experiment, log, self.layers, shown, self.data.classes, epochs)
        tree.attrs |= made_by | environment(self.data.digest, self.device, self.seconds)
        tree.attrs["compiled"] = int(self.compiled)
        save_networks(path, self.model, self.weights_kept, self.prepare)
        return runs.save(tree, path)
