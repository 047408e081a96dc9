"""The ``zoobench`` command."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoobench.cli_check import CheckFailed, add_check
from zoobench.errors import ZooFormatError

#: Exit codes: what the user asked for cannot be asked, or it could not be done.
USAGE, FAILURE, INTERRUPTED = 2, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0, 1 for a failure, 2 for wrong arguments, 130 after Ctrl-C.

    Examples
    --------
    >>> from zoobench.cli import main
    >>> main(["list", "--dataset", "digits", "--format", "csv"])  # doctest: +ELLIPSIS
    name,dataset,architecture,variant,n_models,...
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _say("interrupted; what was finished is kept", INTERRUPTED)
    except (ZooFormatError, OSError, MemoryError, RuntimeError) as error:
        return _say(str(error) or type(error).__name__, FAILURE)
    except CheckFailed as error:
        return _say(str(error), FAILURE)
    except (ValueError, TypeError, ImportError) as error:
        return _say(str(error), USAGE)
    return 0


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a sentence: the line of code that it points at is no line of the user's."""
    print(f"zoobench: {message}", file=sys.stderr)


def _say(message: str, code: int) -> int:
    print(f"zoobench: {' '.join(message.split())}", file=sys.stderr)
    return code


# -- what each command does --------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    from zoobench.fetch import list_zoos

    table = list_zoos(dataset=arguments.dataset, architecture=arguments.architecture, variant=arguments.variant)
    print(table.to_csv(index=False).rstrip("\n") if arguments.format == "csv" else table.to_string(index=False))


def _info(arguments: argparse.Namespace) -> None:
    zoo = _zoo(arguments.zoo, epochs=None, properties="all")
    print(zoo.DESCR)
    print()
    print(repr(zoo))
    parts = {part: zoo.groups[zoo.split == part] for part in ("train", "val", "test")}
    print("Models: " + ", ".join(f"{len(set(groups))} {part}" for part, groups in parts.items()))
    print("\nLayers")
    for layer in zoo.layout.layers:
        shapes = ", ".join(f"{tensor.role} {'x'.join(map(str, tensor.shape)) or 1}" for tensor in layer.tensors)
        print(f"  {layer.slice.start:>8}  {layer.name:<18}{layer.kind:<12}{shapes}")
    print("\nProperties")
    for name, column in zoo.properties.items():
        if name in ("model", "split", "split_published"):
            continue
        values = sorted(column.dropna().unique())
        if len(values) > 8:
            spread = " ".join(f"{column.quantile(q):.4g}" for q in (0, 0.25, 0.5, 0.75, 1))
            print(f"  {name:<14}min, quartiles, max: {spread}")
        else:
            print(f"  {name:<14}{', '.join(str(value) for value in values)}")


def _fetch(arguments: argparse.Namespace) -> None:
    from zoobench.acquire import missing_epochs, preview
    from zoobench.datasets_registry.cards import find_card
    from zoobench.download.disk import human
    from zoobench.fetch import fetch_zoo, remedied, stored_at
    from zoobench.selection import normalise_epochs

    card = find_card(arguments.zoo)
    folder = stored_at(card)
    if not arguments.dry_run:
        zoo = fetch_zoo(
            card.name,
            epochs=arguments.epochs,
            properties="epoch",
            max_bytes=arguments.max_bytes,
            keep_original=arguments.keep_original,
        )
        print(f"{folder}: {zoo!r}")
        return
    with remedied(card, folder):
        missing = missing_epochs(card, folder, normalise_epochs(arguments.epochs))
    if missing == () or card.bundled:
        print(f"nothing to transfer: it is in {folder}")
        return
    plan = preview(card, folder, missing, n_retries=3, delay=1.0)
    for name, size in plan.files:
        print(f"{'?' if size is None else human(size):>10}  {name}")
    time = f", in {plan.seconds / 60:.0f} minutes at least" if plan.seconds else ""
    print(f"{len(plan.files)} files, {plan.total}, in {plan.n_requests} requests{time}, from {plan.source.address}")


def _convert(arguments: argparse.Namespace) -> None:
    from zoobench.convert import convert
    from zoobench.originals import drop_original, require_droppable
    from zoobench.selection import normalise_epochs

    source, out = Path(arguments.source), Path(arguments.out)
    if not source.exists():
        raise FileNotFoundError(f"there is no file or folder {source}; check the path")
    if arguments.drop_original:
        require_droppable(source, out, arguments.epochs)
    epochs = normalise_epochs(arguments.epochs)
    left_out: dict[str, int] = {}
    try:
        written = convert(source, out, epochs=epochs, finish=lambda contents: _noted(contents, left_out))
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(
            f"cannot convert {source} into {out}: {error.strerror}; make room there, or name a folder that can be "
            "written to"
        ) from error
    table = written.properties
    print(f"{out}: {len(table)} states of {table['model'].nunique()} models")
    for reason, count in left_out.items():
        print(f"left out: {count} {reason}")
    if arguments.drop_original and left_out:
        print(f"{source} stays, since not all of it could be taken over")
    elif arguments.drop_original:
        drop_original(source, out)
        print(f"{source} is deleted: every byte of {out} is as it was written")


def _noted(contents: Any, left_out: dict[str, int]) -> Any:
    left_out.update(contents.left_out)
    return contents


def _generate(arguments: argparse.Namespace) -> None:
    from zoobench.generators.population import make_zoo
    from zoobench.generators.recipes import find_recipe

    recipe = find_recipe(arguments.recipe)
    if arguments.dry_run:
        from zoobench.generators.estimate import estimate

        print(estimate(recipe, device=arguments.device, n_jobs=arguments.n_jobs).describe())
        return
    out = Path(arguments.out or Path(arguments.recipe).stem)
    zoo = make_zoo(recipe, device=arguments.device, n_jobs=arguments.n_jobs, out=out, resume=not arguments.start_afresh)
    print(f"{out}: {zoo!r}")


def _table(arguments: argparse.Namespace) -> None:
    from zoobench.benchmark.paper import paper_table
    from zoobench.benchmark.results import default_features
    from zoobench.benchmark.tables import render

    zoo = _zoo(arguments.zoo, epochs=arguments.epochs, properties="epoch")
    print(render(paper_table(zoo, features=arguments.features or default_features(zoo)), arguments.format))


def _zoo(name: str, **selection: Any) -> Any:
    """A zoo by path, where there is one, else by name."""
    from zoobench.fetch import fetch_zoo
    from zoobench.loading import load_zoo

    by_path = os.sep in name or Path(name).exists()
    return load_zoo(name, **selection) if by_path else fetch_zoo(name, **selection)


# -- how it is called --------------------------------------------------------------------------------------------------


def _epochs(text: str) -> str | list[int]:
    if text == "last":
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'last' nor numbers such as 5,25,50") from None


def _parser() -> argparse.ArgumentParser:
    from zoobench import __version__
    from zoobench.cli_analyze import add_analyze
    from zoobench.cli_benchmark import add_benchmark
    from zoobench.cli_sparsify import add_sparsify

    parser = argparse.ArgumentParser(
        prog="zoobench", description="Model zoos as data: list them, convert them, train them, learn from them."
    )
    parser.add_argument("--version", action="version", version=f"zoobench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(run=run)
        return sub

    epochs = {"type": _epochs, "metavar": "EPOCHS", "help": "'last', or numbers such as 5,25,50 (default: all)"}
    styles = {"choices": ("text", "markdown", "latex", "csv"), "default": "text", "help": "default: text"}

    sub = command("list", _list, "the zoos that can be fetched by name")
    for axis in ("dataset", "architecture", "variant"):
        sub.add_argument(f"--{axis}", help=f"only zoos of this {axis}")
    sub.add_argument("--format", choices=("text", "csv"), default="text", help="default: text")

    sub = command("info", _info, "what a zoo is: description, layers, properties")
    sub.add_argument("zoo", metavar="ZOO", help="a zoo's name, or a path")

    sub = command("fetch", _fetch, "download a published zoo, or some epochs of it, into the data folder")
    sub.add_argument("zoo", metavar="ZOO", help="a zoo's name")
    sub.add_argument("--epochs", **epochs)  # type: ignore[arg-type]
    sub.add_argument("--max-bytes", default="10 GB", help="refuse to transfer more (default: 10 GB)")
    sub.add_argument(
        "--keep-original", action="store_true", help="keep the downloaded files, in .raw of the data folder"
    )
    sub.add_argument("--dry-run", action="store_true", help="say what would be transferred, and stop")

    sub = command("convert", _convert, "turn a raw experiment or a preprocessed .pt into the zoo format")
    sub.add_argument("source", metavar="SOURCE", help="folder, zip, tar, or .pt file")
    sub.add_argument("out", metavar="OUT", help="folder to write")
    sub.add_argument("--epochs", **epochs)  # type: ignore[arg-type]
    sub.add_argument("--drop-original", action="store_true", help="delete SOURCE when OUT is written and checked")

    sub = command("generate", _generate, "train a zoo from a recipe")
    sub.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or the path of a TOML file")
    sub.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder for the zoo: new, empty, or what an interrupted run left, which then goes on (default: the "
        "recipe's name, or that of its file, in this folder)",
    )
    sub.add_argument("--device", default="auto", help="cpu, cuda, or cuda:<number> (default: auto: cuda, if any)")
    sub.add_argument(
        "--n-jobs",
        type=int,
        help="chunks of models trained at the same time; -1: as many as there are cores. No more than fit into the "
        "memory (default: 1)",
    )
    sub.add_argument("--start-afresh", action="store_true", help="train again what an earlier run has finished")
    sub.add_argument(
        "--dry-run", action="store_true", help="train nothing; say what it would cost: models, steps, bytes and time"
    )

    add_sparsify(command, _zoo)

    add_benchmark(command)

    add_analyze(command, _zoo)

    sub = command("table", _table, "the paper's table of any zoo")
    sub.add_argument("zoo", metavar="ZOO", help="a zoo's name, or a path")
    sub.add_argument("--epochs", **epochs)  # type: ignore[arg-type]
    sub.add_argument(
        "--features",
        nargs="+",
        choices=("weights", "statistics", "hyperparameters"),
        help="default: weights statistics, and hyperparameters where these vary",
    )
    sub.add_argument("--format", **styles)  # type: ignore[arg-type]

    add_check(command)
    return parser
