"""The boot loader's two choices: the entry that it starts by default, and one that it starts once.

GRUB keeps both in its environment block, systemd-boot in variables of the firmware. Runs on the target: Python 3.6,
standard library.
"""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Union

from ...errors import EnvironmentProblem, RefusedError
from .. import files
from ..edges import Edges
from ..parse.boot import Entry, choose, matching, parse_grub_default, parse_grub_menu, parse_loader
from ..probe.boot import (
    DEFAULT,
    GRUB_SETTINGS,
    LOADER_SETTINGS,
    LOADERS,
    ONE_SHOT,
    entry_kernel,
    grub_environment,
    grub_settings,
    variable,
)

MENU, BLOCK = "/boot/grub/grub.cfg", "/boot/grub/grubenv"
#: Read after the host's own settings, in the order of the names.
SETTINGS = f"{GRUB_SETTINGS}.d/zz-gpuhost.cfg"
#: The loader's own words: it writes its environment by the places on the disk that the file has, which is impossible
#: on these file systems, and on anything that is not a plain partition (/etc/grub.d/00_header, check_writable, and
#: grub-reboot's warning).
UNWRITABLE = ("btrfs", "cpiofs", "newc", "odc", "romfs", "squash4", "tarfs", "zfs")
LEFT = "Update this host without update_once: ./run ansible-playbook playbooks/update.yml (docs/how-to/updates.md)"
#: Making GRUB's menu takes a minute on a slow machine with many disks.
_TIMEOUT_S = 600.0
_PANIC = re.compile(r"(?<![\w.-])panic=")
_SETTINGS_TEXT = """\
# Written by gpuhost, role update: what boots is the entry that the environment block names, and a kernel that panics
# restarts the machine, so that it comes back with the entry that is the default.
GRUB_DEFAULT=saved
GRUB_SAVEDEFAULT=false
"""
_RESTART = 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=30"\n'


class Choice(NamedTuple):
    """The kernels of the default entry and of that for one boot; None where it is not known."""

    default: Optional[str]
    once: Optional[str]


class Grub:
    """GRUB as Debian and Ubuntu set it up."""

    name = "GRUB"

    def __init__(self, edges: Edges) -> None:
        """Nothing is read yet."""
        self.edges = edges

    def refusal(self) -> str:
        """Why this GRUB cannot start an entry once; "" where it can."""
        told = {}
        for target in ("fs", "abstraction"):
            code, out, err = self.edges.run(["grub-probe", f"--target={target}", "/boot/grub"], _TIMEOUT_S)
            if code != 0:
                return f"grub-probe cannot tell where /boot/grub is: {' '.join((err or out).split())[:300]}"
            told[target] = out.split()
        if told["abstraction"]:
            return f"GRUB cannot write to {' and '.join(told['abstraction'])}, where /boot/grub is"
        if set(told["fs"]) & set(UNWRITABLE):
            return f"GRUB cannot write to {told['fs'][0]}, the file system of /boot/grub"
        if grub_settings(self.edges).get("GRUB_TIMEOUT") == "-1":
            return "GRUB waits for a key at each start (GRUB_TIMEOUT=-1)"
        return ""

    def settings(self) -> str:
        """The text of our file among GRUB's settings."""
        line = {k: v for k, v in grub_settings(self.edges).items() if k.startswith("GRUB_CMDLINE_LINUX")}
        ours = self.edges.text(SETTINGS) or ""
        has = any(_PANIC.search(value) for value in line.values()) and _RESTART not in ours
        return _SETTINGS_TEXT + ("" if has else _RESTART)

    def set_up(self, kernel: str) -> None:
        """Have the menu obey the environment block, in which `kernel` is the default before it counts."""
        if self.entry(kernel) is not None:
            self.choose(kernel)
        text = self.settings()
        if self.edges.text(SETTINGS) != text or not self.obeys():
            files.write_whole(self.edges.path(SETTINGS), text)
            self.make_menu()
        if not self.obeys():
            files.remove(self.edges.path(SETTINGS))
            self.make_menu()
            raise RefusedError(f"{MENU} does not take its default from {BLOCK}. Nothing was changed.", LEFT)

    def take_down(self) -> None:
        """Take our settings away; the newest kernel is the default again, or what the host's own settings say."""
        if self.edges.exists(SETTINGS):
            files.remove(self.edges.path(SETTINGS))
            self.write({}, ["saved_entry", "next_entry"])
            self.make_menu()

    def make_menu(self) -> None:
        """Have GRUB make its menu again."""
        code, out, err = self.edges.run(["update-grub"], _TIMEOUT_S)
        if code != 0:
            raise EnvironmentProblem(f"update-grub failed: {' '.join((err or out).split())[-300:]}", "Fix that first.")

    def obeys(self) -> bool:
        """Return whether the menu takes its default from the environment block."""
        return "saved_entry" in (parse_grub_default(self.edges.text(MENU) or "") or "")

    def entries(self) -> List[Entry]:
        """The menu's entries."""
        return parse_grub_menu(self.edges.text(MENU) or "")

    def entry(self, kernel: str) -> Optional[str]:
        """The name of a kernel's ordinary entry, as GRUB takes it: ids, or titles, of each level."""
        for one in self.entries():
            words = [identity or title for _, title, identity in one.place]
            # The entry at the top level is that of whatever kernel is the newest, and keeps its id.
            named = kernel in words[-1] and "-recovery-" not in words[-1] and "(recovery" not in words[-1]
            if one.kernel == kernel and named:
                return ">".join(word.replace(">", ">>") for word in words)
        return None

    def chosen(self) -> Choice:
        """What GRUB will start."""
        found, entries = grub_environment(self.edges), self.entries()
        kernels = {}
        for key in ("saved_entry", "next_entry"):
            entry = choose(entries, found.get(key, "")) if found.get(key) or key == "saved_entry" else None
            kernels[key] = entry.kernel if entry is not None else None
        return Choice(kernels["saved_entry"], kernels["next_entry"])

    def choose(self, default: str, once: Optional[str] = None) -> None:
        """Choose both entries in one step."""
        words = {"saved_entry": self.known(default)}
        if once is not None:
            words["next_entry"] = self.known(once)
        self.write(words, ["prev_saved_entry", *(["next_entry"] if once is None else [])])

    def known(self, kernel: str) -> str:
        """The entry of a kernel, which must have one."""
        found = self.entry(kernel)
        if found is None:
            raise EnvironmentProblem(f"{MENU} has no entry for kernel {kernel}.", "Run update-grub and look at it.")
        return found

    def write(self, words: Dict[str, str], gone: List[str]) -> None:
        """Change the environment block: whole, or not at all. grub-editenv itself empties the file first, and GRUB
        starts the newest kernel where the power goes just then.
        """
        with files.temporary() as folder:
            copy = folder / "grubenv"
            before = self.edges.data(BLOCK)
            if before is not None:
                files.write_whole(copy, before)
            if before is None or self.edges.run(["grub-editenv", str(copy), "list"], _TIMEOUT_S)[0] != 0:
                files.remove(copy)
                self.edit(copy, ["create"])
            if words:
                self.edit(copy, ["set", *(f"{name}={value}" for name, value in sorted(words.items()))])
            self.edit(copy, ["unset", *gone])
            after = copy.read_bytes()
        if after != before:
            files.write_whole(self.edges.path(BLOCK), after)

    def edit(self, copy: Path, words: List[str]) -> None:
        """Run grub-editenv on a copy."""
        code, out, err = self.edges.run(["grub-editenv", str(copy), *words], _TIMEOUT_S)
        if code != 0:
            said = " ".join((err or out).split())[-300:]
            raise EnvironmentProblem(f"grub-editenv {words[0]} failed: {said}", "Fix that first.")


class SystemdBoot:
    """systemd-boot, whose entries are files and whose choices are variables of the firmware."""

    name = "systemd-boot"

    def __init__(self, edges: Edges) -> None:
        """Nothing is read yet."""
        self.edges = edges

    def refusal(self) -> str:
        """Why an entry cannot be started once; "" where it can."""
        code, out, _ = self.edges.run(["bootctl", "--help"], _TIMEOUT_S)
        return "" if code == 0 and "set-oneshot" in out else "this systemd cannot set an entry for one boot (bootctl)"

    def set_up(self, kernel: str) -> None:
        """There is nothing to set up: the variables come before the loader's own settings."""

    def take_down(self) -> None:
        """Let the loader's own settings choose again."""
        for word, name in (("set-default", DEFAULT), ("set-oneshot", ONE_SHOT)):
            if variable(self.edges, name):
                self.set(word, "")

    def entries(self) -> Dict[str, Optional[str]]:
        """The kernel of each entry, by the name of its file."""
        for folder in LOADERS:
            names = [name for name in self.edges.names(folder + "/entries") or [] if name.endswith(".conf")]
            if names:
                texts = {name: self.edges.text(f"{folder}/entries/{name}") or "" for name in names}
                return {name: entry_kernel(parse_loader(text)) for name, text in texts.items()}
        return {}

    def entry(self, kernel: str) -> Optional[str]:
        """The name of a kernel's entry."""
        return next((name for name, release in sorted(self.entries().items()) if release == kernel), None)

    def chosen(self) -> Choice:
        """What the loader will start."""
        entries = self.entries()
        settings = [parse_loader(self.edges.text(f + LOADER_SETTINGS) or "") for f in LOADERS if self.has(f)]
        patterns = [variable(self.edges, DEFAULT), *(one.get("default", "") for one in settings)]
        default = next((name for name in (matching(sorted(entries), p) for p in patterns) if name), None)
        once = matching(sorted(entries), variable(self.edges, ONE_SHOT))
        return Choice(entries[default] if default else None, entries[once] if once else None)

    def has(self, folder: str) -> bool:
        """Return whether a folder of the loader has its settings."""
        return self.edges.exists(folder + LOADER_SETTINGS)

    def choose(self, default: str, once: Optional[str] = None) -> None:
        """Choose both entries. The default first: it leads to what is known to run."""
        wanted = {"set-default": self.known(default), "set-oneshot": "" if once is None else self.known(once)}
        for word, name in wanted.items():
            self.set(word, name)

    def known(self, kernel: str) -> str:
        """The entry of a kernel, which must have one."""
        found = self.entry(kernel)
        if found is None:
            raise EnvironmentProblem(f"systemd-boot has no entry for kernel {kernel}.", "Look at: bootctl list")
        return found

    def set(self, word: str, name: str) -> None:
        """Set one of the variables; an empty name takes it away."""
        code, out, err = self.edges.run(["bootctl", word, name], _TIMEOUT_S)
        if code != 0:
            said = " ".join((err or out).split())[-300:]
            raise EnvironmentProblem(f"bootctl {word} failed: {said}", "Fix that first.")


Loader = Union[Grub, SystemdBoot]


def loader(edges: Edges) -> Optional[Loader]:
    """The boot loader that started this machine, of those whose choices can be set; None where there is none."""
    if "systemd-boot" in variable(edges, "LoaderInfo"):
        return SystemdBoot(edges)
    return Grub(edges) if edges.exists(MENU) else None
