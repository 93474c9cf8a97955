"""`gpuhost plan` as a user types it: exit codes, one paragraph for an error, JSON in its schema, no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import fastjsonschema
import pytest

from gpuhost.cli import plan as cli_plan
from gpuhost.planning.catalog import DATA, validator

from ..example_hosts import observed
from ..offered import offering
from .typed import Answer, typed

SOURCE = Path(__file__).resolve().parents[2] / "src"
P2000 = ["--os", "ubuntu-18.04", "--gpu", "Quadro P2000"]


@pytest.fixture
def gpuhost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`gpuhost plan` with some arguments on a machine without a card: exit status, output, error output."""
    machine = observed("debian12-no-gpu")
    monkeypatch.setattr(cli_plan, "observe", lambda offers: machine)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str, host: str = "") -> Answer:
        if host:
            monkeypatch.setattr(cli_plan, "observe", lambda offers: offering(observed(host)))
        return typed(capsys, "plan", *arguments)

    return call


def real(arguments: List[str], source: Path = SOURCE, **environment: str) -> Answer:
    """The same as a process of its own, with standard output in a pipe."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from gpuhost.cli.main import main; sys.exit(main())", "plan", *arguments],
        env={**kept, "PYTHONPATH": str(source), "TERM": "xterm-256color", **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("Debian-12", "debian-12"),
        ("debian 12", "debian-12"),
        ("debian12", "debian-12"),
        ("bookworm", "debian-12"),
        ("Bionic", "ubuntu-18.04"),
        ("Ubuntu 18.04 LTS", "ubuntu-18.04"),
        ("Ubuntu 18.04.6 LTS", "ubuntu-18.04"),
        ("ubuntu1804", "ubuntu-18.04"),
        ("18.04", "ubuntu-18.04"),
        ("Ubuntu Bionic", "ubuntu-18.04"),
        ("debian-12.5", "debian-12"),
        ("Debian GNU/Linux 12 (bookworm)", "debian-12"),
    ],
)
def test_platforms_as_people_type_them(gpuhost: Any, text: str, platform: str) -> None:
    """In any case and spelling, or by the code name."""
    code, out, _ = gpuhost("--os", text, "--gpu", "none", "--json")
    assert (code, json.loads(out)["platform"]) == (0, platform)


def test_a_wrong_command_line_is_told_as_json_where_json_was_asked_for(gpuhost: Any) -> None:
    """As every other error; otherwise as argparse tells it."""
    code, out, err = gpuhost("--json", "--nope")
    assert (code, err) == (2, "") and json.loads(out)["error"]["message"] == "unrecognized arguments: --nope"
    code, out, err = gpuhost("--nope")
    assert (code, out) == (2, "") and err.startswith("usage: ") and "--nope" in err


def test_a_comparison_says_once_what_holds_for_both(gpuhost: Any) -> None:
    """Of when the archive's list is."""
    _, out, _ = gpuhost("--os", "ubuntu-18.04", "--compare", "GTX 750 Ti", "Quadro P2000")
    assert out.count("what the archive has is as of") == 1


def test_a_card_gets_its_stack(gpuhost: Any) -> None:
    """The table names each component with its version; nothing goes to the error output."""
    code, out, err = gpuhost(*P2000)
    assert (code, err) == (0, "")
    for words in ("Quadro P2000 (10de:1c30, 6.1)", "525.", "11.8.0", "8.6.0.163", "2.13.1", "CUDA_ARCH_BIN=6.1"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (P2000, 0),
        ([], 0),
        (["--gpu", "none", "--os", "ubuntu-18.04"], 0),
        (["--os", "ubuntu-18.04", "--gpu", "RTX 5090"], 3),
        ([*P2000, "--cuda", ">=3,<2"], 3),
        ([*P2000, "--gpu", "10de:2204", "--secure-boot", "--kernel", "4.15.0-213-generic"], 0),
    ],
)
def test_json_keeps_its_schema(gpuhost: Any, arguments: List[str], status: int) -> None:
    """Plans and refusals, a CPU plan with its nulls; the output is JSON and nothing else."""
    code, out, err = gpuhost(*arguments, "--json")
    assert (code, err) == (status, "")
    plan = json.loads(out)
    validator(DATA / "plan.schema.json")(plan)
    assert plan["status"] == ("planned" if status == 0 else "refused")
    assert bool(plan["reasons"]) == (status == 3)
    if not plan["gpus"]:
        assert plan["driver"] is plan["cuda"] is plan["cudnn"] is None
    broken = {**plan, "status": "perhaps"}
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validator(DATA / "plan.schema.json")(broken)


def test_a_refusal_names_the_rule_what_it_needs_and_what_would_do(gpuhost: Any) -> None:
    """A refusal is an answer, so it goes to the output."""
    code, out, err = gpuhost("--os", "ubuntu-18.04", "--gpu", "RTX 5090")
    assert (code, err) == (3, "")
    assert "refused" in out
    assert "needs:" in out
    assert "would do:" in out


USAGE = [
    (["--os", "ubuntu-18.04", "--gpu", "Quadro P200000"], "No card called", "Quadro P2000"),
    (["--os", "ubuntu-18.04", "--gpu", "10de:ffff"], "10de:ffff", "gpus.json"),
    (["--os", "ubuntu-18.04", "--gpu", "6.9"], "6.9", "Known are"),
    (["--os", "ubuntu-18.04", "--gpu", ""], "No card called", "lspci"),
    (["--os", "ubuntu-99", "--gpu", "Quadro P2000"], "ubuntu-99", "debian-12"),
    (["--os", "", "--gpu", "Quadro P2000"], "The platform ''", "Known are"),
    ([*P2000, "--tensorflow", "latest"], "specifier for tensorflow", "Write a version (--tensorflow 2.15)"),
    (["--os", "", "--gpu", "none"], "The platform ''", "Known are"),
    (["--os", ""], "The platform ''", "Known are"),
    ([*P2000, "--cuda", ">>3"], ">>3", "PEP 440"),
    ([*P2000, "--cuda", ""], "''", "PEP 440"),
    ([*P2000, "--tensorflow", "2.13; rm"], "2.13; rm", "PEP 440"),
    ([*P2000, "--gpu", "none"], "--gpu none", "Leave one"),
    ([*P2000, "--kernel", "foo"], "'foo'", "uname -r"),
    ([*P2000, "--kernel", ""], "''", "uname -r"),
    (["--os", "ubuntu-18.04", "--compare", "Quadro P2000", "Foo 9"], "Foo 9", "lspci"),
    ([*P2000, "--compare", "Quadro P2000", "GTX 750 Ti"], "--compare", "Leave --gpu out"),
    (["--os", "ubuntu-18.04", "--gpu", "[bold]x[/nope]"], "[bold]x[/nope]", "lspci"),
]


@pytest.mark.parametrize(("arguments", "wrong", "step"), USAGE, ids=lambda value: str(value)[-30:])
def test_wrong_usage_is_one_paragraph_and_code_2(gpuhost: Any, arguments: List[str], wrong: str, step: str) -> None:
    """What is wrong and what to type; no output, no empty line inside. With --json the same on the output, as JSON."""
    code, out, err = gpuhost(*arguments)
    assert (code, out) == (2, "")
    paragraph = " ".join(err.split())
    assert paragraph.startswith("gpuhost: ")
    assert wrong in paragraph
    assert step in paragraph
    assert "\n\n" not in err.strip()
    assert "Traceback" not in err
    code, out, err = gpuhost(*arguments, "--json")
    told = json.loads(out)["error"]
    assert (code, err, told["exit_code"]) == (2, "", 2)
    assert " ".join(f"gpuhost: {told['message']} {told['next_step']}".split()) == paragraph


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["--gpu"], ["--compare", "GTX 750 Ti"], ["--secure-boot", "--no-secure-boot"]]
)
def test_argparse_keeps_to_the_same_code(gpuhost: Any, arguments: List[str]) -> None:
    """An unknown option or a missing value."""
    code, out, err = gpuhost(*arguments)
    assert (code, out) == (2, "")
    assert "usage: gpuhost" in err


@pytest.mark.parametrize(
    ("host", "arguments", "words"),
    [
        ("ubuntu1804-unknown-card", [], "10de:3fff"),
        ("debian12-no-gpu", ["--require-gpu"], "No NVIDIA card was found"),
    ],
)
def test_a_machine_that_cannot_be_read_is_code_4(gpuhost: Any, host: str, arguments: List[str], words: str) -> None:
    """A card that is there but not known, and one that is asked for but not there: never a CPU plan."""
    code, out, err = gpuhost(*arguments, host=host)
    assert (code, out) == (4, "")
    assert words in " ".join(err.split())


def test_this_machine_s_own_card_is_planned(gpuhost: Any) -> None:
    """Without --gpu the observation decides: card, platform, and Secure Boot."""
    code, out, _ = gpuhost("--json", host="ubuntu1804-rtx3090-secureboot")
    plan = json.loads(out)
    assert code == 0
    assert plan["platform"] == "ubuntu-18.04"
    assert [g["pci_id"] for g in plan["gpus"]] == ["10de:2204"]
    assert plan["driver"]["secure_boot"] == "signed"
    without = json.loads(gpuhost("--json", "--no-secure-boot", host="ubuntu1804-rtx3090-secureboot")[1])
    assert without["driver"]["secure_boot"] is None


def test_two_cards_side_by_side(gpuhost: Any) -> None:
    """The first question; one card without a stack makes it code 3."""
    cards = ["--os", "ubuntu-18.04", "--compare", "GTX 750 Ti"]
    code, out, _ = gpuhost(*cards, "Quadro P2000", "--opencv", "4.2")
    assert code == 3
    assert "GTX 750 Ti" in out
    assert "planned" in out
    assert "refused" in out
    code, out, _ = gpuhost(*cards, "Quadro P2000", "--json")
    table = json.loads(out)
    assert code == 0
    assert [c["plan"]["gpus"][0]["compute_capability"] for c in table["cards"]] == ["5.0", "6.1"]
    for column in table["cards"]:
        validator(DATA / "plan.schema.json")(column["plan"])
        assert set(column["limits"]) == {"driver", "cuda", "cudnn", "opencv", "tensorflow"}


@pytest.mark.parametrize("columns", ["40", "20", "200"])
def test_any_width_can_be_read(gpuhost: Any, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """No crash, no line beyond the width, and at 40 columns every version is still in one piece."""
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in (P2000, ["--os", "ubuntu-18.04", "--gpu", "RTX 5090"]):
        _, out, err = gpuhost(*arguments)
        assert err == ""
        assert max(len(line) for line in out.splitlines()) <= int(columns)
    if columns != "20":
        _, out, _ = gpuhost(*P2000)
        assert all(version in out for version in ("525.105.17", "11.8.0", "8.6.0.163", "2.13.1"))
    assert gpuhost("--os", "ubuntu-18.04", "--compare", "GTX 750 Ti", "Quadro P2000")[0] == 0


def test_a_pipe_gets_no_colours() -> None:
    """Neither an answer nor an error holds a terminal's control characters, whatever TERM says."""
    code, out, err = real(P2000, NO_COLOR="1")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    code, out, err = real(["--os", "ubuntu-18.04", "--gpu", "Foo"])
    assert (code, out) == (2, "")
    assert "\x1b" not in err
    assert "Traceback" not in err


def test_no_color_holds_on_a_terminal(gpuhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours away where there would be some (the convention lets bold and dim stay)."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, coloured, _ = gpuhost("--gpu", "none", "--os", "debian-12")
    assert "\x1b[33m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    _, plain, _ = gpuhost("--gpu", "none", "--os", "debian-12")
    assert "\x1b[33m" not in plain


def test_an_old_terminal_s_encoding_is_no_crash() -> None:
    """ASCII only, and bytes in an argument that are not text."""
    code, out, err = real(["--os", "ubuntu-18.04", "--compare", "GTX 750 Ti", "Quadro P2000"], PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert "GTX 750 Ti" in out
    code, out, err = real(["--os", "ubuntu-18.04", "--gpu", os.fsdecode(b"a\xff")])
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_a_reader_that_leaves_and_a_full_disk() -> None:
    """`gpuhost plan | head -0` says nothing of Python's; a disk without room is the user's problem with its code."""
    program = [sys.executable, "-c", "import sys; from gpuhost.cli.main import main; sys.exit(main())", "plan", *P2000]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    for more in ([], ["--json"]):
        with subprocess.Popen(
            [*program, *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as left:
            assert left.stdout is not None
            assert left.stderr is not None
            left.stdout.close()
            assert left.stderr.read() == b""
            assert left.wait() == 1
        if Path("/dev/full").exists():
            with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
                done = subprocess.run(
                    [*program, *more], env=environment, stdout=full, stderr=subprocess.PIPE, check=False
                )
            assert done.returncode == 7
            assert b"could not be written" in done.stderr
            assert b"Traceback" not in done.stderr


def damage(data: Path, how: str) -> None:
    """Break one file of a copied catalog."""
    file = data / "cuda.json"
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_text(file.read_text(encoding="utf-8")[:500], encoding="utf-8")
    elif how == "schema":
        rows: Dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rows["toolkits"] = "none"
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        file.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("how", ["missing", "cut", "schema", "no text"])
def test_a_damaged_catalog_is_code_5(tmp_path: Path, how: str) -> None:
    """The file is named, with what to do; nothing is planned from the rest."""
    package = tmp_path / "gpuhost"
    shutil.copytree(str(SOURCE / "gpuhost"), str(package), ignore=shutil.ignore_patterns("__pycache__"))
    damage(package / "data", how)
    code, out, err = real(P2000, tmp_path)
    assert (code, out) == (5, "")
    paragraph = " ".join(err.split())
    assert paragraph.startswith("gpuhost: The catalog file cuda.json")
    assert "git" in paragraph
    assert "Traceback" not in err


def test_no_line_is_broken_where_the_output_is_no_terminal() -> None:
    """What reads it looks for complete versions, paths and commands."""
    code, out, _ = real(P2000)
    assert code == 0 and "nvidia-driver-525=525.105.17-0ubuntu0.18.04.1" in out
    starts = ("note (", "unverified (", " ", "component", "driver", "CUDA", "cuDNN", "OpenCV", "TensorFlow")
    assert [line for line in out.splitlines()[1:] if not line.startswith(starts)] == []


@pytest.mark.parametrize("words", [P2000, ["--os", "debian-12", "--compare", "GTX 750 Ti", "RTX 3090"]])
def test_a_plan_as_markdown(capsys: pytest.CaptureFixture[str], words: List[str]) -> None:
    """One table, each row on a line with the same number of bars, a blank line before and after."""
    code, out, _ = typed(capsys, "plan", *words, "--markdown")
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert code == 0 and len(rows) >= 7 and set(rows[1]) <= set("|-: ")
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    first, last = lines.index(rows[0]), lines.index(rows[-1])
    assert lines[first - 1].strip() == lines[last + 1].strip() == "" and last - first == len(rows) - 1


def test_at_80_columns_no_version_is_broken(gpuhost: Any) -> None:
    """Nor the package that is to be installed."""
    code, out, _ = gpuhost(*P2000)
    assert code == 0 and "nvidia-driver-525=525.105.17-0ubuntu0.18.04.1" in out
    assert max(map(len, out.splitlines())) <= 80


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """And that is not an error."""
    code, out, err = typed(capsys)
    assert (code, err) == (0, "") and "plan" in out and "doctor" in out
