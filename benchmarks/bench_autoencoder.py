"""One epoch of `HyperRepresentation` against the same networks in a plain PyTorch loop.

The plain loop is what one would write by hand: a DataLoader over the standardised weights, Adam, one view of each batch
after the other. Both run the same modules on the same data and one core; the ratio is that of the least CPU time of
several rounds, which alternate so that both see the same load of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader, TensorDataset

from conftest import Beside
from zoobench.estimators.contrastive import nt_xent
from zoobench.estimators.hyper_representation import HyperRepresentation, Views
from zoobench.layout import WeightLayout

N_STATES, N_ROUNDS = 256, 4
LAYOUT = WeightLayout.from_architecture("cnn_s")


def plain_epoch(model: HyperRepresentation, X: np.ndarray) -> None:
    torch.manual_seed(0)
    networks = model._networks(LAYOUT)
    encoder, decoder = networks["encoder"], networks["decoder"]
    views = Views(LAYOUT, "cpu", permute=model.permute, erase=model.erase)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(networks.parameters(), lr=model.lr)
    weights = torch.from_numpy((X - X.mean()) / X.std())
    share = model.contrastive_weight
    for (batch,) in DataLoader(TensorDataset(weights), batch_size=model.batch_size, shuffle=True):
        seen = [views.draw(batch, generator) for _ in range(2 if share else 1)]
        latents = [encoder(erased) for _, erased in seen]
        pairs = zip(latents, seen, strict=True)
        loss = sum(torch.nn.functional.mse_loss(decoder(z), target) for z, (target, _) in pairs) / len(seen)
        if share:
            first, second = (networks["head"](z) for z in latents)
            loss = share * nt_xent(first, second, model.temperature) + (1 - share) * loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("contrastive_weight", [0.0, 0.1])
def test_epoch(
    benchmark: BenchmarkFixture, beside: Beside, contrastive_weight: float, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(N_STATES, LAYOUT.n_weights)).astype(np.float32)
    model = HyperRepresentation(
        LAYOUT, contrastive_weight=contrastive_weight, max_epochs=1, schedule=None, n_iter_no_change=None
    )
    work: dict[str, Callable[[], object]] = {"ours": lambda: model.fit(X), "plain": lambda: plain_epoch(model, X)}
    fastest = dict.fromkeys(work, np.inf)
    for _ in range(N_ROUNDS):
        for name, run in work.items():
            started = time.process_time()
            run()
            fastest[name] = min(fastest[name], time.process_time() - started)
    ratio = fastest["ours"] / fastest["plain"]
    benchmark.extra_info["ratio"] = ratio
    what = f"an epoch of HyperRepresentation, contrast {contrastive_weight}"
    beside(what, fastest["ours"], "plain PyTorch loop", fastest["plain"])
    with capsys.disabled():
        print(f"\ncontrastive {contrastive_weight}: {fastest['ours']:.2f} s an epoch, {ratio:.2f} of a plain loop")
    benchmark.pedantic(model.fit, args=(X,), rounds=1)
    torch.set_num_threads(threads)
