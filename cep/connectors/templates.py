"""Templates for lines of text: ``%{IP:addr} %{WORD:verb}``, as grok's, to regular expressions with named groups."""

from __future__ import annotations

import re

from ostinato.cep.connectors.base import ConnectorError
from ostinato.patterns.errors import did_you_mean

_IPV4 = r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV6 = r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?"
_MONTH = r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b"
_TIME = r"(?:2[0-3]|[01]?\d):[0-5]\d(?::(?:[0-5]?\d|60)(?:[.,]\d+)?)?"

NAMES = {
    "WORD": r"\b\w+\b",
    "NOTSPACE": r"\S+",
    "SPACE": r"\s*",
    "DATA": r".*?",
    "GREEDYDATA": r".*",
    "INT": r"[+-]?\d+",
    "POSINT": r"\b[1-9]\d*\b",
    "NONNEGINT": r"\b\d+\b",
    "NUMBER": r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?",
    "BASE16NUM": r"(?:0[xX])?[0-9A-Fa-f]+",
    "QUOTEDSTRING": r'"(?:\\.|[^\\"])*"' + r"|'(?:\\.|[^\\'])*'",
    "UUID": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
    "IPV4": _IPV4,
    "IPV6": _IPV6,
    "IP": rf"{_IPV6}|{_IPV4}",
    "MAC": r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}",
    "HOSTNAME": r"\b[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?\b",
    "IPORHOST": rf"{_IPV4}|{_IPV6}|\b[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?\b",
    "USERNAME": r"[a-zA-Z0-9._-]+",
    "USER": r"[a-zA-Z0-9._-]+",
    "EMAIL": r"[^\s@]+@[0-9A-Za-z.-]+",
    "PATH": r"(?:/[^\s?*]*)+",
    "URI": r"[A-Za-z][A-Za-z0-9+.-]*://\S+",
    "URIPATH": r"/[^\s?]*",
    "URIPATHPARAM": r"/\S*",
    "PROG": r"[\x21-\x5a\x5c\x5e-\x7e]+",
    "LOGLEVEL": r"(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?"
    r"|alert|fatal|severe|emerg(?:ency)?)",
    "MONTH": _MONTH,
    "MONTHNUM": r"0?[1-9]|1[0-2]",
    "MONTHDAY": r"0?[1-9]|[12]\d|3[01]",
    "YEAR": r"\d{4}",
    "HOUR": r"2[0-3]|[01]?\d",
    "MINUTE": r"[0-5]\d",
    "SECOND": r"(?:[0-5]?\d|60)(?:[.,]\d+)?",
    "TIME": _TIME,
    "DATE": r"\d{4}-\d{2}-\d{2}",
    "TIMESTAMP_ISO8601": rf"\d{{4}}-\d{{2}}-\d{{2}}[Tt ]{_TIME}(?:[Zz]|[+-]\d{{2}}:?\d{{2}})?",
    "HTTPDATE": rf"\d{{2}}/{_MONTH}/\d{{4}}:{_TIME} [+-]\d{{4}}",
    "SYSLOGTIMESTAMP": rf"{_MONTH} +\d{{1,2}} {_TIME}",
    "COMMONAPACHELOG": r"%{IPORHOST:clientip} %{NOTSPACE:ident} %{NOTSPACE:auth} \[%{HTTPDATE:timestamp}\] "
    r'"(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" '
    r"%{INT:response} (?:%{INT:bytes}|-)",
    "COMBINEDAPACHELOG": r'%{COMMONAPACHELOG} "%{DATA:referrer}" "%{DATA:agent}"',
    "SYSLOGBASE": r"%{SYSLOGTIMESTAMP:timestamp} %{IPORHOST:host} %{PROG:program}(?:\[%{INT:pid}\])?:",
}
"""What ``%{NAME}`` stands for; logstash's names with the same meaning, give or take exotic spellings."""

_REFERENCE = re.compile(r"%\{(\w+)(?::(\w+))?(?::\w+)?\}")


def compile_template(template: str) -> re.Pattern[bytes]:
    """The regular expression of a template; it may hold any of Python's, groups named ``(?P<name>...)`` included.

    Raises ConnectorError for an unknown name or a bad expression.

    >>> compile_template("from %{IP:addr} port %{INT}").search(b"from 10.0.0.1 port 22")["addr"]
    b'10.0.0.1'
    """
    expanded = template
    while _REFERENCE.search(expanded):
        expanded = _REFERENCE.sub(_expand, expanded)
    try:
        return re.compile(expanded.encode())
    except re.error as error:
        raise ConnectorError(f"the pattern {template!r} is not a regular expression: {error}") from error


def _expand(reference: re.Match[str]) -> str:
    name, field = reference.group(1), reference.group(2)
    if name not in NAMES:
        hint = did_you_mean(name, NAMES)
        raise ConnectorError(f"there is no template %{{{name}}}" + (f"; {hint}" if hint else ""))
    return f"(?P<{field}>{NAMES[name]})" if field else f"(?:{NAMES[name]})"
