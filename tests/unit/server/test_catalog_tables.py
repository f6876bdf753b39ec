"""Tokens, the audit log, cursors and outputs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostinato.server.catalog import Audit, Catalog, LastOperatorError, Role, TokenExistsError, Tokens
from ostinato.server.catalog.tokens import digest_of
from ostinato.server.token_file import TokenFileError, read_tokens


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path) as made:
        yield made


def test_a_token_is_found_by_its_text_only(catalog: Catalog) -> None:
    token, text = catalog.tokens.create("a", Role.AUTHOR, "me")
    assert text.startswith("ost_")
    assert len(text) >= 4 + 43
    assert catalog.tokens.find(text) == token
    for wrong in ("", "a", text[:-1], text + "x", text.upper(), digest_of(text).hex()):
        assert catalog.tokens.find(wrong) is None


def test_texts_are_not_kept(tmp_path: Path) -> None:
    with Catalog(tmp_path) as catalog:
        _, text = catalog.tokens.create("a", Role.VIEWER, "me")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in stored
    assert text[4:].encode() not in stored
    assert digest_of(text) in stored


def test_tokens_come_back(tmp_path: Path) -> None:
    with Catalog(tmp_path) as catalog:
        _, text = catalog.tokens.create("a", Role.OPERATOR, "me")
        _, other = catalog.tokens.create("b", Role.VIEWER, "me")
        assert catalog.tokens.find(text)
        catalog.tokens.delete("b")
    with Catalog(tmp_path) as catalog:
        found = catalog.tokens.find(text)
        assert found is not None
        assert (found.name, found.role, found.created_by) == ("a", Role.OPERATOR, "me")
        # it was used just before the end
        assert found.last_used_ms is not None
        assert catalog.tokens.find(other) is None


def test_names_are_used_once(catalog: Catalog) -> None:
    catalog.tokens.create("a", Role.VIEWER, "me")
    with pytest.raises(TokenExistsError):
        catalog.tokens.create("a", Role.AUTHOR, "me")
    with pytest.raises(TokenExistsError):
        catalog.tokens.declare("a", Role.VIEWER, b"x")
    assert catalog.tokens.delete("a")
    assert catalog.tokens.delete("a") is None
    catalog.tokens.create("a", Role.AUTHOR, "me")


def test_tokens_expire(catalog: Catalog) -> None:
    now = 1000
    tokens = Tokens(catalog.database, lambda: now)
    _, text = tokens.create("a", Role.VIEWER, "me", 2000)
    assert tokens.find(text)
    now = 1999
    assert tokens.find(text)
    now = 2000
    assert tokens.find(text) is None


def test_the_last_operator_stays(catalog: Catalog) -> None:
    catalog.tokens.create("a", Role.OPERATOR, "me")
    catalog.tokens.create("soon gone", Role.OPERATOR, "me", 1 << 60)
    with pytest.raises(LastOperatorError):
        catalog.tokens.delete("a")
    catalog.tokens.create("b", Role.OPERATOR, "me")
    assert catalog.tokens.delete("a")


def test_use_is_written_now_and_then(catalog: Catalog) -> None:
    now = 1_000_000
    tokens = Tokens(catalog.database, lambda: now)
    _, text = tokens.create("a", Role.VIEWER, "me")

    def stored() -> object:
        return catalog.database.rows("SELECT last_used_ms FROM tokens")[0][0]

    tokens.write_used()
    assert stored() is None
    tokens.find(text)
    tokens.write_used()
    assert stored() == 1_000_000
    now += 1000
    tokens.find(text)
    tokens.write_used()
    assert stored() == 1_000_000
    assert tokens.all()[0].last_used_ms == 1_001_000
    tokens.write_used(all_of_them=True)
    assert stored() == 1_001_000


def test_roles_are_in_an_order() -> None:
    assert Role.VIEWER < Role.AUTHOR < Role.OPERATOR
    assert Role.named("Author") is Role.AUTHOR
    with pytest.raises(ValueError, match="there are viewer, author and operator"):
        Role.named("king")


def test_a_file_declares_tokens(tmp_path: Path, catalog: Catalog) -> None:
    file = tmp_path / "tokens"
    file.write_text(
        f"# for the collector\ncollector author sha256:{digest_of('its token').hex()}  # not in the catalog\n\n"
    )
    for declared in read_tokens(file):
        catalog.tokens.declare(declared.name, declared.role, declared.digest)
    found = catalog.tokens.find("its token")
    assert found is not None
    assert (found.name, found.role, found.declared) == ("collector", Role.AUTHOR, True)
    assert catalog.database.rows("SELECT * FROM tokens") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a author", ":2: write NAME ROLE sha256:HEX"),
        ("a author ost_secret", ":2: what stands behind the role is no sha256:HEX"),
        ("a author sha256:abc", ":2: what stands behind"),
        (f"a king sha256:{'0' * 64}", ":2: `king` is no role"),
        (f"a/b viewer sha256:{'0' * 64}", ":2: write NAME"),
    ],
)
def test_lines_that_declare_nothing(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"\n{line}\n")
    with pytest.raises(TokenFileError) as caught:
        read_tokens(file)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_audit_log_is_read_from_its_end(catalog: Catalog) -> None:
    audit = Audit(catalog.database, lambda: 77)
    for number in range(5):
        audit.add("ann" if number % 2 else "bob", "author", "10.0.0.1", "apply", f"p{number}", {"n": number})
    first = audit.page(2)
    assert [entry.target for entry in first] == ["p4", "p3"]
    assert (first[0].at_ms, first[0].detail, first[0].outcome) == (77, {"n": 4}, "ok")
    assert [entry.target for entry in audit.page(10, first[-1].seq)] == ["p2", "p1", "p0"]
    assert [entry.target for entry in audit.page(10, who="ann")] == ["p3", "p1"]
    assert [entry.target for entry in audit.page(10, target="p2", action="apply")] == ["p2"]
    assert audit.page(10, action="'; DROP TABLE audit; --") == []


def test_the_audit_log_cannot_be_changed(catalog: Catalog) -> None:
    catalog.audit.add("ann", "author", "", "apply", "p")
    for statement in ("DELETE FROM audit", "UPDATE audit SET who = 'bob'"):
        with pytest.raises(sqlite3.IntegrityError, match="the audit log is kept"), catalog.database.change() as change:
            change.execute(statement)
    assert len(catalog.audit.page(10)) == 1


def test_an_audit_row_is_part_of_the_change(catalog: Catalog) -> None:
    def fail_behind_it() -> None:
        with catalog.database.change():
            catalog.audit.add("ann", "author", "", "apply", "p")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_behind_it()
    assert catalog.audit.page(10) == []


def test_cursors(catalog: Catalog) -> None:
    assert catalog.cursors.get("hook") is None
    catalog.cursors.put({"hook": 5, "topic": 7})
    catalog.cursors.put({"hook": 6})
    assert catalog.cursors.all() == {"hook": 6, "topic": 7}
    catalog.cursors.delete("hook")
    assert catalog.cursors.get("hook") is None


def test_outputs(catalog: Catalog) -> None:
    first = catalog.outputs.put("hook", "webhook", {"url": "https://a.example"}, "ann")
    second = catalog.outputs.put("hook", "webhook", {"url": "https://b.example"}, "bob")
    assert (first.version, second.version) == (1, 2)
    assert second.created_ms == first.created_ms
    assert second.changed_by == "bob"
    assert catalog.outputs.all() == [second]
    assert catalog.outputs.delete("hook")
    assert not catalog.outputs.delete("hook")
    assert catalog.outputs.get("hook") is None
