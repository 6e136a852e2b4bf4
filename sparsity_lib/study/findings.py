"""Numbers and figure of the front page, from published results.

`python -m sparsity_lib.study.findings` prints the numbers and draws `PICTURE` anew, for the README.
"""

import numpy as np
from matplotlib.figure import Figure

from sparsity_lib.study import claims, figures
from sparsity_lib.study.analysis import comparison, explained_by_noise, onset
from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis.early_warning import detectors
from sparsity_lib.study.claims import scorecard
from sparsity_lib.study.files import PROJECT, digest
from sparsity_lib.study.recipes import LAYERS
from sparsity_lib.study.runs import results

SHOWN = "cifar10-jpeg"  # the data set of the numbers and the figure
SECOND = "tiny32-100"
LAYER = "conv4"
OVERFITTING = {"plain": "vanillaNet", "dropout": "dropNet", "all_layers": "sr1Net", "penalised": "sr2Net"}
PICTURE = PROJECT / "book/_static/entropy-and-noise.png"


def numbers() -> dict[str, str]:
    """The numbers of the front page as text, by the name under which its words call them.

    Changes of entropy are shares of ln D in `LAYER`, from the lowest validation loss to the last epoch; rises
    of the validation loss are in nats. Intervals are 95 % t intervals over seeds.
    """
    networks = analysis.of_grid(results.published("desktop", "networks.nc"), "desktop")
    photographs = analysis.only(networks, dataset=SHOWN)
    table = analysis.summary(photographs)
    plain, penalised = (table[table["label"] == name] for name in ("vanillaNet", "sr2Net"))
    channels = photographs["channels"].sel(layer=LAYER).max().item()
    change = {
        name: comparison.describe(
            (plain[f"{name}_end:{LAYER}"] - plain[f"{name}_best:{LAYER}"]) / np.log(channels)
        )
        for name in ("entropy", "scale_free_entropy")
    }
    explained = explained_by_noise.explained(networks.sel(layer=list(LAYERS[:-1])), by=["dataset"])
    twin = comparison.compare(photographs, "varNet", "sr2Net", "chosen_accuracy")
    gain = comparison.compare(photographs, "sr2Net", "vanillaNet", "chosen_accuracy")
    over_dropout = comparison.compare(photographs, "sr2Net", "dropNet", "chosen_accuracy")
    overfitting = onset.onset_table(networks).groupby(["dataset", "label"])["epoch"].agg(["count", "size"])
    onsets = {
        f"{network}_{which}": "{count} of {size}".format(**overfitting.loc[dataset, label])
        for network, label in OVERFITTING.items()
        for which, dataset in (("onsets", SHOWN), ("second", SECOND))
    }
    outcomes = detectors.outcomes(detectors.data_sets("laptop", "desktop"))
    warned = outcomes[outcomes["detector"] == "entropy"]  # a row per data set
    overfits = warned[warned["hits"] + warned["misses"] > 0]
    published = claims.published()
    cells = scorecard.accuracies(published)
    trained_here = cells[cells["status"] != "needs a GPU"]
    paper = cells[cells["dataset"] == "cifar10"].set_index("network")["paper"]
    lenet = scorecard.curves_of_cells(published, dataset="cifar10", size="full", optimizer="sgd")
    best, chosen = (
        comparison.compare(analysis.summary(lenet), "srLeNet", "LeNet", f"{name}_accuracy")
        for name in ("best", "chosen")
    )
    return {
        "n": str(len(plain)),
        "entropy_fall": f"{-100 * change['entropy'].mean:.0f} %",
        "scale_free_change": f"{change['scale_free_entropy']:+.3f}",
        "noise_r2": f"{explained.loc[explained['sd'] == 'pooled', 'r2'].min():.2f}",
        "plain_rise": f"{comparison.describe(plain['val_loss_rise']):.1f}",
        "penalised_rise": f"{comparison.describe(penalised['val_loss_rise']):.2f}",
        "gain": f"{gain:+.3f}",
        "over_dropout": f"{over_dropout:+.3f}",
        "twin": f"{twin:+.4f}",
        "better_warnings": f"{(overfits['low'] > 0).sum()} of {len(overfits)}",
        "widest_warning": f"±{((overfits['high'] - overfits['low']) / 2).max():.2f}",
        "warned_runs": str(overfits["runs"].sum()),
        "lenet_gain": f"{best:+.3f}",
        "lenet_chosen": f"{chosen:+.3f}",
        "paper_gain": f"{paper['srLeNet'] - paper['LeNet']:+.4f}",
        "registered_done": f"{trained_here['n'].sum()} of {trained_here['planned'].sum()}",
        "registered_all": str(cells["planned"].sum()),
    } | onsets


def figure() -> Figure:
    """Entropy over epochs, and against the standard deviation of activations, with the noise curve."""
    networks = analysis.of_grid(results.published("desktop", "networks.nc"), "desktop")
    return figures.entropy_against_noise(analysis.only(networks, dataset=SHOWN), LAYER)


def origin() -> str:
    """Digest of the published results that the figure shows; the picture's metadata hold it as `Results`."""
    return digest(results.folder_of("desktop") / results.SUMS)


if __name__ == "__main__":
    figure().savefig(PICTURE, dpi=160, metadata={"Results": origin()})
    for name, text in numbers().items():
        print(name, text, sep="\t")
