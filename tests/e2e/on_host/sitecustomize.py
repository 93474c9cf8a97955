"""Have the program that judges an update counted (cutting.py), where /root/cut-boot says so."""

import contextlib
import sys
from pathlib import Path

with contextlib.suppress(OSError):
    if "gpuhost-pair.py" in Path("/proc/self/cmdline").read_text() and Path("/root/cut-boot").exists():
        sys.path.insert(0, "/root")
        import cutting

        cutting.begin()
