"""Recompute the primary verdicts from curves of complete cells alone; plateaus are simulated again.

python scripts/recompute.py results/registered sparsity_lib/study/claims/registration.yaml
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from scipy.linalg import cholesky, toeplitz
from scipy.ndimage import gaussian_filter1d as smooth
from scipy.stats import t


def measure(curves, label, quantity, layer=(), **others):  # (run,), by seed
    runs = curves.isel(run=curves["label"] == label).sortby("seed")
    if quantity == "accuracy":  # at the epoch chosen on monitor images
        best = runs["monitor_loss"].where(runs["monitor_accuracy"] == runs["monitor_accuracy"].max("epoch"))
        return runs["val_accuracy"].isel(epoch=best.argmin("epoch")).to_numpy()
    loss = runs["val_loss"].to_numpy().astype(float)  # (run, epoch)
    if quantity != "val_loss_rise":  # change of an entropy since the lowest smoothed loss, as a share of ln D
        shares = (runs[quantity] / np.log(runs["channels"])).sel(layer=list(layer)).mean("layer").to_numpy()
        return shares[:, -1] - shares[range(len(loss)), smooth(loss, 2, mode="nearest").argmin(1)]
    m, n, phis = loss.shape[1], loss.shape[1] // 2, np.arange(-10, 19) / 20  # the noise of n epochs is AR(1)
    d = np.arange(n) - np.arange(n)[:, None]
    s0, s1, s2 = ((np.exp(-(d**2) / 200) * d**k).sum(1, keepdims=True) for k in range(3))
    maker = np.eye(n) - np.exp(-(d**2) / 200) * (s2 - d * s1) / (s0 * s2 - s1**2)  # I less a local line
    kept = np.array([maker @ toeplitz(phi ** np.arange(n)) @ maker.T for phi in phis])
    squares, lagged = (np.trace(kept, lag, 1, 2) for lag in (0, 1))
    r = loss[:, -n:] @ maker.T
    phi = np.interp((r[:, 1:] * r[:, :-1]).sum(1) / (r**2).sum(1), lagged / squares, phis)
    sd = np.sqrt((r**2).sum(1) / np.interp(phi, phis, squares))
    draws = np.random.default_rng(1).standard_normal((10_000, m))
    shapes = [cholesky(toeplitz(each ** np.arange(m))) for each in phi]
    plateaus = sd[:, None, None] * (draws @ np.array(shapes))
    rises = [x[..., -5:].mean(-1) - smooth(x, 2, mode="nearest").min(-1) for x in (loss, plateaus)]
    return rises[0] - rises[1].mean(1)  # less the mean of plateaus with the same noise


ledger, found, passes = yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")), [], True
for claim in [each for each in ledger["claims"] if each.get("primary")]:
    test, file = claim["test"], "lenet-alexnet" if "LeNet" in claim["test"]["network"] else "networks"
    curves = xr.load_dataset(f"{sys.argv[1]}/{file}.nc").sel(split="monitor", epoch=slice(0, None))
    curves = curves.isel(run=curves["dataset"] == claim["cells"][0]["dataset"])
    x = measure(curves, test["network"], **test)
    x = x - measure(curves, test["against"], **test) if "against" in test else x
    margin = ledger["rules"]["margins"][test["quantity"].replace("rise", "loss").split("_")[-1]]
    side, error = test["expected"], max(x.std(ddof=1) / len(x) ** 0.5, 1e-12)
    above = t.sf(((side or 1) * x.mean() - margin * np.arange(-1, 2)) / error, len(x) - 1)
    within, below = max(above[0], 1 - above[2]), 1 - above[0]  # p of |mean| < margin, and of a mean < -margin
    right, wrong = (above[1], below) if side else (within, min(below, above[2]))
    name = "opposite" if wrong < 0.025 else "inconclusive"
    name = "supported" if right < (0.025 if side else 0.05) else name
    name = "negligible" if side and within < 0.05 else name
    found.append((2 * min(right, wrong), name, x.mean(), claim["id"]))
for rank, (p, name, mean, claim) in enumerate(sorted(found)):  # Holm
    passes = passes and (6 - rank) * p < 0.05
    print(claim, f"{mean:.4f}", name if passes or name == "negligible" else "inconclusive")
