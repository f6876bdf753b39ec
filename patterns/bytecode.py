"""CPython's bytecode, told the same way for 3.11, 3.12 and 3.13: what `lowering.py` reads.

Only what an expression (with local names and ``if``) compiles to is known; everything else is an operation of kind
OTHER, which the reader refuses.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from types import CodeType
from typing import Any


class Kind(Enum):
    """What an operation does; in brackets what `Operation.value` is."""

    CONST = auto()  # push [the constant]
    LOAD = auto()  # push the local [name]
    STORE = auto()  # pop into the local [name]
    DEREF = auto()  # push the captured [name]
    GLOBAL = auto()  # push the global [name]
    NULL = auto()  # push the empty slot beside a callable
    ATTRIBUTE = auto()  # [name]
    METHOD = auto()  # an attribute that is called: pushes an empty slot too [name]
    SUBSCRIPT = auto()
    UNARY = auto()  # ["not" or "-"]
    BINARY = auto()  # [operator]
    COMPARE = auto()  # [operator]
    IS = auto()  # [True: is not]
    CONTAINS = auto()  # [True: not in]
    BUILD = auto()  # [(kind, how many)]
    BUILD_KEYS = auto()  # a dict whose keys are the constant on top [how many]
    COPY = auto()  # [depth]
    SWAP = auto()  # [depth]
    POP = auto()
    KEYWORDS = auto()  # the next call's last arguments have these [names]
    CALL = auto()  # [how many arguments]
    CALL_KEYWORDS = auto()  # the same, the names being on top [how many arguments]
    JUMP = auto()  # to `target`
    BRANCH = auto()  # pop; to `target` if its truth is [this]
    BRANCH_KEEP = auto()  # to `target` if the truth of the top is [this], else pop
    BRANCH_NONE = auto()  # pop; to `target` if that it is None is [this]
    RETURN = auto()
    FUNCTION = auto()  # make a function of the code on top [True: captured names lie below]
    CAPTURE = auto()  # give the function on top the captured names below it
    ITERATE = auto()  # iter(top)
    NEXT = auto()  # push the next of the iterator on top, or go to `target`
    YIELD = auto()
    OTHER = auto()  # [its name]


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. `target` is the position, in the list of operations, of a jump's goal."""

    kind: Kind
    value: Any = None
    target: int = -1


_IGNORED = frozenset(("RESUME", "NOP", "CACHE", "PRECALL", "TO_BOOL", "EXTENDED_ARG", "MAKE_CELL", "COPY_FREE_VARS"))
_SIMPLE = {
    "PUSH_NULL": Kind.NULL,
    "RETURN_GENERATOR": Kind.NULL,  # a generator's first step pushes what its second one pops
    "BINARY_SUBSCR": Kind.SUBSCRIPT,
    "POP_TOP": Kind.POP,
    "RETURN_VALUE": Kind.RETURN,
    "GET_ITER": Kind.ITERATE,
    "YIELD_VALUE": Kind.YIELD,
}
_NAMED = {
    "LOAD_FAST": Kind.LOAD,
    "LOAD_FAST_CHECK": Kind.LOAD,
    "LOAD_CLOSURE": Kind.DEREF,
    "LOAD_DEREF": Kind.DEREF,
    "STORE_FAST": Kind.STORE,
    "STORE_DEREF": Kind.STORE,
    "LOAD_METHOD": Kind.METHOD,
    "COMPARE_OP": Kind.COMPARE,
    "LOAD_CONST": Kind.CONST,
}
_COUNTED = {
    "COPY": Kind.COPY,
    "SWAP": Kind.SWAP,
    "CALL": Kind.CALL,
    "CALL_KW": Kind.CALL_KEYWORDS,
    "BUILD_CONST_KEY_MAP": Kind.BUILD_KEYS,
}
_BUILDS = {"BUILD_TUPLE": "tuple", "BUILD_LIST": "list", "BUILD_SET": "set", "BUILD_MAP": "dict"}
_PAIRS = {
    "LOAD_FAST_LOAD_FAST": (Kind.LOAD, Kind.LOAD),
    "STORE_FAST_LOAD_FAST": (Kind.STORE, Kind.LOAD),
    "STORE_FAST_STORE_FAST": (Kind.STORE, Kind.STORE),
}
_BRANCHES = {
    "POP_JUMP_IF_FALSE": (Kind.BRANCH, False),
    "POP_JUMP_IF_TRUE": (Kind.BRANCH, True),
    "POP_JUMP_IF_NONE": (Kind.BRANCH_NONE, True),
    "POP_JUMP_IF_NOT_NONE": (Kind.BRANCH_NONE, False),
    "JUMP_IF_FALSE_OR_POP": (Kind.BRANCH_KEEP, False),
    "JUMP_IF_TRUE_OR_POP": (Kind.BRANCH_KEEP, True),
}


def operations(code: CodeType) -> list[Operation]:
    """The operations of a code object, without those that mean nothing here."""
    found: list[tuple[Operation, int | None]] = []
    positions: dict[int, int] = {}
    for instruction in dis.get_instructions(code):
        positions[instruction.offset] = len(found)
        found.extend(_read(instruction, code))
    return [
        Operation(operation.kind, operation.value, positions[goal]) if goal is not None else operation
        for operation, goal in found
    ]


def _read(instruction: dis.Instruction, code: CodeType) -> Iterator[tuple[Operation, int | None]]:
    """The operations of one instruction, each with the offset it may jump to."""
    name = instruction.opname
    argument = instruction.argval
    if name in _IGNORED:
        return
    if name.startswith(("POP_JUMP_FORWARD_", "POP_JUMP_BACKWARD_")):
        # 3.11 has the direction in the name
        name = "POP_JUMP_" + name.split("_", 3)[3]
    if name in _SIMPLE:
        yield Operation(_SIMPLE[name]), None
    elif name in _NAMED:
        yield Operation(_NAMED[name], argument), None
    elif name in _COUNTED:
        yield Operation(_COUNTED[name], instruction.arg), None
    elif name in _BUILDS:
        yield Operation(Kind.BUILD, (_BUILDS[name], instruction.arg)), None
    elif name in _PAIRS:
        for kind, local in zip(_PAIRS[name], argument, strict=True):
            yield Operation(kind, local), None
    elif name in _BRANCHES:
        kind, when = _BRANCHES[name]
        yield Operation(kind, when), argument
    elif name in ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"):
        yield Operation(Kind.JUMP), argument
    elif name == "FOR_ITER":
        yield Operation(Kind.NEXT), argument
    else:
        yield from ((operation, None) for operation in _read_flagged(instruction, name, code))


def _read_flagged(instruction: dis.Instruction, name: str, code: CodeType) -> Iterator[Operation]:
    """Instructions whose argument holds flags beside a name."""
    argument, flags = instruction.argval, instruction.arg or 0
    if name == "LOAD_GLOBAL":
        # the empty slot may lie on either side of a callable, so its place does not matter
        if flags & 1:
            yield Operation(Kind.NULL)
        yield Operation(Kind.GLOBAL, argument)
    elif name == "LOAD_ATTR":
        # before 3.12 methods have an instruction of their own
        method = hasattr(dis, "hasarg") and flags & 1
        yield Operation(Kind.METHOD if method else Kind.ATTRIBUTE, argument)
    elif name == "RETURN_CONST":
        yield Operation(Kind.CONST, argument)
        yield Operation(Kind.RETURN)
    elif name == "KW_NAMES":
        yield Operation(Kind.KEYWORDS, code.co_consts[flags])
    elif name == "BINARY_OP":
        yield Operation(Kind.BINARY, instruction.argrepr)
    elif name in ("IS_OP", "CONTAINS_OP"):
        yield Operation(Kind.IS if name == "IS_OP" else Kind.CONTAINS, bool(flags))
    elif name in ("UNARY_NOT", "UNARY_NEGATIVE"):
        yield Operation(Kind.UNARY, "not" if name == "UNARY_NOT" else "-")
    elif name == "MAKE_FUNCTION":
        yield Operation(Kind.FUNCTION, bool(flags & 8)) if flags in (0, 8) else Operation(Kind.OTHER, name)
    elif name == "SET_FUNCTION_ATTRIBUTE":
        yield Operation(Kind.CAPTURE) if flags == 8 else Operation(Kind.OTHER, name)
    else:
        yield Operation(Kind.OTHER, name)
