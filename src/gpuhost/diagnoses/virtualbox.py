"""Diagnoses of VirtualBox, which stands beside the driver: its modules, their signature, and what is in their way."""

from typing import TYPE_CHECKING

from ..checks.base import on_host
from ..checks.virtualbox import PLAYBOOK, virtualbox
from ..host.virtualbox import judge
from ..types import present
from .base import Diagnosis, Sign

if TYPE_CHECKING:
    from ..shapes.seen import Seen


def only_one(seen: "Seen") -> str:
    """The command that removes the packagings that gpuhost has not brought, and then puts its own in order."""
    found = virtualbox(seen)
    ours = set(present(found["record"])["packages"])
    names = [way.split(" ")[0] for way in found["packagings"] if way.startswith("virtualbox")]
    others = [name for name in names if name not in ours]
    if others:
        return on_host(f"apt-get purge {' '.join(others)}", PLAYBOOK)
    return on_host("/opt/VirtualBox/uninstall.sh", PLAYBOOK)


def is_twice(seen: "Seen") -> bool:
    """Return whether VirtualBox is there in more than one packaging."""
    found = virtualbox(seen)
    return bool(found) and bool(judge.together(found))


TABLE = (
    Diagnosis(
        "D56",
        "VirtualBox is installed twice",
        "The distribution's packages and Oracle's own are installed side by side, and overwrite each other's program "
        "and modules.",
        "Shut down all virtual machines, remove the unwanted one and reinstall the other; virtual machines are kept.",
        signs=(Sign("virtualbox.one", is_twice, only_one),),
        elsewhere=("playbooks/virtualbox.yml",),
        messages=(
            "Make sure that you are not mixing builds of VirtualBox from different sources",
            "trying to overwrite '/usr/bin/VBoxManage'",
        ),
    ),
    Diagnosis(
        "D52",
        "VirtualBox has no modules for this kernel",
        "A newer kernel came in, and DKMS has built nothing for it: its headers are missing, or this VirtualBox does "
        "not compile against it.",
        "Install the headers and let DKMS build; or take a VirtualBox that compiles against that kernel.",
        signs=(Sign("virtualbox.modules"),),
        elsewhere=("playbooks/virtualbox.yml", "the plan", "playbooks/update.yml"),
        messages=(
            "The vboxdrv kernel module is not loaded",
            "Kernel driver not installed (rc=-1908)",
            "VERR_VM_DRIVER_NOT_INSTALLED",
            "Module vboxdrv not found",
        ),
    ),
    Diagnosis(
        "D53",
        "Secure Boot refuses VirtualBox's modules",
        "Secure Boot is on, and they are not signed, or not by a key that the firmware knows.",
        "Sign them with the machine's own key, which playbooks/virtualbox.yml does; enrol it. Secure Boot stays on.",
        signs=(Sign("virtualbox.signed"),),
        elsewhere=("playbooks/virtualbox.yml",),
        messages=(
            "could not insert 'vboxdrv': Key was rejected by service",
            "could not insert 'vboxdrv': Required key not available",
            "modprobe vboxdrv failed",
            "You must sign these kernel modules before using VirtualBox",
        ),
    ),
    Diagnosis(
        "D54",
        "VirtualBox's modules and program are of two releases",
        "One of them was replaced by an update or by another packaging, or the older module is still loaded.",
        "Reboot if only the loaded module is older; otherwise reinstall the locked release.",
        signs=(Sign("virtualbox.release"), Sign("virtualbox.one")),
        elsewhere=("playbooks/virtualbox.yml",),
        messages=(
            "VERR_VM_DRIVER_VERSION_MISMATCH",
            "The VirtualBox kernel modules do not match this version of VirtualBox",
            "rc=-1912",
        ),
    ),
    Diagnosis(
        "D55",
        "KVM has taken the CPU's virtualisation",
        "From kernel 6.12 on KVM takes the CPU's virtualisation when it is loaded, and only one program can have it.",
        "Unload kvm_intel or kvm_amd while VirtualBox is used, or start the kernel with kvm.enable_virt_at_load=0.",
        signs=(Sign("virtualbox.processor"),),
        messages=(
            "VERR_VMX_IN_VMX_ROOT_MODE",
            "VERR_SVM_IN_USE",
            "VT-x is being used by another hypervisor",
            "VirtualBox can't operate in VMX root mode",
            "VirtualBox can't enable the AMD-V extension",
        ),
    ),
)
