"""What several requests and answers have. Times are epoch ms (`..._ms`); sizes are bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$", description="a name")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="most items of the page")]
After = Annotated[str | None, msgspec.Meta(description="`next` of the page before")]


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of a list."""

    limit: Limit = 100
    after: After = None


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong in what was sent; lines and columns count from 1."""

    message: str
    hint: str | None = None
    path: str | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457). `errors`: all that is wrong, where that can be several things; `id` finds it in the log."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    errors: list[ErrorDetail] = []
    id: str | None = None


class Health(msgspec.Struct, frozen=True):
    """Whether it is well; `checks` says of what is not."""

    status: str
    checks: dict[str, str] = {}
