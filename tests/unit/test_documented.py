"""Every command of README.md, the how-tos, the runbook and `./run --help` can be typed as it stands there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable, List, Set, Tuple

import pytest

from gpuhost.report import history

from ..example_hosts import observed
from ..locks import save
from .documented import Command, Wrong, all_commands, of_front_door, of_page, refused_by_pytest, simple, tried
from .test_cli_lock import CPU
from .test_report_files import made
from .typed import typed

COMMANDS = all_commands()
OF_PYTEST = [words[2:] for row in COMMANDS for words in simple(row.line) if words[:2] == ["./run", "pytest"]]
#: Commands that only read, and what they may end with: a plan may be a refusal, and a machine may have no card.
READING = {
    "plan": (0, 3), "observe": (0,), "doctor": (0, 1, 3, 4), "history": (0,), "lock": (0,),
    "completion": (0,), "manual": (0,),
}  # fmt: skip
#: What needs another machine, a Python or a message that a test does not have.
ELSEWHERE = {"--as", "--host", "--python", "-"}
READ = sorted(
    {
        tuple(words[2:])
        for row in COMMANDS
        for words in simple(row.line)
        if words[:2] == ["./run", "gpuhost"] and words[2] in READING and not ELSEWHERE & {*words}
    }
)


def test_there_are_commands_of_every_kind() -> None:
    """A page that lost its commands would let the others pass."""
    pages = {row.where.partition(":")[0] for row in COMMANDS}
    assert len(pages) > 15 and len(COMMANDS) > 120
    assert {words[0] for words in READ} == set(READING) and len(OF_PYTEST) >= 5


def kinds(rows: Iterable[Command]) -> Set[Tuple[str, ...]]:
    """Return what `./run` is given in these lines: a program and its first word, whatever the options."""
    given = [words[1:] for row in rows for words in simple(row.line) if words[0] == "./run"]
    return {tuple(word for word in words if not word.startswith("-"))[:2] for words in given}


def test_the_help_of_the_front_door_lists_every_command_of_the_readme() -> None:
    """A reader of either finds the same."""
    readme = kinds(row for row in COMMANDS if row.where.startswith("README.md"))
    assert len(readme) > 15 and readme - kinds(of_front_door()) == set()


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.line)
def test_a_command_is_what_its_program_takes(row: Command) -> None:
    """Options, playbooks, tags and variables; on the host's side, that a shell reads it."""
    try:
        tried(row.line)
    except Wrong as wrong:
        pytest.fail(f"{row.where}: {row.line}\n{wrong}")


def test_pytest_takes_its_options() -> None:
    """All in one process."""
    refused = refused_by_pytest(OF_PYTEST)
    assert dict(zip(map(tuple, OF_PYTEST), refused)) == dict.fromkeys(map(tuple, OF_PYTEST), "")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands read: an observation, a lock and reports."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "locks" / "HOST" / "stack.json", CPU)
    for name in ("HOST", "localhost", "workstation"):
        history.keep(made(tmp_path, name=name), tmp_path / "reports" / name)
    return tmp_path


@pytest.mark.parametrize("words", READ, ids=" ".join)
def test_what_only_reads_is_run(words: List[str], sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It answers, with no error of its own."""
    if "--observation" in words:
        (sandbox / "it.json").write_text(json.dumps(observed("debian12-no-gpu")), encoding="utf-8")
    code, out, err = typed(capsys, *words)
    assert code in READING[words[0]], (code, out, err)
    assert "Traceback" not in err and (out or (sandbox / "it.json").exists())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("./run gpuhost plan --gqu 'RTX 4090'", "unrecognized arguments: --gqu"),
        ("./run gpuhost plam", "invalid choice: 'plam'"),
        ("./run gpuhost detect photo.jpg --confidense 0.5", "unrecognized arguments: --confidense"),
        ("make | ./run gpuhost doctor --massage -", "unrecognized arguments: --massage"),
        ("GPUHOST_CATALOG=/srv ./run gpuhost plan --on debian-13", "unrecognized arguments: --on"),
        ("./run ansible-playbook playbooks/gard.yml", "there is no playbook playbooks/gard.yml"),
        ("./run ansible-playbook site.yml --chek", "unrecognized arguments: --chek"),
        ("./run ansible-playbook playbooks/guard.yml --tags releese", "guard.yml has no tag releese"),
        ("./run ansible-playbook site.yml --tags prefetch", "site.yml has no tag prefetch"),
        ("./run ansible-playbook playbooks/plan.yml -e gpu_stack_relok=true", "gpu_stack_relok is not a variable of"),
        (
            "./run ansible-playbook playbooks/watch.yml -e rebuild_future_gpu='RTX 3090'",
            "rebuild_future_gpu is not a variable of",
        ),
        ("""./run ansible-playbook site.yml -e '{"cuda_extras": []}'""", "cuda_extras is not a variable of"),
        ("./run ansible-playbook playbooks/rollback.yml -e to=2", "to is not a variable of"),
        ("-e artifact_vja=target", "artifact_vja is not a variable of any playbook"),
        ("./run python tools/doctor_pzy.py", "there is no tools/doctor_pzy.py"),
        ("./run python build/opencv_cmake.py --dryrun", "unrecognized arguments: --dryrun"),
        ("./run tools/catalog/refresh --chekc", "unrecognized arguments: --chekc"),
        ("sudo gpuhost-keys add door --for hooks", "invalid choice: 'hooks'"),
        ("PYTHONPATH=src own/bin/python -m gpuhost.yolo device", "invalid choice: 'device'"),
        ("ssh HOST python3 gpuhost-doctor.pyz --jsno", "unrecognized arguments: --jsno"),
        ("apt-get update && rm -rf /opt", "nothing tries rm"),
        ("./run", "without a command"),
        ("./run gpuhost plan --gpu 'RTX 4090", "unexpected EOF"),
    ],
)
def test_a_wrong_command_is_seen(line: str, why: str) -> None:
    """Each of these would fail a reader."""
    with pytest.raises(Wrong, match=why):
        tried(line)


def test_a_wrong_option_of_pytest_is_seen() -> None:
    """And one whose value is none."""
    wrong = refused_by_pytest([["verify/", "--host=all"], ["verify/", "--benchmark-seconds", "x"], ["verify/"]])
    assert ["unrecognized" in wrong[0], "invalid float" in wrong[1], wrong[2]] == [True, True, ""]


def test_commands_are_found_wherever_they_stand() -> None:
    """In fenced and indented blocks, lists, tables and sentences; what is not a command is left alone."""
    page = (
        "Type `./run a` or `b`, with `-e c=1`.\n\n| x |\n|---|\n| `./run d` |\n\n1. e\n\n       ./run f  # g\n\n"
        "```sh\n# h\n./run i \\\n  j\n```\n\n```text\n./run no\n```\n"
    )
    found = [(row.where, row.line.split("  #")[0]) for row in of_page(page, "p")]
    assert found == [
        ("p:1", "./run a"), ("p:1", "-e c=1"), ("p:5", "./run d"), ("p:9", "./run f"), ("p:11", "./run i    j"),
    ]  # fmt: skip
    with pytest.raises(Wrong, match="a block of 'console'"):
        list(of_page("```console\n$ x\n```\n", "p"))
