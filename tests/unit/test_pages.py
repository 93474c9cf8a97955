"""README.md is short, every link of the documentation leads somewhere, and CHANGELOG.md has this version."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import List, Set

import collection
import pytest
from markdown_it import MarkdownIt

import gpuhost
from gpuhost.planning.pylocks import toml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.split("\0")
    if name
)
#: The kinds of change that Keep a Changelog knows.
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def anchors(path: Path) -> Set[str]:
    """Return the anchors of a page's headings, as the web pages of Git hosts make them."""
    found: List[str] = []
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    for before, token in zip(tokens, tokens[1:]):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))
            anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def links(text: str) -> List[str]:
    """Return where the links and pictures of a page lead."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    children = [child for token in tokens for child in token.children or ()]
    return [str(child.attrs[key]) for child in children for key in ("href", "src") if key in child.attrs]


def broken(path: Path, text: str) -> List[str]:
    """Return the links of a page that lead nowhere within this folder."""
    wrong = []
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(path: Path) -> None:
    """To a file, and to a heading that is in it."""
    assert broken(path, path.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_seen() -> None:
    """A file that is missing, and a heading that is."""
    text = "[a](README.md) [b](gone.md) ![c](gone.png)\n\n| [d](README.md#start) | [e](#gone) |\n|---|---|\n"
    assert broken(ROOT / "README.md", text) == ["gone.md", "gone.png", "#gone"]


def test_the_readme_fits_on_two_screens() -> None:
    """In lines and in columns; a table's row may be a little wider in its source than on the page."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 110
    assert [line for line in lines if len(line) > 130 or (len(line) > 120 and not line.startswith("|"))] == []


def released(changelog: str) -> List[str]:
    """Return the versions of a changelog, the newest first."""
    versions = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\S+)\] - \d{4}-\d\d-\d\d", version) for version in versions[1:]]
    return [match.group(1) if match else "" for match in dated]


def test_the_changelog_has_this_version() -> None:
    """With its date, and with the kinds of change that its form knows."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert released(text)[0] == gpuhost.__version__
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= KINDS


def test_changelog_package_and_collection_have_one_version() -> None:
    """What pip installs and what ansible-galaxy installs are built from one number; a page that names it names that."""
    project = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert "version" in project["project"]["dynamic"] and source.samefile(Path(gpuhost.__file__))
    version = released((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))[0]
    assert metadata.version("gpuhost") == gpuhost.__version__ == version
    assert json.loads(collection.files()["galaxy.yml"])["version"] == version
    page = (ROOT / "docs" / "how-to" / "collection.md").read_text(encoding="utf-8")
    assert set(re.findall(r"gpuhost-gpuhost-(\d\S*)\.tar\.gz", page)) == {version}
