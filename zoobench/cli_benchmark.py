"""The commands ``zoobench run`` and ``zoobench report``: methods on tasks, and the page that shows them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

#: The page of a store.
REPORT = "index.html"


def add_benchmark(command: Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]) -> None:
    """Add the commands to the others.

    Parameters
    ----------
    command : callable
        Makes a subcommand of a name, a function and a sentence.
    """
    styles = ("text", "markdown", "latex", "csv", "html")
    sub = command("run", _run, "run methods on tasks, rank them, and write the table and its page")
    sub.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="zoo/property, zoo/property/protocol, or a zoo for all of its tasks, by name or by the path of its folder "
        "(default: all tasks of the bundled zoos, twins apart)",
    )
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--methods", nargs="+", metavar="METHOD", help="these methods (default: eight that are cheap)")
    which.add_argument("--all", action="store_true", help="every method that is installed; takes hours")
    sub.add_argument(
        "--method", action="append", default=[], metavar="METHOD", help="this one too; your own is file.py:MyEstimator"
    )
    sub.add_argument(
        "--protocol",
        default="cv",
        help="cv (5 folds by model), cv-10x3 (10 folds, 3 times), paper, paper-published, nfn or "
        "transfer-from-ZOO (default: cv)",
    )
    sub.add_argument("--out", default="zoobench_results", help="folder for the records (default: zoobench_results)")
    sub.add_argument("--n-jobs", type=int, help="folds at the same time; -1: one a core (default: 1)")
    sub.add_argument("--again", action="store_true", help="run also what there are records of")
    sub.add_argument("--format", choices=styles, default="text", help="of the table (default: text)")

    sub = command("report", _report, "write the records of a folder as one page that needs no network")
    sub.add_argument("stores", nargs="+", metavar="FOLDER", help="folders that `zoobench run` wrote")
    sub.add_argument("--out", help=f"file to write (default: {REPORT} in the first folder)")


def _run(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from zoobench.benchmark.entries import DEFAULT_METHODS, installed_methods
    from zoobench.benchmark.leaderboard import Leaderboard
    from zoobench.benchmark.records import cannot_write
    from zoobench.benchmark.report import write_report
    from zoobench.benchmark.runner import run_benchmark

    methods = arguments.methods or (installed_methods() if arguments.all else list(DEFAULT_METHODS))
    with tqdm(desc="benchmark", unit="fold", disable=None) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        records = run_benchmark(
            arguments.tasks,
            methods=[*methods, *arguments.method],
            protocol=arguments.protocol,
            out=arguments.out,
            n_jobs=arguments.n_jobs,
            again=arguments.again,
            progress=progress,
        )
    board = Leaderboard(records)
    print(getattr(board, f"to_{arguments.format}")())
    try:
        # The page is that of the whole folder: running one more method must not take the others off it.
        page = write_report(Leaderboard.from_folder(arguments.out), Path(arguments.out) / REPORT)
    except OSError as error:
        raise cannot_write("the page", arguments.out, error) from error
    failed = [record for record in records if record.error]
    if arguments.format == "text":
        print(f"\nThe same as a page: {page.resolve()}")
    if failed:
        one = failed[0]
        raise RuntimeError(
            f"{len(failed)} of {len(records)} results failed; the first is {one.method} on {one.task}: {one.error}"
        )


def _report(arguments: argparse.Namespace) -> None:
    from zoobench.benchmark.leaderboard import Leaderboard
    from zoobench.benchmark.report import write_report

    board = Leaderboard.from_folder(*arguments.stores)
    print(write_report(board, Path(arguments.out or Path(arguments.stores[0]) / REPORT)))
