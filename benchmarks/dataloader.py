"""python -m benchmarks.dataloader FOLDER EPOCHS: a training script with torchvision and a DataLoader.

vanillaNet-s on a folder of images, trained and validated every epoch, in the main process and two workers.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from sparsity_lib.study import Experiment


def main(folder: Path, epochs: int) -> None:
    """Train, and print the validation accuracy after each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = {part: ImageFolder(folder / part, transform=ToTensor()) for part in ("train", "val")}
    training = DataLoader(data["train"], batch_size=64, shuffle=True, num_workers=2)
    validation = DataLoader(data["val"], batch_size=64, num_workers=2)
    model = Experiment().build(3, (32, 32), 10).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        model.train()
        for x, y in training:
            x, y = x.to(device), y.to(device)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        model.eval()
        correct = 0
        with torch.no_grad():
            for x, y in validation:
                correct += (model(x.to(device)).argmax(1).cpu() == y).sum().item()
        print(epoch, correct / len(data["val"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
