"""The commands that the documentation has a reader type: found with a Markdown parser, and tried as far as is harmless.

A command of this repository goes through the parser of its own command line; the name, the tags and the variables of a
playbook are looked up as well. What belongs to a host is read by a shell.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Set, Tuple
from unittest import mock

import jinja2
import jinja2.nodes
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.splitter import parse_kv
from markdown_it import MarkdownIt

from gpuhost.cli import main as cli
from gpuhost.doctor import run as doctor
from gpuhost.host.service import keys
from gpuhost.yolo import options as yolo

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "runbooks").glob("*.md")),
    ROOT / "docs" / "troubleshooting.md",
)
#: What a fenced block may be; an indented one, and one without a word, is for the shell.
SHELL, OTHERS = ("sh", ""), ("text", "yaml", "json", "python", "html")
#: Of the code within a sentence, what begins so is a command, or a variable of a playbook.
INLINE = re.compile(r"\./run \S|\. <\(|sudo gpuhost|python3? -m gpuhost|-e \w+=")
#: The programs of others that the documentation names. A new one is looked at first.
HOST = (
    "ansible-galaxy", "apt-get", "curl", "dmesg", "export", "grep", "journalctl", "make", "man", "nvidia-smi", "pip",
    "scp", "sqlite3", "systemctl",
)  # fmt: skip
#: Variables that playbooks read only to refuse them.
FORMER = frozenset({"future_gpu", "remove_confirm", "to"})
#: Keys of a task whose text is an expression without braces.
BARE = ("when", "that", "failed_when", "changed_when", "until")


class Wrong(Exception):
    """A command that does not do what the reader was told, with the reason."""


class Command(NamedTuple):
    """A line to type, and where it stands."""

    where: str
    line: str


# Finding them


def of_page(text: str, name: str) -> Iterator[Command]:
    """The commands of a page, from its blocks and from its sentences and tables."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        where = f"{name}:{(token.map or [0])[0] + 1}"
        if token.type == "fence" and token.info.strip() not in SHELL:
            if token.info.strip() not in OTHERS:
                raise Wrong(f"{where}: a block of {token.info!r}, which nobody tries")
        elif token.type in ("fence", "code_block"):
            for line in token.content.replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield Command(where, line.strip())
        for child in token.children or ():
            if child.type == "code_inline" and INLINE.match(child.content):
                yield Command(where, child.content)


def of_front_door() -> Iterator[Command]:
    """The commands that `./run --help` lists, without the remarks behind them."""
    shown = subprocess.run(["sh", str(ROOT / "run"), "--help"], capture_output=True, text=True, check=True).stdout
    for line in re.findall(r"(?:\. <\()?\./run \S.*", re.sub(r"\\\n\s*", "", shown)):
        command = re.split(r"\s{2,}| \(", line)[0]
        if " prints " not in command and "COMMAND" not in command:
            yield Command("./run --help", command)


def all_commands() -> List[Command]:
    """Return each of them once."""
    found = [row for page in PAGES for row in of_page(page.read_text("utf-8"), str(page.relative_to(ROOT)))]
    lines: Dict[str, Command] = {}
    for row in [*found, *of_front_door()]:
        lines.setdefault(row.line, row)
    return list(lines.values())


def simple(line: str) -> List[List[str]]:
    """Return the simple commands of a line, without what is between them and what leads elsewhere."""
    tokens = shlex.shlex(re.sub(r"\d*>&\d", "", line), posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    found: List[List[str]] = [[]]
    try:
        for token in tokens:
            if re.fullmatch(r"[;&|()<>]+", token):
                found.append([])
            else:
                found[-1].append(token)
    except ValueError as error:
        raise Wrong(f"no shell reads it: {error}") from None
    return [words for words in found if words and words != ["."]]


# Trying them


def tried(line: str) -> None:
    """Raise Wrong where a line cannot be typed so; `./run pytest` is left to `refused_by_pytest`."""
    if line.startswith("-e "):
        known = frozenset().union(*(reached(file).names for file in playbooks()))
        variables(shlex.split(line)[1], known, "any playbook")
        return
    done = subprocess.run(["bash", "-n", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Wrong(done.stderr.strip())
    for words in simple(line):
        one(words)


def one(words: Sequence[str]) -> None:
    """Try a simple command."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, rest = words[0], list(words[1:])
    if program == "./run":
        front_door(rest)
    elif program == "sudo":
        one(rest)
    elif program == "ssh" and len(rest) > 1:
        one(rest[1:])
    elif program == "gpuhost-keys":
        parsed(lambda: keys.main(rest))
    elif program == "python3" and rest[:1] == ["gpuhost-doctor.pyz"]:
        parsed(lambda: doctor.main(rest[1:]))
    elif re.search(r"(^|/)python3?$", program) and rest[:2] == ["-m", "gpuhost.yolo"]:
        parsed(lambda: yolo.parser().parse_args(rest[2:]))
    elif program not in HOST and not re.fullmatch(r"python3\.\d+|own/bin/pip", program):
        raise Wrong(f"nothing tries {program}")


def front_door(words: List[str]) -> None:
    """Try what `./run` is given."""
    if not words:
        raise Wrong("./run without a command")
    program, rest = words[0], words[1:]
    if program == "python" and rest:
        program, rest = rest[0], rest[1:]
    if program == "gpuhost":
        parsed(lambda: cli.main(rest))
    elif program == "ansible-playbook":
        playbook(rest)
    elif program != "pytest":
        script(program, rest)


class Parsed(BaseException):
    """What a command line came to; not an Exception, so that no program takes it for an error of its own."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        """Keep the parser."""
        super().__init__()
        self.parser = parser


def parsed(start: Callable[[], Any]) -> argparse.ArgumentParser:
    """Start a program of ours up to where it has read its command line; return the parser that did."""
    parse = argparse.ArgumentParser.parse_args

    def only(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        parse(self, *args, **kwargs)
        raise Parsed(self)

    said = io.StringIO()
    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_args", only), contextlib.redirect_stderr(said):
            start()
    except Parsed as end:
        return end.parser
    except SystemExit:
        pass
    raise Wrong(said.getvalue().strip() or "it reads no command line")


def script(name: str, words: List[str]) -> argparse.ArgumentParser:
    """Try a program in a file of this repository."""
    file = ROOT / name
    if not file.is_file():
        raise Wrong(f"there is no {name}")

    def start() -> None:
        with mock.patch.object(sys, "argv", [name, *words]), mock.patch.object(sys, "path", [*sys.path]):
            runpy.run_path(str(file), run_name="__main__")

    return parsed(start)


def playbook(words: Sequence[str]) -> None:
    """Try a command line of ansible-playbook."""
    front = PlaybookCLI(["ansible-playbook", *words])
    front.init_parser()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = front.parser.parse_args(list(words))
    except SystemExit:
        raise Wrong(said.getvalue().strip().splitlines()[-1]) from None
    for name in given.args:
        file = ROOT / name
        if file not in playbooks():
            raise Wrong(f"there is no playbook {name}")
        found = reached(file)
        tags = {tag for text in [*given.tags, *given.skip_tags] for tag in text.split(",")} - {"all", "never"}
        if tags - found.tags:
            raise Wrong(f"{name} has no tag {', '.join(sorted(tags - found.tags))}")
        for text in given.extra_vars:
            variables(text, found.names, name)


def variables(text: str, known: FrozenSet[str], name: str) -> None:
    """Hold what is given with -e against the variables that are read."""
    given: Dict[str, Any] = json.loads(text) if text.startswith("{") else parse_kv(text)
    unknown = set(given) - (known - FORMER) - {"_raw_params"}
    if unknown:
        raise Wrong(f"{', '.join(sorted(unknown))} is not a variable of {name}")


def refused_by_pytest(lines: Sequence[Sequence[str]]) -> List[str]:
    """Return what pytest, with the options of verify/, says of each command line; "" where it takes it."""
    code = (
        "import json, sys\nfrom _pytest.config import UsageError, _prepareconfig\nfound = []\n"
        "for words in json.load(sys.stdin):\n    try:\n        _prepareconfig(words)\n        found.append('')\n"
        "    except UsageError as error:\n        found.append(str(error))\nprint(json.dumps(found))"
    )
    asked = json.dumps([list(words) for words in lines])
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, input=asked, capture_output=True, text=True, check=True, cwd=str(ROOT))
    found: List[str] = json.loads(done.stdout.splitlines()[-1])
    return found


# What a playbook reads


class Reached(NamedTuple):
    """The variables that a playbook reads, and its tags."""

    names: FrozenSet[str]
    tags: FrozenSet[str]


def playbooks() -> List[Path]:
    """Return all that are typed."""
    return [ROOT / "site.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]


@functools.lru_cache(maxsize=None)
def reached(file: Path) -> Reached:
    """Return what a playbook reads, with all that it imports."""
    names: Set[str] = set()
    tags: Set[str] = set()
    files, seen = [file], set()
    while files:
        path = files.pop()
        if path in seen:
            continue
        seen.add(path)
        content = yaml.safe_load(path.read_text("utf-8"))
        if path.name == "argument_specs.yml":
            names |= {option for spec in content["argument_specs"].values() for option in spec["options"]}
        for key, value in pairs(content):
            names |= read_by(key, value)
            if key == "tags":
                tags |= {value} if isinstance(value, str) else set(value)
            files += named(path, key.rpartition(".")[2], value)
    return Reached(frozenset(names), frozenset(tags))


def pairs(value: Any, key: str = "") -> Iterator[Tuple[str, Any]]:
    """Walk through a document: each key with its value, and each text in a list with the list's key."""
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from pairs(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from pairs(inner, key)


def read_by(key: str, value: Any) -> Set[str]:
    """Return the variables in a text."""
    if not isinstance(value, str):
        return set()
    if key in BARE and "{{" not in value:
        value = "{{ " + value + " }}"
    if "{{" not in value:
        return set()
    found = jinja2.Environment().parse(value).find_all(jinja2.nodes.Name)  # noqa: S701 - nothing is rendered
    return {node.name for node in found}


def named(path: Path, key: str, value: Any) -> List[Path]:
    """Return the files that a task or a play brings in."""
    if key in ("import_playbook", "import_tasks", "include_tasks") and isinstance(value, str) and "{{" not in value:
        return [path.parent / value]
    if key in ("import_role", "include_role"):
        role = ROOT / "roles" / value["name"]
        tasks = role / "tasks" / (value.get("tasks_from", "main") + ".yml")
        return [tasks, *role.glob("defaults/*.yml"), role / "meta" / "argument_specs.yml"]
    return []
