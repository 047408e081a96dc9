"""What a plain PyTorch loop makes of the seed populations' settings, one model after the other.

Torch's own layers, optimizer and loader, drawing from torch's own generator: nothing of zoobench but the images.
``python tests/plain_loop.py`` trains forty models and writes what ``data/plain_loop_digits.csv`` holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoobench.generators.images import ImageData, load_images

STORED = Path(__file__).parent / "data" / "plain_loop_digits.csv"
#: None of them seeds the models that are compared with these.
SEEDS, EPOCHS = range(1001, 1041), (1, 5, 10)


def plain_loop(seed: int, epochs: Iterable[int], images: ImageData) -> list[dict[str, float]]:
    """A row for each epoch: loss and accuracy in training, and accuracy on the test images."""
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh()),
            *(nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), nn.Tanh()),
            *(nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten()),
            *(nn.Linear(36, 20), nn.Tanh()),
            *(nn.Linear(20, 10), nn.LogSoftmax(1)),
        )
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                nn.init.uniform_(parameter)
            else:
                nn.init.constant_(parameter, 0.01)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-3)
        batches = DataLoader(TensorDataset(images.train, images.train_labels), batch_size=10, shuffle=True)
        for epoch in range(1, max(epochs) + 1):
            loss_sum = n_right = 0.0
            for batch, labels in batches:
                optimizer.zero_grad()
                outputs = network(batch)
                loss = nn.functional.nll_loss(outputs, labels)
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(labels)
                n_right += int((outputs.argmax(1) == labels).sum())
            if epoch in epochs:
                with torch.no_grad():
                    test = (network(images.test).argmax(1) == images.test_labels).double().mean().item()
                n = len(images.train_labels)
                measured = {"train_loss": loss_sum / n, "train_acc": n_right / n, "test_acc": test}
                rows.append({"seed": seed, "epoch": epoch, **measured})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    digits = load_images("digits")
    table = pd.DataFrame([row for seed in SEEDS for row in plain_loop(seed, EPOCHS, digits)])
    table.to_csv(STORED, index=False, float_format="%.6f")
