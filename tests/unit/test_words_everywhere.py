"""Words of hosts, locks and files of others in everything that a person looks at: they stay words, and they end.

A terminal gets printable characters and line ends only; a page has exactly the elements and attributes that it has for
harmless words; and a megabyte of a name makes no megabytes of output.
"""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpuhost.cli import bench as cli_bench
from gpuhost.cli import history as cli_history
from gpuhost.report import bench_picture, history, report
from gpuhost.report import fleet as report_fleet
from gpuhost.report import html as report_html
from gpuhost.report import terminal as render
from gpuhost.yolo import bench_compare

from . import asking
from .test_bench_compare import NEW, OLD
from .test_report_files import made
from .test_watch_hostile import Page

Json = Dict[str, Any]
PIECES = [
    "\x1b[2J",
    "\x1b]0;t\x07",
    "\x9b31m",
    "\r",
    "\n",
    "\t",
    "\0",
    "\x7f",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\u2028",
    "\uffff",
]
PIECES += [
    "<script>alert(1)</script>",
    "</td></dl>",
    "<!--",
    "-->",
    "]]>",
    '"',
    "'",
    "`",
    "&lt;",
    "&#27;",
    " onload=x ",
]
PIECES += [
    "{{ 7*7 }}",
    "{% raw %}",
    "{#",
    "[bold]",
    "[/]",
    "[/red]",
    "\\",
    "%s",
    "{0}",
    "${x}",
    ":boom:",
    "url(x)",
    "a",
    " ",
]
WORDS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), min_size=1, max_size=8).map("".join).filter(str.strip)
#: Stands for a word of a megabyte; a test that fails prints its example.
HUGE = "huge"
TRIED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Of a page, a picture or a table. A healthy host's page has 100 kB.
MOST = 1_500_000
#: What a program reads of a report and no person writes.
FIXED = ("schema", "when", "status", "verdict", "kind", "sha256", "source", "secure_boot", "id", "diagnosis")


def full(word: str) -> str:
    """The word itself."""
    return "<b>\x1b[31m{{ x }}[red]" * 50_000 if word == HUGE else word


def plain(text: str) -> None:
    """It moves no cursor and ends."""
    assert {char for char in text if not (char.isprintable() or char == "\n")} == set()
    assert len(text) < MOST


def same_page(page: str, harmless: str) -> None:
    """It has the elements and attributes of the page with harmless words, in the same order."""
    found, known = Page(page), Page(harmless)
    assert found.tags == known.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in known.attributes]
    plain(re.sub(r"&#?\w+;", "x", page))
    plain("".join(found.words))


def with_words(value: Any, word: str) -> Any:
    """A copy in which every text that is not FIXED is this word."""
    if isinstance(value, dict):
        return {key: inner if key in FIXED else with_words(inner, word) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_words(inner, word) for inner in value]
    return word if isinstance(value, str) else value


def said_by_host(word: str) -> Callable[[Json], None]:
    """A host, and a lock, all of whose free words are this one."""

    def change(seen: Json) -> None:
        observation = seen["machine"]["observation"]
        observation["hostname"] = observation["kernel"]["running"] = observation["cpu"]["model"] = word
        observation["platform"]["pretty_name"] = word
        observation["problems"] += [{"what": word, "error": word}] * 300
        observation["dpkg_audit"].append(word)
        observation["apt"]["problems"].append({"file": word, "line": 1, "text": word, "error": word})
        for card in observation["gpus"] + seen["lock"]["plan"]["gpus"]:
            card["name"] = word
        seen["environments"]["dl4cv"]["packages"][word] = [word]
        seen["lock"]["plan"]["opencv"]["version"] = word
        for found in seen["benchmark"].values():
            found["environment"]["opencv"] = found["photos"]["kind"] = word
            found["models"][0].update(model=word, device=word)

    return change


@TRIED
@given(word=WORDS, name=WORDS)
@example(word=HUGE, name=HUGE)
def test_the_report_of_a_host(tmp_path: Path, word: str, name: str) -> None:
    """Its table in both forms, its page, its JUnit file, its own JSON, and what is said below the table."""
    shutil.rmtree(tmp_path / "reports", ignore_errors=True)
    harmless = made(tmp_path, "gpu", "box", said_by_host("x"))
    found = made(tmp_path, "gpu", full(name), said_by_host(full(word)))
    files = report.write(found, tmp_path / "reports" / "box")
    same_page(files["html"].read_text(encoding="utf-8"), report_html.page(harmless))
    for width in (20, 100):
        plain(report.as_text(found, width))
        plain(re.sub(r"\x1b\[[0-9;]*m", "", report.as_text(found, width, colour=True)))
    plain("\n".join(report.since_lines(found, tmp_path / "reports" / "box")))
    junit = files["junit"].read_text(encoding="utf-8")
    ElementTree.fromstring(junit)  # noqa: S314 - written above
    plain("".join(ElementTree.fromstring(junit).itertext()))  # noqa: S314 - written above
    assert len(junit) < MOST and files["json"].stat().st_size < MOST


@TRIED
@given(word=WORDS)
@example(word=HUGE)
def test_reports_that_were_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str) -> None:
    """By anybody: the history as text and as JSON, the next report's page, the fleet's page, the two generations."""
    base = made(tmp_path, "gpu")
    shutil.rmtree(tmp_path / "reports", ignore_errors=True)
    pages = []
    for text in (full(word), "x"):
        target = tmp_path / "reports" / text[:1].encode().hex()
        for day, generation in ((1, 3), (2, 4)):
            one = with_words(base, text[:2000])
            one.update(when=f"2026-01-0{day}T00:00:00Z", host=text[:900])
            one["plan"].update(generation=generation)
            for row in one["checks"]:
                row["actual"] = text[:19_000]
            history.keep(one, target)
            (target / "report.json").write_text(json.dumps(one), encoding="utf-8")
        kept = history.read(target)
        assert kept.unreadable == []
        last = {**copy.deepcopy(base), "when": "2026-01-03T00:00:00Z"}
        pages.append(
            (
                report_html.page(last, [*kept.reports, last]),
                report_fleet.page(*report_fleet.last_reports(target.parent)),
            )
        )
        shown = io.StringIO()
        console = Console(file=shown, width=100)
        cli_history.show(console, kept, True)
        plain(shown.getvalue())
        shutil.rmtree(target.parent)
        history.keep(kept.reports[-1], target)
        monkey = cli_history.argparse.Namespace(reports=target.parent, host=None, json=True)
        cli_history.run(monkey, console, console)
        plain(capsys.readouterr().out)
        shutil.rmtree(target.parent)
    for hostile, harmless in zip(*pages):
        same_page(hostile, harmless)


@TRIED
@given(word=WORDS)
@example(word=HUGE)
def test_benchmarks_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str) -> None:
    """Compared as text and as JSON, and drawn."""
    short = full(word)[:190]
    pictures = []
    for text in (short, "x"):
        found = copy.deepcopy(NEW)
        found["environment"].update(cpu=text, **{text[:90]: text})
        found["photos"]["kind"] = found["models"][0]["device"] = found["models"][0]["precision"] = text
        old, new = tmp_path / "a.json", tmp_path / "b.json"
        old.write_text(json.dumps(OLD), encoding="utf-8")
        new.write_text(json.dumps(found), encoding="utf-8")
        for as_json in (False, True):
            given = cli_bench.argparse.Namespace(a=old, b=new, anyway=True, as_json=as_json)
            assert cli_bench.run_compare(given) == 0
            plain(capsys.readouterr().out)
        pictures.append(bench_picture.svg([(text, bench_compare.load(new))]))
    same_page(*pictures)
    ElementTree.fromstring(pictures[0])  # noqa: S314 - made above


PLANS: List[Tuple[str, Json]] = [
    ("plan", asking.planned("ubuntu-18.04", "Quadro P2000")),
    ("refusal", asking.planned("ubuntu-18.04", "RTX 5090")),
]


@pytest.mark.parametrize(("kind", "plan"), PLANS, ids=[kind for kind, _ in PLANS])
@TRIED
@given(word=WORDS)
@example(word=HUGE)
def test_plans_and_errors(kind: str, plan: Json, word: str) -> None:
    """As a table, as a refusal, side by side, in Ansible's messages, and every error of the command line."""
    word = full(word)
    hostile = {**with_words(plan, word), "status": plan["status"]}
    limits = {name: {"can": word, "cannot": word} for name in ("driver", "cuda", "cudnn", "opencv", "tensorflow")}
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    render.show_plan(console, hostile)
    render.show_comparison(console, {"platform": word, "cards": [{"plan": hostile, "limits": limits}] * 2})
    render.show_error(console, word, word)
    plain(shown.getvalue())
    plain(render.plan_text(hostile))
