"""The command ``zoobench check``: whether zoos, committed results, tables of the docs and sources still hold."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


class CheckFailed(Exception):
    """What was checked does not hold."""


def add_check(command: Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]) -> None:
    """Add the command to the others.

    Parameters
    ----------
    command : callable
        Makes a subcommand of a name, a function and a sentence.
    """
    text = "compare a zoo with its checksums, or the bundled zoos with their committed results and tables"
    sub = command("check", _check, text)
    sub.add_argument("paths", metavar="PATH", nargs="*", help="folders in the zoo format (default: what is bundled)")
    sub.add_argument(
        "--sources",
        metavar="ZOO",
        nargs="*",
        help="ask the hosts of these zoos (default: all) for what the registry says, and read a model of each",
    )
    sub.add_argument(
        "--update",
        nargs="?",
        choices=("all", "tables"),
        const="all",
        help="compute the committed results anew and keep them, and write the tables of README and docs anew; with "
        "'tables', only those that take no longer than a minute",
    )
    sub.set_defaults(wrong=sub.error)
    sub.add_argument("--reason", help="with --update: why committed results change; it is written down beside them")
    sub.add_argument(
        "--records",
        metavar="FOLDER",
        help="compare everything that `zoobench run` has computed into this folder with the committed results, where "
        "otherwise a part is computed again",
    )


def _check(arguments: argparse.Namespace) -> None:
    from zoobench.store import check_zoo

    if arguments.update and (arguments.paths or arguments.sources is not None):
        other = "--sources" if arguments.sources is not None else "PATH"
        arguments.wrong(f"--update is for what is bundled; give it without {other}")
    if arguments.sources is not None:
        _check_sources(arguments.sources)
    for path in arguments.paths:
        index = check_zoo(path)
        print(f"{path}: every byte of {index['n_states']} states x {index['n_weights']} weights is as it was written")
    if not arguments.paths and arguments.sources is None:
        _check_package(arguments.update, arguments.reason, arguments.records)


def _check_package(update: str | None, reason: str | None, store: str | None) -> None:
    from tqdm import tqdm

    from zoobench.benchmark.committed import check_committed, update_committed
    from zoobench.benchmark.doc_tables import check_tables, clone, update_tables
    from zoobench.datasets_registry.cards import read_cards
    from zoobench.store import check_zoo

    folders = [card.bundled for card in read_cards().values() if card.bundled]
    for folder in folders:
        check_zoo(folder)
    root = clone()
    if root is None and update:
        raise ValueError("there is nothing to update: README and docs do not lie beside the package; do it in a clone")
    if update == "all":
        for line in update_committed(reason=reason, n_jobs=-1):
            print(f"changed: {line}")
    with tqdm(desc="check: ", bar_format="{desc}{elapsed}") as bar:

        def progress(what: str) -> None:
            bar.set_description_str(f"check: {what}, ")

        changed = update_tables(root, slow=update == "all", progress=progress) if root and update else []
        said = [] if update == "tables" else check_committed(progress, store=store)
        if root and not update:
            said += check_tables(root, progress=progress)
    for path in changed:
        print(f"{path}: written anew")
    if said:
        raise CheckFailed("; ".join(said))
    if update != "tables":
        print(f"{len(folders)} bundled zoos are whole, and their benchmark gives the committed results")
    print(_about_tables(root))


def _about_tables(root: Path | None) -> str:
    if root is None:
        return "README and docs do not lie beside the package: their tables were not looked at"
    return f"the tables of README and docs in {root} are what makes them"


def _check_sources(names: Sequence[str]) -> None:
    from zoobench.acquire import HOSTS
    from zoobench.check_sources import check_sources

    findings = []
    for finding in check_sources(names, hosts=HOSTS):
        findings.append(finding)
        print(finding, flush=True)
    wrong = sum(finding.wrong for finding in findings)
    zoos = len({finding.card for finding in findings})
    print(f"{len(findings)} sources of {zoos} zoos: {len(findings) - wrong} ok, {wrong} wrong")
    if wrong:
        raise CheckFailed(f"{wrong} of {len(findings)} sources are wrong")
