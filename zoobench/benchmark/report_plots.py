"""Pictures of the report page: SVG text with neither a library nor a colour of its own.

Colours are classes, which the page's style sheet fills in for light and for dark. Every picture has a title and a
description, so that it says the same to who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from zoobench.benchmark.leaderboard import Leaderboard, so_many_tasks
from zoobench.benchmark.metrics import LOSSES
from zoobench.benchmark.ranking import Comparison
from zoobench.benchmark.records import Record

#: Level of the corrected tests.
ALPHA = 0.05

#: Width of a letter in pixels, at the size that labels have: measured on the widest common sans-serif.
_LETTER = 7.0

_LONGEST = 24

#: Share of an axis below its lower end: a score of -0.01 is where it belongs, not an arrow.
_ROOM = 0.06


def is_number(value: object) -> bool:
    """Whether a value can be drawn: neither missing nor infinite."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def short(name: str) -> str:
    """A name that fits beside a picture."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def critical_difference(board: Leaderboard) -> str:
    """Mean ranks on a line, and bars over neighbours that do not differ significantly (Demšar's diagram).

    Parameters
    ----------
    board : Leaderboard
        Ranked methods of it are shown.

    Returns
    -------
    str
        ``<svg>``; empty where fewer than two methods are ranked.
    """
    ranks = {name: float(rank) for name, rank in board.ranking()["mean_rank"].items() if is_number(rank)}
    names = sorted(ranks, key=lambda name: ranks[name])
    if len(names) < 2:
        return ""
    groups = [[name for name in group if name in ranks] for group in board.cliques()]
    n_tasks = len(board.ranked)
    left, right, axis_y = 236.0, 556.0, 40.0

    def x_of(rank: float) -> float:
        return left + (rank - 1) / (len(names) - 1) * (right - left)

    parts = [_line(left, axis_y, right, axis_y, "axis")]
    step = max(1, len(names) // 10)
    for tick in range(1, len(names) + 1, step):
        parts += [_line(x_of(tick), axis_y - 6, x_of(tick), axis_y, "axis")]
        parts += [_text(x_of(tick), axis_y - 11, str(tick), "tick middle")]
    parts.append(_text((left + right) / 2, 12, "mean rank (1 is best)", "tick middle"))
    for i, group in enumerate(groups):
        y = axis_y + 12 + 9 * i
        ends = [x_of(ranks[name]) for name in group]
        parts.append(_line(min(ends) - 4, y, max(ends) + 4, y, "clique"))
    half, top = (len(names) + 1) // 2, axis_y + 12 + 9 * len(groups) + 14
    for i, name in enumerate(names):
        x, best_half = x_of(ranks[name]), i < half
        y = top + 22 * (i if best_half else len(names) - 1 - i)
        end = left - 12 if best_half else right + 12
        parts.append(_path([(x, axis_y), (x, y), (end, y)], "lead"))
        parts.append(_dot(x, axis_y, 3.5, "ink"))
        label = f"{short(name)} {ranks[name]:.2f}" if best_half else f"{ranks[name]:.2f} {short(name)}"
        parts.append(_text(end - 4 if best_half else end + 4, y + 4, label, "label end" if best_half else "label"))
    said = "; ".join(f"{name} {ranks[name]:.2f}" for name in names)
    if n_tasks < board.fewest_tasks:
        bars = f"{so_many_tasks(n_tasks)} too few to call any difference significant, so there are no bars."
    elif groups:
        bars = "Not significantly different: " + "; ".join(", ".join(group) for group in groups) + "."
    else:
        bars = "All neighbours differ significantly."
    height = top + 22 * (half - 1) + 16
    return _svg("cd", "Critical-difference diagram", f"Mean ranks: {said}. {bars}", left + right, height, parts)


def pairwise(methods: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    """Every method against every other: on how many tasks it is better, and how sure that is.

    Parameters
    ----------
    methods : sequence of str
        In the order of their rows; those that share a task with another are shown.
    comparisons : sequence of Comparison
        Of each pair of them.

    Returns
    -------
    str
        ``<svg>``; empty where no two methods share a task.
    """
    rows = [row for row in comparisons if row.n_tasks > 0]
    names = [name for name in methods if any(name in (row.first, row.second) for row in rows)]
    if not names:
        return ""
    place = {name: i for i, name in enumerate(names)}
    left, top, width, height = 206.0, 26.0, 62.0, 40.0
    parts = []
    for name, i in place.items():
        y = top + height * i
        parts.append(_text(left - 10, y + 24, f"{short(name)}  {i + 1}", "label end"))
        parts.append(_text(left + width * (i + 0.5), 17, str(i + 1), "tick middle"))
        parts.append(_rect(left + width * i + 1, y + 1, width - 2, height - 2, "same"))
    said = []
    for row in rows:
        sure = is_number(row.p_holm) and row.p_holm < ALPHA
        for one, other, wins in ((row.first, row.second, row.wins), (row.second, row.first, None)):
            won = row.n_tasks - row.wins - row.ties if wins is None else wins
            share = (won + row.ties / 2) / row.n_tasks
            x, y = left + width * place[other] + 1, top + height * place[one] + 1
            strength = f"{min(0.32, abs(share - 0.5) * 0.64):.2f}"
            parts.append(_rect(x, y, width - 2, height - 2, "win" if share >= 0.5 else "loss", strength))
            if sure:
                parts.append(_rect(x + 1, y + 1, width - 4, height - 4, "sure"))
            parts.append(_text(x + width / 2 - 1, y + 16, f"{won} of {row.n_tasks}", "label middle"))
            parts.append(_text(x + width / 2 - 1, y + 31, p_text(row.p_holm), "small middle"))
        said.append(f"{row.first} is better than {row.second} on {row.wins} of {row.n_tasks}, {p_text(row.p_holm)}")
    wide, high = left + width * len(names) + 4, top + height * len(names) + 4
    return _svg("pairs", "Pairwise comparisons", "; ".join(said) + ".", wide, high, parts)


def p_text(p: float) -> str:
    """A corrected p-value, short."""
    if not is_number(p):
        return "no test"
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.9995 else "p = 1"


def cost(board: Leaderboard) -> str:
    """Mean seconds to fit, on a logarithmic axis, against the mean rank.

    Parameters
    ----------
    board : Leaderboard
        Ranked methods with a time are shown.

    Returns
    -------
    str
        ``<svg>``; empty where there is none.
    """
    points = [
        (str(name), max(float(row["fit_seconds"]), 1e-4), float(row["mean_rank"]), str(row["inputs"]))
        for name, row in board.ranking().iterrows()
        if is_number(row["fit_seconds"]) and is_number(row["mean_rank"])
    ]
    if not points:
        return ""
    left, right, top, bottom = 48.0, 680.0, 34.0, 330.0
    low = math.floor(math.log10(min(seconds for _, seconds, _, _ in points)))
    high = max(low + 1, math.ceil(math.log10(max(seconds for _, seconds, _, _ in points))))
    last = max(2.0, math.ceil(max(rank for _, _, rank, _ in points)))

    def x_of(seconds: float) -> float:
        return left + 20 + (math.log10(seconds) - low) / (high - low) * (right - left - 40)

    def y_of(rank: float) -> float:
        return top + 14 + (rank - 1) / (last - 1) * (bottom - top - 28)

    parts = [_text(left - 40, 14, "mean rank (1 is best)", "tick")]
    for power in range(low, high + 1):
        parts.append(_line(x_of(10.0**power), top, x_of(10.0**power), bottom, "grid"))
        parts.append(_text(x_of(10.0**power), bottom + 18, f"{10.0**power:g} s", "tick middle"))
    for tick in range(1, int(last) + 1, max(1, int(last) // 8)):
        parts.append(_line(left, y_of(tick), right, y_of(tick), "grid"))
        parts.append(_text(left - 10, y_of(tick) + 4, str(tick), "tick end"))
    parts.append(_text((left + right) / 2, bottom + 38, "seconds to fit, mean over tasks", "tick middle"))
    best = math.inf
    front: list[tuple[float, float]] = []
    for _, seconds, rank, _ in sorted(points, key=lambda point: (point[1], point[2])):
        if rank < best:
            front += [(x_of(seconds), y_of(best))] if front else []
            front.append((x_of(seconds), y_of(rank)))
            best = rank
    parts.append(_path(front, "front"))
    taken = [(x_of(seconds) - 6, y_of(rank) - 6, 12.0, 12.0) for _, seconds, rank, _ in points]
    for name, seconds, rank, inputs in points:
        x, y = x_of(seconds), y_of(rank)
        parts.append(_marker(x, y, inputs, 5))
        wide = _LETTER * len(short(name))
        places = [(x + 9, y - 7), (x - 9 - wide, y - 7), (x - wide / 2, y - 23), (x - wide / 2, y + 9)]
        inside = [place for place in places if left <= place[0] and place[0] + wide <= right + 60]
        free = [place for place in inside if not any(_overlap((*place, wide, 14.0), other) for other in taken)]
        at = (free or inside or places)[0]
        taken.append((*at, wide, 14.0))
        parts.append(_text(at[0], at[1] + 11, short(name), "label"))
    said = "; ".join(f"{name}: {seconds:.2g} seconds, mean rank {rank:.2f}" for name, seconds, rank, _ in points)
    return _svg("cost", "Cost against score", f"{said}.", right + 60, bottom + 46, parts)


def dots(records: Sequence[Record], key: str, title: str) -> str:
    """Scores of one task with their intervals; what lies beyond the axis is an arrow at its end.

    Parameters
    ----------
    records : sequence of Record
        Of one task.
    key : str
        Name for the picture's ids.
    title : str
        Its title.

    Returns
    -------
    str
        ``<svg>``; empty where there is no score.
    """
    rows = [(record, float(record.score)) for record in records if is_number(record.score) and record.score is not None]
    if not rows:
        return ""
    low, high = domain(rows[0][0].metric, [score for _, score in rows])
    left, right, top = 190.0, 320.0, 8.0
    bottom = top + 22 * len(rows)
    parts = []
    for tick in [low, 0.0, high] if low < 0 else [low, (low + high) / 2, high]:
        x = _along(tick, (low, high), (left, right))
        parts += [_line(x, top, x, bottom, "grid"), _text(x, bottom + 14, f"{tick:g}".replace("-", "−"), "tick middle")]
    for i, (record, score) in enumerate(rows):
        y = top + 22 * i + 11
        parts.append(_text(left - 12, y + 4, short(record.method), "label end"))
        parts += _interval(record, score, (low, high), (left, right), y)
        parts.append(_text(right + 64, y + 4, number(score), "label end"))
    said = "; ".join(f"{record.method} {number(score)}" for record, score in rows)
    return _svg(key, title, f"{said}.", right + 68, bottom + 20, parts)


def bar(record: Record) -> str:
    """The interval and the mean of a record, as small as a word.

    Parameters
    ----------
    record : Record
        With a score.

    Returns
    -------
    str
        ``<svg>`` from 0 to 1 that screen readers pass over: the numbers stand beside it. Empty where the metric has no
        such bounds.
    """
    if record.metric in LOSSES or record.score is None or not is_number(record.score):
        return ""
    parts = [_line(2, 7, 70, 7, "grid"), *_interval(record, record.score, (0.0, 1.0), (2.0, 70.0), 7, small=True)]
    return f'<svg class="bar" width="72" height="14" viewBox="0 0 72 14" aria-hidden="true">{"".join(parts)}</svg>'


def number(value: float) -> str:
    """Three decimals, or one digit and the power of ten of what is that large."""
    if not is_number(value):
        return "not defined"
    text = f"{value:.3f}" if abs(value) < 1000 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def domain(metric: str, scores: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis: 0 and 1 where that is enough. Of scores without a bound, the odd large ones are left outside."""
    if metric in LOSSES:
        usual = sorted(scores)[len(scores) // 2] * 4
        largest = max((score for score in scores if score <= usual), default=0.0)
        return 0.0, 10.0 ** math.ceil(math.log10(largest)) if largest > 1e-12 else 1.0
    worst = min((score for score in scores if score >= -1), default=0.0)
    return next(end for end in (0.0, -0.5, -1.0) if end - _ROOM * (1 - end) <= worst or end == -1.0), 1.0


def _along(value: float, ends: tuple[float, float], span: tuple[float, float]) -> float:
    """Where a value lies on an axis, at its end if it is beyond; a little room is left of the lower end."""
    low, high = ends[0] - _ROOM * (ends[1] - ends[0]), ends[1]
    return span[0] + (min(max(value, low), high) - low) / (high - low) * (span[1] - span[0])


def _interval(
    record: Record, score: float, ends: tuple[float, float], span: tuple[float, float], y: float, *, small: bool = False
) -> list[str]:
    low, high = ends
    size = 2.5 if small else 4.0
    # Never the record's own word: it becomes a class.
    kind = record.inputs if record.inputs in ("weights", "hyperparameters") else "both"
    if record.source == "published":
        kind = "published"
    parts = []
    if record.interval and all(is_number(end) for end in record.interval):
        start, stop = (_along(end, ends, span) for end in record.interval)
        parts.append(_line(start, y, stop, y, f"interval {kind}"))
    x = _along(score, ends, span)
    if low - _ROOM * (high - low) <= score <= high:
        return [*parts, _marker(x, y, kind, size)]
    way = -1 if score < low else 1
    return [
        *parts,
        _path([(x - way * 1.5 * size, y - size), (x, y), (x - way * 1.5 * size, y + size)], f"arrow {kind}"),
    ]


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def _marker(x: float, y: float, kind: str, size: float) -> str:
    """A shape for each kind of inputs, since not everybody sees its colour; open for what was published."""
    if kind in ("weights", "published"):
        return _dot(x, y, size, kind)
    if kind == "hyperparameters":
        return _rect(x - 0.9 * size, y - 0.9 * size, 1.8 * size, 1.8 * size, kind)
    corners = ((x, y - 1.2 * size), (x + 1.2 * size, y), (x, y + 1.2 * size), (x - 1.2 * size, y))
    return f'<path class="both" d="M{" L".join(_at(*corner) for corner in corners)} Z"/>'


def _svg(key: str, title: str, description: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg id="{key}" class="plot" role="img" aria-labelledby="{key}-title {key}-desc" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"><title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _at(*place: float) -> str:
    if not all(math.isfinite(value) for value in place):
        raise ValueError(f"a picture has no place {place}")  # a defect here, never of the records
    return " ".join(f"{value:.1f}" for value in place)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return _path([(x1, y1), (x2, y2)], kind)


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<path class="line {kind}" d="M{" L".join(_at(*point) for point in points)}"/>'


def _dot(x: float, y: float, radius: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{_at(x)}" cy="{_at(y)}" r="{radius:g}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, strength: str = "") -> str:
    opacity = f' fill-opacity="{strength}"' if strength else ""
    place = f'x="{_at(x)}" y="{_at(y)}" width="{_at(width)}" height="{_at(height)}"'
    return f'<rect class="{kind}" {place}{opacity}/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_at(x)}" y="{_at(y)}">{escape(text)}</text>'
