"""Unpacking a cuDNN tarball into include/ and lib/, and nothing anywhere else.

Runs on the target: Python 3.6, standard library, whose tarfile has no filter of its own. NVIDIA's two layouts are
`cuda/include`, `cuda/lib64` and, from 8.3.1 on, `<name>/include`, `<name>/lib`.
"""

import posixpath
import shutil
import tarfile
from pathlib import Path
from typing import List, Optional, Tuple

from ...errors import ArtifactError
from .. import files

FOLDERS = {"include": "include", "lib": "lib", "lib64": "lib"}


def refused(name: str, why: str) -> ArtifactError:
    """The refusal of a member."""
    return ArtifactError(f"The archive's member {name!r} {why}.", "Do not use this file; nothing of it was kept.")


def place(name: str) -> Optional[str]:
    """Where a member goes below the folder; None for the archive's own top folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise refused(name, "leads out of its folder")
    if len(parts) < 2:
        return None
    top = FOLDERS.get(parts[1])
    if top is None:
        if len(parts) > 2:
            raise refused(name, "is in none of include, lib and lib64")
        return parts[1]  # the licence
    return "/".join([top, *parts[2:]])


def check_link(name: str, where: str, target: str) -> None:
    """Refuse a link that leads anywhere but to another member."""
    led = posixpath.normpath(posixpath.join(posixpath.dirname(where), target))
    if target.startswith("/") or led.startswith(".."):
        raise refused(name, f"links to {target!r}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into the folder, which is new; `ArtifactError` for an archive that is none, or that leads out."""
    files.make_folder(folder)
    links: List[Tuple[str, str]] = []
    try:
        with tarfile.open(str(archive)) as packed:
            for member in packed:
                where = place(member.name)
                if where is None or member.isdir():
                    continue
                path = folder / where
                if path.exists() or any((where + "/").startswith(link + "/") for link, _ in links):
                    raise refused(member.name, "is there twice")
                if member.issym():
                    check_link(member.name, where, member.linkname)
                    links.append((where, member.linkname))
                    continue
                content = packed.extractfile(member) if member.isfile() else None
                if content is None:
                    raise refused(member.name, "is not a file, folder or link")
                with files.new(path, 0o755 if member.mode & 0o100 else 0o644) as handle:
                    shutil.copyfileobj(content, handle, 1 << 20)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ArtifactError(f"{archive.name} cannot be unpacked: {error}.", "Run the same command again.") from error
    # Links come last, so that no file is ever written through one.
    for where, target in links:
        files.link(target, folder / where)
    for needed in ("include", "lib"):
        if not (folder / needed).is_dir():
            raise ArtifactError(f"{archive.name} holds no {needed}/.", "Do not use this file.")
    files.link("lib", folder / "lib64")
