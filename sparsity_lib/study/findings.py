"""Numbers and figure of the front page, from published results.

`python -m sparsity_lib.study.findings` prints the numbers and draws `PICTURE` for the README.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from sparsity_lib.study import analysis, claims, figures
from sparsity_lib.study.analysis import comparison, explained_by_noise, onset
from sparsity_lib.study.analysis.early_warning import detectors
from sparsity_lib.study.claims import scorecard
from sparsity_lib.study.files import PROJECT, digest
from sparsity_lib.study.profiles import SCALE_FREE_STRENGTHS
from sparsity_lib.study.recipes import LAYERS, PLAIN
from sparsity_lib.study.runs import results

PILOT_DATASETS = ("cifar10-jpeg", "tiny32-100")
LAYER = "conv4"
NETWORKS = {  # in the table of the front page
    "vanillaNet": "plain",
    "dropNet": "dropout",
    "normNet": "batch norm",
    "sr1Net": "SparsityReg, all layers",
    "sr2Net": "SparsityReg, later layers",
    "sr3Net": "the same and DecorrReg",
    "varNet": "variance penalty",
}
PENALISED = ("sr1Net", "sr2Net", "sr3Net", "varNet")
EARLY_EPOCHS = 20  # each fall of entropy begins well before or well after this epoch
LEAST_EXPLAINED = ("dropNet", "conv3")  # lowest R^2 of noise with the pooled SD
PICTURE = PROJECT / "book/_static/entropy-and-noise.png"


def numbers() -> dict[str, str]:
    """Numbers of the front page as text, by their names in its source.

    Changes of entropy are shares of ln D in `LAYER`, from the lowest validation loss to the last epoch;
    names with `_before` are from before training to the lowest loss. Rises of the validation loss are in
    nats. Intervals are 95 % t intervals over seeds.
    """
    runs = runs_on_cifar100()
    table = network_table(runs)
    rises, calibrated = (onset.onset_table(runs, loss).groupby("label")["excess"] for loss in onset.LOSSES)
    on_digits = (results.published("laptop", name) for name in ("networks.nc", "scale-free.nc"))
    joined = results.joined([part for part in on_digits if part is not None])
    patterns = analysis.grid_runs(joined, "laptop", "scale-free")
    few_images = analysis.grid_runs(results.published("desktop", "scale-free.nc"), "desktop", "scale-free")
    strongest = f"sfNet ×16 lambda_={max(SCALE_FREE_STRENGTHS['digits']):g}"
    pairs = ((patterns, strongest), (patterns, "sr2Net ×16"), (few_images, "sfNet"), (few_images, "sr2Net"))
    pattern, scale, of_few, scale_of_few = (
        comparison.compare(trained, name, PLAIN, "val_loss_rise") for trained, name in pairs
    )
    over_dropout = comparison.compare(runs, "sr2Net", "dropNet", "chosen_accuracy")
    twin = comparison.compare(pilot_runs()[PILOT_DATASETS[0]], "varNet", "sr2Net", "chosen_accuracy")
    inner = runs.sel(layer=list(LAYERS[:-1]))
    r2, large = _r2(inner, "dataset"), _r2(explained_by_noise.where_large(inner), "dataset")
    plain_r2 = _r2(analysis.only(inner, label=PLAIN), "layer")
    least = _r2(inner, "label", "layer").loc[LEAST_EXPLAINED]
    falls = -table["change"].map(lambda change: change.mean)
    moments = detectors.detector_inputs(runs).moments()
    early = moments["changed"] <= EARLY_EPOCHS
    begins = moments.groupby(early)["changed"].agg(["min", "max"])
    return {
        "n": str(table.loc["sr2Net", "runs"]),
        "entropy_fall": f"{falls[PLAIN]:.2f}",
        "norm_fall": f"{falls['normNet']:.2f}",
        "penalised_fall": f"{falls[list(PENALISED)].max():.2f}",
        "fall_in_all": f"{-_change(runs, PLAIN, 'entropy', 'start').mean:.2f}",
        "fall_before": f"{-_change(runs, PLAIN, 'entropy', 'start', 'best').mean:.2f}",
        "dropout_fall": f"{falls['dropNet']:.2f}",
        "dropout_fall_before": f"{-_change(runs, 'dropNet', 'entropy', 'start', 'best').mean:.2f}",
        "scale_free_change": f"{_change(runs, PLAIN, 'scale_free_entropy'):+.3f}",
        "noise_r2": f"{r2['pooled'].item():.2f}",
        "noise_r2_large": f"{large['pooled'].item():.2f}",
        "noise_r2_lowest": f"{plain_r2['pooled'].min():.2f}",
        "noise_r2_highest": f"{plain_r2['pooled'].max():.2f}",
        "noise_r2_least": f"{least['pooled']:+.2f}".replace("-", "−"),
        "noise_r2_least_position": f"{least['positions']:.2f}",
        "plain_rise": f"{comparison.describe(rises.get_group(PLAIN)):.1f}",
        "penalised_rise": f"{comparison.describe(rises.get_group('sr2Net')):.2f}",
        "plain_calibrated": f"{calibrated.mean()[PLAIN]:.2f}",
        "penalised_calibrated": f"{calibrated.mean()['sr2Net']:.2f}",
        "gain": f"{table.loc['sr2Net', 'gain']:+.3f}",
        "over_dropout": f"{over_dropout:+.3f}",
        "twin": f"{twin:+.4f}",
        "pattern_rise": f"{pattern:+.2f}",
        "scale_rise": f"{scale:+.2f}",
        "pattern_rise_cifar10": f"{of_few:+.2f}",
        "scale_rise_cifar10": f"{scale_of_few:+.2f}",
        "plain_overfits": "{overfits} of {runs}".format(**table.loc[PLAIN]),
        "penalised_overfits": "{overfits} of {runs}".format(**table.loc["sr2Net"]),
        "lead": f"{comparison.describe(moments.loc[moments['network'] == PLAIN, 'lead']):.0f}",
        "early_falls": f"{early.sum()} of {len(moments)}",
        "early_epochs": "{:.0f} to {:.0f}".format(*begins.loc[True]),
        "late_epochs": "{:.0f} to {:.0f}".format(*begins.loc[False]),
        "first_onset": f"{moments['onset'].min():.0f}",
        "last_onset": f"{moments['onset'].max():.0f}",
        **_warnings(),
        **_paper_settings(),
    }


def _warnings() -> dict[str, str]:
    """Warnings of the entropy detector in the groups with runs that overfit, by data set and optimiser."""
    inputs = detectors.data_sets("laptop", "desktop")
    outcomes = detectors.outcomes(inputs).query("detector == 'entropy' and hits + misses > 0")
    able = [name for name in outcomes["data"] if detectors.exchange_matters(inputs[name].moments()).any()]
    exchanged = outcomes[outcomes["data"].isin(able)]
    return {
        "warned_groups": str(len(outcomes)),
        "warned_runs": str(outcomes["runs"].sum()),
        "warning_lowest": f"{outcomes['balanced'].min():.2f}",
        "warning_highest": f"{outcomes['balanced'].max():.2f}",
        "exchanged_groups": str(len(exchanged)),
        "better_warnings": str((exchanged["low"] > 0).sum()),
        "widest_warning": f"±{((exchanged['high'] - exchanged['low']) / 2).max():.2f}",
    }


def _paper_settings() -> dict[str, str]:
    """Gains of LeNet on the paper's data, and number of published registered runs."""
    published = claims.published()
    cells = scorecard.accuracies(published)
    trained_here = cells[cells["status"] != "needs a GPU"]
    paper = cells[cells["dataset"] == "cifar10"].set_index("network")["paper"]
    lenet, lenet_second = (
        analysis.summary(scorecard.curves_of_cells(published, dataset=name, size="full", optimizer="sgd"))
        for name in ("cifar10", "cifar100")
    )
    best = comparison.compare(lenet, "srLeNet", "LeNet", "best_accuracy")
    chosen, second = (
        comparison.compare(runs, "srLeNet", "LeNet", "chosen_accuracy") for runs in (lenet, lenet_second)
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


def _change(
    runs: xr.Dataset, label: str, quantity: str, since: str = "best", until: str = "end"
) -> comparison.Description:
    """Change of the entropy of a network in `LAYER` between two moments, as a share of ln D."""
    table = analysis.summary(analysis.only(runs, label=label))
    change = table[f"{quantity}_{until}:{LAYER}"] - table[f"{quantity}_{since}:{LAYER}"]
    return comparison.describe(change / np.log(runs["channels"].sel(layer=LAYER).max().item()))


def _r2(runs: xr.Dataset, *by: str) -> pd.DataFrame:
    """R^2 of noise by group: `pooled` with the SD of the layer, `positions` with the SD of each position."""
    return explained_by_noise.explained(runs, by=list(by)).pivot(index=list(by), columns="sd", values="r2")


def pilot_runs() -> dict[str, xr.Dataset]:
    """Published runs of the networks of the pilot, by data set."""
    networks = analysis.grid_runs(results.published("desktop", "networks.nc"), "desktop")
    return {dataset: analysis.only(networks, dataset=dataset) for dataset in PILOT_DATASETS}


def runs_on_cifar100() -> xr.Dataset:
    """Published runs of size s on CIFAR-100, with the settings of the paper."""
    return analysis.grid_runs(results.published("registered", "networks.nc"), "registered")


def network_table(runs: xr.Dataset) -> pd.DataFrame:
    """Results of the networks of size s on one data set, by label.

    **Returns:** `network`: in words; `runs`: number of runs; `gain`: accuracy at the chosen epoch minus that
    of the plain network, a `Description` of pairs, None for the plain network itself; `change`: change of the
    entropy of `LAYER` from the lowest validation loss to the end, as a share of ln D, a `Description` of
    runs; `overfits`: number of runs that overfit.
    """
    moments = onset.onset_table(runs).groupby("label")["epoch"]
    gains = [comparison.compare(runs, name, PLAIN, "chosen_accuracy") for name in list(NETWORKS)[1:]]
    columns = {
        "network": list(NETWORKS.values()),
        "runs": moments.size()[list(NETWORKS)].to_list(),
        "gain": [None, *gains],
        "change": [_change(runs, name, "entropy") for name in NETWORKS],
        "overfits": moments.count()[list(NETWORKS)].to_list(),
    }
    return pd.DataFrame(columns, index=list(NETWORKS))


def figure() -> Figure:
    """Entropy over epochs, and against the SD of activations with the noise curve, on CIFAR-100."""
    return figures.entropy_against_noise(runs_on_cifar100(), LAYER)


def origin() -> str:
    """Digest of the published results in the figure, stored in the metadata of the picture as `Results`."""
    return digest(results.folder_of("registered") / results.SUMS)


if __name__ == "__main__":
    figure().savefig(PICTURE, dpi=160, metadata={"Results": origin()})
    for name, text in numbers().items():
        print(name, text, sep="\t")
