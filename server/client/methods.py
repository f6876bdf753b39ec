"""Requests as methods: each is written once, in `calls`, and is a method of both clients, with its types.

Of the class (``Client.pattern``) it is the function that builds the request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from ostinato.server.client.call import Call

P = ParamSpec("P")
T = TypeVar("T")


class _Sync(Protocol):
    def do(self, call: Call[T], /) -> T: ...


class _Async(Protocol):
    async def do(self, call: Call[T], /) -> T: ...


class Method(Generic[P, T]):
    """A method of the sync client that builds a request and does it."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        # what `help` and `inspect.signature` show
        self.__doc__ = build.__doc__
        self.__wrapped__ = build

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Callable[P, Call[T]]: ...

    @overload
    def __get__(self, client: _Sync, owner: type[Any]) -> Callable[P, T]: ...

    def __get__(self, client: _Sync | None, owner: type[Any]) -> Callable[P, Call[T]] | Callable[P, T]:
        if client is None:
            return self._build

        @wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.do(self._build(*args, **kwargs))

        return method


class AsyncMethod(Generic[P, T]):
    """The same of the async client."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        # what `help` and `inspect.signature` show
        self.__doc__ = build.__doc__
        self.__wrapped__ = build

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Callable[P, Call[T]]: ...

    @overload
    def __get__(self, client: _Async, owner: type[Any]) -> Callable[P, Awaitable[T]]: ...

    def __get__(self, client: _Async | None, owner: type[Any]) -> Callable[P, Call[T]] | Callable[P, Awaitable[T]]:
        if client is None:
            return self._build

        @wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
            return client.do(self._build(*args, **kwargs))

        return method
