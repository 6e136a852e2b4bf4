"""The numerics stay as they are: losses and entropies of two epochs, one network for each part of NUMERICS.

`python tests/study/test_golden.py` writes golden.json anew, when a part of NUMERICS has risen on purpose.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs.provenance import NUMERICS

GOLDEN = Path(__file__).with_name("golden.json")
DIGITS = {"dataset": "digits", "limit": 200, "lr": 0.1, "epochs": 2, "seed": 100, "compiled": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "core": {"network": "sr2Net", "lambda_conv_scale": 16.0},
    "core, decorrelated": {"network": "sr3Net", "lr": 0.01},
    "core, norm": {"network": "normNet"},
    "coherent": {"network": "vanillaNet", "l1": 1e-3, "rho": 0.0},
    "sparseout": {"network": "sparseoutNet", "q": 1.5},
    "perplexity": {"network": "prNet", "lambda_": 1.0},
    "scale_free": {"network": "sfNet"},
}
# Rounding grows quickly where filters are centred, and under Sparseout's noise, whose slope is infinite at
# zero: instruction sets of one CPU differ by 0.12 in its temperature. All others: 1e-4.
TOLERANCES = {"core, decorrelated": 2e-2, "sparseout": 0.2}


def trained(name: str, folder: Path) -> dict[str, Any]:
    run = study.train(study.Experiment(**DIGITS | NETWORKS[name]), folder=folder)
    assert {part.split()[0] for part in run.provenance["numerics"].split(", ")} <= {
        "core",
        name.split(",")[0],
    }
    values = {what: run.root[what].values[1:].tolist() for what in ("train_loss", "val_loss", "temperature")}
    for layer in ("conv1", "conv4", "fc1"):
        for what in ("entropy", "scale_free_entropy", "noise_entropy", "sd"):
            values[f"{layer}/{what}"] = run.layer(layer)[what].sel(split="monitor").values.tolist()
        values[f"{layer}/channel_scaled_entropy"] = run.layer(layer)["channel_scaled_entropy"].values.tolist()
    return values


def spoken(folder: Path) -> dict[str, Any]:
    (folder / "text.txt").write_text("".join(chr(97 + (i * i // 7) % 23) for i in range(4000)))
    fields = {"text": f"file:{folder}/text.txt", "epochs": 2, "hidden": 8, "layers": 1, "q": 1.0, "seed": 100}
    run = study.train(LanguageExperiment(**fields), folder=folder)
    return {what: run.root[what].values.tolist() for what in ("train_loss", "val_bits")}


def decorrelation_gradient() -> list[float]:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 16, 3)
    sl.DecorrReg(layer, {"": 1.0})().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.flatten(1).norm(dim=1).tolist()


def sparseout_noise() -> list[float]:
    torch.manual_seed(0)
    activations = torch.randn(64, 16, requires_grad=True)
    noisy = sl.functional.sparseout(activations, 0.25, q=1.5)
    noisy.square().sum().backward()
    assert activations.grad is not None
    return [*noisy.abs().sum(0).tolist(), *activations.grad.abs().sum(0).tolist()]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_reproduce_the_golden_numbers(name: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    found = trained(name, tmp_path)
    assert found.keys() == golden.keys()
    for what, values in found.items():
        np.testing.assert_allclose(values, golden[what], TOLERANCES.get(name, 1e-4), err_msg=what)


def test_a_language_model_reproduces_the_golden_numbers(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())["language"]
    for what, values in spoken(tmp_path).items():
        np.testing.assert_allclose(values, golden[what], 1e-4, err_msg=what)


def test_decorrelation_reproduces_the_golden_gradient() -> None:
    golden = json.loads(GOLDEN.read_text())["decorrelation gradient"]
    np.testing.assert_allclose(decorrelation_gradient(), golden, 1e-5)


def test_sparseout_reproduces_the_golden_noise() -> None:
    golden = json.loads(GOLDEN.read_text())["sparseout noise"]
    np.testing.assert_allclose(sparseout_noise(), golden, 1e-4)


def test_golden_numbers_have_the_present_versions() -> None:
    assert json.loads(GOLDEN.read_text())["NUMERICS"] == NUMERICS


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        content = {name: trained(name, Path(folder)) for name in NETWORKS}
        content |= {"language": spoken(Path(folder)), "decorrelation gradient": decorrelation_gradient()}
        content["sparseout noise"] = sparseout_noise()
    GOLDEN.write_text(json.dumps({"NUMERICS": NUMERICS} | content, indent=1) + "\n")
