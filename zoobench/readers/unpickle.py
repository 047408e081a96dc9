"""Pickles of the published files, read as plain data.

Python's own unpickler can be told which names to admit, but not how much to allocate: a memo index of four bytes
makes it take gigabytes, and a deeply nested key overflows the stack. So this is a reader of its own, for the few
instructions that such files need. Nothing is imported, and nothing that a file names is ever called.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.readers.admitted import NAMES, Admitted, Attributes, IntegerRun, OrderedRecord, Record
from zoobench.readers.blocks import Block, SkippedBlocks, StateBlocks
from zoobench.readers.naming import shortened
from zoobench.readers.tensors import Storage, Tensor

_STOP = pickle.STOP[0]
_END = 1 << 62
_LONGEST_NAME = 256
_LONGEST_INTEGER = 64
_LARGEST_STORAGE = 1 << 48
_KEY_TYPES = (str, int, float, bool, type(None))
#: Integers that follow each other in a list, and so many that it is worth while not to read them one by one.
_INTEGERS = re.compile(rb"(?:K.|M..|J.{4}){64,}+(?=e)", re.DOTALL)


def load_pickle(content: memoryview, blocks: StateBlocks | None = None) -> Any:
    """What a pickle holds, as records, lists, tuples, strings, numbers and tensor descriptions.

    Parameters
    ----------
    content : memoryview of bytes
        The pickle.
    blocks : StateBlocks, optional
        Recognises state_dicts that look like one seen before, so that they need not be read.

    Returns
    -------
    object
        Dictionaries and objects are :class:`~zoobench.readers.admitted.Record`, tensors are
        :class:`~zoobench.readers.tensors.Tensor`, paths are strings, and recognised state_dicts are
        :class:`~zoobench.readers.blocks.Block`.

    Raises
    ------
    UnsafeFileError
        If the pickle asks for any name that a zoo does not need.
    ZooFormatError
        If it is damaged, or uses instructions that torch does not write.
    """
    try:
        return _Machine(content, blocks).run()
    except (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        if isinstance(error, ZooFormatError):
            raise
        raise ZooFormatError(f"holds a damaged pickle: {type(error).__name__}") from None


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, content: memoryview, blocks: StateBlocks | None) -> None:
        self._content = content
        self._blocks = blocks
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._skipped = SkippedBlocks()

    def run(self) -> Any:
        """Go through the whole pickle; what it leaves on the stack is the result."""
        self._run_until(_END)
        return self._stack.pop()

    def _run_until(self, stop: int) -> None:
        content, operations = self._content, _OPERATIONS
        while self._at < stop:
            code = content[self._at]
            operation = operations.get(code)
            if operation is None:
                if code == _STOP:
                    return
                self._refuse(code)
            else:
                self._at += 1
                operation(self)

    def _refuse(self, code: int) -> None:
        if bytes([code]) in _CALLING:
            raise UnsafeFileError("holds a pickle that calls code; nothing of it has been executed")
        raise ZooFormatError(f"holds a damaged pickle: instruction 0x{code:02x} has no place in a torch file")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _take(self, size: int) -> memoryview:
        raw = self._content[self._at : self._at + size]
        if len(raw) != size:
            raise ZooFormatError("holds a damaged pickle: it ends early")
        self._at += size
        return raw

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _number(self, form: struct.Struct) -> Any:
        self._at += form.size
        return form.unpack_from(self._content, self._at - form.size)[0]

    def _line(self) -> str:
        line, newline, _ = bytes(self._content[self._at : self._at + _LONGEST_NAME]).partition(b"\n")
        if not newline:
            raise ZooFormatError("holds a damaged pickle: a name without end")
        self._at += len(line) + 1
        return line.decode()

    # -- numbers, strings, names -----------------------------------------------------------------------------------

    def _integer(self, size: int) -> None:
        if size > _LONGEST_INTEGER:
            raise ZooFormatError(f"holds a damaged pickle: an integer of {size} bytes")
        self._stack.append(int.from_bytes(self._take(size), "little", signed=True))

    def _string(self, size: int) -> None:
        self._stack.append(str(self._take(size), "utf-8"))

    def _name(self, module: Any, name: Any) -> None:
        known = NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if known is None:
            raise UnsafeFileError(
                f"holds a pickle that asks for {shortened(f'{module}.{name}')!r}, which is no data of a model zoo; "
                "nothing of it has been executed, and other programs should not load the file either"
            )
        self._stack.append(known)

    def _stack_name(self) -> None:
        name = self._stack.pop()
        self._name(self._stack.pop(), name)

    def _storage(self) -> None:
        kind, dtype, key, _, n_numbers = self._stack.pop()
        known = isinstance(dtype, np.dtype) and isinstance(key, str) and type(n_numbers) is int
        if kind != "storage" or not known:
            raise ZooFormatError("holds a damaged pickle: a tensor storage that is none")
        if not 0 <= n_numbers < _LARGEST_STORAGE:
            raise ZooFormatError(f"holds a damaged pickle: a tensor storage of {n_numbers} numbers")
        self._stack.append(Storage(key, dtype, n_numbers))

    # -- the memo ----------------------------------------------------------------------------------------------------

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._recall(index))

    def _recall(self, index: int) -> Any:
        if index not in self._memo:
            self._read_skipped(index)
        return self._memo[index]

    def _read_skipped(self, index: int) -> None:
        """Read the recognised state_dict that something refers into, for the sake of its memo."""
        start, stop = self._skipped.around(index)
        held = self._stack, self._at, self._blocks
        self._stack, self._at, self._blocks = [OrderedRecord()], start, None
        self._run_until(stop)
        self._stack, self._at, self._blocks = held

    # -- containers --------------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        # The permutations in the files of 2021 are 60 million integers, which nobody needs.
        run = _INTEGERS.match(self._content, self._at)
        if run and self._stack and type(self._stack[-1]) is list:
            self._stack[-1].append(IntegerRun(self._content[self._at : run.end()]))
            self._at = run.end() + 1
            return
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) != size:
            raise ZooFormatError("holds a damaged pickle: a tuple without its items")
        del self._stack[-size:]
        self._stack.append(items)

    def _append(self) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def _appends(self) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        target = self._stack[-1]
        if type(target) is not list:
            raise ZooFormatError("holds a damaged pickle: items that belong to no list")
        return target

    def _new_record(self, record: Record) -> None:
        record.start = self._at
        recognised = self._blocks.recognise(self._content, self._at, self._recall) if self._blocks else None
        if recognised is None:
            self._stack.append(record)
            return
        block, memo, stop = recognised
        self._skipped.add(memo, self._at, stop)
        self._memo[memo] = block
        self._stack.append(block)
        self._at = stop

    def _set_item(self) -> None:
        value = self._stack.pop()
        self._fill([self._stack.pop(), value])

    def _fill(self, items: list[Any]) -> None:
        record = self._stack[-1]
        keys, values = items[::2], items[1::2]
        if not isinstance(record, Record) or any(type(key) not in _KEY_TYPES for key in keys):
            raise ZooFormatError("holds a damaged pickle: entries without a dictionary, or keys that are no names")
        record.update(zip(keys, values, strict=True))
        # Behind an OrderedDict of tensors, torch writes a dictionary of versions: part of the same state.
        more = type(record) is OrderedRecord and self._content[self._at] == pickle.EMPTY_DICT[0]
        if values and type(values[0]) is Tensor and not more:
            self._learn(record)

    def _learn(self, record: Record) -> None:
        if self._blocks is not None and all(type(value) is Tensor for value in record.values()):
            self._blocks.learn(self._content, record.start, self._at, record, self._recall)

    # -- objects -----------------------------------------------------------------------------------------------------

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not Admitted or type(arguments) is not tuple:
            raise ZooFormatError("holds a damaged pickle: it calls what cannot be called")
        result = function.build(*arguments)
        if type(result) is OrderedRecord:
            self._new_record(result)
        else:
            self._stack.append(result)

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(state, Record) or not isinstance(target, Attributes | OrderedRecord | Block):
            raise ZooFormatError("holds a damaged pickle: attributes that belong to no object")
        if type(target) is Attributes:
            target.update(state)
        elif isinstance(target, Record) and target:
            self._learn(target)


#: Instructions that import or call: their presence is an attempt, not damage.
_CALLING = (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX, pickle.PERSID)

_U2, _I4, _U4, _F8 = (struct.Struct(form) for form in ("<H", "<i", "<I", ">d"))
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], object]] = {
    pickle.PROTO: lambda m: m._byte(),
    pickle.FRAME: lambda m: m._take(8),
    pickle.NONE: lambda m: m._stack.append(None),
    pickle.NEWTRUE: lambda m: m._stack.append(True),
    pickle.NEWFALSE: lambda m: m._stack.append(False),
    pickle.BININT1: lambda m: m._stack.append(m._byte()),
    pickle.BININT2: lambda m: m._stack.append(m._number(_U2)),
    pickle.BININT: lambda m: m._stack.append(m._number(_I4)),
    pickle.LONG1: lambda m: m._integer(m._byte()),
    pickle.LONG4: lambda m: m._integer(m._number(_I4)),
    pickle.BINFLOAT: lambda m: m._stack.append(m._number(_F8)),
    pickle.SHORT_BINUNICODE: lambda m: m._string(m._byte()),
    pickle.BINUNICODE: lambda m: m._string(m._number(_U4)),
    pickle.GLOBAL: lambda m: m._name(m._line(), m._line()),
    pickle.STACK_GLOBAL: _Machine._stack_name,
    pickle.BINPERSID: _Machine._storage,
    pickle.BINPUT: lambda m: m._put(m._byte()),
    pickle.LONG_BINPUT: lambda m: m._put(m._number(_U4)),
    pickle.MEMOIZE: lambda m: m._put(len(m._memo)),
    pickle.BINGET: lambda m: m._get(m._byte()),
    pickle.LONG_BINGET: lambda m: m._get(m._number(_U4)),
    pickle.MARK: _Machine._mark,
    pickle.TUPLE: lambda m: m._stack.append(tuple(m._since_mark())),
    pickle.EMPTY_TUPLE: lambda m: m._stack.append(()),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.EMPTY_LIST: lambda m: m._stack.append([]),
    pickle.APPEND: _Machine._append,
    pickle.APPENDS: _Machine._appends,
    pickle.EMPTY_DICT: lambda m: m._new_record(Record()),
    pickle.SETITEM: _Machine._set_item,
    pickle.SETITEMS: lambda m: m._fill(m._since_mark()),
    pickle.REDUCE: _Machine._reduce,
    pickle.NEWOBJ: _Machine._reduce,
    pickle.BUILD: _Machine._build,
}
_OPERATIONS = {code[0]: operation for code, operation in _INSTRUCTIONS.items()}
