"""Count the calls that change a file or start a program that does, and stop for good at the one in /root/cut-at.

What is written below a folder for temporary files is not counted: no step is different after it. Python 3.6.
"""

import contextlib
import os
import subprocess
import time

PROGRAMS = ("grub-editenv", "update-grub", "systemctl", "modprobe", "apt-get", "dpkg")
TEMPORARY = ("/tmp/", "/opt/gpuhost/tmp")  # noqa: S108 - not written to
NAMES = ("rename", "replace", "unlink", "fsync", "link", "mkdir", "rmdir", "symlink")
plain = os.open
count = 0
on = False


@contextlib.contextmanager
def counted(wanted):
    """Count in this block, where that is wanted."""
    global on
    if wanted:
        begin()
    yield
    on = False


def begin():
    """Have the calls go through here from now on."""
    global on
    on = True
    with open("/root/cut-at") as handle:  # noqa: PTH123 - pathlib may go through os.open
        at = int(handle.read())
    for name in NAMES:
        setattr(os, name, wrapped(at, name, getattr(os, name), lambda args: True))
    os.open = wrapped(at, "open", plain, lambda args: len(args) > 1 and args[1] & (os.O_CREAT | os.O_TRUNC))
    start = subprocess.Popen.__init__
    subprocess.Popen.__init__ = wrapped(at, "start", start, lambda args: args[1][0] in PROGRAMS)


def wrapped(at, name, real, counts):
    """Return a call that is counted, and that the `at`th time is the last one."""

    def call(*args, **more):
        """Count, and do it or stop."""
        global count
        if on and counts(args) and not is_temporary(args, more):
            count += 1
            with open("/root/cut-count", "w") as handle:  # noqa: PTH123 - as above
                handle.write("{} {} {}".format(count, name, repr(args[1:] if name == "start" else args)[:120]))
            if count == at:
                os.close(plain("/root/cut-here", os.O_WRONLY | os.O_CREAT))
                while True:
                    time.sleep(60)
        return real(*args, **more)

    return call


def is_temporary(args, more):
    """Return whether a call is about what lies in a folder for temporary files."""
    folders = [more[name] for name in ("dir_fd", "src_dir_fd") if more.get(name) is not None]
    place = (folders or args)[0]
    if isinstance(place, int):
        place = os.readlink(f"/proc/self/fd/{place}")
    return isinstance(place, (str, os.PathLike)) and os.fspath(place).startswith(TEMPORARY)
