"""JSON from outside: taken whole, or refused in one sentence, within bounded time and memory."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost import reading, strict_json
from gpuhost.host import answer as probe_answer
from gpuhost.shipping import bundle, tree

ROOT = Path(__file__).parents[2]
HOSTILE = {
    "integer of 400 digits": b'{"a": ' + b"9" * 400 + b"}",
    "integer beyond 64 bits": b"[9223372036854775808]",
    "negative beyond 64 bits": b"[-9223372036854775809]",
    "float of 400 digits": b"[" + b"9" * 400 + b".5]",
    "1e400": b"[1e400]",
    "-1e400": b"[-1e400]",
    "NaN": b"[NaN]",
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b"-Infinity",
    "key twice": b'{"a": 1, "b": {"x": 1, "x": 2}}',
    "arrays in arrays": b"[" * 70 + b"]" * 70,
    "a million arrays": b"[" * 1_000_000,
    "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "Latin-1": '{"a": "ä"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "surrogate": b'"\\ud800"',
    "surrogate in a key": b'{"\\udfff": 1}',
    "surrogate as UTF-8": b'"\xed\xa0\x80"',
    "cut off": b'{"a": ["b',
    "empty": b"",
    "two values": b"{} {}",
    "raw control character": b'"a\x1b[31mb"',
    "escape in the complaint": b"\x1b[31m{}",
}
#: The files and calls that may read JSON leniently, each with the reason.
LENIENT = {
    "src/gpuhost/strict_json.py": "it is the strict reader",
    "src/gpuhost/planning/catalog.py": "the package's own files, which the tests hold against their schemas",
    "src/gpuhost/planning/environments.py": "the same",
    "src/gpuhost/yolo/models.py": "the same",
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=30,
)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_strict_json_is_refused_in_one_plain_sentence(text: bytes) -> None:
    """No traceback, no escape sequence and no endless line comes of a text from outside."""
    with pytest.raises(strict_json.StrictJsonError) as caught:
        strict_json.loads(text)
    told = str(caught.value)
    assert told.startswith("It ")
    assert told.endswith(".")
    assert told.isprintable()
    assert len(told) < 200


def test_a_text_beyond_the_limit_is_refused_before_it_is_read() -> None:
    """A size is a cap, of bytes and of text."""
    assert strict_json.loads(b"[1,2]", limit=5) == [1, 2]
    for text in (b"[1,2] ", "[1,2] "):
        with pytest.raises(strict_json.StrictJsonError, match="larger than 5 bytes"):
            strict_json.loads(text, limit=5)


@given(VALUES)
def test_every_value_that_json_has_comes_back(value: Any) -> None:
    """Strict is not narrow: whatever this project may write it can read, as text and as bytes."""
    text = json.dumps(value)
    assert strict_json.loads(text) == value
    assert strict_json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8")) == value


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_are_a_value_or_a_sentence(data: bytes | str) -> None:
    """There is one kind of error, and what is taken can be written again."""
    try:
        value = strict_json.loads(data)
    except strict_json.StrictJsonError as error:
        assert str(error).isprintable()
    else:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")


def test_sixty_four_levels_are_taken_and_one_more_is_not() -> None:
    """The bound is where it is said to be, for both kinds of nesting."""
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        depth = strict_json.DEPTH
        strict_json.loads(opening * (depth - 1) + "[]" + closing * (depth - 1))
        with pytest.raises(strict_json.StrictJsonError, match="more than 64 levels"):
            strict_json.loads(opening * depth + "[]" + closing * depth)


def test_the_largest_texts_need_bounded_memory() -> None:
    """8 MiB of the costliest text that is JSON stay below 512 MiB, in a process that may not take more."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20));"
        "from gpuhost import strict_json\n"
        "empty = b'[' + b'{},' * ((8 << 20) // 3 - 2) + b'{}]'\n"
        "print(len(strict_json.loads(empty)))\n"
        "for text in (b'[' + b'9' * ((8 << 20) - 2) + b']', b'[' * (8 << 20)):\n"
        "    try: strict_json.loads(text)\n"
        "    except strict_json.StrictJsonError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("2796201\n")


def test_a_file_is_read_only_when_it_is_one(tmp_path: Path) -> None:
    """A pipe would be waited for, a device acted upon; each is named instead."""
    fifo, folder, sock, plain = (tmp_path / name for name in ("fifo", "folder", "sock", "plain"))
    os.mkfifo(fifo)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sock))
    plain.write_bytes(b'{"a": 1}')
    said = {}
    for path in (fifo, folder, sock, Path("/dev/zero")):
        with pytest.raises(reading.UnfitFile) as caught:
            strict_json.load(path)
        said[path.name] = str(caught.value)
    assert said == {
        "fifo": "It is a named pipe and not a file.",
        "folder": "It is a folder and not a file.",
        "sock": "It is a socket and not a file.",
        "zero": "It is a device and not a file.",
    }
    assert strict_json.load(plain) == {"a": 1}
    with pytest.raises(reading.UnfitFile, match="larger than 7 bytes"):
        strict_json.load(plain, limit=7)
    with pytest.raises(FileNotFoundError):
        strict_json.load(tmp_path / "none")


def lenient(file: Path) -> bool:
    """Return whether a module calls the standard library's JSON reader, under any of its names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "json":
            if node.attr in ("load", "loads", "JSONDecoder", "decoder"):
                return True
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "json":
            return True
    return False


def test_nothing_else_reads_json() -> None:
    """A bare json.loads somewhere is how each of the faults above came in."""
    files = [file for folder in ("src", "plugins") for file in sorted((ROOT / folder).rglob("*.py"))]
    found = {file.relative_to(ROOT).as_posix() for file in files if lenient(file)}
    assert sorted(found - set(LENIENT)) == []
    assert len(files) > 100


def test_it_travels_to_a_host_with_what_needs_it() -> None:
    """The detector's tree is made of named parts; a module that is left out fails on the host only."""
    assert "gpuhost/strict_json.py" in tree.yolo()["files"]
    assert {"gpuhost.strict_json", "gpuhost.reading", "gpuhost.text"} <= set(bundle.sources("strict_json"))


NAMES = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["\\ud800", "\\\udc80", "\U0001f600"]
)


@given(st.dictionaries(NAMES, NAMES, max_size=4))
def test_a_host_s_answer_is_taken_whatever_its_files_are_called(value: dict[str, str]) -> None:
    """A name that is not UTF-8 comes as half a surrogate pair; the whole host would be unreadable for it."""
    said = probe_answer.line(value)
    clean = {key.encode("utf-16", "surrogatepass").decode("utf-16", "replace"): text for key, text in value.items()}
    if len(clean) == len(value):
        (found,) = probe_answer.read_answers(said)
        assert found == {
            key: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for key, text in clean.items()
        }
