"""The compiled engine: the models of the plain loop, whoever lies beside them, and its file in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional

from zoobench.generators import compiling, population
from zoobench.generators.architectures import build_module
from zoobench.generators.compiling import NoEngineError, compiled_library, load_library
from zoobench.generators.dropout import DropoutMasks, dropout_scale
from zoobench.generators.engine import train_models
from zoobench.generators.image_sets import IMAGE_SETS
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.parts import read_part, write_part
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe
from zoobench.generators.training import METRICS, TrainedModel, train_model
from zoobench.layout import WeightLayout

pytestmark = pytest.mark.compiler


def few_images(n: int = 45, channels: int = 1, side: int = 28) -> ImageData:
    """The first digits, in as many colours and as large as asked for."""
    whole = load_images("digits")
    parts = {}
    for part in ("train", "val", "test"):
        grey = functional.interpolate(getattr(whole, part)[:n], size=(side, side))
        parts[part] = grey * (grey.new_tensor([1.0, -0.7, 0.4])[:channels, None, None])
        parts[f"{part}_labels"] = getattr(whole, f"{part}_labels")[:n]
    return replace(whole, **parts)


@pytest.fixture(scope="module")
def images() -> ImageData:
    """Five batches of ten, the last of them smaller."""
    return few_images()


def assert_same_model(native: TrainedModel, plain: TrainedModel, layout: WeightLayout) -> None:
    """Equal up to rounding.

    The two sum in other orders, which is a few units in the last place of a float32 (6e-8) a step. Kaiming's starts
    have gradients of the size of one, which hardly amplify this: measured, by less than ten, of the hundred and sixty
    that are allowed.
    """
    assert native.weights.dtype == plain.weights.dtype
    assert native.metrics.dtype == plain.metrics.dtype
    assert np.array_equal(native.weights[0], plain.weights[0])
    for tensor in layout.tensors:
        got, wanted = native.weights[:, tensor.slice], plain.weights[:, tensor.slice]
        assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max(), tensor.name
    np.testing.assert_allclose(native.metrics, plain.metrics, rtol=1e-4, atol=1e-6)


# -- the same models as the plain loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "gelu"])
def test_the_engine_trains_the_models_of_the_plain_loop(images, activation):
    """Each activation, optimizer and dropout: after an epoch, weights and measurements are the plain loop's."""
    grid = {
        "activation": [activation],
        "init": ["kaiming_uniform"],
        "optimizer": ["adam", "sgd"],
        "dropout": [0.0, 0.5],
        "lr": [1e-3],
        "weight_decay": [1e-2],
    }
    recipe = Recipe(grid=grid, seeds=[7], n_epochs=1)
    layout = WeightLayout.from_architecture("cnn_s")
    models = recipe.models()
    for settings, native in zip(models, train_models(recipe, models, images), strict=True):
        assert_same_model(native, train_model(recipe, settings, images), layout)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "gelu"])
def test_large_weights_are_evaluated_as_by_the_plain_loop(images, activation):
    """Starts of N(0, 1) and U(0, 1) reach the ends of each activation, and losses that are far from one."""
    recipe = Recipe(grid={"activation": [activation], "init": ["normal", "uniform"]}, seeds=range(4), n_epochs=0)
    models = recipe.models()
    for settings, native in zip(models, train_models(recipe, models, images), strict=True):
        # Saturated units give logits that sum a few hundred rounded numbers, and gelu's tail is a difference of such.
        np.testing.assert_allclose(native.metrics, train_model(recipe, settings, images).metrics, rtol=1e-5)


@pytest.mark.parametrize(("architecture", "side"), [("cnn_s", 28), ("cnn_l", 32)])
def test_networks_with_three_channels_are_trained_too(monkeypatch, architecture, side):
    """Colour images, and the large network, whose second pooling leaves out a row and a column."""
    digits = IMAGE_SETS["digits"]
    colours = replace(digits.setting(), mean=(0.5,) * 3, std=(0.5,) * 3)
    monkeypatch.setitem(IMAGE_SETS, "digits", replace(digits, settings={"cnn_s": colours}))
    grid = {"init": ["kaiming_normal"], "dropout": [0.5]}
    recipe = Recipe(architecture=architecture, grid=grid, seeds=[1, 2], n_epochs=1)
    images = few_images(25, channels=3, side=side)
    layout = WeightLayout.from_architecture(architecture, channels=3)
    models = recipe.models()
    for settings, native in zip(models, train_models(recipe, models, images), strict=True):
        assert_same_model(native, train_model(recipe, settings, images), layout)


def test_twenty_steps_follow_the_plain_loop(images):
    """Running means and optimizer states carry over epochs, and over the calls that an epoch is cut into."""
    grid = {"init": ["kaiming_normal"], "optimizer": ["adam", "sgd"], "dropout": [0.3], "lr": [1e-3]}
    recipe = Recipe(grid=grid, seeds=[3], n_epochs=4)
    models = recipe.models()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoobench.generators.engine._IMAGES_A_CALL", 25)
        cut = train_models(recipe, models, images)
    whole = train_models(recipe, models, images)
    for settings, native, in_pieces in zip(models, whole, cut, strict=True):
        assert np.array_equal(native.weights, in_pieces.weights)
        # Cut into pieces, the same losses are summed in other groups.
        np.testing.assert_allclose(native.metrics, in_pieces.metrics, rtol=1e-12)
        assert_same_model(native, train_model(recipe, settings, images), WeightLayout.from_architecture("cnn_s"))


@pytest.mark.slow
def test_narrow_vectors_train_the_same_models(monkeypatch, tmp_path, images):
    """Compiled for the least machine of this kind, with fewer lanes and no fused operations, it is the same engine."""
    import ctypes

    monkeypatch.setattr(compiling, "_EXTRAS", ((),))
    library = ctypes.CDLL(str(compiled_library(tmp_path)))
    assert library.zoobench_lanes() <= load_library().zoobench_lanes()
    recipe = Recipe(grid={"init": ["kaiming_normal"], "dropout": [0.0, 0.5]}, seeds=range(3), n_epochs=1)
    monkeypatch.setattr("zoobench.generators.engine.load_library", lambda: library)
    models = recipe.models()
    for settings, native in zip(models, train_models(recipe, models, images), strict=True):
        assert_same_model(native, train_model(recipe, settings, images), WeightLayout.from_architecture("cnn_s"))


# -- lanes -------------------------------------------------------------------------------------------------------------


def _bits(trained: TrainedModel) -> tuple[bytes, bytes]:
    return trained.weights.tobytes(), trained.metrics.tobytes()


def test_a_model_is_the_same_whoever_lies_beside_it(images):
    """Alone, in any place, among others with other settings, in a group that is not full: the same bits."""
    grid = {"optimizer": ["adam", "sgd"], "dropout": [0.0, 0.5], "init": ["normal", "kaiming_normal"], "lr": [1e-3]}
    recipe = Recipe(grid=grid, seeds=[1, 2, 3], n_epochs=1)
    models = recipe.models()
    # 24 models: more than there are lanes, and no multiple of sixteen.
    together = [_bits(trained) for trained in train_models(recipe, models, images)]
    assert len(set(together)) == len(models)
    backwards = [_bits(trained) for trained in train_models(recipe, models[::-1], images)]
    assert backwards[::-1] == together
    for place in (0, 7, 13, 23):
        (alone,) = train_models(recipe, [models[place]], images)
        assert _bits(alone) == together[place]


def test_a_diverged_model_stays_as_it_is_and_disturbs_no_other(images):
    """It keeps its rows, its later states repeat the first that is not finite, and its neighbours have their bits."""
    grid = {"optimizer": ["sgd"], "activation": ["relu"], "init": ["kaiming_normal"], "lr": [1e-3, 1e6]}
    recipe = Recipe(grid=grid, seeds=[1, 2], n_epochs=4)
    models = recipe.models()
    trained = train_models(recipe, models, images)
    for settings, native in zip(models, trained, strict=True):
        plain = train_model(recipe, settings, images)
        finite = np.isfinite(native.weights).all(axis=1)
        assert np.array_equal(finite, np.isfinite(plain.weights).all(axis=1))
        if settings.hyperparameters["lr"] == 1e-3:
            assert finite.all()
            assert _bits(train_models(recipe, [settings], images)[0]) == _bits(native)
        else:
            first = int(np.argmin(finite))
            assert 0 < first < 4
            assert not finite[first:].any()
            assert all(np.array_equal(native.weights[first], later, equal_nan=True) for later in native.weights[first:])
            assert np.array_equal(native.metrics[first], native.metrics[-1], equal_nan=True)


def test_one_activation_at_a_time(images):
    """Models of two activations are not for one group: a clear error."""
    recipe = Recipe(grid={"activation": ["tanh", "relu"]}, seeds=[1], n_epochs=0)
    with pytest.raises(ValueError, match="one activation"):
        train_models(recipe, recipe.models(), images)


# -- dropout -----------------------------------------------------------------------------------------------------------


def test_masks_are_those_of_the_image_and_the_unit():
    """However the images are cut into batches, and the units into layers, each unit of each image is dropped alike."""
    whole = DropoutMasks(123).draw(0.3, 20, range(100, 200))
    pieces = DropoutMasks(123)
    first = pieces.draw(0.3, 15, range(100, 200))
    pieces.n_seen = 15
    assert np.array_equal(np.concatenate([first, pieces.draw(0.3, 5, range(100, 200))]), whole)
    assert np.array_equal(DropoutMasks(123).draw(0.3, 20, range(150, 200)), whole[:, 50:])
    assert whole.dtype == np.float32
    assert not np.array_equal(DropoutMasks(124).draw(0.3, 20, range(100, 200)), whole)
    assert not np.array_equal(DropoutMasks(123 + 2**32).draw(0.3, 20, range(100, 200)), whole)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_drop_each_unit_and_each_image_with_the_probability_given(p):
    """Shares over all, over each image and over each unit are within five standard errors; neighbours do not agree."""
    n = 500
    masks = DropoutMasks(5).draw(p, n, range(n))
    dropped = masks == 0
    assert set(np.unique(masks)) == {np.float32(0), dropout_scale(p)}
    error = (p * (1 - p)) ** 0.5
    assert dropped.mean() == pytest.approx(p, abs=5 * error / n)
    assert np.abs(dropped.mean(axis=0) - p).max() < 5 * error / n**0.5
    assert np.abs(dropped.mean(axis=1) - p).max() < 5 * error / n**0.5
    both = p**2 * (1 - p**2)
    for pairs in (dropped[1:] & dropped[:-1], dropped[:, 1:] & dropped[:, :-1]):
        # The pairs overlap, which raises their variance by less than three.
        assert pairs.mean() == pytest.approx(p**2, abs=5 * (3 * both) ** 0.5 / n)


# -- whole zoos --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    """A machine without a compiler, and nothing compiled before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    load_library.cache_clear()
    yield
    load_library.cache_clear()


def test_without_a_compiler_pytorch_trains_and_says_so_once(no_engine, tmp_path):
    """One warning of one sentence; the zoo tells what trained it, and is the engine's up to rounding."""
    recipe = Recipe(grid={"dropout": [0.0, 0.5]}, seeds=[1], n_epochs=1, batch_size=100, name="tiny")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        zoo = make_zoo(recipe, out=tmp_path / "zoo")
    assert [str(warning.message) for warning in said] == [
        "PyTorch trains, which is several times slower than the compiled engine, "
        "because no C++ compiler was found (c++, g++, clang++; $CXX names another)"
    ]
    assert said[0].filename == __file__
    assert zoo.to_contents().provenance["engine"] == "stacked"
    for i, settings in enumerate(recipe.models()):
        plain = train_model(recipe, settings, load_images("digits"))
        np.testing.assert_allclose(zoo.data[i::2], plain.weights, atol=1e-5)
        np.testing.assert_allclose(zoo.properties.loc[i::2, list(METRICS)].to_numpy(), plain.metrics, rtol=1e-4)


def test_the_engine_is_used_where_there_is_a_compiler_and_parts_of_the_plain_loop_are_not_mixed_in(tmp_path):
    """A part that the plain loop left is trained again, because its last bits may be others."""
    recipe = Recipe(seeds=[1, 2], n_epochs=1, batch_size=200, name="tiny")
    first = recipe.models()[0]
    plain = train_model(recipe, first, load_images("digits"))
    parts = tmp_path / "zoo" / ".models"
    parts.mkdir(parents=True)
    write_part(parts, recipe, first, plain, "torch")
    assert read_part(parts, recipe, first, "torch") is not None
    assert read_part(parts, recipe, first, "native") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo = make_zoo(recipe, out=tmp_path / "zoo")
    assert zoo.to_contents().provenance["engine"] == "native"
    assert np.array_equal(zoo.data, make_zoo(recipe).data)
    np.testing.assert_allclose(zoo.data[::2], plain.weights, atol=1e-5)


def test_the_recipe_alone_decides_who_is_trained_together():
    """Sixteen of one activation, in the recipe's order; what is finished already leaves its place empty."""
    recipe = Recipe(grid={"activation": ["tanh", "relu"], "lr": [1e-3, 1e-2]}, seeds=range(10))
    models = recipe.models()
    whole = population.chunks_of(recipe, models, "native")
    assert [len(chunk) for chunk in whole] == [16, 4, 16, 4]
    assert [model for chunk in whole for model in chunk] == models
    left = population.chunks_of(recipe, models[3:17] + models[38:], "native")
    assert left == [models[3:16], models[16:17], models[38:]]
    assert population.chunks_of(recipe, models[:2], "torch") == [[models[0]], [models[1]]]


# -- compiling ---------------------------------------------------------------------------------------------------------

#: Stands for a compiler: "compiles" by copying a library that is there, slowly enough for two to meet.
FAKE = """#!{python}
import shutil, sys, time
if "--version" in sys.argv:
    print("fake compiler", {version!r})
else:
    with open({log!r}, "a") as log:
        log.write(sys.argv[1] + "\\n")
    time.sleep({seconds})
    shutil.copyfile({library!r}, sys.argv[sys.argv.index("-o") + 1])
"""


def _fake_compiler(folder: Path, version: str = "1", seconds: float = 0) -> Path:
    path = folder / "fake-c++"
    library = load_library()._name
    text = FAKE.format(
        python=sys.executable, version=version, log=str(folder / "log"), seconds=seconds, library=library
    )
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_engine_is_compiled_once_for_each_source_compiler_and_machine(monkeypatch, tmp_path):
    """The second time it is found; another compiler, source, set of flags or processor is another file."""
    monkeypatch.setenv("CXX", str(_fake_compiler(tmp_path)))
    cache = tmp_path / "cache"
    paths = [compiled_library(cache), compiled_library(cache)]
    assert paths[0] == paths[1]
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    _fake_compiler(tmp_path, version="2")
    paths.append(compiled_library(cache))
    monkeypatch.setattr(compiling, "_processor", lambda: b"another")
    paths.append(compiled_library(cache))
    monkeypatch.setattr(compiling, "_FLAGS", ("-O1", *compiling._FLAGS))
    paths.append(compiled_library(cache))
    sources = tmp_path / "native"
    shutil.copytree(compiling.SOURCES, sources)
    (sources / "vectors.hpp").write_text("// changed")
    monkeypatch.setattr(compiling, "SOURCES", sources)
    paths.append(compiled_library(cache))
    assert len(set(paths)) == len(paths) - 1
    assert sorted(cache.iterdir()) == sorted(set(paths))


def test_two_processes_that_compile_at_once_both_have_the_engine(tmp_path):
    """Neither sees half a file, and nothing else is left in the folder."""
    environment = {**os.environ, "CXX": str(_fake_compiler(tmp_path, seconds=2))}
    script = (
        "import ctypes, pathlib, sys\n"
        "from zoobench.generators.compiling import compiled_library\n"
        "path = compiled_library(pathlib.Path(sys.argv[1]))\n"
        "print(path, ctypes.CDLL(str(path)).zoobench_lanes())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=120)[0].split() for run in runs]
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert [run.returncode for run in runs] == [0, 0]
    assert said[0] == said[1]
    assert [str(path) for path in (tmp_path / "cache").iterdir()] == [said[0][0]]


def test_a_compiler_that_fails_is_named_with_what_it_said(monkeypatch, tmp_path):
    """The remedy hangs on the reason: no such compiler, or one that cannot, or a folder that cannot be written."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoEngineError, match=r"\$CXX names, 'no-such-compiler', was not found"):
        compiled_library(tmp_path)
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho 'engine.cpp:1: error: no vectors here' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(NoEngineError, match="no vectors here"):
        compiled_library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setenv("CXX", str(_fake_compiler(tmp_path)))
    with pytest.raises(NoEngineError, match="cannot be written"):
        compiled_library(failing / "cache")


def test_options_of_the_compiler_variable_reach_the_compiler(monkeypatch, tmp_path):
    """$CXX may hold options, as in every build tool."""
    monkeypatch.setenv("CXX", f"{_fake_compiler(tmp_path)} -DOPTION")
    with_option = compiled_library(tmp_path / "cache")
    assert (tmp_path / "log").read_text() == "-DOPTION\n"
    monkeypatch.setenv("CXX", str(_fake_compiler(tmp_path)))
    assert compiled_library(tmp_path / "cache") != with_option


def test_dropout_without_a_stream_is_torchs():
    """A network that is trained outside of a recipe drops units from torch's own generator."""
    import torch

    module = build_module("cnn_s", channels=1, activation="tanh", dropout=0.5).module_list.dropout_0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = module(torch.ones(1000))
        torch.manual_seed(0)
        assert torch.equal(values, functional.dropout(torch.ones(1000), 0.5))
