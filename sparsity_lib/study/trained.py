"""A run's trained network, kept in a file of its own beside the run's."""

from pathlib import Path

import torch
from torch import nn

from sparsity_lib.study import networks
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.files import load_tensors, save_tensors
from sparsity_lib.study.preparation import Scaling
from sparsity_lib.study.runs import NETWORK, Run


def keep(path: Path, model: nn.Module, prepare: Scaling) -> None:
    """Write the network of the run whose file is `path`, and the scaling of its inputs."""
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    scaling = {"offset": prepare.offset.cpu(), "scale": prepare.scale.cpu()}
    save_tensors(path.with_suffix(NETWORK), {"run": path.stem, "model": state, **scaling})


def trained_network(run: Run) -> tuple[nn.Module, Scaling]:
    """The run's network after its last epoch, in evaluation mode on the CPU, and the scaling of its inputs.

    ```python
    model, prepare = study.trained_network(run)
    logits = model(prepare(images))  # uint8 (N, C, H, W), of the run's own size
    ```

    Raises `StudyError` where the network was not kept (published runs have none), or its file is damaged.
    """
    path = run.path.with_suffix(NETWORK)
    if not path.exists():
        raise StudyError(
            f"the network of {run.id} was not kept: there is no {path.name} beside the run; published runs "
            "have none, and a run gets one where it is trained"
        )
    _, height, width, channels = run.root["images"].shape
    try:
        kept = load_tensors(path)
        if kept["run"] != run.id:
            raise ValueError(f"it is that of {kept['run']}")
        with torch.random.fork_rng(devices=[]):  # building draws initial weights
            model = networks.build(run.experiment, channels, (height, width), len(run.classes))
        model.load_state_dict(kept["model"])
        prepare = Scaling(kept["offset"], kept["scale"])
    except StudyError:
        raise
    except Exception as error:  # whatever a truncated or foreign file makes the reader raise
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"{path} is damaged or of another network: {told}; training the run again makes both anew"
        ) from None
    return model.eval(), prepare
