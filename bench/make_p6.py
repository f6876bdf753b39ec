"""Write `p6_many.cep`: the pattern of P1 with at least k = 3 ... 12 failures within m = 1 ... 10 minutes.

python bench/make_p6.py
"""

from __future__ import annotations

from pathlib import Path

HEAD = """\
-- P6: a hundred patterns at once. Written by make_p6.py; change it there.
stream logins (
  user   string key,
  ts     timestamp(ms) time delay 2 s,
  status string
) from file 'bench/data/login-1000000.jsonl' format json
"""

PATTERN = """
pattern at_least_{k}_within_{m} on logins
  match  fail{{{k},}} ok
  define fail as status = 'FAILED',
         ok   as status = 'SUCCESS'
  within {m} min
  after match skip past last
  emit   user, {k} as k, {m} as m, count(fail) as failures, first(fail.ts) as since, ok.ts as success_time
  into   alerts
"""


def p6_many() -> str:
    """The text of the file."""
    patterns = (PATTERN.format(k=k, m=m) for k in range(3, 13) for m in range(1, 11))
    return HEAD + "".join(patterns)


if __name__ == "__main__":
    Path(__file__).with_name("p6_many.cep").write_text(p6_many(), encoding="utf-8")
