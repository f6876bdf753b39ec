"""Rebuilding syntax trees with some of their nodes replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ostinato.patterns import ast
from ostinato.patterns.errors import Problem

Conditions = tuple[ast.Expr | None, ast.Expr | None]
"""Condition and until of a stage."""


def map_expr(expr: ast.Expr, change: Callable[[ast.Expr], ast.Expr]) -> ast.Expr:
    """The expression with `change` applied to every node, arguments first."""
    if isinstance(expr, ast.Call):
        args = tuple(map_expr(arg, change) for arg in expr.args)
        if any(new is not old for new, old in zip(args, expr.args, strict=True)):
            expr = replace(expr, args=args)
    return change(expr)


MAX_DEPTH = 100
"""Calls within calls; more than anyone writes, and few enough for passes that follow the tree by recursion."""


def depth_problem(expr: ast.Expr) -> Problem | None:
    """What to say of an expression that is nested too deeply. It is looked at without recursion."""
    waiting = [(expr, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return Problem(
                f"this expression is nested more than {MAX_DEPTH} deep",
                expr.span,
                "say the same with `in (…)`, or with a part of it in a stream of its own",
            )
        if isinstance(node, ast.Call):
            waiting += ((arg, depth + 1) for arg in node.args)
    return None


def expressions_of(pattern: ast.Pattern) -> Iterator[ast.Expr]:
    """Every expression that stands in a pattern."""

    def inside(items: tuple[ast.Element, ...]) -> Iterator[ast.Expr]:
        for item in items:
            if isinstance(item, ast.Alternation):
                for branch in item.branches:
                    yield from inside(branch)
                continue
            if isinstance(item, ast.Group):
                yield from inside(item.items)
            elif item.condition is not None:
                yield item.condition
            if item.until is not None:
                yield item.until

    yield from inside(pattern.items)
    yield from (output.value for output in pattern.emit)


def map_stages(
    items: tuple[ast.Element, ...],
    stage: Callable[[ast.Stage], ast.Stage],
    group: Callable[[ast.Group], ast.Group] = lambda group: group,
) -> tuple[ast.Element, ...]:
    """The elements with every stage and every group replaced, those inside first."""
    result: list[ast.Element] = []
    for item in items:
        if isinstance(item, ast.Stage):
            result.append(stage(item))
        elif isinstance(item, ast.Group):
            result.append(group(replace(item, items=map_stages(item.items, stage, group))))
        else:
            branches = tuple(map_stages(branch, stage, group) for branch in item.branches)
            result.append(replace(item, branches=branches))
    return tuple(result)


def with_conditions(items: tuple[ast.Element, ...], conditions: Mapping[str, Conditions]) -> tuple[ast.Element, ...]:
    """The elements with condition and until put on the stages named."""

    def define(stage: ast.Stage) -> ast.Stage:
        condition, until = conditions.get(stage.name, (None, None))
        return replace(stage, condition=condition, until=until)

    return map_stages(items, define)


def map_pattern(
    pattern: ast.Pattern,
    change: Callable[[ast.Expr], ast.Expr],
    quantifier: Callable[[ast.Quantifier], ast.Quantifier] = lambda quantifier: quantifier,
) -> ast.Pattern:
    """The pattern with every expression in it (and every quantifier) changed."""

    def whole(expr: ast.Expr | None) -> ast.Expr | None:
        return None if expr is None else map_expr(expr, change)

    def stage(old: ast.Stage) -> ast.Stage:
        return replace(
            old, condition=whole(old.condition), until=whole(old.until), quantifier=quantifier(old.quantifier)
        )

    def group(old: ast.Group) -> ast.Group:
        return replace(old, until=whole(old.until), quantifier=quantifier(old.quantifier))

    return replace(
        pattern,
        items=map_stages(pattern.items, stage, group),
        emit=tuple(replace(output, value=map_expr(output.value, change)) for output in pattern.emit),
    )


def bind_params(program: ast.Program) -> ast.Program:
    """Bare names that are parameters of the file, made so; a column of the stream goes before a parameter."""
    params = frozenset(param.name for param in program.params)
    if not params:
        return program
    return ast.Program(
        tuple(
            map_pattern(d, name_params(params - stream_columns(program, d.on))) if isinstance(d, ast.Pattern) else d
            for d in program.declarations
        )
    )


def name_params(params: frozenset[str]) -> Callable[[ast.Expr], ast.Expr]:
    """The change that makes parameters of bare names."""

    def change(expr: ast.Expr) -> ast.Expr:
        if isinstance(expr, ast.Column) and expr.stage is None and expr.name in params:
            return ast.Param(expr.name, expr.span)
        return expr

    return change


def stream_columns(program: ast.Program, name: str) -> frozenset[str]:
    """The columns that a stream of the file has, as far as the text tells: declared ones, or what patterns emit."""
    names: set[str] = set()
    for declaration in program.declarations:
        if isinstance(declaration, ast.Stream) and declaration.name == name:
            names |= {column.name for column in declaration.columns}
        elif isinstance(declaration, ast.Pattern):
            streams = (declaration.into or declaration.name, declaration.timeouts_into)
            if name in streams and declaration.on != name:
                names |= {output.name for output in declaration.emit}
    return frozenset(names)
