"""Kernels: plain Python functions over numpy arrays, compiled by numba or run as they are.

A kernel module holds plain functions and is given to `kernels`, which returns them in one namespace,
compiled; `interpreted` returns the same functions uncompiled, for patterns with conditions that only Python
can evaluate and for debugging (``NUMBA_DISABLE_JIT=1`` makes both the same).

Compiled code is cached on disk in a folder named after the kernels' sources, numba's version and Python's,
so that a changed callee can never be served from a stale cache.

A kernel module may name in `INLINED` those of its functions that are to become part of their callers' code and
make no arrays. An array is passed as eight numbers, and who holds it is counted while a call lasts: the call of a
function of a dozen arrays takes 0.2 microseconds, which is more than most have to do. Inlined it takes nothing.
A module may name in `ENTRIES` the functions that Python calls: the others are compiled without the wrapper that a call
from Python takes, and kept only as part of what calls them, which saves a good part of a first start.
A module none of whose functions makes an array (they are given every one) says ``ALLOCATES = False``: nothing is
counted then in any of them, inlined or not, which made the JSON scanner twice as fast and interning five times.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Kernels:
    """The functions of one kernel module, as attributes."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no kernel function `{name}`")


_compiled: dict[str, Kernels] = {}
_lock = threading.RLock()


def kernel_functions(module: types.ModuleType) -> list[str]:
    """The names of the functions that a module defines itself, in the order of its text."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
    ]


def interpreted(module: types.ModuleType) -> Kernels:
    """The module's functions, uncompiled."""
    return Kernels({name: getattr(module, name) for name in kernel_functions(module)})


def kernels(module: types.ModuleType) -> Kernels:
    """The module's functions, compiled on their first call."""
    found = _compiled.get(module.__name__)
    if found is None:
        # two threads at once would cache kernels in each other's folders, where nothing tells when they are outdated
        with _lock:
            found = _compiled.get(module.__name__)
            if found is None:
                found = _compiled[module.__name__] = _compile(module)
    return found


def cache_dir() -> Path:
    """Where compiled kernels are kept: ``OSTINATO_CACHE_DIR``, else ``~/.cache/ostinato`` (XDG)."""
    chosen = os.environ.get("OSTINATO_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ostinato"


def _compile(module: types.ModuleType) -> Kernels:
    import numba

    config: Any = numba.config
    if config.DISABLE_JIT:
        return interpreted(module)
    borrowed = _borrowed(module)
    # This module's source counts too, for the options below are not in numba's key.
    source = b"".join(_source(each) for each in [sys.modules[__name__], *_with_lenders(module)])
    digest = hashlib.sha256(source + f"{numba.__version__} {sys.version}".encode()).hexdigest()[:16]
    folder = cache_dir() / f"{module.__name__.rpartition('.')[2]}-{digest}"
    namespace = dict(vars(module))
    for name, lender in borrowed.items():
        namespace[name] = getattr(kernels(lender), name)
    names = kernel_functions(module)
    inlined = getattr(module, "INLINED", ())
    allocates = getattr(module, "ALLOCATES", True)
    entries = getattr(module, "ENTRIES", names)
    with _CacheIn(numba, folder):
        for name in names:
            plain = namespace[name]
            twin = types.FunctionType(plain.__code__, namespace, name, plain.__defaults__)
            twin.__module__, twin.__qualname__ = plain.__module__, plain.__qualname__
            options: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False}
            if name in inlined:
                options["forceinline"] = True
            if name not in entries:
                options |= {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
            if name in inlined or not allocates:
                options["_nrt"] = False
            namespace[name] = numba.njit(**options)(twin)
    return Kernels({name: namespace[name] for name in names})


def _borrowed(module: types.ModuleType) -> dict[str, types.ModuleType]:
    """Kernel functions that the module imports by name from other kernel modules, with those modules."""
    return {
        name: sys.modules[value.__module__]
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType)
        and value.__module__ != module.__name__
        and value.__module__.startswith("ostinato.")
    }


def _with_lenders(module: types.ModuleType) -> list[types.ModuleType]:
    """The module and all whose functions its own code can come to hold."""
    found = [module]
    for each in found:
        found.extend(lender for lender in dict.fromkeys(_borrowed(each).values()) if lender not in found)
    return found


def _source(module: types.ModuleType) -> bytes:
    assert module.__file__ is not None
    return Path(module.__file__).read_bytes()


class _CacheIn:
    """Point numba's cache at a folder while functions are decorated."""

    def __init__(self, numba: Any, folder: Path) -> None:
        self._config = numba.config
        self._folder = folder

    def __enter__(self) -> None:
        self._before = self._config.CACHE_DIR
        self._folder.mkdir(parents=True, exist_ok=True)
        self._config.CACHE_DIR = str(self._folder)

    def __exit__(self, *_: object) -> None:
        self._config.CACHE_DIR = self._before
