"""Typed expressions at run time: for whole batches, for partial matches in the kernel, one event at a time, and for
what patterns emit."""

from __future__ import annotations

from ostinato.cep.expressions.outputs import evaluate_outputs, match_columns
from ostinato.cep.expressions.registers import RegisterPlan, lower
from ostinato.cep.expressions.scalar import Context, condition_function, value_function
from ostinato.cep.expressions.vector import evaluate, predicate

__all__ = [
    "Context",
    "RegisterPlan",
    "condition_function",
    "evaluate",
    "evaluate_outputs",
    "lower",
    "match_columns",
    "predicate",
    "value_function",
]
