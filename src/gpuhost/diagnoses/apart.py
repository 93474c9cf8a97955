"""What tells a diagnosis apart from others that print the same message, and which of them is the likeliest.

A message such as "no CUDA-capable device is detected" has many causes. They are listed in this order: first the causes
that any machine can have, then those that need something special, which is named; within each by the number of public
reports that the diagnosis was written from, and last by the id. A count of 0 means that none was counted.
"""

from typing import Dict, Iterable, List, NamedTuple, Tuple

from .base import Diagnosis

RULE = (
    "If a message has several causes, those that any machine can have come first, then those that need something "
    "special, which is named. Within each group the causes with the most public reports come first."
)
SECURE_BOOT, IN_CONTAINER = "with Secure Boot on", "in a container"


class Apart(NamedTuple):
    """How many public reports a diagnosis was written from, what a machine must have to show it ("" for nothing), and
    what a person can look at to tell it from others ("" where the message says it all), with commands in backquotes.
    """

    reports: int
    only: str
    look: str


BY_ID: Dict[str, Apart] = {
    "D01": Apart(5, "", "`cat /proc/driver/nvidia/version` names another version than `ls /usr/lib/*/libcuda.so.*`."),
    "D02": Apart(5, "", "`apt-mark showhold` lists fewer packages than `dpkg -l '*nvidia*' | grep ^ii`."),
    "D03": Apart(2, "", "`unattended-upgrade --dry-run --debug` ends at a package on hold."),
    "D04": Apart(5, "", "`dpkg -l 'nvidia-driver-*' | grep ^ii` names another branch than before, or two."),
    "D05": Apart(3, "", "`apt-cache madison PACKAGE` does not list the version."),
    "D06": Apart(6, "", "`apt-cache policy` lists a release or a site that is not this system's."),
    "D07": Apart(3, "", "`apt-get update` says NO_PUBKEY for a repository of NVIDIA's."),
    "D08": Apart(7, "", "`modinfo -k $(uname -r) nvidia` finds no module."),
    "D09": Apart(2, "", "`ls /run/reboot-required` finds the file, or `uname -r` is older than the newest in /boot."),
    "D10": Apart(5, "", "`lsmod | grep ^nouveau` lists it, and `lsmod | grep ^nvidia` lists nothing."),
    "D11": Apart(6, SECURE_BOOT, "`mokutil --sb-state` says enabled, and `modprobe nvidia` is refused for its key."),
    "D12": Apart(4, SECURE_BOOT, "`mokutil --list-new` lists a pending key, or the module's key is not enrolled."),
    "D13": Apart(4, "", "`dmesg | grep NVRM` says that this driver ignores or does not support the card."),
    "D14": Apart(3, "", "`nvidia-smi` works, and `ls /dev/nvidia-uvm` finds nothing."),
    "D15": Apart(3, "", "The CUDA version at the top of `nvidia-smi` is lower than that of the toolkit."),
    "D16": Apart(2, "", "`dmesg | grep -E 'NVRM|Xid'` has lines such as RmInitAdapter failed or Xid 79."),
    "D17": Apart(5, "", "`nvidia-smi --query-gpu=compute_cap --format=csv` is not what the library was built for."),
    "D18": Apart(3, "", "`python3 -c 'import cv2; print(cv2.getBuildInformation())'` says NO for CUDA or cuDNN."),
    "D19": Apart(4, "with OpenCV 4.2", ""),
    "D20": Apart(6, "", "`grep CUDNN CMakeCache.txt` in the build's folder shows what CMake found."),
    "D21": Apart(4, "", "`grep NOTFOUND CMakeCache.txt` in the build's folder names the part."),
    "D22": Apart(2, "", "`g++ --version` is newer than the message allows."),
    "D23": Apart(4, "", "`dmesg | grep -i 'out of memory'` names cc1plus or cicc."),
    "D24": Apart(3, "", "CMakeDownloadLog.txt in the build's folder names the file."),
    "D25": Apart(5, "", ""),
    "D26": Apart(3, "", "`nvcc --list-gpu-arch` does not list the card's architecture."),
    "D27": Apart(2, "", "The same program works in single precision."),
    "D28": Apart(4, "", "The second run of the same program is fast."),
    "D29": Apart(3, "", "`python3 -c 'import cv2; print(cv2.__file__)'` is not in the build's environment."),
    "D30": Apart(6, "", "`ldconfig -p` does not list the library under the name that the message has."),
    "D31": Apart(2, "", "`ldconfig -p | grep libcudnn` lists another copy first."),
    "D32": Apart(2, "", "`nvidia-smi` shows the memory in use, and by which process."),
    "D33": Apart(3, "", "`nvidia-smi --query-gpu=compute_cap --format=csv` is below what the message wants."),
    "D34": Apart(3, "", "`pip --version` is below 19, or the release has no wheel for this `python3 --version`."),
    "D35": Apart(2, "", "`ps aux | grep -E 'apt|dpkg|unattended'` shows which process it is."),
    "D36": Apart(1, "", ""),
    "D37": Apart(0, "", "`modinfo nvidia` and `command -v nvidia-smi` find nothing."),
    "D38": Apart(0, "", "`grep -l 0x10de /sys/bus/pci/devices/*/vendor` finds nothing."),
    "D39": Apart(0, IN_CONTAINER, "`ls /dev/nvidia*` finds nothing in the container, but finds nodes on its machine."),
    "D40": Apart(
        0,
        "",
        "`ldconfig -p | grep libcuda.so.1` finds nothing, or `dpkg --verify` of the driver's packages lists a file.",
    ),
    "D41": Apart(0, "", "`printenv CUDA_VISIBLE_DEVICES` prints something, or an empty line."),
    "D42": Apart(0, "", "`python3 -c 'import torch; print(torch.version.cuda)'` prints None."),
    "D43": Apart(0, "", "The same command works as root; `ls -l /dev/nvidia*` shows who has access."),
    "D44": Apart(0, "", "`grep -rw nvidia /etc/modprobe.d /proc/cmdline` finds blacklist, off or false."),
    "D45": Apart(0, "with NVSwitches", "`systemctl status nvidia-fabricmanager` is not active."),
    "D46": Apart(0, "", "`nvidia-smi` says that the GPU requires a reset."),
    "D47": Apart(0, "on a card with MIG", "MIG is enabled, and `nvidia-smi mig -lgi` lists no instance."),
    "D48": Apart(0, "", "`ldconfig -p | grep libcuda.so.1` or `printenv LD_LIBRARY_PATH` names a folder `compat`."),
    "D49": Apart(0, IN_CONTAINER, "`grep -h libcuda.so /etc/cdi/*` names another version than the driver has."),
    "D50": Apart(0, "", "`uname -r` is older than the newest in /boot, and a reboot does not change that."),
    "D51": Apart(0, "", "`printenv LD_LIBRARY_PATH` or `ldconfig -p | grep libcudnn` leads to another toolkit first."),
    "D52": Apart(0, "", "`modinfo -k $(uname -r) vboxdrv` finds no module."),
    "D53": Apart(0, SECURE_BOOT, "`mokutil --sb-state` says enabled, and `modprobe vboxdrv` is refused for its key."),
    "D54": Apart(0, "", "`cat /sys/module/vboxdrv/version` and `VBoxManage --version` name two releases."),
    "D55": Apart(0, "", "`lsmod | grep ^kvm_` lists kvm_intel or kvm_amd."),
    "D56": Apart(0, "", "`dpkg -l 'virtualbox*' | grep ^ii` and `ls /opt/VirtualBox` both find something."),
}


def rank(one: Diagnosis) -> Tuple[bool, int, str]:
    """Return the place of a diagnosis among those of one message, as a key to sort by."""
    told = BY_ID[one.id]
    return (told.only != "", -told.reports, one.id)


def likeliest_first(found: Iterable[Diagnosis]) -> List[Diagnosis]:
    """Return diagnoses of one message in the order of `RULE`."""
    return sorted(found, key=rank)
