"""How the declarations of a file fit together: names, what reads what, what goes where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ostinato.patterns import ast
from ostinato.patterns.errors import Problem, Span, did_you_mean
from ostinato.patterns.schema import columns_of


class ProgramProblems:
    """What is wrong with a file, gathered while its patterns are checked."""

    def __init__(self, program: ast.Program) -> None:
        self.problems: list[Problem] = list(_duplicates(program))
        self._declared = {stream.name for stream in program.streams}
        self._emitting: dict[str, ast.Pattern] = {}

    def unknown_source(self, pattern: ast.Pattern, streams: Mapping[str, ast.Stream]) -> None:
        """Note that a pattern reads a stream that is not there."""
        hint = did_you_mean(pattern.on, streams) or "declare it: `stream … ( … )`"
        self.problems.append(Problem(f"there is no stream `{pattern.on}`", _on_span(pattern), hint))

    def add_emitted(self, pattern: ast.Pattern, stream: ast.Stream, streams: dict[str, ast.Stream]) -> None:
        """Add a stream that a pattern emits to those known; several may emit the same one if it is alike."""
        if stream.name in self._declared:
            hint = "choose another name: `into …`"
            self.problems.append(
                Problem(f"pattern `{pattern.name}` would emit into the input `{stream.name}`", pattern.span, hint)
            )
            return
        other = streams.setdefault(stream.name, stream)
        first = self._emitting.setdefault(stream.name, pattern)
        if [(c.name, c.type, c.key) for c in other.columns] != [(c.name, c.type, c.key) for c in stream.columns]:
            self.problems.append(
                Problem(
                    f"patterns `{first.name}` and `{pattern.name}` emit different columns into `{stream.name}`",
                    pattern.span,
                    f"it has {_described(other)}, this would be {_described(stream)}",
                )
            )


def _described(stream: ast.Stream) -> str:
    return ", ".join(f"{name} {type_}" for name, type_ in columns_of(stream).items())


def _on_span(pattern: ast.Pattern) -> Span | None:
    """The place of the stream's name, which ends the head of a pattern."""
    span = pattern.span
    if span is None or span.line != span.end_line or span.end_column - len(pattern.on) < span.column:
        return span
    return Span(span.line, span.end_column - len(pattern.on), span.line, span.end_column)


def _duplicates(program: ast.Program) -> Iterator[Problem]:
    for kind, declarations in (
        ("stream", program.streams),
        ("parameter", program.params),
        ("pattern", program.patterns),
    ):
        seen: set[str] = set()
        for declaration in declarations:
            if declaration.name in seen:
                yield Problem(f"there are two {kind}s `{declaration.name}`", declaration.span, "rename one")
            seen.add(declaration.name)


def order_of_patterns(program: ast.Program, found: ProgramProblems) -> list[ast.Pattern]:
    """The patterns so that each comes after those whose matches it reads; a circle is noted."""
    emitters: dict[str, list[ast.Pattern]] = {}
    for pattern in program.patterns:
        for name in (pattern.into or pattern.name, pattern.timeouts_into):
            if name is not None:
                emitters.setdefault(name, []).append(pattern)
    order: list[ast.Pattern] = []
    state: dict[int, bool] = {}  # False while a pattern's inputs are being looked at

    def visit(pattern: ast.Pattern) -> None:
        state[id(pattern)] = False
        for emitter in emitters.get(pattern.on, ()):
            done = state.get(id(emitter))
            if done is None:
                visit(emitter)
            elif not done:
                found.problems.append(
                    Problem(
                        f"pattern `{pattern.name}` reads what it emits itself, directly or through others",
                        _on_span(pattern),
                        "patterns build on one another without a circle",
                    )
                )
        state[id(pattern)] = True
        order.append(pattern)

    for pattern in program.patterns:
        if id(pattern) not in state:
            visit(pattern)
    return order


def sinks_problems(program: ast.Program, streams: Mapping[str, ast.Stream]) -> Iterator[Problem]:
    """Outputs of streams that are not there."""
    declared = {stream.name for stream in program.streams}
    emitted = [name for name in streams if name not in declared]
    for output in program.outputs:
        if output.stream in declared:
            hint = f"streams of matches are {', '.join(emitted)}" if emitted else "write a pattern that reads it"
            yield Problem(f"`{output.stream}` is an input; streams of matches are put out", output.span, hint)
        elif output.stream not in streams:
            hint = did_you_mean(output.stream, emitted) or "it is the `into` or the name of a pattern"
            yield Problem(f"there is no stream `{output.stream}` to put out", output.span, hint)
