"""Results over time: what is kept, "since when", and that no kept file, however damaged, ends in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.cli import main as cli
from gpuhost.diagnoses import verdict as checks
from gpuhost.errors import EnvironmentProblem
from gpuhost.host.pairs import judge
from gpuhost.report import history

Json = Dict[str, Any]
LEFT_OUT = checks.not_asked(checks.CHECKS[0]).actual


def report(day: int, generation: Optional[int] = 1, host: str = "box", **statuses: str) -> Json:
    """A report of one day; `statuses` are those of made-up checks, `left` for one that was not asked for."""
    rows = [
        {"id": f"made.{name}", "status": "skip" if status == "left" else status, "actual": LEFT_OUT}
        if status == "left"
        else {"id": f"made.{name}", "status": status, "actual": f"{name} on day {day}"}
        for name, status in statuses.items()
    ]
    return {
        "schema": 1,
        "host": host,
        "when": f"2026-01-{day:02d}T00:00:00Z",
        "verdict": "broken" if "fail" in statuses.values() else "ok",
        "plan": {"generation": generation},
        "checks": rows,
    }


def only(reports: List[Json]) -> history.Since:
    """The history of the one check there is."""
    (found,) = history.since(reports)
    return found


def test_a_failure_is_dated_between_two_reports() -> None:
    """By the last good one and the first bad one, each with its generation."""
    days = [report(1, 3, a="pass"), report(2, 3, a="pass"), report(3, 4, a="fail"), report(4, 4, a="fail")]
    found = only(days)
    assert (found.now.status, found.now.when[8:10], found.first.when[8:10]) == ("fail", "04", "03")
    assert found.before is not None
    assert (found.before.status, found.before.when[8:10], found.before.generation) == ("pass", "02", 3)
    told = "since 2026-01-03T00:00:00Z (generation 4); pass on 2026-01-02T00:00:00Z (generation 3)"
    assert history.told(found) == told


def test_what_never_changed_is_older_than_what_is_kept() -> None:
    """The first report is not a beginning."""
    found = only([report(1, None, a="fail"), report(2, a="fail")])
    assert found.before is None
    assert history.told(found) == "since 2026-01-01T00:00:00Z (no generation) or earlier"


def test_a_run_that_left_a_check_out_says_nothing_of_it() -> None:
    """Neither that it changed nor when it was seen last."""
    found = only([report(1, a="pass"), report(2, a="left"), report(3, a="pass"), report(4, a="left")])
    assert found.before is None
    assert found.now.when[8:10] == "03"
    assert "made.a" not in history.in_report(report(4), [report(1, a="pass"), report(4, a="left")])


def test_a_check_that_was_not_reached_is_a_change() -> None:
    """A skip with another reason is a status like any other."""
    found = only([report(1, a="pass"), report(2, a="skip")])
    assert found.before is not None and found.now.status == "skip"


def test_the_verdict_has_a_history_as_well() -> None:
    """Its time, and the time of the last other one."""
    days = [report(1, a="pass"), report(2, a="fail"), report(3, a="fail")]
    assert history.verdicts(days) == ("broken", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z")
    assert history.verdicts(days[:1]) == ("ok", "2026-01-01T00:00:00Z", None)


def test_what_was_kept_is_read_back_in_order(tmp_path: Path) -> None:
    """Two of one second as well; nothing else is left in the folder."""
    for day, status in ((2, "fail"), (1, "pass"), (2, "pass")):
        history.keep(report(day, a=status), tmp_path)
    kept = history.read(tmp_path)
    assert [r["checks"][0]["status"] for r in kept.reports] == ["pass", "fail", "pass"]
    assert kept.unreadable == []
    names = sorted(path.name for path in (tmp_path / "history").iterdir())
    assert names == ["20260101T000000Z-1.json", "20260102T000000Z-1.json", "20260102T000000Z-2.json"]


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow for ever, and what does not belong to it stays."""
    monkeypatch.setattr(history, "KEEP", 3)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "notes.txt").write_text("mine", encoding="utf-8")
    for day in (5, 1, 4, 3, 2):
        history.keep(report(day, a="pass"), tmp_path)
    assert [r["when"][8:10] for r in history.read(tmp_path).reports] == ["03", "04", "05"]
    assert (tmp_path / "history" / "notes.txt").exists()


def test_a_cut_leaves_no_half_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the last step: the earlier reports answer, and a later run clears what was left."""
    history.keep(report(1, a="pass"), tmp_path)

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, "linked", cut)
        patch.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            history.keep(report(2, a="fail"), tmp_path)
    left = [path for path in (tmp_path / "history").iterdir() if path.name.startswith(".")]
    assert len(left) == 1
    assert [r["when"][8:10] for r in history.read(tmp_path).reports] == ["01"]
    os.utime(str(left[0]), (0, 0))
    history.keep(report(3, a="pass"), tmp_path)
    assert not left[0].exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no half file."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        history.keep(report(1, a="pass"), tmp_path)
    assert list((tmp_path / "history").iterdir()) == []


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> Tuple[int, str, str]:
    """What the command line gives."""
    code = cli.main(["history", *argv])
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), " ".join(err.split())


def fleet(folder: Path) -> None:
    """Two hosts, one with a fault of yesterday."""
    for entry in (report(1, a="pass", b="pass"), report(2, 2, a="fail", b="pass")):
        history.keep(entry, folder / "box")
    history.keep(report(1, host="well", a="pass"), folder / "well")


def test_the_fleet_shows_what_fails_and_a_host_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command, with and without a name."""
    fleet(tmp_path)
    code, out, err = said(capsys, "--reports", str(tmp_path))
    assert (code, err) == (0, "")
    assert "box: broken since 2026-01-02T00:00:00Z, another until 2026-01-01T00:00:00Z (2 reports kept" in out
    assert "fail made.a since 2026-01-02T00:00:00Z (generation 2); pass on 2026-01-01T00:00:00Z (generation 1)" in out
    assert "made.b" not in out and "well: ok since 2026-01-01T00:00:00Z or earlier" in out
    code, out, _ = said(capsys, "box", "--reports", str(tmp_path))
    assert "pass made.b" in out and "well" not in out


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a program."""
    fleet(tmp_path)
    _, out, _ = said(capsys, "box", "--reports", str(tmp_path), "--json")
    (box,) = json.loads(out)["hosts"]
    (row,) = [check for check in box["checks"] if check["id"] == "made.a"]
    assert (row["since"]["generation"], row["before"]["generation"], row["before"]["status"]) == (2, 1, "pass")
    assert box["verdict"] == {"now": "broken", "since": "2026-01-02T00:00:00Z", "other_until": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("argv", [[], ["nobody"], ["../box"], ["\x1b[2J"]])
def test_without_reports_the_user_is_told_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: List[str]
) -> None:
    """A usage error, and the command that keeps one."""
    code, _, err = said(capsys, *argv, "--reports", str(tmp_path / "none"))
    assert code == 2 and "./run pytest verify/" in err and "\x1b" not in err


#: Files that a crash, another version, a hand or an enemy may leave.
BAD = {
    "empty": b"",
    "cut": json.dumps(report(9, a="fail")).encode()[:-20],
    "latin": b'{"host": "\xff"}',
    "list": b"[]",
    "deep": b"[" * 100_000,
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "newer": json.dumps({**report(9), "schema": 2}).encode(),
    "true": json.dumps({**report(9), "schema": True}).encode(),
    "time": json.dumps({**report(9), "when": "yesterday\x1b[2J"}).encode(),
    "verdict": json.dumps({**report(9), "verdict": ["ok"]}).encode(),
    "plan": json.dumps({**report(9), "plan": {"generation": "3"}}).encode(),
    "checks": json.dumps({**report(9), "checks": [{"id": "a", "status": "fine", "actual": "x"}]}).encode(),
    "rows": json.dumps({**report(9), "checks": {"id": "a"}}).encode(),
    "actual": json.dumps({**report(9), "checks": [{"id": "a", "status": "pass", "actual": None}]}).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_the_others_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """On the error output; the answer itself is as without it."""
    fleet(tmp_path)
    _, want, _ = said(capsys, "box", "--reports", str(tmp_path))
    file = tmp_path / "box" / "history" / "20260109T000000Z-1.json"
    file.write_bytes(BAD[name])
    code, out, err = said(capsys, "box", "--reports", str(tmp_path))
    assert (code, out) == (0, want)
    assert f"box: {file.name} is passed over: " in err
    assert "\x1b" not in err


def test_what_is_no_file_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, a pipe (which would wait for ever) and a link to nowhere, with the names of reports."""
    fleet(tmp_path)
    folder = tmp_path / "box" / "history"
    (folder / "20260107T000000Z-1.json").mkdir()
    os.mkfifo(folder / "20260108T000000Z-1.json")
    (folder / "20260109T000000Z-1.json").symlink_to("nowhere")
    code, out, err = said(capsys, "box", "--reports", str(tmp_path))
    assert code == 0 and err.count("passed over") == 3 and "made.a" in out


def test_words_of_a_kept_report_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor are they taken for markup."""
    evil = "[bold red]x[/]\x1b[2J\u202e\n"
    history.keep({**report(1, host=evil), "checks": [{"id": evil, "status": "fail", "actual": evil}]}, tmp_path / "box")
    _, out, _ = said(capsys, "--reports", str(tmp_path))
    assert "\x1b" not in out and "\u202e" not in out and "[bold red]x[/]" in out


FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["pass", "fail"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(FUZZ, max_examples=150)
@given(
    field=st.sampled_from(["schema", "host", "when", "verdict", "plan", "checks"]), value=JSONS, at=st.integers(0, 9)
)
def test_any_field_of_any_kind_is_a_report_or_is_named(tmp_path: Path, field: str, value: Any, at: int) -> None:
    """One field replaced by anything, the whole or a part of a row: never a traceback."""
    content = report(9, a="fail", b="pass")
    if at == 0 and field == "checks":
        content["checks"][0] = value
    elif at < 4 and field == "checks":
        content["checks"][0][["id", "status", "actual"][at - 1]] = value
    elif at < 5 and field == "plan":
        content["plan"]["generation"] = value
    else:
        content[field] = value
    file = tmp_path / "box" / "history" / "20260109T000000Z-1.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    kept = history.read(tmp_path / "box")
    assert len(kept.reports) + len(kept.unreadable) == 1
    for row in history.since(kept.reports):
        assert history.told(row).isprintable()


@settings(FUZZ, max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_named(tmp_path: Path, data: bytes) -> None:
    """In the place of a report."""
    file = tmp_path / "box" / "history" / "20260109T000000Z-1.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    kept = history.read(tmp_path / "box")
    assert kept.reports == [] and len(kept.unreadable) == 1 and kept.unreadable[0]["error"].isprintable()


FUTURE = "2999-01-01T00:00:00Z"


def test_a_report_of_the_future_is_named_and_pushes_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made while a clock was wrong. It once was the last report for ever, and verify's summary ended in a traceback."""
    monkeypatch.setattr(history, "KEEP", 2)
    for when in (FUTURE, FUTURE, FUTURE):
        history.keep({**report(1, a="fail"), "when": when}, tmp_path / "box")
    for day in (1, 2, 3):
        history.keep(report(day, a="pass"), tmp_path / "box")
    kept = history.read(tmp_path / "box")
    assert [row["when"][8:10] for row in kept.reports] == ["02", "03"]
    assert [bad["file"] for bad in kept.unreadable] == [f"29990101T000000Z-{n}.json" for n in (1, 2, 3)]
    assert "dated in the future (2999-01-01T00:00:00Z)" in kept.unreadable[0]["error"]
    code, out, err = said(capsys, "box", "--reports", str(tmp_path))
    assert code == 0 and "box: ok since" in out and err.count("is passed over") == 3
    later = history.read(tmp_path / "box", now=4e10)  # its time has come
    assert len(later.reports) == 5 and later.unreadable == []


def test_a_clock_that_was_set_back_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is kept is of the future then, and the report of now is still told."""
    monkeypatch.setattr(history, "KEEP", 1)
    for day in (1, 2):
        history.keep(report(day, a="pass"), tmp_path)
    old = {**report(1, a="fail"), "when": "1970-01-01T00:00:00Z"}
    monkeypatch.setattr(history.time, "time", lambda: 60.0)
    history.keep(old, tmp_path)
    kept = history.read(tmp_path)
    assert kept.reports == [old]
    assert history.in_report(old, kept.reports) == {
        "made.a": "fail since 1970-01-01T00:00:00Z (generation 1) or earlier"
    }
    monkeypatch.undo()
    assert [row["when"][:10] for row in history.read(tmp_path).reports] == ["1970-01-01", "2026-01-02"]


def test_a_report_that_is_not_among_those_kept_is_told_by_itself() -> None:
    """Another run has dropped it, or it was passed over: that is not a reason for a traceback."""
    days = [report(1, a="pass"), report(3, a="pass")]
    told = history.in_report(report(2, a="fail"), days)
    assert told == {
        "made.a": "fail since 2026-01-02T00:00:00Z (generation 1); pass on 2026-01-01T00:00:00Z (generation 1)"
    }


@pytest.mark.parametrize("name", ["schema", "host", "when", "verdict", "plan", "checks"])
def test_a_report_without_a_field_is_named(tmp_path: Path, name: str) -> None:
    """`plan` once could be absent, and was then read all the same."""
    content = report(9, a="pass")
    del content[name]
    file = tmp_path / "history" / "20260109T000000Z-1.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content), encoding="utf-8")
    kept = history.read(tmp_path)
    assert kept.reports == [] and "data must contain" in kept.unreadable[0]["error"]


def test_a_name_that_was_changed_by_hand_does_not_change_the_order(tmp_path: Path) -> None:
    """What counts is the time within."""
    for day, status in ((1, "pass"), (2, "fail")):
        history.keep(report(day, a=status), tmp_path)
    folder = tmp_path / "history"
    (folder / "20260101T000000Z-1.json").rename(folder / "20260103T000000Z-1.json")
    assert [row["when"][8:10] for row in history.read(tmp_path).reports] == ["01", "02"]


def test_reports_under_the_old_name_of_a_folder_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gpu:1` and `gpu_1` shared one. What the sentence says to type moves them."""
    history.keep(report(1, host="gpu:1", a="pass"), tmp_path / "gpu_1")
    code, _, err = said(capsys, "gpu:1", "--reports", str(tmp_path))
    move = f"mv {tmp_path}/gpu_1 {tmp_path}/gpu%3A1"
    assert code == 2 and move in err
    subprocess.run(["/bin/sh", "-c", move], check=True)
    code, out, _ = said(capsys, "gpu:1", "--reports", str(tmp_path))
    assert code == 0 and "gpu:1: ok" in out
    assert history.left_behind(tmp_path, "gpu:1") is None
    history.keep(report(1, host="gpu_1", a="pass"), tmp_path / "gpu_1")
    assert history.left_behind(tmp_path, "gpu 1") is None  # they are another host's


def test_an_update_that_was_undone_has_its_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first report that says so; the check passes all the while, because the old kernel is what should boot."""
    record = judge.fresh({"kernel": "6.1", "version": "550.1"}, {"kernel": "6.2", "version": "550.1"}, "1")
    told = judge.told({**judge.noted(record, judge.Step(judge.UNDO, "it hung"), "2"), "recovered": True})
    days = [report(day, a="pass") for day in (1, 2, 3, 4)]
    for day, more in zip(days, ("", f". {told}", f". {told}", "")):
        day["checks"].append({"id": "kernel.boots", "status": "pass", "actual": f"6.1 will boot{more}"})
    assert history.undone(days) == [("2026-01-02T00:00:00Z", told)]
    for day in days:
        path = tmp_path / "box" / history.FOLDER / f"{day['when'].replace('-', '').replace(':', '')}-1.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(day))
    assert cli.main(["history", "box", "--reports", str(tmp_path)]) == 0
    assert f"2026-01-02T00:00:00Z: {told}" in " ".join(capsys.readouterr().out.split())
