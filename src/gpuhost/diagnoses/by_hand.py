"""What to type against a diagnosis on a host that gpuhost has not provisioned: commands of its own distribution.

One function for each diagnosis, from what was collected to a remedy in the form of `checks.base.on_host`, or "" where
no command is known for this distribution. None takes a source or a package away without naming it.
"""

import posixpath
import re
import shlex
from typing import TYPE_CHECKING, List

from ..checks.base import on_host
from ..checks.card import LEGACY, OTHER_FLAVOUR, kernel_says, signs, without_instances
from ..checks.cuda import answer, stale_specifications
from ..checks.driver import driver, pinned_by
from ..checks.found import APT, CONTAINER, DNF, PACMAN, ZYPPER, is_as_found, place
from ..checks.host import observation
from ..checks.python import environment
from ..checks.sources import VENDORS, literal, site_of, unread
from ..host.driver.offer import ADDED, COMPONENTS, UPDATE, component_lines
from ..host.parse.kernels import headers_package, of_the_archive
from ..host.probe.boot import DEFAULT, GRUB_SETTINGS, LOADER_SETTINGS, ONE_SHOT, variable_path
from ..host.probe.driver import COMMAND_LINE, is_driver
from ..versions import release

if TYPE_CHECKING:
    from ..shapes.seen import Seen

#: Arch's own packages have had open modules only since driver 590.
ARCHS_CLOSED = "closed modules: nvidia-580xx-dkms of the AUR"
KEYRING = "cuda-keyring_1.1-1_all.deb"
INITRAMFS = {
    APT: "update-initramfs -u -k all",
    DNF: "dracut --force --regenerate-all",
    PACMAN: "mkinitcpio -P",
    ZYPPER: "dracut --force --regenerate-all",
}


def family(seen: "Seen") -> str:
    """The program that installs packages there; "" where it is not known. A host with a lock has apt."""
    return str(seen["as_found"]["family"] or "") if is_as_found(seen) else APT


def installed(seen: "Seen", pattern: str) -> List[str]:
    """The names of installed packages that match, sorted; dpkg's only."""
    packages = observation(seen)["packages"]
    return [name for name in sorted(packages) if packages[name]["state"] == "installed" and re.match(pattern, name)]


#: What is named after the branch, the surest first: nvidia-utils serves both kinds of module and does not say which.
_NAMED_AFTER_BRANCH = (
    r"nvidia-driver-(\d{3}(?:-server)?(?:-open)?)$",
    r"nvidia-(?:headless|headless-no-dkms|kernel-source|dkms)-(\d{3}(?:-server)?(?:-open)?)$",
    r"nvidia-utils-(\d{3}(?:-server)?)$",
)


def branch(seen: "Seen") -> str:
    """The driver's branch as packages are named after it, as in nvidia-driver-535-server; "" where none says it.

    What an upgrade to the next branch leaves has the old branch in its name and the new one in its version.
    """
    packages = observation(seen)["packages"]
    for pattern in _NAMED_AFTER_BRANCH:
        for name in installed(seen, pattern):
            found = re.match(pattern, name)
            if found and re.match(rf"(\d+:)?{found.group(1)[:3]}\.", packages[name]["version"]):
                return found.group(1)
    return ""


def boots(seen: "Seen") -> str:
    """The kernel that will boot."""
    return str(driver(seen)["kernel"] or observation(seen)["kernel"]["running"])


def kernel(seen: "Seen") -> str:
    """The same as a word of a shell."""
    return shlex.quote(boots(seen))


def is_dkms(seen: "Seen") -> bool:
    """Return whether DKMS builds the module there."""
    return bool(driver(seen)["dkms"] or installed(seen, r"nvidia-(kernel-)?(open-)?dkms"))


def reboot(seen: "Seen") -> str:
    """D01, D09: what takes effect with the next start."""
    running, coming = observation(seen)["kernel"]["running"], driver(seen)["kernel"]
    if observation(seen)["nvidia"]["module_loaded"] or observation(seen)["reboot_required"] or running != coming:
        return on_host("reboot")
    return on_host("modprobe nvidia || dmesg | tail -n 20")


def libraries(seen: "Seen") -> str:
    """D01: a reboot, after the module of the library's version was built where it is not on the disk yet."""
    module, library = driver(seen)["module"], driver(seen)["library"]
    if module is None or library is None or module["version"] == library:
        return on_host("reboot")
    built = module_again(seen)
    return built if built else on_host("reboot")


def module_again(seen: "Seen") -> str:
    """D08: build or install the module for the kernel that will boot, then boot it."""
    release, of = kernel(seen), family(seen)
    if of == APT:
        headers = shlex.quote(headers_package(boots(seen)))
        if is_dkms(seen):
            return on_host(f"apt-get install {headers} && dkms autoinstall -k {release} && reboot")
        packaged = installed(seen, r"linux-modules-nvidia-")
        if packaged and branch(seen):
            return on_host(f"apt-get install linux-modules-nvidia-{branch(seen)}-{release} && reboot")
        drivers = " ".join(map(shlex.quote, installed(seen, r"nvidia-driver")))
        if drivers:
            return on_host(f"apt-get install --reinstall {drivers} {headers}")
        return on_host(f"apt-get install {headers} dkms  # then NVIDIA's installer again, with --dkms")
    if of == DNF:
        return on_host(
            f"dnf install kernel-devel-{release} && (akmods --force --kernels {release}"
            f" || dkms autoinstall -k {release}) && reboot"
        )
    if of == PACMAN and is_dkms(seen):
        return on_host(f"pacman -S --needed {arch_headers(boots(seen))} && dkms autoinstall -k {release} && reboot")
    if of == PACMAN:
        return on_host("pacman -Syu && reboot # kernel and module come together")
    if of == ZYPPER and is_dkms(seen):
        return on_host(f"zypper install kernel-default-devel && dkms autoinstall -k {release} && reboot")
    if of == ZYPPER:
        again = f"install the one with -kmp- again (zypper install --force), so that it is built for {release}"
        return on_host(f"zypper search --installed-only nvidia # {again}")
    return ""


def arch_headers(kernel: str) -> str:
    """Arch's package of a kernel's headers, by the flavour that ends its release."""
    found = re.search(r"-(lts|zen|hardened|rt|rt-lts)$", kernel)
    return f"linux-{found.group(1)}-headers" if found else "linux-headers"


def unpinned(seen: "Seen") -> str:
    """D50: the boot loader's newest entry, by what names another one."""
    of, named = family(seen), pinned_by(seen)
    for variable, command in ((DEFAULT, "set-default"), (ONE_SHOT, "set-oneshot")):
        if named == variable_path(variable):
            return on_host(f"bootctl {command} '' && reboot")
    if named.endswith(LOADER_SETTINGS):
        return on_host(f"sed -E -i --follow-symlinks 's/^default\\s/# &/' {shlex.quote(named)} && reboot")
    if named.endswith("/grubenv"):
        return on_host(f"{'grub-editenv' if of in (APT, PACMAN) else 'grub2-editenv'} - unset saved_entry && reboot")
    file = shlex.quote(named if named.startswith(GRUB_SETTINGS) else GRUB_SETTINGS)
    change = "'s/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/'"
    return on_host(f"sed -i --follow-symlinks {change} {file} && {new_menu(of)} && reboot")


def new_menu(of: str) -> str:
    """What regenerates GRUB's menu from its settings."""
    made = {APT: "update-grub", PACMAN: "grub-mkconfig -o /boot/grub/grub.cfg"}
    return made.get(of, "grub2-mkconfig -o /boot/grub2/grub.cfg")


def without_nouveau(seen: "Seen") -> str:
    """D10: blacklist nouveau, make the initramfs again, boot."""
    renew = INITRAMFS.get(family(seen))
    if renew is None:
        return ""
    lines = "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' > /etc/modprobe.d/blacklist-nouveau.conf"
    return on_host(f"{renew} && reboot" if driver(seen)["nouveau"]["blacklisted"] else f"{lines} && {renew} && reboot")


def signed(seen: "Seen") -> str:
    """D11: modules that the distribution has signed, or the machine's own key, enrolled at the next start."""
    of = family(seen)
    if of == APT:
        if observation(seen)["platform"]["distribution"] == "ubuntu" and not is_dkms(seen) and branch(seen):
            return on_host(f"apt-get install linux-modules-nvidia-{branch(seen)}-{kernel(seen)} && reboot")
        if observation(seen)["platform"]["distribution"] == "ubuntu":
            return on_host(
                "{ test -e /var/lib/shim-signed/mok/MOK.der || update-secureboot-policy --new-key; } && "
                "update-secureboot-policy --enroll-key && "
                f"dkms autoinstall -k {kernel(seen)} && reboot  # on the blue screen: Enroll MOK"
            )
    if of == DNF:
        return on_host(
            "{ test -e /etc/pki/akmods/certs/public_key.der || kmodgenca -a; } && "
            "mokutil --import /etc/pki/akmods/certs/public_key.der && "
            f"akmods --force --kernels {kernel(seen)} && reboot  # on the blue screen: Enroll MOK"
        )
    if of == ZYPPER and not is_dkms(seen):
        return on_host("ls -t /usr/share/nvidia-pubkeys # mokutil --import the first of these, reboot, Enroll MOK")
    return on_host("mokutil --import /var/lib/dkms/mok.pub && reboot  # on the blue screen: Enroll MOK")


def new_keyring(seen: "Seen") -> str:
    """D07: NVIDIA's own package of its key, from each of its repositories that cannot be read."""
    uris = [uri for source in unread(observation(seen)) for uri in source["uris"] if site_of(uri) in VENDORS]
    if not uris or not uris[0].startswith("https://") or "@" in uris[0]:
        return on_host("apt-get update  # then the key that it misses")
    at = shlex.quote(f"{uris[0].rstrip('/')}/{KEYRING}")
    return on_host(f"curl -fsSLO {at} && dpkg -i {KEYRING} && apt-get update")


def install(seen: "Seen") -> str:
    """D15, D37: the distribution's own driver, in the newest version that it has."""
    of, distribution = family(seen), observation(seen)["platform"]["distribution"]
    if of == APT and distribution in ("ubuntu", "linuxmint", "pop"):
        return on_host(f"{UPDATE} && apt-get install ubuntu-drivers-common && ubuntu-drivers autoinstall && reboot")
    if of == APT:
        packages = f"{kernel_packages(seen)} nvidia-driver firmware-misc-nonfree"
        return on_host(f"{non_free(seen)}{UPDATE} && apt-get install {packages} && reboot")
    if of == DNF:
        return on_host("dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda && reboot  # of RPM Fusion nonfree")
    if of == PACMAN:
        packages = f"nvidia-open-dkms nvidia-utils {arch_headers(boots(seen))}"
        return on_host(f"pacman -S {packages} && reboot # for cards from Turing on; {ARCHS_CLOSED}")
    if of == ZYPPER:
        return on_host("zypper install openSUSE-repos-NVIDIA && zypper install-new-recommends && reboot")
    return ""


def kernel_packages(seen: "Seen") -> str:
    """Debian's packages of the newest kernel and of its headers, which come together; else the headers of the kernel
    that boots: DKMS builds for no kernel without them.
    """
    flavour = re.search(r"-((?:cloud-|rt-)?(?:amd64|arm64))$", boots(seen))
    if flavour is None or not of_the_archive(boots(seen), "debian"):
        return shlex.quote(headers_package(boots(seen)))
    return f"linux-image-{flavour.group(1)} linux-headers-{flavour.group(1)}"


def non_free(seen: "Seen") -> str:
    """What names the components that Debian's driver is in, where no source of a host does; "" where one does."""
    sources = [s for s in observation(seen)["apt"]["sources"] if s["enabled"] and "deb" in s["types"]]
    if any("non-free" in source["components"] for source in sources):
        return ""
    lines = component_lines(sources, COMPONENTS["non-free"], ["debian.org"])
    return f"printf '%s\\n' {' '.join(map(shlex.quote, lines))} > {ADDED} && " if lines else ""


def legacy(seen: "Seen") -> str:
    """D13: the other flavour of the modules where the kernel's lines ask for it, or the branch that they name; else
    what the distribution finds for the card.
    """
    if kernel_says(seen, OTHER_FLAVOUR):
        return other_flavour(seen)
    found = re.search(r"NVIDIA (\d{3})\.xx", kernel_says(seen, LEGACY) or "")
    if found and family(seen) == APT:
        ubuntu = observation(seen)["platform"]["distribution"] != "debian"
        name = f"nvidia-driver-{found.group(1)}" if ubuntu else f"nvidia-tesla-{found.group(1)}-driver"
        return on_host(f"apt-get install {name} && reboot")
    return install(seen)


def other_flavour(seen: "Seen") -> str:
    """D13: open modules in place of closed ones, or closed ones in place of open ones."""
    module = driver(seen)["module"]
    closed = module is not None and module["open"]
    of, named = family(seen), branch(seen).replace("-open", "")
    if of == APT and named:
        return on_host(f"apt-get install nvidia-driver-{named}{'' if closed else '-open'} && reboot")
    # Closed ones first, open ones second.
    commands = {
        APT: ("apt-get install nvidia-kernel-dkms && reboot", "apt-get install nvidia-open-kernel-dkms && reboot"),
        DNF: (
            "rm /etc/rpm/macros.nvidia-kmod && akmods --force --rebuild && reboot",
            "echo '%_with_kmod_nvidia_open 1' > /etc/rpm/macros.nvidia-kmod && akmods --force --rebuild && reboot",
        ),
        PACMAN: (f"pacman -Qs nvidia # {ARCHS_CLOSED}", "pacman -S nvidia-open-dkms && reboot"),
        ZYPPER: (
            "zypper install nvidia-driver-G06-kmp-default && reboot",
            "zypper install nvidia-open-driver-G06-signed-kmp-default && reboot",
        ),
    }
    return on_host(commands[of][0 if closed else 1]) if of in commands else ""


def library(seen: "Seen") -> str:
    """D40: the package that holds libcuda."""
    of = family(seen)
    if place(seen) == CONTAINER:
        return into_container(seen)
    if of == APT:
        # Debian has another package for each series that is not its newest: libnvidia-tesla-470-cuda1.
        series = [name[: -len("ml1")] for name in installed(seen, r"libnvidia-(tesla-\d+-|legacy-\d+xx-)?ml1$")]
        own = series[0] + "cuda1" if series and series[0] != "libnvidia-" else "libcuda1"
        name = f"libnvidia-compute-{branch(seen).replace('-open', '')}" if branch(seen) else own
        # apt takes a package that is installed for complete, whatever became of its files.
        again = "--reinstall " if installed(seen, f"{re.escape(name)}$") else ""
        return on_host(f"apt-get install {again}{name} && ldconfig")
    packages = {
        DNF: "dnf install xorg-x11-drv-nvidia-cuda",
        PACMAN: "pacman -S nvidia-utils",
        ZYPPER: "zypper install nvidia-compute-G06",
    }
    return on_host(packages[of]) if of in packages else on_host("ldconfig && ldconfig -p | grep libcuda")


def into_container(seen: "Seen") -> str:
    """D39: a container that is given the cards."""
    return on_host(
        "docker run --rm --gpus all IMAGE nvidia-smi"
        " # on the machine that runs the container, with nvidia-container-toolkit; podman: --device nvidia.com/gpu=all"
    )


def specification(seen: "Seen") -> str:
    """D49: the CDI specification again, in the files that are stale here; from a container, on its machine."""
    if place(seen) == CONTAINER:
        where = "on the machine that runs the container; then restart the container"
        return on_host(f"nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml # {where}")
    files = stale_specifications(seen)
    return on_host(" && ".join(f"nvidia-ctk cdi generate --output={shlex.quote(name)}" for name in files))


#: The series of CUDA that PyTorch's own index has builds for.
TORCH_SERIES = ("11.8", "12.1", "12.4", "12.6", "12.8")


def framework(seen: "Seen") -> str:
    """D30, D42: the build with CUDA of what the environment has without it."""
    python, pip = shlex.quote(str(environment(seen)["path"])), "-m pip install --upgrade --force-reinstall"
    cuda = seen.get("cuda")
    served = (cuda["version"] if cuda is not None else None) or "0.0"
    series = [text for text in TORCH_SERIES if release(text) <= release(served)]
    found = environment(seen)["frameworks"]
    if "torch" in found and found["torch"].get("cuda") is None and series:
        index = f"https://download.pytorch.org/whl/cu{series[-1].replace('.', '')}"
        return on_host(f"{python} {pip} torch --index-url {index}")
    if "tensorflow" in found:
        return on_host(f"{python} {pip} 'tensorflow[and-cuda]'")
    return ""


#: A module of the driver as modprobe.d(5) names it, and the lines there that keep one out, for sed.
_MODULE = r"nvidia([-_]\S+)?"
_OUT = rf"^\s*(blacklist\s+{_MODULE}|alias\s+{_MODULE}\s+off|install\s+{_MODULE}\s+\S*/(true|false))\s*(#.*)?$"


#: The same in a list of GRUB's settings for the kernel's command line. A name goes with the comma behind it, and the
#: last one without: an empty list keeps nothing out.
_OUT_AT_BOOT = (
    r"/^GRUB_CMDLINE_LINUX/{:a;"
    r"s/(mod(ule_|probe\.)blacklist=([^ ]*,)?)nvidia([-_][a-z]+)?(,|([^a-z0-9_,-]|$))/\1\6/;ta;}"
)


def let_in(seen: "Seen") -> str:
    """D44: the switch that wrote the file, where it is Ubuntu's; else the lines become comments in the named files, and
    the words go from where the kernel's command line is set.
    """
    rows = driver(seen)["kept_out"]
    files = sorted({row["file"] for row in rows if row["file"].endswith(".conf")})
    at_boot = sorted({row["line"] for row in rows if row["file"] == COMMAND_LINE})
    steps = []
    if files and installed(seen, "nvidia-prime$") and all(name.endswith("/blacklist-nvidia.conf") for name in files):
        steps.append("prime-select nvidia")
    elif files:
        steps.append(f"sed -E -i --follow-symlinks 's,{_OUT},# &,' {' '.join(map(shlex.quote, files))}")
    if not at_boot:
        return on_host(" && ".join([*steps, "{ modprobe nvidia || reboot; }"]))
    settings = sorted({row["file"] for row in rows if row["file"].startswith(GRUB_SETTINGS)})
    if family(seen) == DNF:
        steps += [without_word(word) for word in at_boot]
    elif settings:
        change = shlex.quote(_OUT_AT_BOOT)
        steps.append(f"sed -E -i --follow-symlinks {change} {' '.join(map(shlex.quote, settings))}")
        steps.append(new_menu(family(seen)))
    else:
        words = " ".join(f"-e {shlex.quote(word)}" for word in at_boot)
        steps.append(f"grep -rF {words} /boot/loader /boot/grub /etc/kernel")
        return on_host(" && ".join(steps) + " # take the driver's names out where that is set, then reboot")
    return on_host(" && ".join([*steps, "reboot"]))


def without_word(word: str) -> str:
    """What takes the driver's names out of one word of the command line, in all of Fedora's boot entries."""
    name, _, modules = word.partition("=")
    others = ",".join(module for module in modules.split(",") if module and not is_driver(module))
    more = f" --args={shlex.quote(f'{name}={others}')}" if others else ""
    return f"grubby --update-kernel=ALL --remove-args={shlex.quote(word)}{more}"


def open_nodes(seen: "Seen") -> str:
    """D43: the group of the nodes where it may use them, else nodes for everybody."""
    closed = signs(seen)["closed"]
    groups = sorted({found["group"] for found in closed.values()})
    if not closed:
        return on_host(
            "ls -l /dev/nvidia* && grep -rE 'NVreg_DeviceFile(Mode|GID|UID)' /etc/modprobe.d /lib/modprobe.d"
        )
    if groups != ["root"] and all(found["mode"][4:6] == "rw" for found in closed.values()):
        names = shlex.quote(",".join(group for group in groups if group != "root"))
        return on_host(f'usermod -aG {names} "${{SUDO_USER:-$(logname)}}" # then log in again')
    nodes = " ".join(shlex.quote(f"/dev/{name}") for name in sorted(closed))
    return on_host(f"chmod 0666 {nodes} # and at each start: NVreg_DeviceFileMode=0666 in /etc/modprobe.d")


def fabric_manager(seen: "Seen") -> str:
    """D45: the service in the driver's very version, on the machine that has the switches."""
    version = str(observation(seen)["nvidia"]["module_version"] or driver(seen)["library"] or "")
    packages = {
        APT: f"apt-get install {shlex.quote('nvidia-fabricmanager-{}={}*'.format(version.partition('.')[0], version))}",
        DNF: f"dnf install {shlex.quote(f'nvidia-fabric-manager-{version}')}",
        ZYPPER: f"zypper install {shlex.quote('cuda-drivers-fabricmanager-' + version.partition('.')[0])}",
    }
    if family(seen) not in packages or not version:
        return on_host("systemctl enable --now nvidia-fabricmanager")
    here = any(one["kind"] == "nvswitch" for one in observation(seen)["other_functions"])
    where = "" if here else " # on the machine that has the NVSwitches; none is shown here"
    return on_host(f"{packages[family(seen)]} && systemctl enable --now nvidia-fabricmanager{where}")


def reset(seen: "Seen") -> str:
    """D46: a reset of the cards that cannot be read."""
    addresses = sorted(card["pci_address"] for card in observation(seen)["gpus"] if not card["readable"])
    which = f" -i {shlex.quote(','.join(addresses))}" if addresses else ""
    return on_host(f"nvidia-smi --gpu-reset{which} # no program may use the card; where it is refused: reboot")


def without_compat(seen: "Seen") -> str:
    """D48: the variable without the folder, where it has it; else the packages out, or the linker's lines for it.

    The folder is named as the linker is configured: the file's own path does not show the link /usr/local/cuda.
    """
    folder = posixpath.dirname(str(answer(seen).get("found_as") or answer(seen)["library"]))
    path = str(answer(seen)["variables"].get("LD_LIBRARY_PATH", ""))
    if folder in [part.rstrip("/") for part in path.split(":")]:
        # What was collected of the variable may be cut, so that the shell takes the folder out of its own.
        others = f"tr : '\\n' | grep -v {shlex.quote(f'^{literal(folder)}/*$')} | paste -sd: -"
        change = f'export LD_LIBRARY_PATH=$(printf %s "$LD_LIBRARY_PATH" | {others})'
        return on_host(lasting(change, "LD_LIBRARY_PATH"))
    packages = installed(seen, "cuda-compat-")
    if packages:
        return on_host(f"apt-get remove {' '.join(map(shlex.quote, packages))} && ldconfig")
    return out_of_the_linker(folder)


def out_of_the_linker(folder: str) -> str:
    """What takes a folder's lines out of the linker's configuration; blanks and a comment may stand beside it there."""
    line = shlex.quote(rf"\#^\s*{literal(folder)}/*\s*(\x23.*)?$#d")
    return on_host(f"sed -E -i --follow-symlinks {line} /etc/ld.so.conf /etc/ld.so.conf.d/*.conf && ldconfig")


def lasting(command: str, name: str) -> str:
    """A command that changes a variable of one shell, and where to look for what sets it in the next one."""
    return f"{command} # and where it is set for each login: grep -s {name} /etc/environment /etc/profile.d/* ~/.*rc"


def shown_cards(seen: "Seen") -> str:
    """D41: every card for CUDA."""
    return on_host(lasting("unset CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"))


def instances(seen: "Seen") -> str:
    """D47: one instance with the whole card, or MIG off; nothing is taken from anybody by the first."""
    cards = shlex.quote(",".join(without_instances(seen)))
    off = f"nvidia-smi -i {cards} -mig 0"
    return on_host(f"nvidia-smi mig -i {cards} -cgi 0 -C # one instance with the whole card; or MIG off: {off}")


def node(seen: "Seen") -> str:
    """D14: the module and the node of unified memory."""
    return on_host("modprobe nvidia-uvm && nvidia-modprobe -u -c=0")
