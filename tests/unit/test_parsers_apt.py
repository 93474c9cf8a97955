"""Parsers of apt's source lists and of apt-cache, and the redaction of passwords."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.credentials import without_logins
from gpuhost.host.parse import apt as parsers


@pytest.mark.parametrize(
    ("line", "uri", "suite", "components"),
    [
        ("deb http://a.example/u bionic main universe", "http://a.example/u", "bionic", ["main", "universe"]),
        ("deb\thttp://a.example/u\tbionic\tmain", "http://a.example/u", "bionic", ["main"]),
        ("deb-src http://a.example/u bionic main # why", "http://a.example/u", "bionic", ["main"]),
        ("deb [ arch=amd64,i386 ] http://a.example/u bionic main", "http://a.example/u", "bionic", ["main"]),
        ("deb http://a.example/flat /", "http://a.example/flat", "/", []),
        ("deb http://a.example/flat ./", "http://a.example/flat", "./", []),
        (
            "deb cdrom:[Ubuntu 18.04 LTS _Bionic_]/ bionic main",
            "cdrom:[Ubuntu 18.04 LTS _Bionic_]/",
            "bionic",
            ["main"],
        ),
        ("deb file:/srv/repo bionic/updates main", "file:/srv/repo", "bionic/updates", ["main"]),
    ],
)
def test_one_line_entries(line: str, uri: str, suite: str, components: list[str]) -> None:
    """Blanks of both kinds, options, flat repositories, an installation disc, a local folder."""
    sources, problems = parsers.parse_one_line("# first\n\n" + line + "\n", "f")
    assert problems == []
    assert [(s["uris"], s["suites"], s["components"], s["line"]) for s in sources] == [([uri], [suite], components, 3)]


def test_one_line_signed_by_is_read_from_the_options() -> None:
    """It says which key may sign the source."""
    sources, _ = parsers.parse_one_line("deb [arch=amd64 signed-by=/k.gpg] http://a.example/u b main\n", "f")
    assert sources[0]["signed_by"] == "/k.gpg"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dep http://a.example/u bionic main", "neither deb nor deb-src"),
        ("deb", "no URI"),
        ("deb http://a.example/u", "no suite"),
        ("deb http://a.example/u bionic", "component"),
        ("deb http://a.example/flat / main", "no components"),
        ("deb [arch=amd64 http://a.example/u bionic main", "do not end"),
        ("deb cdrom:[Ubuntu 18.04 bionic main", "does not end"),
        ("deb a.example/u bionic main", "no URI"),
    ],
)
def test_a_broken_one_line_entry_is_a_problem_with_its_line(line: str, words: str) -> None:
    """apt stops at such a line, so it must be named, and the good line after it still counts."""
    sources, problems = parsers.parse_one_line(line + "\ndeb http://a.example/u bionic main\n", "f")
    assert len(sources) == 1
    assert [problem["line"] for problem in problems] == [1]
    assert words in problems[0]["error"]


DEB822 = """\
# written by the installer
Types: deb deb-src
URIs: http://a.example/u http://b.example/u
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: http://c.example/u
Suites: x
Components: main
Enabled: no


Types: deb
Suites: y
Components: main
just words

Types: deb
URIs: http://d.example/u
Suites: z
Components: main
Enabled: perhaps
"""


def test_deb822_stanzas() -> None:
    """Several values, folded lines, a source that is switched off, and stanzas that are wrong."""
    sources, problems = parsers.parse_deb822(DEB822, "f")
    assert [(s["line"], s["suites"], s["enabled"]) for s in sources] == [
        (2, ["bookworm", "bookworm-updates"], True),
        (9, ["x"], False),
    ]
    assert sources[0]["types"] == ["deb", "deb-src"]
    assert sources[0]["signed_by"] == "/k.gpg"
    assert [problem["line"] for problem in problems] == [19, 16, 21]
    assert "URIs" in problems[1]["error"]
    assert "neither yes nor no" in problems[2]["error"]


def test_list_files_are_named_as_apt_names_them() -> None:
    """These names were taken from apt, which reads only lists that are named so."""
    assert parsers.list_file_stem("http://a.example/debian/", "bookworm") == "a.example_debian_dists_bookworm"
    assert parsers.list_file_stem("https://u:p@a.example/deb_x", "s") == "a.example_deb%5fx_dists_s"
    assert parsers.list_file_stem("http://a.example/x86_64", "/") == "a.example_x86%5f64"
    assert parsers.list_file_stem("http://a.example/repo", "./") == "a.example_repo_."


POLICY = """\
Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://flat.example/repo ./ Packages
     release o=NVIDIA,l=NVIDIA CUDA, x,c=
     origin flat.example
 500 http://dev.example/repos/x86_64  Packages
     release o=NVIDIA,c=
     origin dev.example
 500 http://a.example/ubuntu bionic/updates/main amd64 Packages
     release v=18.04,o=Ubuntu,a=bionic-updates,n=bionic,l=Ubuntu,c=main,b=amd64
     origin a.example
-1 file:/srv/repo stable/main amd64 Packages
     release c=main
Pinned packages:
     nvidia-driver-525 -> 1 with priority 1001
"""


def test_policy() -> None:
    """Flat repositories, a label with a comma, a suite with a slash, a pin below zero, no release file."""
    rows = parsers.parse_policy(POLICY)
    assert [(row["index"], row["suite_path"], row["origin"], row["label"], row["site"]) for row in rows] == [
        ("http://flat.example/repo ./", "./", "NVIDIA", "NVIDIA CUDA, x", "flat.example"),
        ("http://dev.example/repos/x86_64", "/", "NVIDIA", "", "dev.example"),
        (
            "http://a.example/ubuntu bionic/updates/main amd64",
            "bionic/updates",
            "Ubuntu",
            "Ubuntu",
            "a.example",
        ),
        ("file:/srv/repo stable/main amd64", "stable", "", "", ""),
    ]
    assert (rows[2]["codename"], rows[2]["suite"]) == ("bionic", "bionic-updates")


def test_madison_joins_with_policy() -> None:
    """Both name an index alike, also where apt prints two blanks for a flat repository."""
    text = (
        "      cuda |  10.2.89-1 | http://dev.example/repos/x86_64  Packages\n"
        "      cuda |      9.2-1 | http://flat.example/repo ./ Packages\n"
        "     linux | 5 | http://a.example/ubuntu bionic/main Sources\n"
        "N: Unable to locate package nothing\n"
    )
    rows = parsers.parse_madison(text)
    indexes = {row["index"] for row in parsers.parse_policy(POLICY)}
    assert [(row["package"], row["version"]) for row in rows] == [("cuda", "10.2.89-1"), ("cuda", "9.2-1")]
    assert {row["index"] for row in rows} <= indexes


@pytest.mark.parametrize(
    ("origin", "distribution", "own"),
    [
        ("Ubuntu", "ubuntu", True),
        ("UbuntuESM", "ubuntu", True),
        ("Debian", "debian", True),
        ("Debian", "ubuntu", False),
        ("NVIDIA", "ubuntu", False),
        ("", "debian", False),
        ("Debian Backports", "debian", True),
        ("x", "arch", False),
    ],
)
def test_own_origins(origin: str, distribution: str, own: bool) -> None:
    """Debian's archive on Ubuntu is as foreign as anybody's."""
    assert parsers.is_own_origin(origin, distribution) is own


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@a.example/x", "https://***@a.example/x"),
        ("https://token@a.example/x", "https://***@a.example/x"),
        ("https://u:p@q@a.example/x", "https://***@a.example/x"),
        ("https://u:p/q@a.example/x", "https://***@a.example/x"),
        ("//u:p@a.example/x", "//***@a.example/x"),
        ("u:p@a.example/x", "***@a.example/x"),
        ("deb u:p@a.example/x main", "deb ***@a.example/x main"),
        ("http://a.example:8080/x@y", "http://a.example:8080/x@y"),
        ("http://a.example/~me@home/", "http://a.example/~me@home/"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    """Passwords with an @ or a slash that nobody escaped; a port and an @ in a path are not passwords."""
    assert without_logins(text) == shown


MARK = "Zq9SECRETq9Z"
PASSWORD = st.text(alphabet="ab:@%#?=&+~!", max_size=6)


@given(
    st.sampled_from(["https://", "//", ""]),
    PASSWORD,
    PASSWORD,
    st.sampled_from(["bionic main", "bionic", "", "/", "[", "x main ["]),
)
def test_no_password_leaves_a_parser(scheme: str, before: str, after: str, rest: str) -> None:
    """Whatever characters are around it, and whether the entry is good or broken."""
    uri = f"{scheme}user:{before}{MARK}{after}@a.example/apt"
    for line in (f"deb {uri} {rest}", f"deb [signed-by=/k] {uri} {rest}", f"{uri} {rest}"):
        assert MARK not in json.dumps(parsers.parse_one_line(line + "\n", "f"))
    stanza = f"Types: deb\nURIs: {uri}\nSuites: {rest}\nComponents: {rest}\n"
    assert MARK not in json.dumps(parsers.parse_deb822(stanza, "f"))
    assert MARK not in json.dumps(parsers.parse_deb822(stanza + f"{uri}\n", "f"))
    assert MARK not in json.dumps(parsers.parse_policy(f" 500 {uri} x/main amd64 Packages\n"))


LIST_TEXT = st.lists(
    st.sampled_from(
        [
            "deb",
            "deb-src",
            " ",
            "\n",
            "[",
            "]",
            "=",
            "#",
            '"',
            "http://a/",
            "bionic",
            "/",
            "main",
            "\t",
            "Types:",
            "URIs:",
            "Suites:",
            "Enabled: no",
            " 500 ",
            "release ",
            "o=",
            ",",
            "Packages",
            " | ",
            "origin",
            "@",
        ]
    )
).map("".join)


@given(st.text() | LIST_TEXT)
def test_any_text_gives_sources_and_problems(text: str) -> None:
    """Each source is complete and each problem points at a line; the rest of apt's output parses as well."""
    for parse in (parsers.parse_one_line, parsers.parse_deb822):
        sources, problems = parse(text, "f")
        assert all(s["uris"] and s["suites"] and s["types"] and s["line"] >= 1 for s in sources)
        assert all(p["error"] and p["line"] >= 1 for p in problems)
    assert all(row["uri"] for row in parsers.parse_policy(text))
    assert all(row["package"] for row in parsers.parse_madison(text))
    parsers.list_file_stem(text, text)
