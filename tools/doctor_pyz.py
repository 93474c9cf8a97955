"""Write gpuhost-doctor.pyz: the doctor as one file that any Python from 3.6 on runs, with nothing else of gpuhost.

python tools/doctor_pyz.py [FILE]   default: dist/gpuhost-doctor.pyz

The same sources give the same bytes: no time, no owner and no order of a file system goes in.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path
from typing import Dict

from gpuhost.shipping import bundle

SHEBANG = b"#!/usr/bin/env python3\n"
DATA = "data/platforms.json"
_MAIN = """\
import sys
if sys.version_info < (3, 6):
    sys.exit("gpuhost-doctor needs Python 3.6 or newer, and this is %d.%d." % sys.version_info[:2])
sys.dont_write_bytecode = True
from gpuhost.doctor.run import main
sys.exit(main())
"""
#: The first time that a zip file can hold.
_THEN = (1980, 1, 1, 0, 0, 0)


def files() -> Dict[str, str]:
    """Return what goes in, as text by path."""
    data = (bundle.PACKAGE / DATA).read_text(encoding="utf-8")
    return {"__main__.py": _MAIN, f"gpuhost/{DATA}": data, **bundle.files("doctor.run", "host.probe.frameworks")}


def built() -> bytes:
    """Return the bytes of the program."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in sorted(files().items()):
            member = zipfile.ZipInfo(name, _THEN)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, text.encode("utf-8"), compresslevel=9)
    return SHEBANG + buffer.getvalue()


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("dist/gpuhost-doctor.pyz"))
    target = parser.parse_args().file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(built())
    target.chmod(0o755)
    print(f"written: {target} ({target.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
