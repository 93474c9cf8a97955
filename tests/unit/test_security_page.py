"""SECURITY.md promises nothing without code that does it and a test that attacks it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]


def test_each_boundary_names_code_and_a_test_that_are_there():
    assert ROWS[0][-2:] == ["code", "test that attacks it"]
    assert len(ROWS) > 10
    for row in ROWS[1:]:
        code, attack = re.findall(r"`([^`]+)`", row[-2]), re.findall(r"`([^`]+)`", row[-1])
        assert code and attack, row
        for name in [*code, *attack]:
            assert (ROOT / name).is_file(), name
        assert all(Path(name).name.startswith("test_") for name in attack), row


def test_it_is_two_screens_at_most():
    assert len(TEXT.splitlines()) <= 80
