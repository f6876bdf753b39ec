"""Lines of text to columns."""

from __future__ import annotations

import pytest

from ostinato.cep.connectors.base import Chunk, ConnectorError
from ostinato.cep.connectors.templates import NAMES, compile_template
from ostinato.cep.connectors.text_lines import TextLines
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, STRING, TIMESTAMP

SSHD = Stream(
    "sshd",
    (
        FieldDecl("addr", STRING, key=True),
        FieldDecl("ts", TIMESTAMP),
        FieldDecl("user", STRING),
        FieldDecl("port", BIGINT),
    ),
    TimeDecl("ts", format="%b %d %H:%M:%S"),
)
PATTERN = (
    r"%{SYSLOGTIMESTAMP:ts} %{NOTSPACE} sshd\[%{INT}\]: Failed password for (?:invalid user )?%{DATA:user} "
    r"from %{IP:addr} port %{INT:port}"
)
LOG = b"""Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186
Dec 10 06:55:48 LabSZ sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2

Dec  9 07:07:45 LabSZ sshd[24206]: Failed password for root from 5.36.59.76 port 42393 ssh2\r
"""
APACHE = '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326 "http://x/" "Mozilla/4.08 [en]"'


def test_a_log_is_read_as_it_is() -> None:
    decoder = TextLines(SSHD, pattern=PATTERN, year=2015)
    batch, bad = decoder.decode(Chunk.of(LOG))
    assert not bad
    assert decoder.skipped == 1
    assert batch.time.tolist() == [1449730548000, 1449644865000]
    assert batch.columns["addr"].to_list() == ["173.234.31.186", "5.36.59.76"]
    assert batch.columns["user"].to_list() == ["webmaster", "root"]
    assert batch.columns["port"].to_list() == [38926, 42393]


def test_lines_without_the_pattern_are_bad_when_that_is_asked_for() -> None:
    _, bad = TextLines(SSHD, pattern=PATTERN, strict=True).decode(Chunk.of(LOG))
    assert [(record.line, record.reason) for record in bad] == [(1, "the pattern is not found in the line")]


FOLDED = PATTERN.replace("Failed", r"(?:message repeated %{WORD:times} times: \[ )?Failed")


def folded(*times: str | None) -> bytes:
    said = ["" if each is None else f"message repeated {each} times: [ " for each in times]
    line = "Dec  9 07:07:45 LabSZ sshd[24206]: {}Failed password for root from 5.36.59.76 port {} ssh2\n"
    return "".join(line.format(each, port) for port, each in enumerate(said)).encode()


def test_a_folded_line_stands_for_many() -> None:
    batch, bad = TextLines(SSHD, pattern=FOLDED, repeat="times").decode(Chunk.of(folded(None, "3", "1", "10000")))
    assert not bad
    assert batch.columns["port"].to_list() == [0, 1, 1, 1, 2, *[3] * 10_000]
    assert len(batch.time) == 10_005
    assert set(batch.columns["user"].to_list()) == {"root"}


def test_numbers_of_repeats_that_cannot_be() -> None:
    decoder = TextLines(SSHD, pattern=FOLDED, repeat="times")
    batch, bad = decoder.decode(Chunk.of(folded("0", "10001", "9" * 30, "many", "2")))
    assert batch.columns["port"].to_list() == [4, 4]
    assert [(each.line, each.reason) for each in bad] == [
        (line, "expected a number of repeats from 1 to 10000") for line in (1, 2, 3, 4)
    ]


def test_a_bad_folded_line_is_one_bad_record() -> None:
    log = folded("3", None).replace(b"port 0", b"port 99999999999999999999")
    batch, bad = TextLines(SSHD, pattern=FOLDED, repeat="times").decode(Chunk.of(log))
    assert len(batch.time) == 1
    assert [each.line for each in bad] == [1]


def test_repeats_need_a_group() -> None:
    with pytest.raises(ConnectorError, match=r"no group 'time' to repeat by; did you mean `times`\?"):
        TextLines(SSHD, pattern=FOLDED, repeat="time")


def test_an_access_log() -> None:
    stream = Stream(
        "web",
        (
            FieldDecl("clientip", STRING, key=True),
            FieldDecl("timestamp", TIMESTAMP),
            FieldDecl("response", BIGINT),
            FieldDecl("size", BIGINT, source=("bytes",)),
            FieldDecl("agent", STRING),
            FieldDecl("line", STRING),
        ),
        TimeDecl("timestamp", format="%d/%b/%Y:%H:%M:%S %z"),
    )
    decoder = TextLines(stream, pattern="%{COMBINEDAPACHELOG}")
    batch, bad = decoder.decode(Chunk.of(f"{APACHE}\n{APACHE.replace('2326', '-')}\n"))
    assert not bad
    assert batch.row(0) == {
        "clientip": "127.0.0.1",
        "timestamp": 971211336000,
        "response": 200,
        "size": 2326,
        "agent": "Mozilla/4.08 [en]",
        "line": APACHE,
    }
    assert batch.columns["size"].to_list() == [2326, None]


def test_what_a_group_holds_must_fit_its_column() -> None:
    stream = Stream("s", (FieldDecl("n", BIGINT), FieldDecl("t", STRING, key=True)), TimeDecl(mode="processing"))
    batch, bad = TextLines(stream, pattern=r"(?P<n>\S+) (?P<t>.*)").decode(Chunk.of(b"1 a\nx b\n3 \xff\n12 d"))
    assert batch.columns["n"].to_list() == [1, 12]
    assert [(record.line, record.reason) for record in bad] == [
        (2, 'column n: expected BIGINT, found text "x"'),
        (3, "column t: invalid UTF-8"),
    ]


def test_groups_side_by_side_are_not_read_over_their_ends() -> None:
    stream = Stream("s", (FieldDecl("a", BIGINT), FieldDecl("b", BIGINT)), TimeDecl(mode="processing"))
    batch, _ = TextLines(stream, pattern=r"(?P<a>\d\d)(?P<b>\d+)").decode(Chunk.of("1234\n5678"))
    assert [batch.columns[name].to_list() for name in "ab"] == [[12, 56], [34, 78]]


def test_without_a_pattern_the_line_is_the_column() -> None:
    stream = Stream("s", (FieldDecl("line", STRING),), TimeDecl(mode="processing"))
    batch, _ = TextLines(stream).decode(Chunk.of("one\n\ntwo"))
    assert batch.columns["line"].to_list() == ["one", "two"]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_template_is_an_expression(name: str) -> None:
    assert compile_template(f"^%{{{name}:x}}$").groupindex["x"] == 1


@pytest.mark.parametrize(
    ("name", "text", "matches"),
    [
        ("IP", "10.0.0.1", True),
        ("IP", "10.0.0.256", False),
        ("IP", "fe80::1", True),
        ("IP", "::ffff:10.0.0.1", True),
        ("TIMESTAMP_ISO8601", "2023-11-14T22:13:20.123+01:00", True),
        ("HOSTNAME", "a-b.example.org", True),
        ("NUMBER", "-1.5e3", True),
        ("QUOTEDSTRING", r'"a \" b"', True),
        ("LOGLEVEL", "WARNING", True),
        ("WORD", "a b", False),
    ],
)
def test_templates(name: str, text: str, matches: bool) -> None:
    assert bool(compile_template(f"^(?:%{{{name}}})$").search(text.encode())) == matches


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("%{IPP:addr}", "there is no template %{IPP}; did you mean `IP"),
        ("(?P<addr>", "is not a regular expression"),
        ("%{IP:address}", "no group for column 'addr'; did you mean `address`"),
    ],
)
def test_a_wrong_pattern(pattern: str, message: str) -> None:
    stream = Stream("s", (FieldDecl("addr", STRING),), TimeDecl(mode="processing"))
    with pytest.raises(ConnectorError) as caught:
        TextLines(stream, pattern=pattern)
    assert message in str(caught.value)
