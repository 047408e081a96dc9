"""The paper's table as text, for a terminal, a README or a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

_FEATURES = {"weights": "raw weights", "statistics": "layer statistics", "hyperparameters": "hyper-parameters only"}

_PROPERTIES = {
    "test_acc": "test accuracy",
    "ggap": "generalisation gap",
    "lr": "learning rate",
    "weight_decay": "weight decay",
}


def render(table: pd.DataFrame, style: str = "text") -> str:
    """A table of :func:`~zoobench.paper_table` as text.

    Parameters
    ----------
    table : DataFrame
        Its columns.
    style : {"text", "markdown", "latex", "csv"}, default="text"
        For a terminal, a README, a paper, or a spreadsheet (every digit).

    Returns
    -------
    str
        Without a line break at its end. The best test score of each property is marked, the reference row apart.
    """
    if style == "csv":
        return table.to_csv(index=False).rstrip("\n")
    head = ["property", "metric", "features", "train", "val", "test"]
    body = []
    for name, rows in table.groupby("property", sort=False):
        learned = rows[rows["features"] != "hyperparameters"]
        best = learned["test"].idxmax() if len(learned) else None
        for position, (index, row) in enumerate(rows.iterrows()):
            first = position == 0
            scores = [_number(row[part]) for part in ("train", "val", "test")]
            body.append(
                (
                    [_PROPERTIES.get(str(name), str(name)) if first else "", _metric(row, style) if first else ""]
                    + [_FEATURES.get(row["features"], row["features"]), *scores],
                    index == best,
                )
            )
    return {"text": _text, "markdown": _markdown, "latex": _latex}[style](head, body)


def _number(score: float) -> str:
    return "-" if pd.isna(score) else f"{score:.3f}"


def _metric(row: Any, style: str) -> str:
    return {"text": "R2", "markdown": "R²", "latex": "$R^2$"}[style] if row["metric"] == "R2" else str(row["metric"])


def _text(head: Sequence[str], body: Sequence[tuple[list[str], bool]]) -> str:
    lines = [head, *(cells[:-1] + [cells[-1] + ("*" if best else " ")] for cells, best in body)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    rule = "-" * len(line(["x" * w for w in widths]))
    printed = [line([*head[:-1], head[-1] + " "]), rule]
    for cells in lines[1:]:
        printed.append(line(cells))
    return "\n".join(printed)


def _markdown(head: Sequence[str], body: Sequence[tuple[list[str], bool]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|:--|:--|:--|--:|--:|--:|"]
    for cells, best in body:
        shown = [*cells[:-1], f"**{cells[-1]}**" if best else cells[-1]]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _latex(head: Sequence[str], body: Sequence[tuple[list[str], bool]]) -> str:
    lines = [r"\begin{tabular}{lllrrr}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    for cells, best in body:
        shown = [*cells[:-1], rf"\textbf{{{cells[-1]}}}" if best else cells[-1]]
        lines.append(" & ".join(shown) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
