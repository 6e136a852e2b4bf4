"""Numbers and figure of the front page, from published results.

`python -m sparsity_lib.study.findings` prints the numbers and draws `PICTURE` anew, for the README.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from sparsity_lib.study import claims, figures
from sparsity_lib.study.analysis import comparison, explained_by_noise, onset
from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis.early_warning import detectors
from sparsity_lib.study.claims import scorecard
from sparsity_lib.study.files import PROJECT, digest
from sparsity_lib.study.profiles import MATCHED
from sparsity_lib.study.recipes import LAYERS, PLAIN
from sparsity_lib.study.runs import results

SHOWN = "cifar10-jpeg"  # the data set of the numbers
SECOND = "tiny32-100"
LAYER = "conv4"
NETWORKS = {  # of the front page's table
    "vanillaNet": "plain",
    "dropNet": "dropout",
    "normNet": "batch norm",
    "sr1Net": "SparsityReg, all layers",
    "sr2Net": "SparsityReg, later layers",
    "sr3Net": "the same and DecorrReg",
    "varNet": "variance penalty",
}
PICTURE = PROJECT / "book/_static/entropy-and-noise.png"


def numbers() -> dict[str, str]:
    """The numbers of the front page as text, by the name under which its words call them.

    Changes of entropy are shares of ln D in `LAYER`, from the lowest validation loss to the last epoch; rises
    of the validation loss are in nats. Intervals are 95 % t intervals over seeds.
    """
    networks = analysis.of_grid(results.published("desktop", "networks.nc"), "desktop")
    photographs = analysis.only(networks, dataset=SHOWN)
    table = pilot_table()
    rises = analysis.summary(photographs).groupby("label")["val_loss_rise"]
    twin = comparison.compare(photographs, "varNet", "sr2Net", "chosen_accuracy")
    gain, gain_second = (table.loc["sr2Net", (dataset, "gain")] for dataset in (SHOWN, SECOND))
    on_digits = (results.published("laptop", name) for name in ("networks.nc", "scale-free.nc"))
    joined = results.joined([part for part in on_digits if part is not None])
    patterns = analysis.of_grid(joined, "laptop", "scale-free")
    strongest = f"sfNet ×16 lambda_={max(MATCHED['digits']):g}"
    pattern, scale = (
        comparison.compare(patterns, name, PLAIN, "val_loss_rise") for name in (strongest, "sr2Net ×16")
    )
    over_dropout, over_dropout_second = (
        comparison.compare(analysis.only(networks, dataset=name), "sr2Net", "dropNet", "chosen_accuracy")
        for name in (SHOWN, SECOND)
    )
    r2 = _explained_by_noise(networks)
    return {
        "n": str(gain.n),
        "entropy_fall": f"{-table.loc[PLAIN, (SHOWN, 'change')].mean:.2f}",
        "dropout_fall": f"{-table.loc['dropNet', (SHOWN, 'change')].mean:.2f}",
        "norm_fall": f"{-_change(photographs, 'normNet', 'entropy', 'fc1').mean:.2f}",
        "norm_output_fall": f"{-_change(photographs, 'normNet', 'entropy', 'norm2').mean:.2f}",
        "scale_free_change": f"{_change(photographs, PLAIN, 'scale_free_entropy'):+.3f}",
        "noise_r2": f"{r2['data set'].min():.2f}",
        "noise_r2_large": f"{r2['large'].min():.2f}",
        "noise_r2_lowest": f"{r2['plain layer'].min():.2f}",
        "noise_r2_highest": f"{r2['plain layer'].max():.2f}",
        "noise_r2_dropout": f"{r2['shown'].loc['dropNet', 'conv4']:.2f}",
        "noise_r2_norm": f"{r2['shown'].loc['normNet', 'fc1']:.2f}",
        "plain_rise": f"{comparison.describe(rises.get_group(PLAIN)):.1f}",
        "penalised_rise": f"{comparison.describe(rises.get_group('sr2Net')):.2f}",
        "gain": f"{gain:+.3f}",
        "gain_second": f"{gain_second:+.3f}",
        "over_dropout": f"{over_dropout:+.3f}",
        "over_dropout_second": f"{over_dropout_second:+.3f}",
        "twin": f"{twin:+.4f}",
        "pattern_rise": f"{pattern:+.2f}",
        "scale_rise": f"{scale:+.2f}",
        "penalised_overfits": f"{table.loc['sr2Net', (SHOWN, 'overfits')]} of {gain.n}",
        "penalised_overfits_second": f"{table.loc['sr2Net', (SECOND, 'overfits')]} of {gain_second.n}",
        **_warnings(),
        **_paper_settings(),
        **_first_runs(),
    }


def _warnings() -> dict[str, str]:
    """Warnings of the entropy's detector on the data sets in which runs overfit."""
    inputs = detectors.data_sets("laptop", "desktop")
    outcomes = detectors.outcomes(inputs).query("detector == 'entropy' and hits + misses > 0")
    able = [name for name in outcomes["data"] if detectors.exchange_matters(inputs[name].moments()).any()]
    exchanged = outcomes[outcomes["data"].isin(able)]
    return {
        "warned_sets": str(len(outcomes)),
        "warned_runs": str(outcomes["runs"].sum()),
        "warning_lowest": f"{outcomes['balanced'].min():.2f}",
        "warning_highest": f"{outcomes['balanced'].max():.2f}",
        "exchanged_sets": str(len(exchanged)),
        "better_warnings": str((exchanged["low"] > 0).sum()),
        "widest_warning": f"±{((exchanged['high'] - exchanged['low']) / 2).max():.2f}",
    }


def _paper_settings() -> dict[str, str]:
    """LeNet's gains on the paper's data, and how many registered runs are published."""
    published = claims.published()
    cells = scorecard.accuracies(published)
    trained_here = cells[cells["status"] != "needs a GPU"]
    paper = cells[cells["dataset"] == "cifar10"].set_index("network")["paper"]
    lenet, lenet_second = (
        analysis.summary(scorecard.curves_of_cells(published, dataset=name, size="full", optimizer="sgd"))
        for name in ("cifar10", "cifar100")
    )
    best, chosen, second = (
        comparison.compare(runs, "srLeNet", "LeNet", quantity)
        for runs, quantity in (
            (lenet, "best_accuracy"),
            (lenet, "chosen_accuracy"),
            (lenet_second, "chosen_accuracy"),
        )
    )
    return {
        "lenet_gain": f"{best:+.3f}",
        "lenet_chosen": f"{chosen:+.3f}",
        "lenet_second": f"{second:+.3f}",
        "paper_gain": f"{paper['srLeNet'] - paper['LeNet']:+.4f}",
        "registered_done": str(trained_here["n"].sum()),
        "registered_planned": str(trained_here["planned"].sum()),
        "registered_all": str(cells["planned"].sum()),
    }


def _first_runs() -> dict[str, str]:
    """Runs of size s on CIFAR-100: how many overfit, and falls of entropy."""
    runs = _on_cifar100()
    falls = {label: -_change(runs, label, "entropy").mean for label in analysis.labels(runs)}
    penalised = max(falls[name] for name in ("sr1Net", "sr2Net", "sr3Net", "varNet"))
    moments = onset.onset_table(runs)
    return {
        "direct_overfit": f"{moments['epoch'].count()} of {len(moments)}",
        "direct_fall": f"{falls[PLAIN]:.2f}",
        "direct_norm_fall": f"{falls['normNet']:.2f}",
        "direct_penalised_fall": f"{penalised:.2f}",
    }


def _change(runs: xr.Dataset, label: str, quantity: str, layer: str = LAYER) -> comparison.Description:
    """Change of a network's entropy in a layer, a share of ln D."""
    table = analysis.summary(analysis.only(runs, label=label))
    whole = np.log(runs["channels"].sel(layer=layer).max().item())
    return comparison.describe((table[f"{quantity}_end:{layer}"] - table[f"{quantity}_best:{layer}"]) / whole)


def _explained_by_noise(networks: xr.Dataset) -> dict[str, pd.Series]:
    """R^2 of noise with the pooled SD, by group.

    `data set`: by data set; `large`: the same where the SD exceeds 1; `plain layer`: of the plain network, by
    data set and layer; `shown`: by network and layer on the data set `SHOWN`.
    """
    inner = networks.sel(layer=list(LAYERS[:-1]))
    groups: dict[str, tuple[xr.Dataset, list[str]]] = {
        "data set": (inner, ["dataset"]),
        "large": (explained_by_noise.where_large(inner), ["dataset"]),
        "plain layer": (analysis.only(inner, label=PLAIN), ["dataset", "layer"]),
        "shown": (analysis.only(inner, dataset=SHOWN), ["label", "layer"]),
    }
    found = {}
    for name, (curves, by) in groups.items():
        table = explained_by_noise.explained(curves, by=by)
        found[name] = table[table["sd"] == "pooled"].set_index(by)["r2"]
    return found


def pilot_table() -> pd.DataFrame:
    """The pilot's networks on its two data sets, by label: `network`, and for each data set three columns.

    `gain`: accuracy at the chosen epoch minus that of the plain network, None for that one; `change`: of the
    entropy of `LAYER` from the lowest validation loss to the end, a share of ln D; both as `Description`, of
    n runs or pairs. `overfits`: number of runs that overfit.
    """
    networks = analysis.of_grid(results.published("desktop", "networks.nc"), "desktop")
    columns: dict[tuple[str, str], list[object]] = {("network", ""): list(NETWORKS.values())}
    for dataset in (SHOWN, SECOND):
        runs = analysis.only(networks, dataset=dataset)
        overfits = onset.onset_table(runs).groupby("label")["epoch"].count()
        gains = [comparison.compare(runs, name, PLAIN, "chosen_accuracy") for name in list(NETWORKS)[1:]]
        columns[dataset, "gain"] = [None, *gains]
        columns[dataset, "change"] = [_change(runs, name, "entropy") for name in NETWORKS]
        columns[dataset, "overfits"] = [int(overfits[name]) for name in NETWORKS]
    return pd.DataFrame(columns, index=list(NETWORKS))


def figure() -> Figure:
    """Entropy over epochs, and against the SD of activations with the noise curve, on CIFAR-100."""
    return figures.entropy_against_noise(_on_cifar100(), LAYER)


def origin() -> str:
    """Digest of the published results that the figure shows; the picture's metadata hold it as `Results`."""
    return digest(results.folder_of("registered") / results.SUMS)


def _on_cifar100() -> xr.Dataset:
    """Published runs of size s on CIFAR-100, at the paper's settings."""
    return analysis.of_grid(results.published("registered", "networks.nc"), "registered")


if __name__ == "__main__":
    figure().savefig(PICTURE, dpi=160, metadata={"Results": origin()})
    for name, text in numbers().items():
        print(name, text, sep="\t")
