"""The README says what the code does."""

import re
from pathlib import Path

from ingest.transition import CODES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_readme_lists_every_code_of_a_reject_with_its_sentence() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE))
    assert {code: listed.get(code) for code in CODES} == CODES


def test_readme_names_every_published_table() -> None:
    models = (Path(__file__).parents[1] / "dbt" / "models" / "sla").glob("*.sql")
    assert [
        p.stem for p in models if f"`{p.stem}`" not in README.replace("sla.", "")
    ] == []
