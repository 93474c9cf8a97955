"""Print what a person would look at after an update, as JSON; read without gpuhost."""

import json
import subprocess
from pathlib import Path


def said(*argv):
    """What a command says."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode("utf-8", "replace")


def text(name):
    """The text of a file; "" where it is not there."""
    try:
        return Path(name).read_text()
    except OSError:
        return ""


def main():
    """Look at kernel, driver, packages, records, and where an update that was undone is told."""
    running = text("/proc/sys/kernel/osrelease").strip()
    rows = said("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n").splitlines()
    driver = [row.split()[0] for row in rows if "nvidia" in row]
    found = {
        "running": running,
        "loaded": text("/proc/driver/nvidia/version"),
        "cards": said("sh", "-c", "ls /proc/driver/nvidia/gpus"),
        "module": said("modinfo", "-k", running, "-F", "version", "nvidia").strip(),
        "audit": said("dpkg", "--audit"),
        "verify": said("dpkg", "--verify", *driver),
        "packages": [row.split() for row in rows if "nvidia" in row or row.startswith("linux-")],
        "driver": text("/opt/gpuhost/state/driver.json"),
        "pair": text("/opt/gpuhost/state/pair.json"),
        "block": text("/etc/modprobe.d/00-gpuhost-trial.conf"),
        "journal": said("journalctl", "-u", "gpuhost-pair", "--no-pager", "-n", "60", "-o", "cat"),
        "motd": said("/etc/update-motd.d/95-gpuhost"),
        "watch": text("/opt/gpuhost/state/watch.json"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
