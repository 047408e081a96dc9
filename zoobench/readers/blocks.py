"""State_dicts in a pickle that look like one seen before.

A published file holds a hundred thousand state_dicts of 1.5 kB of pickle each, alike but for memo indices and the
numbers of their storages. One regular expression a state_dict is many times faster than its 450 instructions, and
leaves ten numbers in memory instead of a hundred objects.
"""

from __future__ import annotations

import bisect
import itertools
import pickletools
import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from zoobench.readers.tensors import Tensor

_MAX_TEMPLATES = 16
_MAX_ATTEMPTS = 64
_PUTS, _GETS = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_OWN_PUT, _ANY_PUT = b"(q.|r.{4})", b"(?:q.|r.{4})"
_NAME, _ANY_GET = b"(h.|j.{4})", b"(?:h.|j.{4})"
_KEY = rb"X.\0\0\0([0-9]{1,17})"


class Template:
    """State_dicts of one structure, each tensor of which is a float32 storage as it lies in the file.

    Attributes
    ----------
    tensors : list of (name, shape)
        What each of them consists of.
    shapes : list of tuple of int
        What has to agree between the states of a zoo.
    sizes : ndarray of int64
        Numbers in each tensor.
    """

    def __init__(self, pattern: _Pattern, state: Mapping[str, Tensor]) -> None:
        self.pattern = pattern
        self.tensors = [(name, tensor.shape) for name, tensor in state.items()]
        self.shapes = [tensor.shape for tensor in state.values()]
        self.sizes = np.array([tensor.size for tensor in state.values()], np.int64)
        self._keys = array("q")

    def add(self, keys: tuple[bytes, ...]) -> int:
        """Note one more state_dict by the numbers of its storages; returns which one it is."""
        self._keys.extend(map(int, keys))
        return len(self._keys) // len(self.sizes) - 1

    def keys(self) -> np.ndarray:
        """Numbers of the storages, of shape (n_state_dicts, n_tensors)."""
        return np.array(self._keys, np.int64).reshape(-1, len(self.sizes))


class Block(NamedTuple):
    """A recognised state_dict: one of those of its template."""

    template: Template
    number: int


class StateBlocks:
    """The structures of state_dicts seen so far in a pickle."""

    def __init__(self) -> None:
        self._templates: list[Template] = []
        self._n_attempts = 0

    def recognise(
        self, content: memoryview, start: int, recall: Callable[[int], object]
    ) -> tuple[Block, int, int] | None:
        """The state_dict whose creation ends at ``start``, its memo index, and where it ends itself; or None.

        ``recall`` gives what the memo holds.
        """
        for template in self._templates:
            found = template.pattern.match(content, start, recall)
            if found is not None:
                keys, memo, stop = found
                return Block(template, template.add(keys)), memo, stop
        return None

    def learn(
        self,
        content: memoryview,
        start: int,
        stop: int,
        state: Mapping[str, Tensor],
        recall: Callable[[int], object],
    ) -> None:
        """Recognise state_dicts like this one from now on, if that can be done safely."""
        self._n_attempts += 1
        if len(self._templates) >= _MAX_TEMPLATES or self._n_attempts > _MAX_ATTEMPTS:
            return
        keys = [tensor.storage.key for tensor in state.values()]
        plain = all(key.isdecimal() and len(key) < 18 for key in keys) and len(set(keys)) == len(keys)
        if not plain or not all(tensor.is_whole_storage for tensor in state.values()):
            return
        pattern = _Pattern.of(bytes(content[start:stop]), list(state), keys)
        found = pattern.match(content, start, recall) if pattern else None
        if pattern and found and found[2] == stop and [key.decode() for key in found[0]] == keys:
            self._templates.append(Template(pattern, state))


class SkippedBlocks:
    """Where recognised state_dicts lie, for the rare case that something refers into one."""

    def __init__(self) -> None:
        self._memos, self._starts, self._stops = array("q"), array("q"), array("q")

    def add(self, memo: int, start: int, stop: int) -> None:
        """Note a state_dict by its memo index; those within it are higher, as memos are written in order."""
        self._memos.append(memo)
        self._starts.append(start)
        self._stops.append(stop)

    def around(self, memo: int) -> tuple[int, int]:
        """Start and stop of the state_dict within which a memo index was written; KeyError if there is none."""
        place = bisect.bisect_right(self._memos, memo) - 1
        if place < 0:
            raise KeyError(memo)
        return self._starts[place], self._stops[place]


class _Instruction(NamedTuple):
    name: str
    argument: object
    raw: bytes


class _Pattern:
    """The pickle of a state_dict with memo indices, storage numbers and the memo of its names left open.

    What else the tensors refer to stays as it is: the memo is one for the whole pickle, so it means the same wherever
    the pattern matches.
    """

    def __init__(self, parts: list[bytes], names: list[str]) -> None:
        self._pattern = re.compile(b"".join(parts), re.DOTALL)
        self._names = names
        self._fitting: set[tuple[bytes, ...]] = set()

    def match(
        self, content: memoryview, start: int, recall: Callable[[int], object]
    ) -> tuple[tuple[bytes, ...], int, int] | None:
        """Storage numbers, memo index and end of the state_dict at ``start``, if it fits."""
        match = self._pattern.match(content, start)
        if match is None:
            return None
        put, *rest = match.groups()
        n_names = len(self._names)
        # A name comes before its tensor's number, and is looked up where it is one remembered from before.
        gets, keys = (tuple(rest[::2]), tuple(rest[1::2])) if n_names else ((), tuple(rest))
        if gets not in self._fitting:
            if any(recall(_memo_index(get)) != name for get, name in zip(gets, self._names, strict=True)):
                return None
            self._fitting.add(gets)
        return keys, _memo_index(put), match.end()

    @classmethod
    def of(cls, raw: bytes, names: list[str], keys: list[str]) -> _Pattern | None:
        """The pattern of a state_dict's pickle, or None."""
        instructions = list(_instructions(raw))

        if not instructions or instructions[0].name not in _PUTS:
            return None
        parts: list[bytes] = []
        remembered: list[str] = []
        previous, n_others, n_keys, in_tensors = "", 0, 0, True
        for name, argument, raw_instruction in instructions:
            if name == "MEMOIZE":
                return None
            if name in _PUTS:
                parts.append(_ANY_PUT if parts else _OWN_PUT)
                continue
            part = re.escape(raw_instruction)
            if name in _GETS:
                if not in_tensors:
                    # The versions of modules, which nobody needs.
                    part = _ANY_GET

                elif previous == "REDUCE" or n_others == 1:
                    part = _NAME
                    remembered += names[n_keys : n_keys + 1]
            elif name == "BINUNICODE" and previous in (*_GETS, "GLOBAL") and argument in keys[n_keys : n_keys + 1]:
                part = _KEY
                n_keys += 1
            elif name == "SETITEMS":
                in_tensors = False
            parts.append(part)
            previous, n_others = name, n_others + 1
        return cls(parts, remembered) if remembered in ([], names) else None


def _instructions(raw: bytes) -> Iterator[_Instruction]:
    found = [(code.name, argument, start or 0) for code, argument, start in pickletools.genops(raw + b".")]
    for (name, argument, start), (_, _, stop) in itertools.pairwise(found):
        yield _Instruction(name, argument, raw[start:stop])


def _memo_index(instruction: bytes) -> int:
    return int.from_bytes(instruction[1:], "little")
