"""Download a file into a content-addressed cache, verifying its SHA-256 and resuming partial downloads.

Runs on the target and on the controller: Python 3.6, standard library. A cache holds `<sha256>/<name>`, which is also
the layout of a mirror, so that a cache can be served as one. A file has its name in the cache only when its checksum
was right; what is under way has the name `<name>.part` beside it.
"""

import contextlib
import errno
import http.client
import os
import re
import shutil
import time
from pathlib import Path
from typing import IO, Any, Callable, Optional, Tuple
from urllib.error import HTTPError
from urllib.parse import quote

from ..errors import ArtifactError, EnvironmentProblem, GpuhostError
from ..types import Json
from . import files, https, store
from .https import Interrupted

Say = Callable[[str], None]
PAUSES_S = (1.0, 3.0, 9.0)  # waits between tries that brought little
BLOCK = 1 << 20
ROOM = 16 * 10**6  # bytes that a file system must keep free beside the file
LARGEST = 8 * 10**9  # bytes of a file whose size is not known; CUDA's largest installer has 5 * 10**9
PASSING = (408, 425, 429, 500, 502, 503, 504)  # transient HTTP statuses, worth retrying
SHA256 = re.compile(r"^[0-9a-f]{64}$")


class WrongFile(ArtifactError):
    """What came is not the file of the checksum."""


def check_file(file: Json) -> None:
    """Refuse a record whose name leads out of its folder, or whose checksum is none."""
    if not SHA256.match(str(file["sha256"])) or file["name"] in (".", "..") or "/" in file["name"] or not file["name"]:
        step = "Restore the catalog from git, or correct artifact_file."
        raise ArtifactError("{name!r} with sha256 {sha256!r} names no file to fetch.".format(**file), step)


def place(cache: Path, file: Json) -> Path:
    """Where a file stands in a cache."""
    return cache / str(file["sha256"]) / str(file["name"])


def mirrored(file: Json, mirror: str) -> str:
    """The address of a file at a mirror (at its vendor, where no mirror is given)."""
    if not mirror:
        return str(file["url"])
    return "{}/{}/{}".format(mirror.rstrip("/"), file["sha256"], quote(file["name"]))


def is_right(path: Path, file: Json) -> bool:
    """Return whether the file is there with the right checksum."""
    return path.is_file() and files.sha256(path) == file["sha256"]


def obtain(cache: Path, file: Json, mirror: str = "", source: Optional[Path] = None, say: Say = lambda _: None) -> bool:
    """Bring a file (`name`, `url`, `sha256`, perhaps `size`) into the cache; False when it was there.

    It comes from the file `source` where one is given, else from the mirror where one is given, else from its own
    address; the next of these is never tried when one fails. Raises `ArtifactError` or `EnvironmentProblem`. Runs at
    once take turns, and what was killed goes on where it ended.
    """
    check_file(file)
    path = place(cache, file)
    if is_right(path, file):
        return False
    part = path.with_name(path.name + ".part")
    try:
        with turn(part, say) as handle:
            if is_right(path, file):  # whoever had the turn before has brought it
                part.unlink()
                return False
            try:
                if source is not None:
                    copy(source, handle, part, file, say)
                else:
                    download(mirrored(file, mirror), handle, part, file, say)
            except (OSError, GpuhostError) as error:
                # A full disk is not to stay full of what cannot be finished, and what is empty resumes nothing.
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or is_empty(part):
                    part.unlink()
                raise
            files.put(part, path)
    except OSError as error:
        raise store.unwritable(error, path) from error
    finally:
        tidy(path.parent)
    return True


def is_empty(path: Path) -> bool:
    """Return whether the file is there with nothing in it."""
    return path.exists() and path.stat().st_size == 0


def tidy(folder: Path) -> None:
    """Take an empty folder out of the cache again."""
    try:
        folder.rmdir()
    except OSError:
        return  # it holds the file, or what another run will go on with


def turn(part: Path, say: Say) -> IO[bytes]:
    """The opened partial file, locked; whoever had it before may have renamed or removed it meanwhile."""
    while True:
        handle = files.appended(part, files.PRIVATE)  # no other user can hold it
        files.lock(handle.fileno(), say, lambda _: f"waiting for another run that fetches {part.stem}")
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle.fileno()).st_ino == part.stat().st_ino:
                return handle
        handle.close()


def check_space(part: Path, file: Json, more: int) -> None:
    """Refuse, before it is begun, what the file system has no room for."""
    free = shutil.disk_usage(str(part.parent)).free
    if free < more + ROOM:
        text = (
            f"{file['name']} needs {more // 10**6 + 1} MB more below {part.parent.parent}, {free // 10**6} MB are free."
        )
        raise EnvironmentProblem(text, "Make room there and run the same command again.")


def wrong(file: Json, found: str, where: str) -> WrongFile:
    """The refusal of a file that is not the promised one, with both sums."""
    text = "{} from {} is not the file that was locked: its sha256 is {}, promised is {}.".format(
        file["name"], where, found, file["sha256"]
    )
    return WrongFile(text, "Nothing of it was kept. Try again; if it stays so, do not use that source.")


def copy(source: Path, handle: IO[bytes], part: Path, file: Json, say: Say) -> None:
    """Copy a file that is there already, and check the copy."""
    say(f"copying {file['name']}")
    handle.truncate(0)
    check_space(part, file, source.stat().st_size)
    with source.open("rb") as given:
        shutil.copyfileobj(given, handle, BLOCK)
    handle.flush()
    found = files.sha256(part)
    if found != file["sha256"]:
        part.unlink()
        raise wrong(file, found, str(source))


def download(url: str, handle: IO[bytes], part: Path, file: Json, say: Say) -> None:
    """Download into the partial file until its checksum is right.

    One that an earlier run began may have been damaged, so when it ends in a wrong sum it is begun afresh, once.
    """
    https.check_url(url)
    resumed = handle.seek(0, os.SEEK_END) > 0
    tries(url, handle, part, file, say)
    found = files.sha256(part)
    if found != file["sha256"] and resumed:
        say(f"{file['name']}: what an earlier run left was damaged, fetching afresh")
        handle.truncate(0)
        tries(url, handle, part, file, say)
        found = files.sha256(part)
    if found != file["sha256"]:
        part.unlink()
        raise wrong(file, found, https.shown(url))


def tries(url: str, handle: IO[bytes], part: Path, file: Json, say: Say) -> None:
    """Transfer until the file is complete; tries that bring it hardly further are few."""
    best, idle = handle.seek(0, os.SEEK_END), 0
    while True:
        try:
            transfer(url, handle, part, file, say)
            return
        except Interrupted as error:
            have = handle.seek(0, os.SEEK_END)
            best, idle = (have, 0) if have >= best + BLOCK else (best, idle + 1)
            if idle > len(PAUSES_S):
                step = (
                    "Check the network (and the proxy settings), then run the same command again: it goes on from here."
                )
                raise EnvironmentProblem(f"{https.shown(url)} could not be fetched: {error}.", step) from error
            say(f"{file['name']}: {error}; trying again")
            time.sleep(PAUSES_S[max(idle - 1, 0)])


def transfer(url: str, handle: IO[bytes], part: Path, file: Json, say: Say) -> None:
    """One request: what is missing of the file, or all of it from a server that knows no ranges."""
    have, most = handle.seek(0, os.SEEK_END), file.get("size") or LARGEST
    if have > most:  # no part of this file
        have = handle.truncate(0)
    if have == file.get("size"):
        return  # the checksum will tell what it is
    try:
        answer = https.opened(url, {"Range": f"bytes={have}-"} if have else {}, 2 * most)
    except HTTPError as error:
        with error:
            refused(error, url, have)
        return
    try:
        with answer:
            begin, total = extent(answer, url, have, file)
            if begin != have:
                handle.truncate(0)
            if total is not None:
                check_space(part, file, total - begin)
            receive(answer, handle, begin, total, url, file, say)
    except ArtifactError:
        # What an absurd answer brought is not the beginning of the file: nothing may go on from it.
        handle.truncate(0)
        raise


def refused(error: HTTPError, url: str, have: int) -> None:
    """What an answer that is not a file means: try again, the part is complete, or give up."""
    if error.code == 416 and have:  # there is nothing after what we have; the checksum will tell what that is
        return
    answers = f"the server answers {error.code} {https.said(error.reason)}"
    if error.code in PASSING:
        raise Interrupted(answers) from error
    step = "Check the address; a mirror must hold <sha256>/<name>. With a mirror set, nothing else is asked."
    raise ArtifactError(f"{https.shown(url)} cannot be fetched: {answers}.", step) from error


def extent(answer: Any, url: str, have: int, file: Json) -> Tuple[int, Optional[int]]:
    """Where the answer's content begins in the file, and how long the file is (None: not said).

    An answer that is not what was asked for, or not of the size that the file has, is refused.
    """
    length, size = https.length(answer, url), file.get("size")
    begin, total = 0, length
    if answer.status == 206:
        said = answer.headers.get("Content-Range", "")
        match = re.match(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})$", said)
        if not match or not have:
            raise https.absurd(url, "it is a part of the file that was not asked for")
        begin, last, total = map(int, match.groups())
        if begin != have or last != total - 1 or length not in (None, total - begin):
            raise https.absurd(url, f"it is another part of the file ({said}) than bytes {have} to the end")
    elif answer.status != 200:
        raise https.absurd(url, f"its status is {answer.status}")
    if total is not None and (total != size if size else total > LARGEST):
        raise https.absurd(url, f"it offers {total} bytes, the file has {size or f'at most {LARGEST}'}")
    return begin, total if total is not None else size


def receive(answer: Any, handle: IO[bytes], begin: int, total: Optional[int], url: str, file: Json, say: Say) -> None:
    """Write the content down block by block, telling how far it is; one that ends early is `Interrupted`.

    Nothing that goes beyond the file's size is read.
    """
    done, told, most = begin, -1, LARGEST if total is None else total
    while done < most:
        try:
            block = answer.read1(min(BLOCK, most - done))
        except (OSError, http.client.HTTPException, https.TooSlow, https.TooMuch) as error:
            raise https.failed(url, error) from error
        if not block:
            break
        handle.write(block)
        handle.flush()
        done += len(block)
        percent = done * 100 // total if total else done // (100 * BLOCK)
        if percent != told:
            of = f"{percent} % of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
            say(f"fetching {file['name']}: {of}")
            told = percent
    if total is None and done >= most:
        raise https.absurd(url, f"it has {most} bytes and does not end")
    if total is not None and done < total:
        raise Interrupted(f"the connection ended after {done} of {total} bytes")


def in_folder(folder: Path, file: Json) -> Path:
    """A file in a local folder that serves as the mirror: as in a cache, or simply by its name."""
    check_file(file)
    for path in (place(folder, file), folder / file["name"]):
        if path.is_file():
            return path
    step = f"Put it there by its name (sha256 {file['sha256']}), or unset gpuhost_mirror_dir. Nothing else is asked."
    raise ArtifactError(f"The folder {folder} does not hold {file['name']}.", step)
