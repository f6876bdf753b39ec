"""Where the keys of a TOML file stand: tomllib reads values and forgets their lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]#]+?)\s*\]{1,2}")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_MULTILINE = re.compile(r"'''|\"\"\"")


def lines_of_keys(text: str) -> Mapping[tuple[str, ...], int]:
    r"""The line (from 1) of each key and table header of a document that tomllib has read without an error.

    >>> lines_of_keys('[server]\nport = 1\n[tls]\n')[("server", "port")]
    2
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    within: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        quotes = _MULTILINE.findall(line)
        if within is not None:
            # a text of several lines ends with the quotes it began with
            if quotes.count(within) % 2:
                within = None
            continue
        if header := _HEADER.match(line):
            table = _parts(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
        if quotes and quotes.count(quotes[0]) % 2:
            within = quotes[0]
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(next(part for part in found if part) if any(found) else "" for found in _PART.findall(dotted))
