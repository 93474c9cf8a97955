"""Whatever a host says: no traceback, nothing executed, nothing that is markup, moves a cursor or breaks a file.

The whole way is walked: what a machine's files and commands say, what a host answers, and the lock in its file, each
through every check into every form of the report. `derandomize` makes each run the same.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.diagnoses import verdict as checks
from gpuhost.errors import GpuhostError, LockError
from gpuhost.host.answer import MARK, read_answers
from gpuhost.host.guard import rules as guard
from gpuhost.host.probe import driver as probe_driver
from gpuhost.host.probe.machine import observe
from gpuhost.planning import lock
from gpuhost.planning.catalog import DATA, validator
from gpuhost.report import history, report
from gpuhost.report import html as report_html
from gpuhost.verification.collect import Host, Options

from ..example_hosts import answers_of, folder_of
from ..locks import save, stack
from .collected import cpu_host, gpu_host

Json = Dict[str, Any]
Answer = Tuple[int, str, str]
FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
HEALTHY = {"gpu": gpu_host(), "cpu": cpu_host()}
FOREIGN = folder_of("ubuntu1804-foreign-sources")
#: The shell's, HTML's, XML's, the terminal's and rich's own characters, and those that turn a line around.
PAYLOAD = (
    "x'\"><script>alert(1)</script><img src=x onerror=y>&lt;{{ 7*7 }}[bold]]]>"
    '`: > "$CANARY"`$(: > "$CANARY");: > "$CANARY" #\x1b[2J\x1b]0;t\x07\x00\x9b31m\u202e\u2066\ufeff\u2028\ud800\r\n'
)
TAGS = {"html", "head", "meta", "title", "style", "body", "main", "section", "details", "summary", "div", "span", "p"}
TAGS |= {
    "h1",
    "h2",
    "h3",
    "dl",
    "dt",
    "dd",
    "code",
    "ul",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "i",
    "svg",
}
TAGS |= {"g", "rect", "line", "path", "text", "tspan"}
ATTRIBUTES = {"lang", "charset", "name", "content", "http-equiv", "class", "open", "viewbox", "role", "aria-labelledby"}
ATTRIBUTES |= {"id", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "text-anchor", "d", "fill"}


class Page(HTMLParser):
    """Every tag, attribute name and value of a page, as a browser's parser finds them."""

    def __init__(self, page: str) -> None:
        """Read it."""
        super().__init__(convert_charrefs=True)
        self.tags: List[str] = []
        self.attributes: List[Tuple[str, str]] = []
        self.words: List[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Remember it."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Remember it."""
        self.words.append(data)


def harmless(found: Json, kept: Sequence[Json] = ()) -> None:
    """The report fits its schema, and none of its forms holds anything but words."""
    validator(DATA / "report.schema.json")(json.loads(json.dumps(found, allow_nan=False)))
    page = Page(report_html.page(found, kept))
    assert set(page.tags) <= TAGS
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    assert not [v for n, v in page.attributes if n not in ("content", "viewbox", "d") and re.search(r"[<>'\"`$;]", v)]
    table = report.as_text(found, 100)
    for text in (table, "".join(page.words)):
        assert not [char for char in text if not char.isprintable() and char != "\n"]
    ElementTree.fromstring(report.junit(found))  # noqa: S314 - written above


class Fake:
    """A host that answers verify/'s commands with what it is given."""

    def __init__(self, seen: Json) -> None:
        """Keep what it says."""
        self.seen = seen

    def __call__(self, command: str) -> Answer:
        """The answer to a command, told by what runs in it."""
        if "gpuhost.yolo bench" in command:
            model = command.split("--model ")[1].split()[0]
            return 0, json.dumps(self.seen["benchmark"].get(model)), ""
        for name in ("opencv_cuda", "dl4cv"):
            if f"venvs/{name}/" in command:
                return 0, MARK + json.dumps(self.seen["environments"].get(name)), ""
        return 0, MARK + json.dumps(self.seen["machine"]), ""


def verified(folder: Path, seen: Json, name: str = "box", stack: Any = None) -> Json:
    """The report of a host that says this, made as verify/ makes it; `stack` is another text of its lock."""
    file = save(folder / "stack.json", seen["lock"])
    if stack is not None:
        file.write_text(json.dumps({lock.KEY: stack}), encoding="utf-8")
    host = Host(name, Fake(seen), file, Options())
    for check in checks.CHECKS:
        host.result(check.id, lambda _: None)
    return report.make(host, 0.0)


def leaves(value: Any, at: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The way to each place in a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*at, key))


def changed(value: Json, at: Tuple[Any, ...], new: Any) -> Json:
    """A copy with another value at one place; `new` = KeyError takes the place away."""
    made = copy.deepcopy(value)
    inner: Any = made
    for key in at[:-1]:
        inner = inner[key]
    if new is KeyError:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return made


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", PAYLOAD, "9" * 5000, KeyError, {}, [], [[]], 0, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
).filter(lambda value: KeyError not in (value if isinstance(value, list) else ()))
#: What is collected from a host. (The lock is ours, and has its own test.)
SAID = ("machine", "environments", "benchmark")
PLACES = {
    kind: [at for at in leaves({part: seen[part] for part in SAID}) if len(at) > 1] for kind, seen in HEALTHY.items()
}


def unlike(kind: str) -> List[Tuple[Any, ...]]:
    """The places of a healthy host's answer, of the rows of one list or table only the first."""
    found: Dict[Tuple[Any, ...], Tuple[Any, ...]] = {}
    for at in PLACES[kind]:
        row = at[2:3] == ("packages",) or (at[1:2] == ("observation",) and at[2:3] in (("pythons",), ("disk",)))
        found.setdefault(
            tuple("#" if isinstance(key, int) or (row and n == 3) else key for n, key in enumerate(at)), at
        )
    return list(found.values())


def words(kind: str) -> List[Tuple[Any, ...]]:
    """The places that hold a string, without the stack in force, which has a test of its own."""
    found = []
    for at in unlike(kind):
        value: Any = HEALTHY[kind]
        for key in at:
            value = value[key]
        if isinstance(value, str) and at[1:3] != ("installed", "stack"):
            found.append(at)
    return found


def plain(value: Any) -> bool:
    """Return whether a value can be sent as JSON."""
    try:
        json.dumps(value)
    except TypeError:
        return value is KeyError
    return True


@settings(FUZZ, max_examples=60)
@given(kind=st.sampled_from(["gpu", "gpu", "cpu"]), number=st.integers(0, 10**6), value=ANYTHING.filter(plain))
def test_any_answer_of_a_host_is_a_report(tmp_path: Path, kind: str, number: int, value: Any) -> None:
    """One place of a healthy host's answer replaced by anything, or taken away."""
    at = PLACES[kind][number % len(PLACES[kind])]
    harmless(verified(tmp_path, changed(HEALTHY[kind], at, value)))


@pytest.mark.full
@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.parametrize("value", [KeyError, None, PAYLOAD, {}], ids=["absent", "null", "payload", "object"])
def test_each_place_of_an_answer_by_itself(tmp_path: Path, kind: str, value: Any) -> None:
    """All of those that the checks may read, one after the other. Alike rows of a list or a table count once."""
    for at in unlike(kind):
        if at[:3] != ("machine", "installed", "stack"):
            harmless(verified(tmp_path, changed(HEALTHY[kind], at, value)))


@pytest.mark.full
@pytest.mark.parametrize("kind", HEALTHY)
def test_each_place_of_the_stack_in_force(tmp_path: Path, kind: str) -> None:
    """stack.json on the host is the host's to write: absent, null and something else in each place."""
    stack = HEALTHY[kind]["machine"]["installed"]["stack"]
    for at in leaves(stack):
        for value in (KeyError, None, {}, PAYLOAD) if at else ():
            if len(at) <= 3:
                seen = changed(HEALTHY[kind], ("machine", "installed", "stack", *at), value)
                harmless(verified(tmp_path, seen))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":-Infinity}',
        '{"a":' + "[" * 99999,
        '{"a":' + "9" * 5000,
        '{"a":' + "9" * 400 + "}",
        '{"a":1,"a":2}',
        '{"a":"\\ud800"}',
        '{"a":' + "[" * 99 + "]" * 99 + "}",
    ],
)
def test_what_is_no_json_is_no_answer(text: str) -> None:
    """Python reads more than JSON allows, and what it reads could not be written into a report."""
    assert read_answers(MARK + text) == []


def with_payload(value: Any) -> Any:
    """Every string of a value an attack; the keys that are names of things (packages, files) as well."""
    if isinstance(value, str):
        return PAYLOAD
    if isinstance(value, list):
        return [with_payload(inner) for inner in value]
    return {k: with_payload(v) for k, v in value.items()} if isinstance(value, dict) else value


def attacked(folder: Path, kind: str, places: Sequence[Tuple[Any, ...]]) -> int:
    """How many of these words of a host, each an attack, reach its report; where they do, they are words there."""
    reached = 0
    for at in places:
        found = verified(folder, changed(HEALTHY[kind], at, PAYLOAD.replace("\ud800", "")))
        harmless(found)
        reached += "alert(1)" in json.dumps(found)
    return reached


@pytest.mark.full
def test_every_word_of_a_host_an_attack(tmp_path: Path) -> None:
    """One string after the other."""
    assert sum(attacked(tmp_path, kind, words(kind)) for kind in HEALTHY) > 20


@pytest.mark.parametrize("start", range(2))
def test_words_of_a_host_that_are_attacks(tmp_path: Path, start: int) -> None:
    """Some of them; all with -m full."""
    assert attacked(tmp_path, "gpu", words("gpu")[start::8]) >= 1


def test_a_host_with_a_name_that_is_an_attack(tmp_path: Path) -> None:
    """In the page, in its history, and in the files."""
    found = verified(tmp_path, HEALTHY["cpu"], PAYLOAD)
    evil = {**found, "checks": [{**row, "actual": PAYLOAD} for row in found["checks"]]}
    harmless(found, [evil, found])
    report.write(found, tmp_path / "reports" / "box")
    assert [p.parent for p in (tmp_path / "reports").iterdir()] == [tmp_path / "reports"]
    assert history.read(next((tmp_path / "reports").iterdir())).unreadable == []


#: Ways out of a word of the shell: each balanced, so that the shell does not stop at it before it runs anything.
ESCAPES = ('$(: > "$CANARY")', '`: > "$CANARY"`', ' ;: > "$CANARY" #', "'; : > \"$CANARY\" ; '", '"; : > "$CANARY" ; "')


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_remedy_runs_what_a_host_says(tmp_path: Path, escape: str) -> None:
    """Each remedy that holds a host's words is given to a real shell that finds no program: only the host's own words
    could make the file.
    """
    bad = "/etc/apt/sources.list.d/" + escape
    seen = copy.deepcopy(HEALTHY["gpu"])
    apt = seen["machine"]["observation"]["apt"]
    apt["problems"].append({"file": bad, "line": 1, "text": escape, "error": escape})
    for change in ({"suites": ["focal"]}, {"uris": ["https://evil.example/" + escape], "suites": ["focal"]}):
        apt["sources"].append({**apt["sources"][0], **change, "file": bad})
    remedies = [verified(tmp_path, seen)]
    links = ("machine", "installed", "links", "venvs/dl4cv", "target")
    target = f"store/{escape}-{HEALTHY['gpu']['machine']['installed']['links']['venvs/dl4cv']['digest']}"
    broken = changed(HEALTHY["gpu"], ("environments", "dl4cv"), {"failed": "x"})
    remedies.append(verified(tmp_path, changed(broken, links, target)))
    remedies.append(verified(tmp_path, changed(broken, ("machine", "installed", "root"), escape)))
    canary = tmp_path / "canary"
    tried = {c["remediation"] for found in remedies for c in found["checks"] if "CANARY" in c["remediation"]}
    assert len(tried) >= 4, remedies
    for text in tried:
        subprocess.run(
            ["/bin/sh", "-c", text],
            env={"PATH": str(tmp_path / "none"), "CANARY": str(canary)},
            cwd=str(tmp_path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert not canary.exists(), text


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy an example host with a card."""
    folder = tmp_path_factory.mktemp("hosts") / "host"
    shutil.copytree(FOREIGN, folder, symlinks=True)
    return folder


def observed(folder: Path, over: Dict[str, Answer]) -> None:
    """Read the machine, with other answers of some commands: an observation of the right form, or one sentence."""
    answers = answers_of(folder)

    def run(argv: Sequence[str], timeout: float) -> Answer:
        return over.get(argv[0]) or answers.get(tuple(argv), (127, "", "not found"))

    try:
        found = observe(str(folder / "fs"), run)
    except GpuhostError as error:
        assert error.message and error.next_step
    else:
        validator(DATA / "observation.schema.json")(json.loads(json.dumps(found, allow_nan=False)))


FILES = sorted(
    str(path.relative_to(FOREIGN / "fs"))
    for path in (FOREIGN / "fs").rglob("*")
    if path.is_file() and not path.is_symlink()
)
COMMANDS = ("nvidia-smi", "dpkg-query", "dpkg", "apt-cache", "df", "mokutil", "uname", "/usr/bin/python3")
#: What has broken parsers before: cut, doubled and nested forms, long numbers, other line ends, foreign letters.
CORPUS = [
    b"",
    b"\x00" * 64,
    b"\xff\xfe d\x00e\x00b",
    PAYLOAD.encode("utf-8", "surrogatepass"),
    b"9" * 5000,
    b"MemTotal: " + b"9" * 5000 + b" kB\n",
    "MemTotal: \u0661\u0662 kB\n".encode(),
    b"ID='ubuntu\nVERSION_ID=\"18.04\n",
    b'ID=$(id)\nVERSION_ID=`id`\nPRETTY_NAME="\\"\n',
    b"ID=\nID=\n",
    b"deb [ [ ] cdrom:[ http://a b c\r\ndeb\tx:\n",
    b"deb [arch=amd64 signed-by=/x] http://u:p@h:99999999999/ a/ b\n" * 3,
    b"Types: deb\nURIs:\n .\nSuites: x\nSigned-By:\n -----BEGIN\n",
    b"Enabled: maybe\n: \n\n\n \n",
    b"00000000:01:00.0, GPU-x, Quadro, 99999999999999999999, 6.1\n",
    b'00000000:01:00.0, "GPU\n-x", ",,,\n',
    b"00000000:01:00.0, [GPU requires reset], [Unknown Error], ERR!, N/A\n",
    b"0000:01:00.0,\n" * 500,
    b"Filesystem\n/dev/sda " + b"1" * 5000 + b" 1 1 1% /\n",
    b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  " + b"1." * 3000 + b" \n",
    b"a\tb\tc\td\n\t\t\t\t\n" + b"\t" * 4 + b"\n",
    b"0x10de\n0x10de\n",
]


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_a_machine_whose_files_are_malformed(machine: Path, number: int) -> None:
    """Each text in the place of every file, and of every command's answer, whatever its status."""
    text = CORPUS[number]
    for name in FILES:
        file = machine / "fs" / name
        before = file.read_bytes()
        try:
            file.write_bytes(text)
            observed(machine, {})
        finally:
            file.write_bytes(before)
    said = text.decode("utf-8", "replace")
    for command in COMMANDS:
        for code in (0, 1):
            observed(machine, {command: (code, said, said)})


@settings(FUZZ, max_examples=150)
@given(
    name=st.sampled_from([*FILES, *COMMANDS]),
    cut=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    put=st.binary(max_size=40) | st.sampled_from(CORPUS),
    code=st.sampled_from([0, 0, 1, 124, 127, -11]),
)
def test_a_machine_with_one_text_changed(machine: Path, name: str, cut: Tuple[int, int], put: bytes, code: int) -> None:
    """A part of what a file or a command says is lost, and something else stands there."""
    if name in COMMANDS:
        rows = json.loads((machine / "commands.json").read_text(encoding="utf-8"))
        out = next((row["out"] for row in rows if row["argv"][0] == name), "").encode()
        said = (out[: cut[0]] + put + out[cut[0] + cut[1] :]).decode("utf-8", "replace")
        observed(machine, {name: (code, said, said)})
        return
    file = machine / "fs" / name
    before = file.read_bytes()
    try:
        file.write_bytes(before[: cut[0]] + put + before[cut[0] + cut[1] :])
        observed(machine, {})
    finally:
        file.write_bytes(before)


@settings(FUZZ, max_examples=100)
@given(text=st.text(max_size=200) | st.sampled_from([text.decode("utf-8", "replace") for text in CORPUS]))
def test_what_is_read_of_driver_and_guard(text: str) -> None:
    """Any text gives a value."""
    assert set(probe_driver.parse_modinfo(text)) == {"path", "version", "signed", "signer", "open"}
    assert probe_driver.parse_test_key(text) in (True, False, None)
    assert probe_driver.listing_loads_nouveau(text, ["a.conf"]) in (True, False)
    packages, unread = guard.parse_listing(text, "amd64")
    assert len(packages) + len(unread) <= len(text.splitlines())
    assert isinstance(guard.stack(packages, text), dict)
    assert isinstance(guard.parse_preferences(text), dict)
    assert isinstance(guard.parse_unattended(text), list)


@pytest.mark.full
@pytest.mark.parametrize("kind", HEALTHY)
def test_each_place_of_the_lock(tmp_path: Path, kind: str) -> None:
    """Ours, but edited by hand: each place absent, null, an object or an attack is a lock, or one sentence."""
    seen = HEALTHY[kind]
    whole = stack(seen["lock"])[lock.KEY]
    for at in leaves(whole):
        for value in (KeyError, None, {}, PAYLOAD) if at and len(at) <= 4 else ():
            harmless(verified(tmp_path, seen, stack=changed(whole, at, value)))


@settings(FUZZ, max_examples=100)
@given(data=st.binary(max_size=100) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_in_the_locks_place(tmp_path: Path, data: bytes) -> None:
    """One sentence."""
    file = tmp_path / "stack.json"
    file.write_bytes(data)
    with pytest.raises(LockError):
        lock.load(file)


@pytest.mark.parametrize("data", [b"[" * 99999, b'{"gpuhost_lock": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}"])
def test_a_lock_that_python_itself_cannot_take(tmp_path: Path, data: bytes) -> None:
    """Too deep, too long a number, a byte order mark."""
    (tmp_path / "stack.json").write_bytes(data)
    with pytest.raises(LockError):
        lock.load(tmp_path / "stack.json")
