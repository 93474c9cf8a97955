"""What a linter is told to pass over says why, on its line, and no rule is switched off for more than it has to be."""

import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A rule's number, or several, and after a hyphen the reason. A bare one and bandit's own pragma are not used.
NOQA = re.compile(r"# noqa: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* - \S.{3,}")
SHELL = re.compile(r"# shellcheck disable=SC\d+(,SC\d+)* # \S.{3,}")
IGNORE = re.compile(r"# type: ignore\[[a-z,-]+\]")


def files(*patterns):
    """The project's files, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def comments(path):
    """The comments of a Python file, with their lines; text in strings is none."""
    with tokenize.open(str(path)) as lines:
        return [
            (token.start[0], token.string)
            for token in tokenize.generate_tokens(lines.readline)
            if token.type == tokenize.COMMENT
        ]


def wrong(path):
    """The exemptions of a Python file that have no reason, or that switch off more than one rule needs."""
    found = []
    for number, text in comments(path):
        if re.search(r"#\s*(noqa|nosec|ruff:|flake8:|mypy:)", text, re.I) and not NOQA.search(text):
            found.append(f"{path.relative_to(ROOT)}:{number}: {text}")
        if re.search(r"#\s*type:\s*ignore", text, re.I) and not IGNORE.search(text):
            found.append(f"{path.relative_to(ROOT)}:{number}: {text}")
    return found


def test_every_exempt_line_says_why():
    assert [row for path in files("*.py") for row in wrong(path)] == []


def test_every_exempt_line_of_a_shell_script_says_why():
    rows = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files("run", "*.sh", ".ci/run")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "shellcheck" in line and line.strip().startswith("#") and "disable" in line and not SHELL.search(line)
    ]
    assert rows == []


@pytest.mark.parametrize(
    "line", ["x = 1  # noqa", "x = 1  # noqa: S603", "x = 1  # nosec", "# ruff: noqa", "x = 1  # type: ignore"]
)
def test_exemption_without_a_reason_is_found(tmp_path, monkeypatch, line):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "x.py"
    path.write_text(f"{line}\n")
    assert wrong(path) == [f"x.py:1: {line[line.index('#') :]}"]
    path.write_text('text = "# noqa"\ny = 1  # noqa: S603 - a constant list\n')
    assert wrong(path) == []


def test_whole_files_are_exempt_from_no_rule_of_bandit_but_tests_from_three():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[tool.ruff.lint.per-file-ignores]")[1].split("\n[")[0]
    rows = dict(re.findall(r'^"(.+)" = \[(.*)\]$', section, re.M))
    exempt = {name: re.findall(r"S\d+", rules) for name, rules in rows.items() if re.search(r"S\d", rules)}
    assert exempt == {"tests/**/*.py": ["S101", "S603", "S607"], "verify/*.py": ["S101"]}
    assert not re.search(r"^(extend-)?ignore\b", text, re.M)


def test_no_rule_of_ansible_lint_is_skipped():
    text = (ROOT / ".ansible-lint").read_text(encoding="utf-8")
    assert "skip_list: []" in text and "warn_list: []" in text and "profile: production" in text
    assert not [
        path for path in files("*.yml", "*.yaml") if re.search(r"#\s*(noqa|yamllint disable)", path.read_text())
    ]
