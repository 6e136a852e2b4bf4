"""Numbers of the paper, typed from its tables so that ours can be set beside them.

Source: Huesmann, Klemm, Linsen, Risse, "Exploiting the Full Capacity of Deep Neural Networks while Avoiding
Overfitting by Targeted Sparsity Regularization" (TSR), arXiv 2002.09237. The paper gives no seeds, deviations
or number of runs: each number is read as one run.
"""

import pandas as pd

SOURCE = "TSR (arXiv 2002.09237)"

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
EPOCHS = 100  # Table 2's caption
LEARNING_RATES = {"sgd": 0.01, "adam": 0.001}  # section 4; Adam's is our reading (T13)


def accuracies() -> pd.DataFrame:
    """Table 2, one row per number: network, dataset, size, optimizer, accuracy."""
    return pd.DataFrame(
        [
            {"network": network, "dataset": dataset, "size": size, "optimizer": optimizer, "accuracy": value}
            for network, row in _ACCURACIES.items()
            for (dataset, size, optimizer), value in zip(_COLUMNS, row, strict=True)
        ]
    )
