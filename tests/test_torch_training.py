"""The training loop of the neural estimators: seeded, quiet about global state, and stopped by validation data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from zoobench.estimators import torch_training
from zoobench.estimators.torch_training import (
    SeededDropout,
    load_arrays,
    resolve_device,
    seed_of,
    seeded,
    to_arrays,
    train,
)

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :1] - 2 * X[:, 1:2]


def network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), SeededDropout(dropout), nn.Linear(8, 1)), seed)


def fitted(module: nn.Module, **settings: Any) -> dict[str, list[float]]:
    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        return (module(X[rows]) - Y[rows]).square().mean()

    plain: dict[str, Any] = {"max_epochs": 5, "batch_size": 8, "lr": 0.01, "seed": 0, "device": "cpu"}
    return train(module, batch_loss, len(X), **plain | settings)


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_it_is_the_plain_loop(kind: str) -> None:
    """Weights and losses are those of a loop written out, given the same orders of rows."""
    orders: list[Tensor] = []
    module = network()

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        orders.append(rows)
        return (module(X[rows]) - Y[rows]).square().mean()

    settings = {"lr": 0.01, "weight_decay": 0.1}
    history = train(
        module, batch_loss, 50, max_epochs=3, batch_size=8, seed=1, device="cpu", optimizer=kind, **settings
    )
    plain = network()
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](plain.parameters(), **settings)
    losses = []
    for rows in orders:
        optimizer.zero_grad()
        loss = (plain(X[rows]) - Y[rows]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(rows) / 50)
    for name, values in to_arrays(plain).items():
        np.testing.assert_allclose(to_arrays(module)[name], values, atol=1e-6)
    assert [len(rows) for rows in orders[:7]] == [8] * 6 + [2]
    np.testing.assert_allclose(history["loss"], np.reshape(losses, (3, 7)).sum(axis=1), rtol=1e-5)


def test_every_row_is_seen_once_an_epoch_and_none_alone() -> None:
    """An epoch is an order of all rows, another one each time; a last single row joins the batch before."""
    seen: list[Tensor] = []

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(rows)
        return module.weight.sum()

    module = nn.Linear(1, 1)
    train(module, batch_loss, 9, max_epochs=2, batch_size=4, lr=0.1, seed=0, device="cpu")
    assert [len(rows) for rows in seen] == [4, 5, 4, 5]
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(9))
    assert first.tolist() != second.tolist()


def test_a_seed_fixes_everything_and_another_changes_it() -> None:
    """Weights, orders and dropout masks repeat with the seed, whatever torch's global state is."""
    found = []
    for seed, global_seed in [(3, 0), (3, 1), (4, 0)]:
        torch.manual_seed(global_seed)
        module = network(dropout=0.5)
        fitted(module, seed=seed)
        found.append(to_arrays(module))
    assert_equal(found[0], found[1])
    assert not np.array_equal(found[0]["0.weight"], found[2]["0.weight"])
    assert not np.array_equal(to_arrays(network(0))["0.weight"], to_arrays(network(1))["0.weight"])


def test_the_global_state_stays() -> None:
    """Neither random states nor the number of threads differ afterwards."""
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fitted(network(dropout=0.5), n_threads=threads + 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_dropout_keeps_the_mean_and_rests_in_evaluation() -> None:
    """While training, the share p is zero and the rest scaled up; otherwise values pass."""
    dropout, ones = SeededDropout(0.25), torch.ones(10000)
    dropout.generator = torch.Generator().manual_seed(0)
    found = dropout(ones)
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert found.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(dropout.eval()(ones), ones)


def test_validation_stops_and_keeps_the_best_epoch() -> None:
    """Training ends when the watched loss has not fallen for so many epochs, with the weights of the best one."""
    watched = iter([3.0, 2.0, 1.0, 1.5, 0.99, 1.2, 1.1, 0.1])
    module = network()
    kept: list[dict[str, np.ndarray]] = []

    def validation_loss() -> tuple[float, dict[str, Tensor]]:
        assert not module.training
        kept.append(to_arrays(module))
        return next(watched), {"part": torch.tensor(0.5)}

    history = fitted(module, max_epochs=20, validation_loss=validation_loss, n_iter_no_change=3, tol=0.02)
    assert history["validation_loss"] == [3.0, 2.0, 1.0, 1.5, 0.99, 1.2]
    assert history["validation_part"] == [0.5] * 6
    assert len(history["loss"]) == 6
    assert_equal(to_arrays(module), kept[4])


def test_without_patience_all_epochs_run_and_the_best_is_kept() -> None:
    """Validation data alone choose the epoch, but end nothing."""
    watched = iter([1.0, 3.0, 2.0])
    module = network()
    kept: list[dict[str, np.ndarray]] = []

    def validation_loss() -> float:
        kept.append(to_arrays(module))
        return next(watched)

    assert len(fitted(module, max_epochs=3, validation_loss=validation_loss)["loss"]) == 3
    assert_equal(to_arrays(module), kept[0])


def test_parts_of_a_loss_are_in_the_history() -> None:
    """What a loss is the sum of is averaged over the rows, like the loss."""

    def batch_loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        mean = rows.double().mean()
        return module.weight.sum() * 0 + mean, {"half": mean / 2}

    module = nn.Linear(1, 1)
    history = train(module, batch_loss, 10, max_epochs=2, batch_size=4, lr=0.1, seed=0, device="cpu")
    assert history["loss"] == pytest.approx([4.5, 4.5])
    assert history["half"] == pytest.approx([2.25, 2.25])


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_schedules_end_near_zero(schedule: str) -> None:
    """The last steps of a schedule are tiny: further epochs at that rate would change little."""
    weights: list[float] = []

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        weights.append(module.weight.item())
        return module.weight.sum()

    module = nn.Linear(1, 1)
    train(module, batch_loss, 8, max_epochs=25, batch_size=4, lr=0.1, seed=0, device="cpu", schedule=schedule)
    steps = np.abs(np.diff(weights))
    assert len(steps) == 49
    assert steps[-1] < 0.02 * steps.max()
    assert steps.max() <= 0.11


def test_a_loss_that_is_no_number_is_an_error() -> None:
    """Divergence says in which epoch and what to do, and leaves no half-trained module behind as a success."""
    with pytest.raises(
        ValueError, match="NaN or infinite in epoch 1; scale the features, or use a smaller lr than 0.5"
    ):
        train(
            nn.Linear(1, 1), lambda rows, generator: torch.tensor(math.nan, requires_grad=True), 4,
            max_epochs=2, batch_size=2, lr=0.5, seed=0, device="cpu",
        )  # fmt: skip


def test_divergence_after_a_good_epoch_keeps_it() -> None:
    """With validation data the best epoch is kept, with a warning."""
    watched = iter([1.0, math.nan, 0.5])
    module = network()
    with pytest.warns(ConvergenceWarning, match="epoch 2; the best epoch is kept"):
        history = fitted(module, validation_loss=lambda: next(watched))
    assert len(history["loss"]) == 2


def test_interruption_reaches_the_caller() -> None:
    """Ctrl-C ends the training at once, and dropout has given back its generator."""
    module = network(dropout=0.5)

    def interrupted(rows: Tensor, generator: torch.Generator) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(module, interrupted, 4, max_epochs=2, batch_size=2, lr=0.1, seed=0, device="cpu")
    assert [part.generator for part in module if isinstance(part, SeededDropout)] == [None]


def test_arrays_round_trip() -> None:
    """Weights and buffers come back as they were, on a module of another seed."""
    one, other = (seeded(lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), seed) for seed in (0, 1))
    arrays = to_arrays(one)
    assert_equal(to_arrays(load_arrays(other, arrays)), arrays)
    arrays["0.weight"][:] = 0
    assert other[0].weight.abs().sum() > 0


def test_a_progress_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """verbose=1 shows epochs and losses; 0 shows nothing."""
    fitted(network())
    assert capsys.readouterr().err == ""
    fitted(network(), verbose=1, description="fitting a net")
    shown = capsys.readouterr().err
    assert "fitting a net" in shown
    assert "5/5" in shown
    assert "loss=" in shown


def test_devices_and_seeds_are_resolved() -> None:
    """Unknown devices are errors; a RandomState draws a seed, an integer is one."""
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for device in ("tpu", "meta"):
        with pytest.raises(ValueError, match=f"device '{device}' is unknown"):
            resolve_device(device)
    assert seed_of(7) == seed_of(np.int64(7)) == 7
    assert seed_of(np.random.RandomState(1)) == seed_of(np.random.RandomState(1))


def test_overlapping_fits_leave_torchs_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads: who comes second finds one thread, and must not take that for what was there before."""
    numbers = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    first, second = torch_training._threads(1), torch_training._threads(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert numbers == [4, 1, 1, 4, 4]
