"""The command ``zoobench sparsify``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_sparsify(
    command: Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser],
    open_zoo: Callable[..., Any],
) -> None:
    """Add the command to the others.

    Parameters
    ----------
    command : callable
        Makes a subcommand of a name, a function and a sentence.
    open_zoo : callable
        Gives a zoo by name or path.
    """

    def run(arguments: argparse.Namespace) -> None:
        from zoobench.generators.sparsify import method_settings, sparsify_zoo
        from zoobench.generators.twin_zoo import twin_name

        zoo = open_zoo(arguments.zoo, epochs="last", properties="epoch", drop_nan=False)
        given = ("sparsity", "variant", "kl_weight")
        of_method = method_settings(arguments.method, {name: getattr(arguments, name) for name in given})
        settings = {"twin_of": zoo.to_contents().name, "method": arguments.method, **of_method}
        out = Path(arguments.out or twin_name(settings))
        twins = sparsify_zoo(
            zoo,
            method=arguments.method,
            n_epochs=arguments.epochs,
            checkpoint_epochs=arguments.checkpoint_epochs,
            n_models=arguments.n_models,
            images=arguments.images,
            hyperparameters={} if arguments.lr is None else {"lr": arguments.lr},
            device=arguments.device,
            n_jobs=arguments.n_jobs,
            random_state=arguments.random_state,
            out=out,
            resume=not arguments.start_afresh,
            **of_method,
        )
        print(f"{out}: {twins!r}")

    sub = command("sparsify", run, "train the sparsified twins of a zoo")
    sub.add_argument("zoo", metavar="ZOO", help="a zoo's name, or a path")
    sub.add_argument(
        "--method",
        choices=("variational_dropout", "magnitude"),
        default="variational_dropout",
        help="default: variational_dropout",
    )
    sub.add_argument("--sparsity", type=float, help="of magnitude pruning: share of zeros in the end (default: 0.5)")
    sub.add_argument("--variant", choices=("standard", "published"), help="of variational dropout (default: standard)")
    sub.add_argument("--kl-weight", type=float, help="of variational dropout: of the divergence (default: 0.01)")
    sub.add_argument("--epochs", type=int, default=25, help="epochs to train (default: 25)")
    sub.add_argument("--checkpoint-epochs", type=_epochs, help="those of which a state is kept (default: all)")
    sub.add_argument("--n-models", type=int, help="only the first so many models (default: all)")
    sub.add_argument("--images", help="name of the image set (default: what the zoo was trained on)")
    sub.add_argument("--lr", type=float, help="learning rate (default: each model's own)")
    sub.add_argument("--random-state", type=int, default=0, help="sets the random numbers of runs apart (default: 0)")
    sub.add_argument("--out", help="folder to write (default: the zoo's name with _sparse, in this folder)")
    sub.add_argument("--device", default="auto", help="cpu, cuda, or cuda:<number> (default: auto: cuda, if any)")
    sub.add_argument("--n-jobs", type=int, help="chunks of models trained at once (default: 1)")
    sub.add_argument("--start-afresh", action="store_true", help="train again what an earlier run has finished")


def _epochs(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 1,5,25") from None
