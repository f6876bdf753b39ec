"""Stock patterns: ``.cep`` files to run as they are, to set parameters of, or to copy and change."""

from __future__ import annotations

from importlib.resources import files

from ostinato.patterns.errors import PatternError, Problem, did_you_mean

_SUFFIX = ".cep"


def names() -> list[str]:
    """The names of the patterns, in order.

    >>> "brute_force_login" in names()
    True
    """
    entries = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in entries if name.endswith(_SUFFIX))


def read(name: str) -> str:
    """The text of one of them.

    Raises:
        PatternError: there is none of that name.
    """
    known = names()
    if name not in known:
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise PatternError(Problem(f"the library has no pattern `{name}`", hint=hint))
    return files(__name__).joinpath(name + _SUFFIX).read_text("utf-8")
