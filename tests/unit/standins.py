"""Small stand-ins for what NVIDIA delivers: a runfile with the real options and habits, a tarball, wheels."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterable, Tuple

# It takes the real command line and, as root's does, writes outside its prefix: a log, a link, a linker's file.
RUNFILE = r"""#!/bin/sh
top={top}; prefix=; tmp=; silent=
for word; do
    case $word in
        --installpath=* | --toolkitpath=*) prefix=${{word#*=}} ;;
        --tmpdir=*) tmp=${{word#*=}} ;;
        --silent) silent=1 ;;
    esac
done
[ -n "$silent" ] && [ -d "$tmp" ] && [ -n "$prefix" ] || {{ echo "usage: $*"; exit 2; }}
[ ! -e "$top/tmp/cuda-installer.log" ] || {{ echo "Segmentation fault"; exit 139; }}
echo log >"$top/tmp/cuda-installer.log"
echo log >"$top/var/log/cuda-installer.log"
ln -sfn "$prefix" "$top/usr/local/cuda"
echo "$prefix/lib64" >"$top/etc/ld.so.conf.d/cuda-99.conf"
echo unpacked >"$tmp/payload"
mkdir -p "$prefix/bin" "$prefix/lib64" "$prefix/include"
{record}
cat >"$prefix/bin/nvcc" <<'END'
#!/bin/sh
echo "Cuda compilation tools, release {series}, V{series}.0"
END
chmod 755 "$prefix/bin/nvcc"
echo lib >"$prefix/lib64/libcudart.so"
{last}
"""


def outer(folder: Path) -> Path:
    """The part of a machine that the installer writes to, with a user's own link in it."""
    for name in ("tmp", "var/log", "usr/local/cuda-7.5", "etc/ld.so.conf.d", "etc/profile.d"):
        (folder / name).mkdir(parents=True)
    (folder / "usr/local/cuda").symlink_to("cuda-7.5")
    (folder / "tmp/cuda-installer.log").write_text("of another user\n")
    return folder


def runfile(path: Path, top: Path, version: str = "11.8.0", last: str = "exit 0", said: str = "") -> Path:
    """Write the stand-in installer of a version, which ends with the command `last`."""
    series = ".".join(version.split(".")[:2])
    said = said or version
    record = f"""echo '{{"cuda": {{"name": "CUDA SDK", "version": "{said}"}}}}' >"$prefix/version.json\""""
    path.write_text(RUNFILE.format(top=top, series=series, record=record, last=last))
    return path


def header(version: str) -> bytes:
    """cuDNN's own record of its version."""
    parts = zip(("MAJOR", "MINOR", "PATCHLEVEL"), version.split("."))
    return "".join(f"#define CUDNN_{name} {value}\n" for name, value in parts).encode()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tarball(path: Path, members: Iterable[Tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write an archive, packed as its name says."""
    with tarfile.open(str(path), "w:xz" if path.suffix == ".xz" else "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def cudnn(path: Path, top: str, libraries: str, version: str = "8.6.0.163") -> Path:
    """A cuDNN as NVIDIA packs it: `cuda/lib64`, or `<name>/lib` from 8.3.1 on."""
    link = member(f"{top}/{libraries}/libcudnn.so", tarfile.SYMTYPE, "libcudnn.so.8")
    name = "cudnn_version.h" if version >= "8" else "cudnn.h"
    return tarball(
        path,
        [
            (member(f"{top}/{libraries}", tarfile.DIRTYPE), b""),
            (link, b""),
            (member(f"{top}/include/{name}"), header(version)),
            (member(f"{top}/{libraries}/libcudnn.so.8"), b"lib"),
            (member(f"{top}/LICENSE"), b"licence"),
        ],
    )


def wheel(folder: Path, name: str, version: str, files: Dict[str, bytes]) -> Dict[str, Any]:
    """Write a wheel of NVIDIA's form; its row in a lock."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(str(path), "w") as packed:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        tags = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        own = {
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": tags,
            f"{info}/License.txt": b"licence of " + name.encode(),
        }
        for inside, content in {**files, **own, f"{info}/RECORD": b""}.items():
            packed.writestr(inside, content)
    return {"name": name, "version": version, **row(path)}


def row(path: Path) -> Dict[str, Any]:
    """What a lock says of a file."""
    content = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
