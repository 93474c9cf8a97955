"""`gpuhost verify` and `gpuhost report` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import pytest

from gpuhost.cli import verify as cli_verify
from gpuhost.report import report

from .test_report_files import made
from .typed import typed


def test_verify_hands_every_word_to_pytest(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Options, and --help too; the exit code is pytest's."""
    lines: List[List[str]] = []
    monkeypatch.setattr(cli_verify, "waited", lambda line: lines.append(line) or 1)
    words = ["--hosts=web", "-q", "--help", "-k", "driver or cuda"]
    assert typed(capsys, "verify", *words)[0] == 1
    assert typed(capsys, "verify")[0] == 1
    assert [line[1:] for line in lines] == [
        ["-I", "-m", "pytest", str(cli_verify.CHECKS), *more] for more in (words, [])
    ]


def test_the_last_report_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """As the run ended with it, as JSON, or in the browser."""
    monkeypatch.chdir(tmp_path)
    wanted, opened = made(tmp_path), []
    page = report.write(wanted, Path("reports/box"))["html"].absolute()
    code, out, _ = typed(capsys, "report", "box")
    assert (code, out.splitlines()) == (0, report.ending(wanted, page))
    assert json.loads(typed(capsys, "report", "box", "--json")[1]) == wanted
    monkeypatch.setattr(cli_verify.webbrowser, "open", lambda address: opened.append(address) or len(opened) == 1)
    assert typed(capsys, "report", "box", "--open")[0] == 0 and opened == [page.as_uri()]
    code, _, err = typed(capsys, "report", "box", "--open")
    assert code == 7 and "Open the page yourself" in err


def test_a_report_that_is_not_there_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One paragraph with what to type."""
    monkeypatch.chdir(tmp_path)
    code, _, err = typed(capsys, "report")
    assert code == 2 and "There is no report of localhost" in err and "./run pytest verify/" in err
    Path("reports/localhost").mkdir(parents=True)
    for text in ("{", "[]", '{"schema": 1}', json.dumps({**made(tmp_path), "verdict": "\x1b[2J"})):
        Path("reports/localhost/report.json").write_text(text, encoding="utf-8")
        code, out, err = typed(capsys, "report")
        assert code == 2 and out == "" and "cannot be read as a report" in " ".join(err.split()) and "\x1b" not in err
