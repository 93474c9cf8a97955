"""What a bed takes over from the outer machine, and what it must not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import List, Sequence

import pytest

from .beds import BedError, settings, snapshot
from .beds.settings import KEYRING, Source

DEB822 = f"""Types: deb deb-src
# a comment inside
URIs: https://archive.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib vendor
Signed-By: {KEYRING}

Types: deb
URIs: mirror+file:/etc/apt/mirrors/security.list
Suites: bookworm-security
Components: main

Types: deb
URIs: https://vendor.example/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg

Enabled: no
Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = f"""
deb [arch=amd64 signed-by={KEYRING}] https://archive.example/debian bookworm main # the archive
deb-src https://archive.example/debian bookworm main
deb [signed-by=/etc/apt/keyrings/x.gpg] https://vendor.example/linux/debian bookworm stable
deb https://vendor.example/apt cloud-sdk-bookworm main
deb file:/srv/local bookworm main
#deb https://archive.example/debian sid main
"""


def test_only_debian_s_own_sources_are_taken() -> None:
    """Other releases, other keys, other components, disabled and local sources stay outside."""
    files = {"/etc/apt/sources.list": ONE_LINE, "/etc/apt/sources.list.d/debian.sources": DEB822}
    found = settings.debian_sources(files, lambda path: f"# mirrors\nhttps://mirror.example{path} priority:1\n")
    assert found == [
        Source(("https://archive.example/debian",), ("bookworm",), ("main",)),
        Source(("https://archive.example/debian",), ("bookworm", "bookworm-updates"), ("main", "contrib")),
        Source(("https://mirror.example/etc/apt/mirrors/security.list",), ("bookworm-security",), ("main",)),
    ]
    text = settings.render_sources(found)
    assert settings.debian_sources({"again.sources": text}, str) == found


def test_a_machine_without_debian_sources_is_refused() -> None:
    """A bed of another release than the one asked for would prove nothing."""
    with pytest.raises(BedError, match="bookworm"):
        settings.debian_sources({"x.list": "deb https://archive.example/ubuntu jammy main"}, str)


def test_apt_settings_are_those_about_reaching_the_archive() -> None:
    """Proxies and clock tolerance come along; hooks, languages and local files do not."""
    dump = (
        'Acquire::Check-Date "false";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::http "";\n'
        'Acquire::https::CAInfo "/etc/own.pem";\nAcquire::Languages:: "none";\nDPkg::Post-Invoke:: "true";\n'
    )
    assert settings.apt_settings(dump) == [
        'Acquire::Check-Date "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
    ]


def test_pip_settings_lose_what_only_the_outer_machine_has() -> None:
    """Folders of wheels and local indices go, remote ones stay, the certificate becomes the bed's bundle."""
    files = [
        "[global]\ncert = /outer/ca.pem\nfind-links = /outer/wheels\n",
        "[global]\nindex-url = https://index.example/simple\nextra-index-url =\n  file:///outer/simple\n"
        "  https://other.example/simple\n[install]\nfind-links = ~/wheels\n",
    ]
    assert settings.pip_conf(files) == (
        "[global]\n"
        f"cert = {settings.BUNDLE}\n"
        "index-url = https://index.example/simple\n"
        "extra-index-url = https://other.example/simple\n\n"
    )
    assert "find-links = /outer/wheels" in settings.pip_conf(files, visible=["/outer"])
    assert settings.pip_conf(["[global]\nfind-links = /outerspace\n"], visible=["/outer"]) == ""
    assert settings.pip_conf([]) == ""


def test_variables_taken_over() -> None:
    """pip's, certificates' and proxies' variables come along, made to hold in the bed; nothing else does."""
    outer = {
        "PIP_FIND_LINKS": "/outer/wheels",
        "PIP_EXTRA_INDEX_URL": "file:///outer/simple https://other.example/simple",
        "PIP_CONFIG_FILE": "/outer/pip.conf",
        "PIP_CERT": "/outer/ca.pem",
        "REQUESTS_CA_BUNDLE": "/outer/ca.pem",
        "SSL_CERT_FILE": "/outer/ca.pem",
        "https_proxy": "http://proxy.example:3128",
        "A_TOKEN": "secret",
        "PYTHONPATH": "/outer",
    }
    assert settings.environment(outer) == {
        "PIP_EXTRA_INDEX_URL": "https://other.example/simple",
        "PIP_CERT": settings.BUNDLE,
        "REQUESTS_CA_BUNDLE": settings.BUNDLE,
        "SSL_CERT_FILE": settings.BUNDLE,
        "https_proxy": "http://proxy.example:3128",
    }
    assert settings.certificate_files(outer) == [settings.BUNDLE, "/outer/ca.pem"]


def test_a_proxy_on_the_outer_machine_itself_is_named() -> None:
    """From behind NAT, localhost is another machine."""
    variables = {
        "http_proxy": "http://127.0.0.1:3128",
        "HTTPS_PROXY": "localhost:3128",
        "no_proxy": "localhost",
        "all_proxy": "http://proxy.example:3128",
    }
    assert settings.loopback_proxies(variables) == ["HTTPS_PROXY", "http_proxy"]


def test_only_unknown_certificates_are_added() -> None:
    """The same certificate with other line lengths is known; one found twice is added once."""

    def pem(body: str) -> str:
        """A certificate's frame around any text."""
        return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"

    outer = [pem("AAAA\nBBBB") + pem("own"), "# label\n" + pem("own")]
    assert settings.extra_certificates(outer, pem("AAAABB\nBB")) == [pem("own")]


def test_name_servers() -> None:
    """Comments and options are not servers."""
    text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\n nameserver 2001:db8::1\n"
    assert settings.nameservers(text) == ["192.0.2.1", "2001:db8::1"]


def test_a_snapshot_names_each_change() -> None:
    """Content, mode, link target, arrival and loss are told; a folder's size is not."""

    def shot(rows: str, digest: str, packages: list[str]) -> snapshot.Snapshot:
        """A snapshot from find's rows, with the digest of every file."""
        known = {path: ("", digest * 64) for path in ("/a b", "/old", "/new")}
        entries = frozenset(snapshot.entry(row.split("|", 4), known) for row in rows.split("\0") if row)
        return snapshot.Snapshot(entries, frozenset(packages))

    before = shot(
        "d|0755|4096|9 1.5|/\t\0f|0644|3|9 1.5|/a b\t\0l|0777|2|9 1.5|/l\tto\0f|0644|0|9 1.5|/old\t\0", "0", ["git 1"]
    )
    assert before.changes_to(before) == []
    after = shot(
        "d|0755|8192|9 1.5|/\t\0f|0644|3|9 1.5|/a b\t\0l|0777|2|9 1.5|/l\tno\0f|0600|0|9 1.5|/new\t\0", "1", ["git 2"]
    )
    assert before.changes_to(after) == [
        "changed /a b",
        "changed /l",
        "added /new",
        "removed /old",
        "package gone: git 1",
        "package new: git 2",
    ]


def test_a_snapshot_reads_again_only_what_was_touched(tmp_path: Path) -> None:
    """What is of the same size, and got its old time of modification back, is read again all the same."""
    asked: List[bytes] = []

    def read(argv: Sequence[str], stdin: bytes = b"") -> bytes:
        asked.append(stdin)
        return subprocess.run(list(argv), input=stdin, stdout=subprocess.PIPE, check=True).stdout

    still, touched = tmp_path / "still", tmp_path / "a\tb\n"
    for file in (still, touched):
        file.write_text("one", encoding="utf-8")
    known: snapshot.Known = {}
    before = snapshot.take(read, [str(tmp_path)], known)
    assert before.changes_to(snapshot.take(read, [str(tmp_path)], known)) == []
    times = touched.stat()
    touched.write_text("two", encoding="utf-8")
    os.utime(str(touched), ns=(times.st_atime_ns, times.st_mtime_ns))
    asked.clear()
    assert before.changes_to(snapshot.take(read, [str(tmp_path)], known)) == [f"changed {touched}"]
    assert [names for names in asked if names] == [os.fsencode(str(touched)) + b"\0"]
