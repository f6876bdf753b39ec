"""What happens to overlapping matches, under PyFlink's names."""

from __future__ import annotations

from ostinato.patterns.ast import Skip, SkipMode


class AfterMatchSkipStrategy:
    """Flink's after-match skip strategies; each gives an `ast.Skip`.

    >>> AfterMatchSkipStrategy.skip_to_first("b").skip.stage
    'b'
    """

    __slots__ = ("skip",)

    def __init__(self, skip: Skip) -> None:
        self.skip = skip

    @staticmethod
    def no_skip() -> AfterMatchSkipStrategy:
        """Every match is given."""
        return AfterMatchSkipStrategy(Skip(SkipMode.NO_SKIP))

    @staticmethod
    def skip_to_next() -> AfterMatchSkipStrategy:
        """Partial matches that start with the same event are dropped."""
        return AfterMatchSkipStrategy(Skip(SkipMode.TO_NEXT))

    @staticmethod
    def skip_past_last_event() -> AfterMatchSkipStrategy:
        """Partial matches that start within the match are dropped."""
        return AfterMatchSkipStrategy(Skip(SkipMode.PAST_LAST))

    @staticmethod
    def skip_to_first(name: str) -> AfterMatchSkipStrategy:
        """Partial matches that start before the first event of the stage are dropped."""
        return AfterMatchSkipStrategy(Skip(SkipMode.TO_FIRST, name))

    @staticmethod
    def skip_to_last(name: str) -> AfterMatchSkipStrategy:
        """Partial matches that start before the last event of the stage are dropped."""
        return AfterMatchSkipStrategy(Skip(SkipMode.TO_LAST, name))

    def throw_exception_on_miss(self) -> AfterMatchSkipStrategy:
        """A match without the named stage is an error instead of skipping nothing."""
        return AfterMatchSkipStrategy(Skip(self.skip.mode, self.skip.stage, True))

    def __repr__(self) -> str:
        return f"AfterMatchSkipStrategy({self.skip})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AfterMatchSkipStrategy) and self.skip == other.skip

    def __hash__(self) -> int:
        return hash(self.skip)
