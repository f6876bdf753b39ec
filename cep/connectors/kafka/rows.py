"""Rows as records for Kafka: the value is a JSON object, the key the text of the key columns."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.render import json_lines, texts_of


def values_of(batch: Batch) -> list[bytes]:
    """Each row as a JSON object."""
    return json_lines(batch).split(b"\n")[: len(batch)]


def keys_of(batch: Batch, columns: Sequence[str]) -> list[bytes | None]:
    """The key of each row: the text of one column, the JSON array of the texts of several; None without any, and where
    the one column is NULL."""
    if not columns:
        return [None] * len(batch)
    texts = [texts_of(batch.columns[name]) for name in columns]
    if len(columns) > 1:
        return [orjson.dumps(parts) for parts in zip(*texts, strict=True)]
    found: list[bytes | None] = [text.encode("utf-8", "surrogatepass") for text in texts[0]]
    valid = batch.columns[columns[0]].valid
    if valid is not None:
        found = [key if ok else None for key, ok in zip(found, valid.tolist(), strict=True)]
    return found
