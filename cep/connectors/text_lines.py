"""Lines of text to batches, by a regular expression or a template whose groups are the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, Strings
from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError
from ostinato.cep.connectors.cells import bytes_above_ascii, to_vector
from ostinato.cep.connectors.columns import Schema, bad_record
from ostinato.cep.connectors.json_lines import lines
from ostinato.cep.connectors.templates import compile_template
from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import did_you_mean

LINE_COLUMN = "line"
"""A column of this name that the pattern has no group for holds the whole line."""

MOST_REPEATS = 10_000
"""A line that claims to stand for more is refused: no log folds so many, and a forged one would fill the memory."""


class TextLines:
    """Decodes lines that a pattern is found in; the others are passed over and counted.

    The pattern may be found anywhere in a line; ``^`` and ``$`` bind it to the ends. A group that took no part is
    NULL. Without a pattern there is one column, `line`.

    Attributes:
        skipped: lines so far that the pattern was not found in, empty ones not counted.
    """

    def __init__(
        self,
        stream: Stream,
        columns: frozenset[str] | None = None,
        *,
        pattern: str | None = None,
        strict: bool = False,
        repeat: str | None = None,
        year: int | None = None,
    ) -> None:
        """Read the pattern.

        Args:
            strict: a line that the pattern is not found in is a bad record.
            repeat: the group that says how many equal events a line stands for (syslog's ``message repeated 5
                times``); a line in which it took no part is one.

        Raises:
            ConnectorError: the pattern has no group for a column or for `repeat`.
        """
        self._schema = Schema(stream, columns, year=year)
        self._pattern = compile_template(pattern if pattern is not None else f"(?P<{LINE_COLUMN}>.*)")
        self._strict = strict
        self.skipped = 0
        groups = self._pattern.groupindex
        self._groups = []
        for need in self._schema.needs:
            name = ".".join(need.path)
            if name not in groups and name != LINE_COLUMN:
                hint = did_you_mean(name, groups) or f"it has {', '.join(groups) or 'none'}"
                raise ConnectorError(f"stream {stream.name}: the pattern has no group for column {name!r}; {hint}")
            self._groups.append(groups.get(name, 0))
        if repeat is not None and repeat not in groups:
            hint = did_you_mean(repeat, groups) or f"it has {', '.join(groups) or 'none'}"
            raise ConnectorError(f"stream {stream.name}: the pattern has no group {repeat!r} to repeat by; {hint}")
        self._repeat = groups[repeat] if repeat is not None else None

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        bad = list(chunk.rejected)
        data, text = chunk.data, chunk.data[: chunk.size].tobytes()
        begins: list[int] = []
        ends: list[int] = []
        spans: list[tuple[int, ...]] = []
        search, groups = self._pattern.search, self._groups
        for begin, line_end in lines(data, chunk.size):
            end = line_end - 1 if line_end > begin and text[line_end - 1] == 13 else line_end
            # a slice, so that ^ and $ mean the line
            found = search(text[begin:end])
            if found is None:
                if end > begin:
                    self.skipped += 1
                    if self._strict:
                        bad.append(bad_record(chunk, begin, end, "the pattern is not found in the line"))
                continue
            if end == begin:
                continue
            times = 1 if self._repeat is None else _repeats(found[self._repeat])
            if times is None:
                bad.append(bad_record(chunk, begin, end, f"expected a number of repeats from 1 to {MOST_REPEATS}"))
                continue
            span: list[int] = []
            for group in groups:
                span += found.span(group) if group else (0, end - begin)
            begins += [begin] * times
            ends += [end] * times
            spans += [tuple(span)] * times
        return self._batch(chunk, begins, ends, spans, bad), bad

    def _batch(self, chunk: Chunk, begins: list[int], ends: list[int], spans: list[Any], bad: list[BadRecord]) -> Batch:
        rows = len(begins)
        table = np.array(spans, np.int64).reshape(rows, 2 * len(self._groups))
        offsets = np.array(begins, np.int64)
        ascii_only = not bytes_above_ascii(chunk.data)
        columns, wrong = {}, dict[int, str]()
        for index, need in enumerate(self._schema.needs):
            start, end = table[:, 2 * index], table[:, 2 * index + 1]
            valid = start >= 0
            strings = Strings(
                chunk.data, np.where(valid, offsets + start, 0), np.where(valid, end - start, 0).astype(np.int32)
            )
            columns[need.name], problems = to_vector(need, strings, valid, ascii_only=ascii_only)
            wrong = problems | wrong
        batch, wrong = self._schema.assemble(columns, rows, wrong)
        said = {begins[row]: (ends[row], reason) for row, reason in wrong.items()}
        bad += [bad_record(chunk, begin, end, reason) for begin, (end, reason) in said.items()]
        bad.sort(key=lambda record: record.offset)
        return batch


def _repeats(text: bytes | None) -> int | None:
    """How often, None if that is not a number we believe."""
    if not text:
        return 1
    if not text.isdigit() or len(text) > len(str(MOST_REPEATS)):
        return None
    return int(text) if 1 <= int(text) <= MOST_REPEATS else None
