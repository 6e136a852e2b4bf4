"""Numbers in the tables of the paper, for comparison with ours.

Source: Huesmann, Klemm, Linsen, Risse, "Exploiting the Full Capacity of Deep Neural Networks while Avoiding
Overfitting by Targeted Sparsity Regularization" (TSR), arXiv 2002.09237. The paper gives no seeds, deviations
or numbers of runs: each number counts as one run.
"""

import math

import pandas as pd

# Table 1: filters of conv1 to conv4 and neurons of fc1, by size.
WIDTHS = {"s": (16, 16, 32, 32, 64), "m": (64, 64, 128, 128, 256), "xxl": (256, 256, 512, 512, 1024)}

# Table 2: best validation accuracy of 100 epochs (T18), by data set, size and optimizer.
_COLUMNS = (
    ("cifar100", "s", "sgd"),
    ("cifar100", "m", "sgd"),
    ("cifar100", "xxl", "sgd"),
    ("cifar100", "xxl", "adam"),
    ("cifar10", "xxl", "sgd"),
    ("tiny-imagenet", "xxl", "sgd"),
)
_ACCURACIES = {
    "vanillaNet": (0.3486, 0.3603, 0.3656, 0.3843, 0.6964, 0.2198),
    "dropNet": (0.2505, 0.4708, 0.4202, 0.4507, 0.7862, 0.2446),
    "normNet": (0.3626, 0.4302, 0.5059, 0.5292, 0.7900, 0.2661),
    "sr1Net": (0.2663, 0.4917, 0.5325, 0.3960, 0.8079, 0.2714),
    "sr2Net": (0.3460, 0.5023, 0.5387, 0.4025, 0.8042, 0.3123),
    "sr3Net": (0.3781, 0.5219, 0.5423, 0.4079, 0.8040, 0.3052),
}
# Table 3, by data set. The paper gives no sizes of these networks; ours have the original widths (T12).
_OLDER_DATASETS = ("cifar10", "cifar100", "tiny-imagenet")
_OLDER_ACCURACIES = {
    "LeNet": (0.6006, 0.2977, 0.1267),
    "AlexNet": (0.6987, 0.3842, 0.2978),
    "srLeNet": (0.6101, 0.3027, 0.1345),
    "srAlexNet": (0.7509, 0.4682, 0.3739),
}
_LONG = ("sr3Net", "cifar100", "xxl", "sgd", 200, 0.5513)  # section 4.2: best accuracy, over 200 epochs
EPOCHS = 100  # section 4, and caption of Table 2; none in the caption of Table 3
LEARNING_RATES = {"sgd": 0.01, "adam": 0.001}  # section 4; the one of Adam is our reading (T13)


def accuracies() -> pd.DataFrame:
    """Best validation accuracies, one row each: network, dataset, size, optimizer, epochs, accuracy, source.

    `source` is `"Table 2"`, `"Table 3"` or, for the only number over 200 epochs, `"section 4.2"`.
    """
    rows: list[tuple[object, ...]] = [
        (network, *column, EPOCHS, value, "Table 2")
        for network, row in _ACCURACIES.items()
        for column, value in zip(_COLUMNS, row, strict=True)
    ]
    rows += [
        (network, dataset, "full", "sgd", EPOCHS, value, "Table 3")
        for network, row in _OLDER_ACCURACIES.items()
        for dataset, value in zip(_OLDER_DATASETS, row, strict=True)
    ]
    rows.append((*_LONG, "section 4.2"))
    columns = ("network", "dataset", "size", "optimizer", "epochs", "accuracy", "source")
    return pd.DataFrame(rows, columns=columns)


def accuracy(**cell: object) -> float:
    """Accuracy in the row of `accuracies` with these columns; NaN unless there is exactly one row."""
    table = accuracies()
    found = table.loc[(table[list(cell)] == pd.Series(cell)).all(axis="columns"), "accuracy"]
    return float(found.item()) if len(found) == 1 else math.nan
