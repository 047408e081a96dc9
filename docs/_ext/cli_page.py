"""The page of the command line, from the parser itself."""

from __future__ import annotations

import argparse

from rst import code, heading, plain
from zoobench import cli

#: Columns that usage lines are wrapped to.
_WIDTH = 76


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Every subcommand's parser, in the order of the command's own help."""
    (action,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def cli_page() -> str:
    """The whole page."""
    lines = [
        heading("Command line"),
        "``zoobench COMMAND --help`` says the same in a terminal; ``python -m zoobench`` is the same command. Errors "
        "are one sentence. The exit code is 2 for wrong arguments, 1 for what could not be done, 130 after Ctrl-C.\n",
    ]
    for name, parser in subcommands().items():
        lines += [
            heading(f"zoobench {name}", "-"),
            f".. program:: zoobench {name}\n",
            f"{plain(parser.description or '')}\n",
        ]
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=_WIDTH)
        usage = parser.format_usage().splitlines()
        lines.append(code("\n".join(line[len("usage: ") :] for line in usage), "text"))
        lines += [_option(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return "\n".join(lines)


def _option(action: argparse.Action) -> str:
    flags = action.option_strings
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = str(action.metavar or action.dest.upper())
    if not flags:
        names = value
    elif action.nargs == 0:
        names = ", ".join(flags)
    else:
        names = ", ".join(f"{flag} {value}{' ...' if action.nargs in ('+', '*') else ''}" for flag in flags)
    text = (action.help or "") % {"default": action.default}
    return f".. option:: {names}\n\n   {plain(text[:1].upper() + text[1:])}\n"
