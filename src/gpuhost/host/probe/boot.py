"""Reading which kernel will boot: what the boot loader's own files choose, and the newest one only where none does.

Runs on the target: Python 3.6, standard library. Reads only.
"""

from typing import Dict, List, NamedTuple, Optional

from ..edges import Edges
from ..parse.boot import (
    choose,
    kernel_of,
    matching,
    named_kernel,
    parse_assignments,
    parse_grub_default,
    parse_grub_menu,
    parse_loader,
    parse_loader_variable,
)
from ..parse.versions import sort_versions

GRUB_MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
GRUB_SETTINGS = "/etc/default/grub"
LOADERS = ("/boot/loader", "/efi/loader", "/boot/efi/loader")
_VARIABLES = "/sys/firmware/efi/efivars"
_LOADER_VARIABLE = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

#: What chooses an entry of systemd-boot: its settings in a loader folder, or a variable; the first for one start only.
LOADER_SETTINGS = "/loader.conf"
ONE_SHOT, DEFAULT = "LoaderEntryOneShot", "LoaderEntryDefault"

NEWEST = "the newest with an image in /boot"


def is_choice(by: str) -> bool:
    """Return whether a kernel boots because somebody named it; `by` is as in `Boots`."""
    chosen = (GRUB_SETTINGS, "/boot/grub", variable_path(ONE_SHOT), variable_path(DEFAULT))
    return by.startswith(chosen) or by.endswith(LOADER_SETTINGS)


class Boots(NamedTuple):
    """The kernel that will boot (None: not known), and what says so."""

    kernel: Optional[str]
    by: str


def boots(edges: Edges, bootable: List[str]) -> Boots:
    """The kernel that will boot, of those with an image in /boot (oldest first).

    systemd-boot's variable is there only where it started this machine; GRUB's menu is what GRUB reads, its settings
    are what the next menu is made from and stand in for a menu that cannot be read.
    """
    found = systemd_boot(edges, bootable) or grub(edges, bootable)
    if found is None:
        return Boots(bootable[-1] if bootable else None, NEWEST)
    if found.kernel is None:
        edges.problem(found.by, "The kernel that it boots cannot be determined.")
    elif found.kernel not in bootable:
        edges.problem(found.by, f"It boots kernel {found.kernel}, which has no image in /boot.")
        return Boots(None, found.by)
    return found


def grub(edges: Edges, bootable: List[str]) -> Optional[Boots]:
    """What GRUB will boot; None where there is no GRUB, or its menu starts the first entry of those it was made for."""
    for name in GRUB_MENUS:
        text = edges.text(name) if edges.exists(name) else None
        if text is not None:
            return from_menu(edges, name, text, bootable)
    settings = grub_settings(edges)
    wanted = settings.get("GRUB_DEFAULT", "0")
    if wanted in ("", "0"):
        return None
    if wanted == "saved":
        saved = grub_environment(edges).get("saved_entry", "")
        if saved in ("", "0"):
            return None
        return Boots(named_kernel(saved, bootable), "/boot/grub/grubenv")
    return Boots(named_kernel(wanted, bootable), GRUB_SETTINGS)


def from_menu(edges: Edges, name: str, text: str, bootable: List[str]) -> Optional[Boots]:
    """What a GRUB menu will boot; None for a menu without an entry, such as one that reads another file."""
    entries = parse_grub_menu(text)
    wanted, by = parse_grub_default(text) or "0", name
    environment = grub_environment(edges)
    if "saved_entry" in wanted:
        wanted, by = environment.get("saved_entry") or "0", "/boot/grub/grubenv"
    if environment.get("next_entry"):
        wanted, by = environment["next_entry"], "/boot/grub/grubenv"
    entry = choose(entries, wanted)
    if entry is None:
        return None
    kernel = entry.kernel or named_kernel(entry.place[-1][1], bootable)
    return Boots(kernel, by if wanted != "0" else name)


def grub_files(edges: Edges) -> List[str]:
    """The files of GRUB's settings: /etc/default/grub, then those beside it, which cloud images use."""
    names = [GRUB_SETTINGS] if edges.exists(GRUB_SETTINGS) else []
    return names + [f"{GRUB_SETTINGS}.d/{n}" for n in edges.names(GRUB_SETTINGS + ".d") or [] if n.endswith(".cfg")]


def grub_settings(edges: Edges) -> Dict[str, str]:
    """GRUB's settings; a later file counts."""
    found: Dict[str, str] = {}
    for name in grub_files(edges):
        found.update(parse_assignments(edges.text(name) or ""))
    return found


def grub_environment(edges: Edges) -> Dict[str, str]:
    """Return the variables that GRUB has saved in its environment block."""
    for name in ("/boot/grub/grubenv", "/boot/grub2/grubenv"):
        if edges.exists(name):
            return parse_assignments(edges.text(name) or "")
    return {}


def systemd_boot(edges: Edges, bootable: List[str]) -> Optional[Boots]:
    """What systemd-boot will boot; None where another loader started this machine, or it has no entries.

    The loader passes over an entry whose image is gone.
    """
    if "systemd-boot" not in variable(edges, "LoaderInfo"):
        return None
    for folder in LOADERS:
        names = [name for name in edges.names(folder + "/entries") or [] if name.endswith(".conf")]
        if not names:
            continue
        entries = {name: parse_loader(edges.text(f"{folder}/entries/{name}") or "") for name in names}
        releases = {name: entry_kernel(fields) for name, fields in entries.items()}
        # The loader sorts its entries by their versions, newest last.
        known = sort_versions(release or "" for release in releases.values())
        ordered = sorted(names, key=lambda n: (known.index(releases[n] or ""), n))
        ordered = [name for name in ordered if releases[name] in bootable] or ordered
        conf = folder + LOADER_SETTINGS
        settings = parse_loader(edges.text(conf) or "") if edges.exists(conf) else {}
        asked = [
            (variable(edges, ONE_SHOT), variable_path(ONE_SHOT)),
            (variable(edges, DEFAULT), variable_path(DEFAULT)),
            (settings.get("default", ""), conf),
        ]
        chosen = [(matching(ordered, pattern), by) for pattern, by in asked]
        chosen = [row for row in chosen if row[0]] or [(ordered[-1], f"{folder}/entries/{ordered[-1]}")]
        return Boots(releases[str(chosen[0][0])], chosen[0][1])
    return None


def entry_kernel(fields: Dict[str, str]) -> Optional[str]:
    """The kernel of a systemd-boot entry: its version, else the release in its image's path."""
    return kernel_of(fields.get("linux", "")) or fields.get("version") or None


def variable_path(name: str) -> str:
    """The file that shows one of systemd-boot's variables."""
    return f"{_VARIABLES}/{name}{_LOADER_VARIABLE}"


def variable(edges: Edges, name: str) -> str:
    """One of systemd-boot's variables; "" where it is not set."""
    path = variable_path(name)
    return parse_loader_variable(edges.data(path) or b"") if edges.exists(path) else ""
