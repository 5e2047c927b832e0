"""The page on the validator is complete where it can be checked."""

import re
from pathlib import Path

from protocol.validator import MAX_CANDIDATES, Policy, Reason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "validator.md").read_text()


def test_every_reason_is_in_the_table_and_no_other() -> None:
    table = PAGE.partition("## Reasons")[2].partition("## ")[0]
    rows = re.findall(r"^\| ([A-Z_, ]+) \|", table, flags=re.MULTILINE)
    named = [name for row in rows for name in row.split(", ")]
    assert sorted(named) == sorted(reason.name for reason in Reason)


def test_the_limits_are_those_of_the_code() -> None:
    assert f"at most {MAX_CANDIDATES} certificates" in PAGE
    assert f"signature checks ({Policy(name='').max_checks})" in PAGE
