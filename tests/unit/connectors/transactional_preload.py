"""Loaded once by the process that the jobs of `transactional_job` are forked from: compiled kernels and pyarrow."""

from __future__ import annotations

import pyarrow.parquet  # noqa: F401 - for the processes that are forked

from ostinato.cep.connectors.render import csv_header, csv_lines, json_lines, texts_of
from tests.unit.connectors.transactional_job import batch

_ROWS = batch([1, 2])
json_lines(_ROWS)
csv_header(_ROWS)
csv_lines(_ROWS)
for _column in _ROWS.columns.values():
    texts_of(_column)
