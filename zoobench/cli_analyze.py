"""The command ``zoobench analyze``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: As in the table of ``analyze_zoo``; the command line need not wait for it.
MEASURES = ("accuracy", "agreement", "distance", "cka")

_LEGEND = """\
±: standard deviation over models or pairs. Agreement: share of test images that two models put into the same class.
L2: of two models' weights, by the mean norm. CKA: of what the last linear layers of two models read."""


def add_analyze(
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
        from zoobench.benchmark.analysis import analyze_zoo
        from zoobench.benchmark.displays.axes import check_matplotlib
        from zoobench.benchmark.displays.diversity import DiversityDisplay

        if arguments.figure:
            # Before minutes of work rather than after.
            check_matplotlib("--figure")
            _check_figure(Path(arguments.figure))
        zoo = open_zoo(arguments.zoo, epochs=arguments.epochs, properties="epoch")
        table = analyze_zoo(
            zoo,
            images=arguments.images,
            measures=arguments.measures,
            n_pairs=arguments.n_pairs,
            n_images=arguments.n_images,
            device=arguments.device,
            random_state=arguments.random_state,
        )
        print(_rendered(table, arguments.format))
        if arguments.figure:
            DiversityDisplay.from_analysis(table).figure_.savefig(arguments.figure, dpi=150)

    sub = command("analyze", run, "how diverse a zoo's models are: accuracy, agreement, distances and CKA, by epoch")
    sub.add_argument("zoo", metavar="ZOO", help="a zoo's name, or a path")
    sub.add_argument("--epochs", type=_epochs, help="'last', or numbers such as 5,25,50 (default: all)")
    sub.add_argument("--images", help="name of the image set (default: what the zoo was trained on)")
    sub.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="default: all")
    sub.add_argument("--n-pairs", type=int, default=200, help="pairs of models for CKA (default: 200)")
    sub.add_argument("--n-images", type=int, default=500, help="test images for CKA (default: 500)")
    sub.add_argument("--random-state", type=int, default=0, help="draws both (default: 0)")
    sub.add_argument("--device", default="auto", help="cpu, cuda, or cuda:<number> (default: auto: cuda, if any)")
    sub.add_argument("--format", choices=("text", "csv", "markdown"), default="text", help="default: text")
    sub.add_argument("--figure", metavar="FILE", help="draw the table into this file too; needs matplotlib")


def _check_figure(path: Path) -> None:
    from matplotlib.figure import Figure

    known = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in known:
        raise ValueError(f"no figure can be written to {path}: its name must end in one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for the figure; make it first")


def _rendered(table: pd.DataFrame, style: str) -> str:
    """The table as text: every digit for a spreadsheet, mean and standard deviation in one cell for people."""
    if style == "csv":
        return table.to_csv().rstrip("\n")
    heads = {"accuracy": "accuracy", "agreement": "agreement", "l2": "L2 distance", "cosine": "cosine distance"}
    columns = {"epoch": [str(epoch) for epoch in table.index], "models": table["n_models"].astype(str).tolist()}
    for name, head in {**heads, "cka": "CKA"}.items():
        if f"{name}_mean" in table:
            columns[head] = [
                "-" if mean != mean else f"{mean:.3f} ±{std:.3f}"
                for mean, std in zip(table[f"{name}_mean"], table[f"{name}_std"], strict=True)
            ]
        if name == "accuracy" and "accuracy_min" in table:
            ends = zip(table["accuracy_min"], table["accuracy_max"], strict=True)
            columns["from, to"] = [f"{low:.3f}, {high:.3f}" for low, high in ends]
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    if style == "markdown":
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|" + "--:|" * len(columns), *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], _LEGEND])


def _epochs(text: str) -> str | list[int]:
    if text == "last":
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'last' nor numbers such as 5,25,50") from None
