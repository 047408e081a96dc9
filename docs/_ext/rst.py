"""Small pieces of reStructuredText, for the pages that are generated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: A paper's identifier as citations and sources of this library write it.
_ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")
_DOI = re.compile(r"\bdoi (10\.\S+?)(?=[).,]*(?:\s|$))")


def heading(text: str, line: str = "=") -> str:
    """A title with a line under it."""
    return f"{text}\n{line * (2 * len(text))}\n"


def plain(text: str) -> str:
    """Text of which no character is markup."""
    return re.sub(r"([\\*`|_<>])", r"\\\1", text)


def link(text: str, address: str) -> str:
    """An anonymous link, so that two with one text do not meet."""
    return f"`{plain(text)} <{address}>`__"


def with_papers(text: str) -> str:
    """Plain text in which papers are links."""
    parts: list[str] = []
    end = 0
    found = [*_ARXIV.finditer(text), *_DOI.finditer(text)]
    for match in sorted(found, key=lambda match: match.start()):
        arxiv = match.re is _ARXIV
        address = f"https://arxiv.org/abs/{match[1]}" if arxiv else f"https://doi.org/{match[1]}"
        parts += [plain(text[end : match.start()]), link(match[0], address)]
        end = match.end()
    # A reference has to be followed by a space or punctuation; what is empty separates all the same.
    return "".join([*parts, plain(text[end:])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, css: str = "", numbers: Sequence[str] = ()) -> str:
    """A table; columns of numbers are aligned to the right.

    Parameters
    ----------
    head : sequence of str
        Titles of the columns.
    rows : iterable of sequences of str
        Markup of the cells.
    css : str
        Class for the style sheet and for scripts.
    numbers : sequence of str
        Titles of the columns that hold numbers.
    """
    lines = [".. list-table::", "   :header-rows: 1"]
    if css:
        lines.append(f"   :class: {css}")
    lines.append("")
    roles = [":num:`{}`" if title in numbers else "{}" for title in head]
    for cells in [list(map(plain, head)), *rows]:
        for position, (cell, role) in enumerate(zip(cells, roles, strict=True)):
            shown = role.format(cell) if cell else ""
            lines.append(f"   {'* -' if position == 0 else '  -'} {shown}".rstrip())
    return "\n".join(lines) + "\n"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names with what is known of them; what is empty is left out."""
    rows = [f"   * - {plain(name)}\n     - {value}" for name, value in pairs if value]
    return ".. list-table::\n   :stub-columns: 1\n   :class: facts\n\n" + "\n".join(rows) + "\n"


def code(text: str, language: str = "python") -> str:
    """A block of code."""
    body = "\n".join(f"   {line}".rstrip() for line in text.strip("\n").splitlines())
    return f".. code-block:: {language}\n\n{body}\n"
