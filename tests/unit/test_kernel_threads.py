"""Kernels that several threads ask for at once: each partition of a job is taken over in a thread of its own."""

from __future__ import annotations

import threading
import time
import types

import pytest

from ostinato.cep import jit


def test_one_thread_at_a_time_compiles_and_each_module_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: where kernels are cached is a setting of numba's for all threads, so two at once cached them in each
    other's folders, where nothing tells when they are outdated: outdated ones have crashed workers. Seen to fail
    without the lock."""
    running: list[str] = []
    most: list[int] = []
    compiled: list[str] = []

    def compile_slowly(module: types.ModuleType) -> jit.Kernels:
        running.append(module.__name__)
        compiled.append(module.__name__)
        time.sleep(0.02)
        most.append(len(running))
        running.remove(module.__name__)
        return jit.Kernels({})

    monkeypatch.setattr(jit, "_compile", compile_slowly)
    monkeypatch.setattr(jit, "_compiled", {})
    modules = [types.ModuleType(name) for name in ("one", "two", "three", "one", "two", "three")]
    found: list[jit.Kernels] = []
    threads = [threading.Thread(target=lambda each=each: found.append(jit.kernels(each))) for each in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert sorted(compiled) == ["one", "three", "two"]
    assert len(set(map(id, found))) == 3
