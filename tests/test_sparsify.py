"""Sparsified twins: the arithmetic against a layer written out, and whole zoos of twins."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zoobench.cli import main
from zoobench.fetch import fetch_zoo
from zoobench.generators import progress, twin_runs, twin_zoo
from zoobench.generators.architectures import first_unit
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.pruning import MagnitudePruning
from zoobench.generators.sparsify import sparsify_zoo
from zoobench.generators.training import METRICS
from zoobench.generators.twin_networks import TwinChunk
from zoobench.generators.twin_training import network_of, train_twins, twin_seed
from zoobench.generators.variational import VariationalDropout
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.split import split_of
from zoobench.zoo import Zoo

LAYOUT = WeightLayout.from_architecture("cnn_s")
PRUNABLE = LAYOUT.mask(roles=["weight"])


@pytest.fixture(scope="module")
def images() -> ImageData:
    """Few images: twenty steps of two."""
    whole = load_images("digits")
    names = [name for part in ("train", "val", "test") for name in (part, f"{part}_labels")]
    return replace(whole, **{name: getattr(whole, name)[:40] for name in names})


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return fetch_zoo("digits_cnn_s", epochs="last")


def chunk_of(zoo: Zoo, n_models: int, **own: float | str) -> TwinChunk:
    values = {"lr": 3e-3, "weight_decay": 1e-3, "dropout": 0.0, "momentum": 0.9}
    shared = {"activation": "tanh", "optimizer": "adam", "batch_size": 2}
    return TwinChunk(
        tuple(zoo.properties["model"].astype(str)[:n_models]),
        np.array(zoo.data[:n_models]),
        zoo.layout,
        shared | {name: value for name, value in own.items() if name in shared},
        {name: (float(own.get(name, value)),) * n_models for name, value in values.items()},
    )


# -- the arithmetic ----------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """One layer with a variance for each weight, written out as the twins' papers describe it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, noisy_bias: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.log_variance = nn.Parameter(torch.full_like(weight, -10.0))
        self.log_variance_of_bias = nn.Parameter(torch.full_like(bias, -10.0)) if noisy_bias else None
        self.bound = 8.0 if weight.ndim == 4 else 10.0

    def log_alpha(self, weight: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        return (log_variance - 2 * (weight.abs() + 1e-15).log()).clamp(-self.bound, self.bound)

    def log_alphas(self) -> list[torch.Tensor]:
        found = [self.log_alpha(self.weight, self.log_variance)]
        if self.log_variance_of_bias is not None:
            found.append(self.log_alpha(self.bias, self.log_variance_of_bias))
        return found

    def apply_to(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return (functional.conv2d if weight.ndim == 4 else functional.linear)(x, weight, bias)

    def forward(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        alphas = [value.exp() for value in self.log_alphas()]
        of_bias = alphas[1] * self.bias**2 if len(alphas) == 2 else None
        mean = self.apply_to(x, self.weight, self.bias)
        deviation = torch.sqrt(self.apply_to(x**2, alphas[0] * self.weight**2, of_bias) + 1e-15)
        return mean + deviation * torch.randn(mean.shape, generator=generator)

    def divergence(self) -> torch.Tensor:
        total = torch.zeros(())
        for value in self.log_alphas():
            total -= (
                0.63576 * torch.sigmoid(1.8732 + 1.48695 * value) - 0.5 * torch.log1p((-value).exp()) - 0.63576
            ).sum()
        return total

    def evaluated(self) -> list[torch.Tensor]:
        alphas = self.log_alphas()
        weight = self.weight.detach() * (alphas[0] < 3)
        bias = self.bias.detach() * (alphas[1] < 3 if len(alphas) == 2 else 1.0)
        return [weight.flatten(), bias]


@pytest.mark.parametrize("variant", ["standard", "published"])
@pytest.mark.parametrize(("optimizer", "dropout"), [("adam", 0.0), ("adamw", 0.5), ("sgd", 0.0)])
def test_variational_dropout_follows_one_network_written_out(zoo, images, variant, optimizer, dropout):
    """Twenty steps of torch's optimizers on the loss with its divergence give the same weights, zeros and losses."""
    # The divergence is steep where a weight is near zero: larger steps of SGD would not be repeatable to 1e-5.
    lr, decay, name = 1e-5 if optimizer == "sgd" else 3e-3, 1e-2, str(zoo.properties["model"][1])
    chunk = chunk_of(zoo, 2, optimizer=optimizer, lr=lr, weight_decay=decay, dropout=dropout)
    method = VariationalDropout(network_of(chunk, 3, "cpu"), kl_weight=0.5, n_epochs=2, variant=variant)
    trained = train_twins(chunk, method, images, epochs=[0, 1], random_state=3, device="cpu")
    state = list(zoo.state_dict(1).values())
    layers = nn.ModuleList(
        Noisy(weight, bias, variant == "published" and weight.ndim == 4)
        for weight, bias in zip(state[::2], state[1::2], strict=True)
    )
    make = {
        "adam": lambda p: torch.optim.Adam(p, lr=lr),
        "adamw": lambda p: torch.optim.AdamW(p, lr=lr),
        "sgd": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9),
    }
    # In the standard form, decay would be no prior for a logarithm: it is for the weights alone.
    decays = {"weight": decay, "bias": decay}
    steps = make[optimizer](
        [
            {"params": [p], "weight_decay": decay if variant == "published" else decays.get(name.split(".")[1], 0.0)}
            for name, p in layers.named_parameters()
        ]
    )
    order = torch.randperm(40, generator=torch.Generator().manual_seed(twin_seed(name, "batches", 3)))
    noise = torch.Generator().manual_seed(twin_seed(name, "noise", 3))
    masks = DropoutMasks(twin_seed(name, "dropout", 3))
    losses = 0.0
    for rows in order.split(2):
        x = images.train[rows]
        for number, layer in enumerate(layers):
            x = layer(x, noise)
            x = functional.max_pool2d(x, 2) if number < 2 else x
            x = x.tanh() if number < 4 else x
            if dropout and number in (0, 1, 3):
                units = range(first_unit(number), first_unit(number) + x[0].numel())
                x = x * torch.from_numpy(masks.draw(dropout, 2, units)).view_as(x)
            x = x.flatten(1) if number == 2 else x
        masks.n_seen += 2
        loss = functional.cross_entropy(x, images.train_labels[rows])
        steps.zero_grad()
        # Of the first of two epochs: half of the weight that the last has.
        (loss + 0.25 * sum(layer.divergence() for layer in layers)).backward()
        steps.step()
        losses += loss.item() * 2
    expected = torch.cat([part for layer in layers for part in layer.evaluated()]).detach().numpy()
    assert np.array_equal(trained.weights[1, 0], zoo.data[1])
    assert trained.metrics[1, 1, 0] == pytest.approx(losses / 40, rel=1e-4)
    assert np.array_equal(trained.weights[1, 1] == 0, expected == 0)
    np.testing.assert_allclose(trained.weights[1, 1], expected, atol=1e-5)
    assert trained.metrics[1, 1, 6] == pytest.approx((expected[PRUNABLE] == 0).mean())


def test_what_is_mostly_noise_is_zero_in_evaluation_only(zoo):
    """Weights with log alpha of 3 and more are zero in the network that is evaluated; biases are dropped as asked."""
    weights = torch.from_numpy(np.array(zoo.data[:1]))
    for variant, n_noisy in (("standard", 2416), ("published", 2416 + 18)):
        network = network_of(chunk_of(zoo, 1), 0, "cpu")
        method = VariationalDropout(network, kl_weight=0.01, n_epochs=25, variant=variant)
        parameters = method.start(weights)
        assert parameters.shape == (1, 2464 + n_noisy)
        columns = np.flatnonzero(PRUNABLE if variant == "standard" else PRUNABLE | LAYOUT.mask(kinds=["conv2d"]))
        parameters[0, 2464:] = 2 * weights[0, columns].abs().log() + torch.where(
            torch.arange(n_noisy) % 2 == 0, 2.9, 3.1
        )
        zero = np.flatnonzero(method.evaluated(parameters)[0].numpy() == 0)
        assert zero.tolist() == sorted(columns[1::2].tolist())


def test_magnitude_pruning_keeps_what_is_largest_and_zeroes_stay(zoo, images):
    """The first epoch's zeros are the smallest weights of the whole network; none comes back; the end is as asked."""
    chunk = chunk_of(zoo, 3, optimizer="sgd", lr=1e-2)
    method = MagnitudePruning(network_of(chunk, 0, "cpu"), sparsity=0.8, n_epochs=4)
    assert [method.sparsity_at(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx([0.7, 0.8, 0.8, 0.8])
    trained = train_twins(chunk, method, images, epochs=range(5), random_state=0, device="cpu")
    zeros = trained.weights == 0
    for model in range(3):
        first = np.abs(chunk.weights[model][PRUNABLE])
        smallest = np.argsort(first, kind="stable")[: round(0.7 * 2416)]
        assert set(np.flatnonzero(zeros[model, 1][PRUNABLE])) == set(smallest)
    assert (zeros[:, 2:] >= zeros[:, 1:-1]).all()
    assert not zeros[:, :, ~PRUNABLE].any()
    assert (zeros[:, 2:, PRUNABLE].sum(2) == round(0.8 * 2416)).all()
    assert (trained.weights[:, 4] != trained.weights[:, 3])[:, PRUNABLE].mean() > 0.1
    np.testing.assert_allclose(trained.metrics[:, :, 6], zeros[:, :, PRUNABLE].mean(2))


def test_a_model_that_diverges_stays_as_it_is_and_disturbs_no_other(zoo, images):
    """A start with NaN, and a learning rate that is far too large, leave the other models' bits alone."""
    chunk = chunk_of(zoo, 3, optimizer="sgd")
    weights = chunk.weights.copy()
    weights[0, 7] = np.nan
    own = chunk.own | {"lr": (3e-3, 1e30, 3e-3)}

    def run(chunk: TwinChunk) -> np.ndarray:
        method = MagnitudePruning(network_of(chunk, 0, "cpu"), sparsity=0.5, n_epochs=2)
        return train_twins(chunk, method, images, epochs=[0, 1, 2], random_state=0, device="cpu").weights

    found, expected = run(replace(chunk, weights=weights, own=own)), run(chunk)
    assert np.isnan(found[0]).any(axis=1).all()
    assert not np.isfinite(found[1, 1]).all()
    assert np.array_equal(found[1, 1], found[1, 2], equal_nan=True)
    assert np.array_equal(found[2], expected[2])


# -- whole zoos --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


#: Cheap twins of five models in three chunks.
TINY = {"n_epochs": 2, "n_models": 5, "hyperparameters": {"batch_size": 10}}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of two, where there would be sixteen."""
    monkeypatch.setitem(twin_zoo._CHUNK, "cpu", 2)


@pytest.fixture(scope="module")
def twins(zoo, images) -> Zoo:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(twin_zoo._CHUNK, "cpu", 2)
        return sparsify_zoo(zoo, images=images, **TINY)


def test_every_row_names_the_model_that_it_came_from(zoo, twins):
    """Names, splits and hyper-parameters are the models' own; epoch 0 is their last state; the zoo is named."""
    table, before = twins.properties, zoo.properties.iloc[:5]
    assert table["epoch"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert table["model"].astype(str).tolist() == before["model"].astype(str).tolist() * 3
    assert table["split"].tolist() == [split_of(str(name)) for name in table["model"]]
    assert np.array_equal(twins.data[:5], zoo.data[:5])
    for name in ("activation", "optimizer", "lr", "weight_decay", "seed"):
        assert table[name].tolist() == before[name].tolist() * 3
    assert set(METRICS) | {"ggap", "sparsity"} <= set(table)
    assert table["sparsity"][:5].tolist() == [0.0] * 5
    assert (table["sparsity"][10:] > 0).all()
    assert np.allclose(table["sparsity"], (twins.data[:, PRUNABLE] == 0).mean(1))
    provenance = twins.to_contents().provenance["twins"]
    assert (provenance["twin_of"], provenance["method"]) == ("digits_cnn_s_seed", "variational_dropout")
    assert twins.to_contents().name == "digits_cnn_s_seed_sparse"
    assert twins.module(14)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_neither_jobs_nor_other_models_change_a_twin(zoo, twins, images, tmp_path):
    """Two processes and a folder give the same bits; so does a zoo in which a model stands elsewhere, to rounding."""
    found = sparsify_zoo(zoo, images=images, n_jobs=2, out=tmp_path / "twins", **TINY)
    assert np.array_equal(found.data, twins.data)
    assert found.properties.equals(twins.properties)
    contents = zoo.to_contents()
    later = Zoo.from_contents(
        replace(contents, weights=contents.weights[3:6], properties=contents.properties[3:6], peaks=None)
    )
    alone = sparsify_zoo(later, images=images, **TINY)
    np.testing.assert_allclose(alone.data[6], twins.data[13], atol=1e-4)


def test_other_processes_load_the_images_by_name(zoo, images, monkeypatch):
    """What is sent holds a name; of image data of one's own, arrays, which joblib maps into memory where large."""
    sent: list[tuple[object, ...]] = []

    def elsewhere(work, calls, n_jobs):
        sent.extend(calls)
        yield from (work(*pickle.loads(pickle.dumps(call))) for call in calls)

    monkeypatch.setattr(twin_runs, "unordered", elsewhere)
    settings = {"method": "magnitude", "n_epochs": 1, "n_models": 1, "hyperparameters": {"batch_size": 100}}
    found = sparsify_zoo(zoo, n_jobs=2, **settings)
    assert np.array_equal(found.data, sparsify_zoo(zoo, **settings).data)
    assert len(pickle.dumps(sent)) < 100_000 < load_images("digits").train.nbytes
    own = replace(images, name="own", augmentation="crop_flip", black=(-1.0,))
    found = sparsify_zoo(zoo, n_jobs=2, images=own, **settings)
    assert np.array_equal(found.data, sparsify_zoo(zoo, images=own, **settings).data)
    arrays = sent[-1][4].arrays
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    assert sent[-1][4].load().augmentation == "crop_flip"
    assert found.to_contents().provenance["twins"]["augmentation"] == "crop_flip"


def test_progress_shows_epochs_accuracy_and_sparsity(zoo, images, monkeypatch):
    """The bar moves within a chunk, and says what was last measured."""
    shown: list[str] = []

    def spied(real):
        def show(bar, *args, **options):
            real(bar, *args, **options)
            shown.append(str(bar._bar))

        return show

    for name in ("watch", "finished"):
        monkeypatch.setattr(progress.Progress, name, spied(getattr(progress.Progress, name)))
    monkeypatch.setattr(sys, "stderr", Terminal())
    found = sparsify_zoo(zoo, images=images, method="magnitude", n_epochs=2, n_models=3)
    medians = found.properties.groupby("epoch")[["test_acc", "sparsity"]].median()
    assert len(shown) == 8  # two chunks of two epochs and the start
    assert "training digits_cnn_s_seed_sparse_magnitude_50" in shown[0]
    assert "epoch=2/2" in shown[2]
    assert "100%" in shown[-1]
    assert f"test_acc={medians['test_acc'][2]:.3f}, sparsity={medians['sparsity'][2]:.3f}" in shown[-1]


def test_checkpoints_and_random_state(zoo, twins, images):
    """Which states are kept changes none of them; another random state changes all."""
    last = sparsify_zoo(zoo, images=images, checkpoint_epochs=[2], **TINY)
    assert np.array_equal(last.data, twins.data[10:])
    other = sparsify_zoo(zoo, images=images, checkpoint_epochs=[2], random_state=1, **TINY)
    assert (other.data != last.data).any(axis=1).all()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(zoo, tmp_path, monkeypatch):
    """After kill -9, what was finished is not trained again, and the twins are those of an uninterrupted run."""
    settings = {"n_epochs": 1, "n_models": 4, "hyperparameters": {"batch_size": 100}, "method": "magnitude"}
    out = tmp_path / "twins"
    script = (
        "import time\n"
        "from zoobench.fetch import fetch_zoo\n"
        "from zoobench.generators import sparsify, twin_runs, twin_zoo\n"
        "twin_zoo._CHUNK['cpu'] = 2\n"
        "real, calls = twin_runs._train_chunk, []\n"
        "def slow(*args):\n"
        "    calls.append(1)\n"
        "    return real(*args) if len(calls) < 2 else time.sleep(600)\n"
        "twin_runs._train_chunk = slow\n"
        f"sparsify.sparsify_zoo(fetch_zoo('digits_cnn_s', epochs='last'), out={str(out)!r}, **{settings!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (finished := list(out.glob(".models/*.npz"))) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(finished) == 1
    trained: list[int] = []
    real = twin_runs._train_chunk
    monkeypatch.setattr(
        twin_runs, "_train_chunk", lambda number, *others: trained.append(number) or real(number, *others)
    )
    found = sparsify_zoo(zoo, out=out, **settings)
    assert trained == [1]
    expected = sparsify_zoo(zoo, **settings)
    assert np.array_equal(found.data, expected.data)
    assert found.properties.equals(expected.properties)
    assert not (out / ".models").exists()
    assert np.array_equal(sparsify_zoo(zoo, out=out, **settings).data, expected.data)
    assert trained == [1, 0, 1]
    with pytest.raises(ValueError, match="holds another zoo"):
        sparsify_zoo(zoo, out=out, **settings | {"random_state": 1})


def test_twins_that_are_being_replaced_are_not_taken_for_the_new_ones(zoo, images, tmp_path, monkeypatch):
    """resume=False that was interrupted, and called again without it: what is finished is kept, the rest trained."""
    settings = {"n_epochs": 1, "n_models": 4, "images": images, "method": "magnitude", "out": tmp_path / "twins"}
    first = sparsify_zoo(zoo, **settings)
    real, trained, last = twin_runs._train_chunk, [], [1]

    def interrupted(number, *others):
        if len(trained) == last[0]:
            raise KeyboardInterrupt
        trained.append(number)
        return real(number, *others)

    monkeypatch.setattr(twin_runs, "_train_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sparsify_zoo(zoo, resume=False, **settings)
    last[0] = 9
    assert np.array_equal(sparsify_zoo(zoo, **settings).data, first.data)
    assert trained == [0, 1]
    sparsify_zoo(zoo, **settings)
    assert trained == [0, 1]


def test_hyperparameter_zoos_have_twins_of_each_setting(data_dir, images):
    """Models with different activations and optimizers, and dropout, are sparsified beside each other."""
    zoo = load_zoo(data_dir / "tune_zoo_digits_hyperparameter_10_random_seeds.zip", epochs="last")
    table = zoo.properties
    assert table["optimizer"].nunique() * table["dropout"].nunique() == 4
    found = sparsify_zoo(zoo, method="magnitude", sparsity=0.3, n_epochs=1, images=images)
    assert found.properties["model"].astype(str).tolist() == table["model"].astype(str).tolist() * 2
    assert found.properties["activation"].tolist() == table["activation"].tolist() * 2
    assert found.properties["sparsity"][len(table) :].tolist() == [round(0.3 * 2416) / 2416] * len(table)


def test_the_command_sparsifies(capsys, tmp_path):
    """`zoobench sparsify` writes what `sparsify_zoo` gives, and says wrong arguments in a sentence."""
    out = tmp_path / "twins"
    arguments = ["sparsify", "digits_cnn_s", "--method", "magnitude", "--sparsity", "0.25", "--epochs", "1"]
    arguments += ["--n-models", "1", "--checkpoint-epochs", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert "digits_cnn_s_seed_sparse_magnitude_25: 1 states of 1 models" in capsys.readouterr().out
    assert load_zoo(out).properties["sparsity"].tolist() == [0.25]
    arguments = ["sparsify", "digits_cnn_s", "--variant", "published", "--kl-weight", "0.5", "--random-state", "7"]
    arguments += ["--epochs", "1", "--n-models", "1", "--checkpoint-epochs", "0", "--out", str(tmp_path / "dropped")]
    assert main(arguments) == 0
    settings = load_zoo(tmp_path / "dropped").to_contents().provenance["twins"]
    assert [settings[name] for name in ("variant", "kl_weight", "random_state")] == ["published", 0.5, 7]
    wrong = ["sparsify", "digits_cnn_s", "--out", str(tmp_path / "x")]
    for given, message in (
        (["--epochs", "0"], "n_epochs must be a whole number of at least 1, not 0"),
        (["--kl-weight", "2"], "kl_weight must be a number from 0 to 1, not 2.0"),
        (["--sparsity", "0.5"], "sparsity is a setting of method 'magnitude', not of 'variational_dropout'"),
        (["--method", "magnitude", "--variant", "published"], "variant is a setting of method 'variational_dropout'"),
    ):
        assert main([*wrong, *given]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "pruning"}, "method must be 'variational_dropout' or 'magnitude', not 'pruning'"),
        ({"variant": "other"}, "variant must be"),
        (
            {"method": "magnitude", "variant": "published"},
            "variant is a setting of method 'variational_dropout', not of",
        ),
        ({"method": "magnitude", "kl_weight": 0.01}, "kl_weight is a setting of method 'variational_dropout', not of"),
        ({"sparsity": 0.5}, "sparsity is a setting of method 'magnitude', not of 'variational_dropout'; leave it out"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_models": 0}, "n_models"),
        ({"method": "magnitude", "sparsity": 1.0}, "sparsity must be a number from 0, below 1, not 1.0"),
        ({"method": "magnitude", "sparsity": "0.5"}, "sparsity must be a number from 0, below 1, not '0.5'"),
        ({"kl_weight": -1}, "kl_weight"),
        ({"random_state": None}, "random_state"),
        ({"checkpoint_epochs": [26]}, "26"),
        ({"hyperparameters": {"rate": 1}}, "no hyper-parameter 'rate'"),
        ({"hyperparameters": {"optimizer": "rmsprop"}}, "optimizer 'rmsprop' is unknown"),
        ({"hyperparameters": {"optimizer": None}}, "optimizer None is unknown"),
        ({"hyperparameters": [("lr", 1)]}, "hyperparameters must map names to values"),
        ({"hyperparameters": {"batch_size": 0}}, "batch_size must be a whole number of at least 1, not 0"),
        ({"hyperparameters": {"batch_size": 2.5}}, "batch_size must be a whole number of at least 1, not 2.5"),
        ({"hyperparameters": {"dropout": 1.0}}, "dropout must be from 0, below 1, not 1.0"),
        ({"hyperparameters": {"dropout": -1}}, "dropout must be from 0, below 1, not -1.0"),
        ({"hyperparameters": {"lr": None}}, "lr must be a finite number, not None"),
        ({"hyperparameters": {"lr": -1}}, "lr must be above 0, not -1.0"),
        ({"hyperparameters": {"lr": float("nan")}}, "lr must be a finite number, not nan"),
        ({"hyperparameters": {"momentum": 5}}, "momentum must be from 0, below 1, not 5.0"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_trained(zoo, arguments, message):
    """Each is a ValueError that says what was expected."""
    with pytest.raises(ValueError, match=message):
        sparsify_zoo(zoo, **arguments)


def test_a_name_in_place_of_a_zoo_is_refused_with_the_remedy():
    """A str is told to be fetched first."""
    with pytest.raises(ValueError, match=r"must be a Zoo, not 'digits_cnn_s'; fetch it first, as in fetch_zoo\("):
        sparsify_zoo("digits_cnn_s")


def test_the_table_says_what_the_twins_were_trained_with(zoo, images, tmp_path):
    """Values given in place of the models' own stand in the table and in the provenance, numpy's as plain numbers."""
    given = {"lr": np.float32(0.5), "batch_size": np.int64(20), "optimizer": np.str_("sgd")}
    settings = {"method": "magnitude", "n_epochs": 1, "n_models": 2, "images": images}
    found = sparsify_zoo(zoo, hyperparameters=given, out=tmp_path / "twins", **settings)
    for name, value in given.items():
        assert found.properties[name].tolist() == [value] * len(found.properties)
    assert found.properties["weight_decay"].tolist() == zoo.properties["weight_decay"][:2].tolist() * 2
    found = found.to_contents().provenance["twins"]["hyperparameters"]
    assert found == {"lr": 0.5, "batch_size": 20, "optimizer": "sgd"}


def test_the_card_is_for_the_twins_that_come_with_the_package_alone():
    """Each setting that differs leaves twins without a card, for it tells how those of the package were made."""
    contents = fetch_zoo("digits_cnn_s_sparse").to_contents()
    settings = contents.provenance["twins"]
    assert twin_zoo._card(contents.name, settings) == contents.card
    others = {"variant": "published", "kl_weight": 0.02, "n_epochs": 26, "random_state": 1}
    others |= {"epochs": [25], "hyperparameters": {"lr": 0.1}, "images_sha256": "0", "start_sha256": "0"}
    for name, value in others.items():
        assert settings[name] != value
        assert twin_zoo._card(contents.name, settings | {name: value}) is None


def test_what_a_kill_left_beside_finished_twins_is_removed(zoo, images, tmp_path):
    """Chunks that outlived the writing of the zoo go at the next call."""
    settings = {"method": "magnitude", "n_epochs": 1, "n_models": 1, "images": images, "out": tmp_path / "twins"}
    expected = sparsify_zoo(zoo, **settings)
    (tmp_path / "twins" / ".models").mkdir()
    (tmp_path / "twins" / ".models" / "left.npz").write_bytes(b"0")
    assert np.array_equal(sparsify_zoo(zoo, **settings).data, expected.data)
    assert not (tmp_path / "twins" / ".models").exists()


def test_zoos_that_do_not_tell_enough_are_refused_with_the_remedy(zoo):
    """Without activation or learning rate there is nothing to train with, unless they are given."""
    contents = zoo.to_contents()
    for name in ("activation", "lr"):
        bare = Zoo.from_contents(
            replace(contents, properties=contents.properties.drop(columns=name), card=None, recipe=None)
        )
        with pytest.raises(ValueError, match=f"does not say which {name} .* give it, as in hyperparameters="):
            sparsify_zoo(bare, images="digits")
    other = Zoo.from_contents(
        replace(
            contents, weights=np.array(contents.weights[:, :6]), layout=WeightLayout([("fc.weight", (2, 3), "linear")])
        )
    )
    with pytest.raises(ValueError, match="cannot be sparsified: their architecture is not one that is known"):
        sparsify_zoo(other)
