"""HTTP bodies to lines: JSON arrays and objects, NDJSON, gzip.

Events are cut out of an array as they are written, not decoded and written again: digits of a decimal stay as they are.
Whether a line is an event of its stream is for the stream's gate to say, by its number: the line of item N of an array
is line N + 1.
"""

from __future__ import annotations

import re
import zlib
from typing import Final, Literal, TypeAlias

import msgspec

from ostinato.state.typed import json_decoder

Form: TypeAlias = Literal["json", "ndjson"]

MAX_BYTES: Final = 32 << 20
MAX_DEPTH: Final = 64
"""Deeper objects are no events; readers of JSON that call themselves run out of stack at about a thousand."""
_STEP_BYTES: Final = 1 << 20
_MEDIA: Final[dict[str, Form]] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
}
_item: Final = json_decoder(msgspec.Raw)
_items: Final = json_decoder(list[msgspec.Raw])
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_SHOWN: Final = 80


class BodyError(Exception):
    """A body that cannot be used. `status` is HTTP's; `line` counts lines or items from 1, 0: the whole."""

    def __init__(self, message: str, *, status: int = 400, line: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.line = line


def form_of(content_type: str | None) -> Form:
    """The form that a Content-Type names. Raises BodyError (415)."""
    name, _, parameters = (content_type or "").partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters, re.IGNORECASE)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise BodyError(f"Content-Type has charset {charset[1]}; send UTF-8", status=415)
    form = _MEDIA.get(name.strip().lower())
    if form is None:
        said = f"Content-Type {name.strip()!r} is not known" if name.strip() else "there is no Content-Type"
        raise BodyError(
            f"{said}; send application/json (an array or one object) or application/x-ndjson (an object on each line)",
            status=415,
        )
    return form


def lines_of(
    body: bytes, form: Form, *, encoding: str | None = None, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> bytes:
    """The events of a body as lines, each ended by a line feed. Lines of NDJSON may still be blank.

    Args:
        body: as it came.
        form: of what is in it.
        encoding: the Content-Encoding: gzip or none.
        max_bytes: of the body when it is decompressed.
        max_depth: of objects and arrays in one event.

    Raises:
        BodyError: saying what is wrong, and with which item or line.
    """
    body = decompressed(body, encoding, max_bytes)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    lines = _json_lines(body) if form == "json" else body
    if lines and not lines.endswith(b"\n"):
        lines += b"\n"
    _check_depth(lines, max_depth, "item" if form == "json" else "line")
    return lines


def decompressed(body: bytes, encoding: str | None, max_bytes: int) -> bytes:
    """The body without its Content-Encoding; no more than `max_bytes` of it is ever made. Raises BodyError."""
    name = (encoding or "identity").strip().lower()
    if name in ("identity", ""):
        return body
    if name not in ("gzip", "x-gzip"):
        raise BodyError(f"Content-Encoding {encoding!r} is not known; send gzip, or none", status=415)
    pieces: list[bytes] = []
    size = 0
    rest = body
    try:
        while rest:
            # a body may be several gzip streams, one behind the other
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                piece = stream.decompress(rest, _STEP_BYTES)
                rest = stream.unconsumed_tail
                if not piece and not rest and not stream.eof:
                    raise BodyError("the gzip data ends before its end; was the body cut off?")
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                pieces.append(piece)
            rest = stream.unused_data
    except zlib.error as error:
        raise BodyError(f"the body is not gzip, as Content-Encoding says: {error}") from None
    return b"".join(pieces)


def _too_large(max_bytes: int) -> BodyError:
    return BodyError(f"the body has more than {max_bytes} bytes; send it in several requests", status=413)


def _json_lines(body: bytes) -> bytes:
    """A JSON array or object as lines."""
    start = body.lstrip(b" \t\r\n")[:1]
    try:
        if start == b"{":
            if b"\n" in body:
                body = bytes(_item.decode(body)).replace(b"\n", b" ")
            # else whether it is one object is seen by the gate
            return body
        if start != b"[":
            raise BodyError("the body must be a JSON array of objects, or one object")
        items = _items.decode(body)
    except msgspec.DecodeError as error:
        hint = "; for an object on each line send application/x-ndjson" if start == b"{" else ""
        raise BodyError(f"the body is not JSON: {error}{hint}") from None
    except RecursionError:
        raise BodyError("the body is nested too deeply") from None
    if b"\n" in body:
        # a line feed within a text has been refused; between values it is a blank
        return b"\n".join([bytes(item).replace(b"\n", b" ") for item in items])
    return b"\n".join(items)


def _check_depth(lines: bytes, max_depth: int, what: str) -> None:
    """Raise BodyError for the first line that is nested too deeply."""
    if lines.count(b"{") + lines.count(b"[") <= max_depth:
        return
    import numpy as np

    held = np.frombuffer(lines, np.uint8)
    opening = np.flatnonzero((held == ord("{")) | (held == ord("[")))
    ends = np.flatnonzero(held == ord("\n"))
    each = np.diff(np.searchsorted(opening, ends), prepend=0)
    # only a line that opens so many can be too deep; brackets in texts are told from others then
    for number in np.flatnonzero(each > max_depth).tolist():
        begin = int(ends[number - 1]) + 1 if number else 0
        line = lines[begin : int(ends[number])]
        if _depth(line) > max_depth:
            index = number if what == "item" else number + 1
            raise BodyError(
                f"{what} {index} is nested more than {max_depth} deep: {line[:_SHOWN].decode('utf-8', 'replace')}...",
                line=number + 1,
            )


def _depth(line: bytes) -> int:
    depth = deepest = 0
    for token in _STRUCTURE.finditer(line):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest
