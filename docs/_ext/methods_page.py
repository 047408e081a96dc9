"""The catalogue of methods, from the methods themselves, and the ranking that the landing page shows."""

from __future__ import annotations

import zoobench.estimators
from rst import heading, plain, table, with_papers
from zoobench.benchmark.entries import DEFAULT_METHODS, find_entry
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.estimators import list_methods, make_method

_HEAD = ("method", "runs", "what it does", "sees", "made of", "source")


def methods_page() -> str:
    """The whole page."""
    rows, licences = [], set()
    for name, extra in list_methods()["extra"].items():
        entry = find_entry(name)
        licences.add(entry.licence)
        runs = (
            "by default"
            if name in DEFAULT_METHODS
            else f"with ``--all`` and ``zoobench[{extra}]``"
            if extra
            else "with ``--all``"
        )
        summary = str(list_methods().loc[name, "summary"])
        rows.append(
            [
                f"``{name}``",
                runs,
                plain(summary[:1].upper() + summary[1:]),
                entry.inputs,
                _steps(name, extra),
                with_papers(entry.source),
            ]
        )
    return "\n".join(
        [
            heading("Methods"),
            "The baselines that ``zoobench run`` ranks, by name. "
            ":func:`~zoobench.estimators.make_method` gives each as a scikit-learn pipeline; "
            ":doc:`/estimators/methods` compares them and says how they are fitted, :doc:`/estimators/index` "
            "says what they are made of, and :doc:`/bring_your_method` how to add your own. For a property that is "
            "a name, regressors are replaced by their classifiers. "
            f"Licence of their code: {', '.join(sorted(licences))}.\n",
            table(_HEAD, rows, css="sortable methods"),
        ]
    )


def _steps(name: str, extra: str | None) -> str:
    try:
        steps = [step for _, step in make_method(name, layout="cnn_s").steps]
    except ImportError:
        return f"needs ``zoobench[{extra}]``"
    shown = []
    for step in steps:
        cls = type(step).__name__
        ours = cls in zoobench.estimators.__all__
        shown.append(f":class:`~zoobench.estimators.{cls}`" if ours else f"``{cls}``")
    return ", ".join(shown)


def ranking_table() -> str:
    """The committed leaderboard's ranking in Markdown, for the landing page."""
    ranking = Leaderboard.from_folder().ranking()
    lines = ["| method | mean rank | win rate | tasks | sees |", "|:--|--:|--:|--:|:--|"]
    for name, row in ranking.iterrows():
        lines.append(f"| `{name}` | {row.mean_rank:.2f} | {row.win_rate:.2f} | {row.n_tasks} | {row.inputs} |")
    return "\n".join(lines) + "\n"
