"""What all displays have in common: axes, colours and a quiet style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Okabe and Ito's colours, which people with any common colour blindness tell apart; the pale ones last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")

#: For what is in the background, and for words of less weight.
GREY, DARK = "#B8B8B8", "#4D4D4D"

#: For continuous values: even in grey and to the colour-blind.
COLOUR_MAP = "viridis"

#: Names of properties as axes show them.
LABELS = {
    "test_acc": "test accuracy",
    "train_acc": "training accuracy",
    "val_acc": "validation accuracy",
    "test_loss": "test loss",
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "ggap": "generalisation gap",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "init": "initialisation",
}


def open_axes(ax: Any, owner: object, *, width: float = 6.0, height: float = 4.0) -> Any:
    """The axes to draw into: those that were given, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
        What was given.
    owner : object
        The display, for the message.
    width, height : float, default=6.0, 4.0
        Of a new figure, in inches.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    check_matplotlib(type(owner).__name__)
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return axes


def check_matplotlib(name: str) -> None:
    """Refuse to draw without matplotlib, and say what to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{name} draws with matplotlib, which is missing; pip install 'zoobench[plot]'") from error


def tidy(ax: Any, *, grid: str = "both") -> None:
    """A light grid behind the data, and no frame around it."""
    ax.set_axisbelow(True)
    ax.grid(True, axis=grid, color="#E6E6E6", linewidth=0.8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GREY)
    ax.tick_params(color=GREY)


def ordered_colours(n: int) -> list[Any]:
    """Colours of things that follow each other, such as epochs; of a single one the first of all colours."""
    from matplotlib import colormaps

    # The last colours of the scale are too pale for lines.
    return [COLOURS[0]] if n == 1 else [colormaps[COLOUR_MAP](0.88 * i / (n - 1)) for i in range(n)]


def label_of(name: str) -> str:
    """A property's name in words."""
    return LABELS.get(name, name.replace("_", " "))


def short(name: str, longest: int = 28) -> str:
    """A name that fits beside a picture."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def check_column(table: Any, name: str, zoo: object) -> None:
    """Refuse a property that a zoo's table has not."""
    if name not in table:
        raise ValueError(f"{zoo!r} has no property {name!r}; there are {', '.join(map(str, table.columns))}")
    if table[name].isna().all():
        raise ValueError(f"property {name!r} of {zoo!r} has no value in any state")


def place_labels(ax: Any, points: Sequence[tuple[float, float]], names: Sequence[str], **style: Any) -> list[Any]:
    """Write names beside points, each where it covers neither a point nor another name, if there is such a place.

    Parameters
    ----------
    ax : matplotlib Axes
        With its final limits and scales.
    points : sequence of (float, float)
        In data coordinates.
    names : sequence of str
        One a point.
    **style
        Of the text.

    Returns
    -------
    list of matplotlib Annotation
    """
    from matplotlib.patheffects import withStroke

    figure = ax.get_figure(root=True)
    halo = [withStroke(linewidth=2.5, foreground="white")]
    # Where things will be is only known once the layout has been computed.
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frame, size = ax.get_window_extent(renderer), 5 * figure.dpi / 72
    at = ax.transData.transform(points)
    taken: list[tuple[float, ...]] = [(x - size, y - size, x + size, y + size) for x, y in at]
    texts = []
    for number, (point, name) in enumerate(zip(points, names, strict=True)):
        best: tuple[float, Any, tuple[float, ...]] | None = None
        for dx, dy, across, up in _PLACES:
            text = ax.annotate(
                name, point, (dx, dy), textcoords="offset points", ha=across, va=up, annotation_clip=False, **style
            )
            text.set_path_effects(halo)
            box = text.get_window_extent(renderer)
            box = (box.x0, box.y0, box.x1, box.y1)
            faults = sum(_overlap(box, other) for i, other in enumerate(taken) if i != number)
            faults += 10 * sum(
                max(0.0, out) for out in (frame.x0 - box[0], box[2] - frame.x1, frame.y0 - box[1], box[3] - frame.y1)
            )
            if best is None or faults < best[0]:
                if best is not None:
                    best[1].remove()
                best = faults, text, box
            else:
                text.remove()
        assert best is not None
        texts.append(best[1])
        taken.append(best[2])
    return texts


#: Offsets in points, and which side of the text is there.
_PLACES = (
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (6, 7, "left", "bottom"),
    (6, -7, "left", "top"),
    (-6, 7, "right", "bottom"),
    (-6, -7, "right", "top"),
    (6, 18, "left", "bottom"),
    (6, -18, "left", "top"),
    (-6, 18, "right", "bottom"),
    (-6, -18, "right", "top"),
)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Area that two boxes share, in pixels."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)
