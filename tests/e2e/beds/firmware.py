"""What a kernel and a firmware would do at boot, decided outside the bed and shown inside it through bound files.

The decision is read from the bed's own disk, each time it boots: which kernel is the newest, which nvidia.ko modprobe
would take, whether Secure Boot lets it in, and whether nouveau was there first.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

from . import signing
from .base import write_card
from .commands import host
from .standins import elf

DATA = Path(__file__).resolve().parents[3] / "src/gpuhost/data"
# Where the bed sees the folder that the mounts below come from.
SHOWN = "/run/gpuhost-bed"
VARIABLE = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MEMORY_MIB = {"1380": 2048, "1c30": 5059, "2204": 24576, "102d": 11441, "2335": 143771, "2684": 24564, "2330": 81559}


class Card(NamedTuple):
    """One card, as the catalog knows its device id."""

    device: str
    address: str
    name: str
    capability: str
    #: Tells one card from another of its model.
    serial: str = ""
    #: On the bus, and no driver gets an answer from it.
    dead: bool = False

    @property
    def pci_class(self) -> str:
        """Cards without a display connector are 3D controllers."""
        return "0x030000" if re.search("GeForce|Quadro|RTX|TITAN", self.name) else "0x030200"

    @property
    def model(self) -> str:
        """The name that the driver gives it."""
        return self.name if self.name.startswith(("Quadro", "Tesla", "NVIDIA")) else f"NVIDIA {self.name}"

    def information(self) -> str:
        """/proc/driver/nvidia/gpus/ADDRESS/information; its last two rows are for the stand-in nvidia-smi."""
        identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.device}/{self.address}{self.serial}")
        rows = {
            "Model": self.model,
            "IRQ": "130",
            "GPU UUID": f"GPU-{identity}",
            "Video BIOS": "??.??.??.??.??",
            "Bus Type": "PCIe",
            "Bus Location": self.address,
            "Memory": str(MEMORY_MIB.get(self.device, 8192)),
            "Compute": self.capability,
        }
        return "".join(f"{key}: \t {value}\n" for key, value in rows.items())


class Firmware:
    """The cards, the firmware's variables and what the kernel shows, as files below `folder`."""

    def __init__(self, folder: Path, cards: Sequence[str], secure_boot: Optional[bool]) -> None:
        """Make the files; `secure_boot` None is a machine without EFI."""
        self.folder = folder
        self.secure_boot = secure_boot
        # What the kernel's log would say of the last boot.
        self.said: List[str] = []
        # The person at the console confirms the pending key at the next boot.
        self.person_confirms = False
        # Kernels that do not come up: the machine restarts, as one that has a watchdog or panic= does.
        self.panics: Set[str] = set()
        # Versions of the driver that take no card.
        self.refuses: Set[str] = set()
        # Whether a module that modprobe.d keeps from loading waits for `load`: where the bed's modprobe asks for that.
        self.waits = False
        for name in ("pci", "system", "kernel/driver", "kernel/module"):
            (folder / name).mkdir(parents=True)
        for name in ("osrelease", "modules"):
            (folder / "kernel" / name).touch()
        if secure_boot is not None:
            variables = folder / "system/efi/efivars"
            variables.mkdir(parents=True)
            (variables / VARIABLE).write_bytes(bytes([6, 0, 0, 0, int(secure_boot)]))
            for name in ("new", "enrolled"):
                (folder / "system/efi/mok" / name).mkdir(parents=True)
        self.insert(cards)

    def insert(self, cards: Sequence[str]) -> None:
        """Put these cards in, in place of those that are; while the power is off.

        A card is its device id; "1c30#2" is another one of that model, "1c30!" one that answers no driver.
        """
        _empty(self.folder / "pci")
        self.cards = [_card(words, f"0000:{number:02x}:00.0") for number, words in enumerate(cards, start=1)]
        self._device("0000:00:00.0", "0x8086", "0x2020", "0x060000")
        for card in self.cards:
            self._device(card.address, "0x10de", "0x" + card.device, card.pci_class)
            if card.pci_class == "0x030000":
                self._device(card.address[:-1] + "1", "0x10de", "0x10f1", "0x040300")

    def arguments(self) -> List[str]:
        """systemd-nspawn's options that show the devices and the firmware."""
        found = [f"--bind-ro={self.folder / 'pci'}:/sys/bus/pci/devices", f"--bind-ro={self.folder / 'kernel'}:{SHOWN}"]
        return [*found, f"--bind={self.folder / 'system'}:/sys/firmware"]

    def mount(self, leader: int) -> None:
        """Put what the kernel shows over its places in /proc and /sys, as the machine starts.

        systemd-nspawn binds before it mounts /proc, so this enters the machine. A kernel built without modules has
        no /proc/modules to cover.
        """
        enter = ["nsenter", f"--target={leader}", "--mount"]
        places = {"osrelease": "/proc/sys/kernel/osrelease", "driver": "/proc/driver", "module": "/sys/module"}
        if Path("/proc/modules").exists():
            places["modules"] = "/proc/modules"
        for name, place in places.items():
            host([*enter, "mount", "--bind", f"{SHOWN}/{name}", place])
        self._nodes(leader)

    def _nodes(self, leader: int) -> None:
        """What the packages' udev rules and nvidia-modprobe make: plain files, because nobody opens them here."""
        enter = ["nsenter", f"--target={leader}", "--mount"]
        if (self.folder / "kernel/driver/nvidia").is_dir():
            served = len(list((self.folder / "kernel/driver/nvidia/gpus").iterdir()))
            names = [*(f"nvidia{number}" for number in range(served)), "nvidiactl", "nvidia-uvm"]
            host([*enter, "touch", *(f"/dev/{name}" for name in names)])

    def power_on(self, root: Path) -> None:
        """Decide, from the disk at `root`, what this boot brings up."""
        self.said = []
        self._mok_manager()
        release = booted_kernel(root)
        while release in self.panics:
            self.said.append(f"Kernel {release}: panic - not syncing")
            release = booted_kernel(root)
        (self.folder / "kernel/osrelease").write_text(release + "\n")
        nouveau = nouveau_takes_it(root, release) if self.cards else False
        kept = self.waits and _kept(_modprobe_texts(root), "nvidia")
        self._take(nouveau, None if nouveau or kept else self._nvidia(root, release))

    def load(self, root: Path, leader: int) -> None:
        """Load the driver into the machine that runs, as modprobe would, unless it is there."""
        kernel = self.folder / "kernel"
        if "nvidia " not in (kernel / "modules").read_text():
            self._take(False, self._nvidia(root, (kernel / "osrelease").read_text().strip()))
            self._nodes(leader)

    def _take(self, nouveau: bool, module: Optional[Dict[str, str]]) -> None:
        """Show what is loaded, and which driver the cards have."""
        kernel = self.folder / "kernel"
        names = ["nouveau"] if nouveau else ["nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"] if module else []
        rows = [f"{name} 1000000 0 - Live 0x0000000000000000 (POE)\n" for name in names]
        (kernel / "modules").write_text("".join([*rows, "e1000e 249856 0 - Live 0x0000000000000000\n"]))
        _empty(kernel / "driver")
        _empty(kernel / "module")
        for name in [*names, "e1000e"]:
            (kernel / "module" / name).mkdir()
        if module:
            self._show(module)
        bound = "nouveau" if nouveau else "nvidia" if module else ""
        for card in self.cards:
            link = self.folder / "pci" / card.address / "driver"
            link.unlink(missing_ok=True)
            if bound:
                link.symlink_to(f"../../../bus/pci/drivers/{bound}")

    def _mok_manager(self) -> None:
        """The blue screen: a pending key is enrolled when somebody confirms it; a missed request is gone."""
        if self.secure_boot is None:
            return
        folder = self.folder / "system/efi/mok"
        for path in (folder / "new").iterdir():
            if self.person_confirms:
                path.rename(folder / "enrolled" / path.name)
            else:
                path.unlink()
        self.person_confirms = False

    def _nvidia(self, root: Path, release: str) -> Optional[Dict[str, str]]:
        """The modinfo of the nvidia module that gets loaded, or None; `said` tells why not."""
        path = module_path(root, release, "nvidia")
        if path is None or not self.cards or _blacklisted(_modprobe_texts(root), "nvidia"):
            return None
        data = path.read_bytes()
        info = elf.modinfo(data)
        if not info.get("vermagic", "").startswith(release + " "):
            self.said.append(f"nvidia: version magic '{info.get('vermagic')}' should be '{release} SMP mod_unload '")
            return None
        trusted = [signing.canonical().certificate]
        if self.secure_boot is not None:
            trusted += sorted((self.folder / "system/efi/mok/enrolled").iterdir())
        refused = signing.refusal(data, trusted) if self.secure_boot else None
        if refused:
            self.said.append(refused)
        return info if refused is None else None

    def _show(self, info: Dict[str, str]) -> None:
        """Write what a loaded nvidia module shows."""
        version = info["version"]
        opened = "GPL" in info.get("license", "")
        kernel = self.folder / "kernel"
        name = "NVIDIA UNIX Open Kernel Module for x86_64" if opened else "NVIDIA UNIX x86_64 Kernel Module"
        folder = kernel / "driver/nvidia"
        (folder / "gpus").mkdir(parents=True)
        (folder / "version").write_text(
            f"NVRM version: {name}  {version}  Tue Mar 28 18:02:59 UTC 2023\n"
            "GCC version:  gcc version 7.5.0 (Ubuntu 7.5.0-3ubuntu1~18.04) \n"
        )
        (kernel / "module/nvidia/version").write_text(version + "\n")
        for card in self.cards:
            if version in self.refuses:
                self.said.append(f"NVRM: The NVIDIA GPU {card.address} was refused by the {version} driver.")
            elif card.dead:
                self.said.append(f"NVRM: GPU {card.address}: RmInitAdapter failed! (0x26:0x56:1482)")
            elif drives(version, card, opened):
                place = folder / "gpus" / card.address
                place.mkdir()
                (place / "information").write_text(card.information())
            else:
                self.said.append(f"NVRM: The NVIDIA GPU {card.address} is not supported by the {version} driver.")

    def _device(self, address: str, vendor: str, device: str, pci_class: str) -> None:
        """One PCI device, as sysfs shows it."""
        write_card(self.folder / "pci" / address, device, vendor, pci_class)


def booted_kernel(root: Path) -> str:
    """The release of the kernel that GRUB starts: that of the entry for one boot, of the default entry's title or id,
    else the newest. As GRUB does, it takes the entry for one boot out of its environment.
    """
    menu = root / "boot/grub/grub.cfg"
    chosen = re.findall(r'set default="(.*)"', menu.read_text()) if menu.is_file() else ["0"]
    block = root / "boot/grub/grubenv"
    text = block.read_text() if block.is_file() and menu.is_file() else ""
    saved = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    wanted = saved.get("saved_entry", "0") if chosen[-1] == "${saved_entry}" else chosen[-1]
    if saved.get("next_entry"):
        wanted = saved["next_entry"]
        line = f"next_entry={wanted}\n"
        block.write_text(text.replace(line, "") + "#" * len(line))
    titled = re.search(r", with Linux (\S+)$|gnulinux-([0-9]\S*)-advanced-sda1$", wanted)
    release = (titled.group(1) or titled.group(2)) if titled else ""
    if release and (root / "boot" / f"vmlinuz-{release}").is_file():
        return str(release)
    return newest_kernel(root)


def newest_kernel(root: Path) -> str:
    """The release of the newest kernel image."""
    names = [path.name[len("vmlinuz-") :] for path in (root / "boot").glob("vmlinuz-*")]
    return max(names, key=lambda name: [int(word) for word in re.findall(r"\d+", name)])


def module_path(root: Path, release: str, name: str) -> Optional[Path]:
    """The file that modprobe would load, as depmod's list has it."""
    folder = root / "lib/modules" / release
    listed = folder / "modules.dep"
    for line in listed.read_text().splitlines() if listed.is_file() else []:
        path = line.split(":", 1)[0]
        if Path(path).name == f"{name}.ko" and (folder / path).is_file():
            return folder / path
    return None


def nouveau_takes_it(root: Path, release: str) -> bool:
    """Whether nouveau gets the card: from the initramfs when it is in there, else from the disk.

    Each place has its own copy of modprobe.d, so a blacklist that never reached the initramfs does not help.
    """
    image = root / "boot" / f"initrd.img-{release}"
    early = unpacked(image.read_bytes()) if image.is_file() else {}
    if any(name.endswith("/nouveau.ko") for name in early):
        texts = [data.decode() for name, data in early.items() if re.search(r"(^|/)modprobe\.d/[^/]+\.conf$", name)]
        return not _blacklisted(texts, "nouveau")
    if module_path(root, release, "nouveau") is None:
        return False
    return not _blacklisted(_modprobe_texts(root), "nouveau")


def unpacked(image: bytes) -> Dict[str, bytes]:
    """The files of an initramfs: a gzipped cpio archive in the "newc" form."""
    data = gzip.decompress(image) if image[:2] == b"\x1f\x8b" else image
    files, at = {}, 0
    while data[at : at + 6] == b"070701":
        size, length = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        name = data[at + 110 : at + 110 + length - 1].decode()
        start = at + 110 + length
        start += -start % 4
        if name == "TRAILER!!!":
            break
        files[name] = data[start : start + size]
        at = start + size
        at += -at % 4
    return files


def drives(version: str, card: Card, opened: bool) -> bool:
    """Whether a driver of that version drives the card: an older or newer generation is ignored (D13)."""
    rows = _json("drivers.json")
    branch = rows["branches"].get(version.split(".")[0])
    generation = next(
        (row["name"] for row in _json("gpus.json")["generations"] if card.capability in row["capabilities"]), ""
    )
    if branch is None or generation not in branch["generations"]:
        return False
    if opened:
        return generation in rows["open_modules_generations"]
    return generation not in branch["open_modules_only"]


def _modprobe_texts(root: Path) -> List[str]:
    """The texts of modprobe.d on the disk."""
    folders = [root / name for name in ("etc/modprobe.d", "lib/modprobe.d", "run/modprobe.d")]
    return [path.read_text() for folder in folders for path in folder.glob("*.conf")]


def _blacklisted(texts: List[str], module: str) -> bool:
    """Whether one of the modprobe.d texts keeps a module from being loaded for its card."""
    return any(re.search(rf"(?m)^\s*blacklist\s+{module}\s*$", text) for text in texts)


def _kept(texts: List[str], module: str) -> bool:
    """Whether one of the modprobe.d texts has a module replaced by a command that fails."""
    return any(re.search(rf"(?m)^\s*install\s+{module}\s+/bin/false\s*$", text) for text in texts)


def _card(words: str, address: str) -> Card:
    """The card that such words mean, from the catalog; `Firmware.insert` says which."""
    device, _, serial = words.rstrip("!").partition("#")
    rows = _json("gpus.json")
    found = rows["devices"].get(device, {"name": f"Device {device}", "chip": ""})
    chip = rows["chips"].get(found["chip"], {"compute_capability": ""})
    return Card(device, address, found["name"], chip["compute_capability"], serial, words.endswith("!"))


def _json(name: str) -> Any:
    """One of the project's data files."""
    return json.loads((DATA / name).read_text())


def _empty(folder: Path) -> None:
    """Delete what is in a folder; the folder itself stays, as it is bound."""
    for path in folder.iterdir():
        shutil.rmtree(path)
