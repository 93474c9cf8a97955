"""The sources: found on the package index by name, taken only with the right checksum, unpacked, and sealed."""

from __future__ import annotations

import errno
import hashlib
import html.parser
import os
import shutil
import tarfile
import urllib.parse
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import strict_json
from ..errors import ArtifactError, EnvironmentProblem, GpuhostError
from ..host import download as artifacts
from ..host import files, https, pip_index
from .failures import failure

JSON_KIND = "application/vnd.pypi.simple.v1+json"
SEAL = ".gpuhost-tree"
LARGEST_PAGE = 32 << 20  # bytes; PyPI's page of a package with thousands of files has 5 MB


class Links(html.parser.HTMLParser):
    """The links of an index page in HTML, for an index that has no JSON."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.found: List[Tuple[str, str]] = []
        self.address = ""

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        """Keep the address of a link until its text comes."""
        if tag == "a":
            self.address = dict(attrs).get("href") or ""

    def handle_data(self, data: str) -> None:
        """A link's text is the file's name."""
        if self.address:
            self.found.append((data.strip(), self.address))
            self.address = ""


def address_in(page: str, kind: str, base: str, file: str) -> Optional[str]:
    """The address of a file on an index page, without its fragment; None when the page does not list it."""
    if "json" in kind:
        try:
            rows = [(str(f["filename"]), str(f["url"])) for f in strict_json.loads(page).get("files", [])]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    else:
        parser = Links()
        parser.feed(page)
        rows = parser.found
    found = [urllib.parse.urljoin(base, url) for name, url in rows if name == file]
    return urllib.parse.urldefrag(found[0])[0] if found else None


def locate(row: Mapping[str, Any]) -> str:
    """The address of a source row: its own, or what the index lists under its file's name."""
    if row.get("url"):
        return str(row["url"])
    base = f"{pip_index.index()}/{row['package']}/"
    page, kind, at = https.page(base, f"{JSON_KIND}, text/html;q=0.1", LARGEST_PAGE)
    found = address_in(page, kind, at, row["file"])
    if found is None:
        raise failure(
            "B-sources-not-fetched", f"The index does not list {row['file']}.", "Give the file itself: --sources FILE"
        )
    return https.with_login(found, base)


def name_of(row: Mapping[str, Any]) -> str:
    """The file's name: the row's, or the last part of its address."""
    return str(row.get("file") or str(row["url"]).rsplit("/", 1)[-1])


def check_given(given: Sequence[Path]) -> None:
    """Refuse what a user gives as sources when it is not a file that can be read."""
    for path in given:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not there"
            raise failure("B-usage", f"The sources {path} cannot be used: it {what}.", "Name a file: --sources FILE")
        if not os.access(str(path), os.R_OK):
            raise failure("B-usage", f"The sources {path} cannot be read.", f"Let it be read: chmod a+r {path}")


def matched(rows: Sequence[Mapping[str, Any]], given: Sequence[Path]) -> Dict[str, Path]:
    """The files that a user gives, by checksum, whatever they are called; one that no row wants is refused by name."""
    found = {files.sha256(path): path for path in given}
    wanted = {str(row["sha256"]): name_of(row) for row in rows}
    for digest, path in found.items():
        if digest not in wanted:
            names = ", ".join(f"{name} (sha256 {known[:16]}...)" for known, name in wanted.items())
            raise failure(
                "B-sources-tampered",
                f"{path} has sha256 {digest[:16]}...; what is built here is {names}.",
                "Give that file, or leave --sources out.",
            )
    return found


def obtain(row: Mapping[str, Any], cache: Path, given: Optional[Path] = None) -> Path:
    """A source file in the artifact cache, by its checksum; `given`, which has it, is taken instead of a download."""
    if given is not None:
        return given
    file = {"name": name_of(row), "sha256": row["sha256"], "size": row.get("size")}
    path = artifacts.place(cache, file)
    try:
        if not artifacts.is_right(path, file):
            artifacts.obtain(cache, {**file, "url": locate(row)})
    except artifacts.WrongFile as error:
        raise failure("B-sources-tampered", error.message, error.next_step) from error
    except (ArtifactError, EnvironmentProblem, https.Interrupted) as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise cause from None  # a full disk is reported as one, whatever it stopped
        text = error.message if isinstance(error, GpuhostError) else f"{path.name} could not be fetched: {error}."
        step = "Check the network and pip's index, or give the file itself: --sources FILE"
        raise failure("B-sources-not-fetched", text, step) from error
    return path


def tree_digest(folder: Path) -> str:
    """A digest over every file of a tree, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL):
        digest.update(f"{path.relative_to(folder)}\0{files.sha256(path)}\n".encode())
    return digest.hexdigest()


def unpack(archives: List[Path], folder: Path) -> None:
    """Unpack into a fresh folder and seal it with the digest of what came out."""
    temporary = folder.with_name(folder.name + ".new")
    for stale in (temporary, folder):
        files.remove(stale)
    try:
        files.make_folder(temporary)
        for archive in archives:
            with tarfile.open(str(archive)) as handle:
                # One pass: asking for all members first would decompress everything twice.
                for member in handle:
                    content = handle.extractfile(member) if safe(member) else None
                    if content is not None:
                        with files.new(temporary / member.name) as out:
                            shutil.copyfileobj(content, out, 1 << 20)
        files.write_whole(temporary / SEAL, tree_digest(temporary))
        os.sync()  # the seal vouches for every file
        files.put_folder(temporary, folder)
    except OSError:
        # On a full disk, what is half written must not stay to fill it.
        shutil.rmtree(str(temporary), ignore_errors=True)
        raise


def safe(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a plain file that stays inside the folder; the sources have no other."""
    parts = Path(member.name).parts
    return member.isreg() and not member.name.startswith("/") and ".." not in parts


def is_sealed(folder: Path) -> bool:
    """Return whether an unpacked tree is still what was unpacked, every file of it."""
    seal = folder / SEAL
    return seal.exists() and seal.read_text(encoding="ascii") == tree_digest(folder)


def check_tree(folder: Path) -> None:
    """Refuse an unpacked tree in which a file was changed, added or removed since."""
    if not is_sealed(folder):
        raise failure(
            "B-sources-tampered",
            f"The unpacked sources in {folder} are not what was unpacked.",
            "Run the same command with --fresh: the sources are unpacked again.",
        )


def places(folder: Path) -> Tuple[Path, Path]:
    """The folders of opencv and of opencv_contrib's modules in an unpacked sdist or in two unpacked tarballs."""
    main = sorted(folder.glob("*/opencv/CMakeLists.txt")) or sorted(folder.glob("opencv-*/CMakeLists.txt"))
    contrib = sorted(folder.glob("*/opencv_contrib/modules")) or sorted(folder.glob("opencv_contrib-*/modules"))
    if not main or not contrib:
        raise failure(
            "B-sources-tampered", f"{folder} holds no opencv with opencv_contrib.", "Run the same command with --fresh."
        )
    return main[0].parent, contrib[0]
