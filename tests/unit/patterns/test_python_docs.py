"""What docs/python.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[3] / "docs" / "python.md").read_text("utf-8")


def test_the_examples_run_one_after_the_other() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    # there is no module whose names annotations could be looked up in; those in sight are found all the same
    exec("\n".join(blocks), {"__name__": "docs_python"})
