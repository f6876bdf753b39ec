"""Sinks of text: JSON lines, CSV, and a table for a terminal."""

from __future__ import annotations

import re
import shutil
import unicodedata
from typing import Any, Protocol

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import SinkError
from ostinato.cep.connectors.render import csv_header, csv_lines, json_lines, texts_of
from ostinato.patterns.types import BIGINT, DOUBLE, INTERVAL, Decimal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WIDEST = 48
"""Characters that one column of a table takes at most, before the terminal's width is looked at."""


class Lines(Protocol):
    """Where lines go."""

    def write(self, lines: bytes) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class JsonSink:
    """One JSON object on a line for each row."""

    head = b""

    def __init__(self, output: Lines) -> None:
        self._output = output
        self.memory: Any = None
        """Of a sink of lines: what it must know of the lines before to go on after them, plain values."""

    def write(self, batch: Batch) -> None:
        self._output.write(json_lines(batch))

    def flush(self) -> None:
        self._output.flush()

    def close(self) -> None:
        self._output.close()


class CsvSink:
    """A line with the columns' names, then one for each row."""

    def __init__(self, output: Lines, *, delimiter: str = ",", header: bool = True) -> None:
        self._output = output
        self._delimiter = delimiter
        self._header = header
        self._top = b""
        self._is_checked = False

    @property
    def memory(self) -> Any:
        """Whether columns are named, and the line that does it once it has been written; see `JsonSink`."""
        return [self._header, self._top]

    @memory.setter
    def memory(self, value: Any) -> None:
        (self._header, self._top), self._is_checked = value, False

    @property
    def head(self) -> bytes:
        """What is at the top of the file, as far as it has been written."""
        return self._top

    def write(self, batch: Batch) -> None:
        if self._header and not self._is_checked:
            self._is_checked = True
            self._name_columns(batch)
        self._output.write(csv_lines(batch, self._delimiter))

    def _name_columns(self, batch: Batch) -> None:
        header = csv_header(batch, self._delimiter)
        if not self._top:
            self._output.write(header)
            self._top = header
        elif header != self._top:
            before, now = (line.decode().rstrip("\n") for line in (self._top, header))
            raise SinkError(
                f"output {batch.stream}: the file has the columns {before}, the job now writes {now}; "
                "go on in another file"
            )

    def flush(self) -> None:
        self._output.flush()

    def close(self) -> None:
        self._output.close()


class TableSink:
    """A table for people to read, that grows as matches come.

    The columns are as wide as the first rows need; what is longer later pushes its line out, and nothing is cut
    unless the line would be wider than the terminal.
    """

    def __init__(self, output: Lines, *, title: str = "", colour: bool = False, width: int | None = None) -> None:
        """`colour`: the head is printed bold. `width` of the terminal, None: that of the one in use."""
        self._output = output
        self._title = title
        self._colour = colour
        self._width = width
        self._widths: list[int] = []
        self._head = b""

    @property
    def memory(self) -> Any:
        """The widths of the columns and the lines at the top, see `JsonSink`."""
        return [self._widths, self._head]

    @memory.setter
    def memory(self, value: Any) -> None:
        self._widths, self._head = list(value[0]), value[1]

    @property
    def head(self) -> bytes:
        """See `CsvSink`."""
        return self._head

    def write(self, batch: Batch) -> None:
        if not len(batch) or not batch.columns:
            return
        cells = [[_clean(text) for text in texts_of(column)] for column in batch.columns.values()]
        right = [
            column.type in (BIGINT, DOUBLE, INTERVAL) or isinstance(column.type, Decimal)
            for column in batch.columns.values()
        ]
        limit = self._width or shutil.get_terminal_size().columns
        if not self._widths:
            names = list(batch.columns)
            self._widths = [
                min(_WIDEST, max(map(_columns, [name, *texts]))) for name, texts in zip(names, cells, strict=True)
            ]
            top = [self._bold(self._title)] if self._title else []
            top += [self._bold(self._line(names, right)), "  ".join("─" * width for width in self._widths)]
            self._head = _joined(top, limit)
            self._output.write(self._head)
        self._output.write(_joined([self._line(list(row), right) for row in zip(*cells, strict=True)], limit))

    def _line(self, texts: list[str], right: list[bool]) -> str:
        padded = [
            " " * (width - _columns(text)) + text if to_right else text + " " * (width - _columns(text))
            for text, width, to_right in zip(texts, self._widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colour else text

    def flush(self) -> None:
        self._output.flush()

    def close(self) -> None:
        self._output.close()


def _clean(text: str) -> str:
    """Without control characters, which could do anything to a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _joined(lines: list[str], limit: int) -> bytes:
    return ("\n".join(_cut(line, limit) for line in lines) + "\n").encode("utf-8", "replace")


def _cut(line: str, limit: int) -> str:
    if len(line) <= limit or line.startswith("\x1b"):
        return line
    return line[: max(1, limit - 1)] + "…"
