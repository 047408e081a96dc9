"""State_dicts in a pickle that look like one seen before.

A published file holds a hundred thousand state_dicts of 1.5 kB of pickle each, alike but for memo indices and the
numbers of their storages. One regular expression a state_dict is ten times faster than its 450 instructions,
and leaves ten numbers in memory instead of a hundred objects.
"""

from __future__ import annotations

import pickletools
import re
from array import array
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from zoobench.readers.tensors import Tensor

_MAX_TEMPLATES = 16
_MAX_ATTEMPTS = 64
_PUTS, _GETS = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")


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

    def __init__(self, pattern: re.Pattern[bytes], state: Mapping[str, Tensor]) -> None:
        self.pattern = pattern
        self.tensors = [(name, tensor.shape) for name, tensor in state.items()]
        self.shapes = [tensor.shape for tensor in state.values()]
        self.sizes = np.array([tensor.size for tensor in state.values()], np.int64)
        self._keys = array("q")
        self._n_blocks = 0

    def add(self, keys: tuple[bytes, ...]) -> int:
        """Note one more state_dict by the numbers of its storages."""
        self._keys.extend(map(int, keys))
        self._n_blocks += 1
        return self._n_blocks - 1

    def keys(self) -> np.ndarray:
        """Numbers of the storages, of shape (n_state_dicts, n_tensors)."""
        return np.array(self._keys, np.int64).reshape(self._n_blocks, len(self.sizes))


class Block(NamedTuple):
    """A recognised state_dict: one of those of its template."""

    template: Template
    number: int


class StateBlocks:
    """The structures of state_dicts seen so far in a pickle."""

    def __init__(self) -> None:
        self._templates: list[Template] = []
        self._n_attempts = 0

    def recognise(self, content: memoryview, start: int) -> tuple[Block, int, int] | None:
        """The state_dict whose creation ends at ``start``, its memo index, and where it ends itself; or None."""
        for template in self._templates:
            match = template.pattern.match(content, start)
            if match:
                put, *keys = match.groups()
                block = Block(template, template.add(tuple(keys)))
                return block, int.from_bytes(put[1:], "little"), match.end()
        return None

    def learn(self, content: memoryview, start: int, stop: int, state: Mapping[str, Tensor]) -> None:
        """Recognise state_dicts like this one from now on, if that can be done safely."""
        self._n_attempts += 1
        if len(self._templates) >= _MAX_TEMPLATES or self._n_attempts > _MAX_ATTEMPTS:
            return
        keys = [tensor.storage.key for tensor in state.values()]
        plain = all(key.isdecimal() and len(key) < 18 for key in keys) and len(set(keys)) == len(keys)
        if not plain or not all(tensor.is_whole_storage for tensor in state.values()):
            return
        pattern = _pattern(bytes(content[start:stop]), keys)
        match = pattern.match(content, start) if pattern else None
        if pattern and match and match.end() == stop and [key.decode() for key in match.groups()[1:]] == keys:
            self._templates.append(Template(pattern, state))


def _pattern(raw: bytes, keys: list[str]) -> re.Pattern[bytes] | None:
    """The pickle of a state_dict with its memo indices and storage numbers left open.

    What the tensors refer to outside stays as it is, so it means the same wherever the pattern matches. A pickle
    whose tensors refer to each other, as tied weights do, has no pattern.
    """
    instructions = list(pickletools.genops(raw + b"."))
    own = {argument for code, argument, _ in instructions if code.name in _PUTS}
    stops = [position for _, _, position in instructions[1:]]
    parts: list[bytes] = []
    previous = ""
    n_keys, in_tensors = 0, True
    for (code, argument, start), stop in zip(instructions, stops, strict=False):
        assert start is not None and stop is not None
        literal = re.escape(raw[start:stop])
        if code.name in _PUTS:
            parts.append(b"(?:q.|r.{4})" if parts else b"(q.|r.{4})")
            continue
        if not parts or code.name == "MEMOIZE":
            return None
        if code.name in _GETS and argument in own:
            if in_tensors:
                return None
            literal = b"(?:h.|j.{4})"
        elif code.name == "BINUNICODE" and previous in (*_GETS, "GLOBAL") and argument in keys[n_keys : n_keys + 1]:
            literal = rb"X.\0\0\0([0-9]{1,17})"
            n_keys += 1
        elif code.name == "SETITEMS":
            in_tensors = False
        parts.append(literal)
        previous = code.name
    return re.compile(b"".join(parts), re.DOTALL)
