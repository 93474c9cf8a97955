"""Text to values: which kernel the boot loader's files choose.

GRUB's grub.cfg is a program; of it only what grub-mkconfig writes is understood: menu entries, submenus, and the last
plain `set default`. What is not understood gives None, and the caller says so. Every function is pure and total.
Runs on the target, so Python 3.6 and the standard library only.
"""

import fnmatch
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

_ENTRY = re.compile(r"^\s*(menuentry|submenu)\s+(?:'([^']*)'|\"([^\"]*)\"|(\S+))(.*)$")
_ID = re.compile(r"(?:\$menuentry_id_option|--id)\s+(?:'([^']*)'|\"([^\"]*)\"|(\S+))")
_KERNEL = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)")
_DEFAULT = re.compile(r"^\s*set\s+default=(?:'([^']*)'|\"([^\"]*)\"|(\S+))\s*$", re.MULTILINE)
_ASSIGNED = re.compile(r"^\s*([A-Z_a-z][A-Z_a-z0-9]*)=(.*)$", re.MULTILINE)
#: A release as it ends a menu entry's title or stands in its id: "Ubuntu, with Linux 4.15.0-213-generic".
_LONGEST = 200
#: What names an entry: titles and ids of each level, or a pattern of file names.
_LONGEST_CHOICE = 1000
#: Submenus below one another; grub-mkconfig makes one.
_DEEPEST = 8


class Entry(NamedTuple):
    """A menu entry: its place (position, title and id on each level), and the kernel that it starts.

    The kernel is None for an entry without Linux, or without a release in its image's name.
    """

    place: Tuple[Tuple[int, str, str], ...]
    kernel: Optional[str]


def first(found: Sequence[Optional[str]]) -> str:
    """The alternative of a pattern that matched."""
    return next((text for text in found if text is not None), "")


def parse_grub_menu(text: str) -> List[Entry]:
    """The entries of a grub.cfg, in order."""
    entries: List[Entry] = []
    open_blocks: List[Tuple[str, Tuple[int, str, str]]] = []
    counts: Dict[Tuple[Tuple[int, str, str], ...], int] = {}
    kernel: Optional[str] = None
    depth: List[int] = []
    braces = 0
    for line in text.splitlines():
        found = _ENTRY.match(line)
        if found and line.rstrip().endswith("{") and len(open_blocks) < _DEEPEST:
            above = tuple(place for _, place in open_blocks)
            number = counts.get(above, 0)
            counts[above] = number + 1
            named = _ID.search(found.group(5))
            identity = first(named.groups()) if named else ""
            open_blocks.append((found.group(1), (number, first(found.groups()[1:4]), identity)))
            depth.append(braces)
            braces += 1
            kernel = None
            continue
        started = _KERNEL.match(line)
        if started and open_blocks and kernel is None:
            kernel = kernel_of(started.group(1))
        stripped = line.strip()
        braces += (stripped.endswith("{") and not stripped.startswith("#")) - (stripped == "}")
        if open_blocks and stripped == "}" and braces == depth[-1]:
            kind, _ = open_blocks[-1]
            if kind == "menuentry":
                entries.append(Entry(tuple(place for _, place in open_blocks), kernel))
            open_blocks.pop()
            depth.pop()
    return entries


def kernel_of(path: str) -> Optional[str]:
    """The release in the path of a kernel's image, "/boot/vmlinuz-5.4.0-150-generic"; None for a link without one."""
    found = re.search(r"/(?:vmlinuz|vmlinux|kernel|linux)-([0-9][A-Za-z0-9.+~_:-]*)$", path)
    return found.group(1)[:_LONGEST] if found else None


def parse_grub_default(text: str) -> Optional[str]:
    """The entry that a grub.cfg takes by default, as it stands there: "${saved_entry}" asks for grubenv."""
    said = ["".join(found) for found in _DEFAULT.findall(text)]
    plain = [value for value in said if "next_entry" not in value and "prev_saved" not in value]
    return plain[-1] if plain else None


def parse_assignments(text: str) -> Dict[str, str]:
    """The plain NAME=value lines of a shell file such as /etc/default/grub or of grubenv; a later one counts."""
    found = {}
    for name, value in _ASSIGNED.findall(text):
        value = value.strip()
        quoted = re.match(r"""(['"])(.*?)\1""", value)
        found[name] = quoted.group(2) if quoted else value.partition(" #")[0].strip()
    return found


def choose(entries: Sequence[Entry], wanted: str) -> Optional[Entry]:
    """The entry that GRUB takes for a default: numbers, titles or ids, with > between the levels of submenus.

    GRUB takes the first entry where there is no such one.
    """
    steps = levels(wanted) or ["0"]
    for entry in entries:
        if len(entry.place) == len(steps) and all(
            step in (str(number), title, identity) and step
            for step, (number, title, identity) in zip(steps, entry.place)
        ):
            return entry
    # A whole id or title may itself name an entry below a submenu, and a submenu's own number its first entry.
    for entry in entries:
        below = entry.place[: len(steps)]
        if len(entry.place) > len(steps) and all(
            step in (str(n), t, i) and step for step, (n, t, i) in zip(steps, below)
        ):
            return entry
    return entries[0] if entries else None


def levels(wanted: str) -> List[str]:
    """The steps of a GRUB default down the submenus; a doubled > stands for itself in a title."""
    return [step.replace(">>", ">").strip() for step in re.split(r"(?<!>)>(?!>)", wanted)] if wanted.strip() else []


def named_kernel(wanted: str, installed: Sequence[str]) -> Optional[str]:
    """The installed kernel whose release ends a menu entry's title, or stands in its id; None where none does."""
    last = (levels(wanted[:_LONGEST_CHOICE]) or [""])[-1]
    return next(
        (
            release
            for release in sorted(installed, key=len, reverse=True)
            if re.search(rf"(^|[\s-]){re.escape(release)}($|-advanced|-simple)", last)
        ),
        None,
    )


def parse_loader(text: str) -> Dict[str, str]:
    """The fields of systemd-boot's loader.conf or of one of its entries: "default ubuntu-*", "linux /vmlinuz-6.8"."""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        words = line.split(None, 1)
        if len(words) == 2 and not words[0].startswith("#"):
            found[words[0].lower()] = words[1].strip()
    return found


def parse_loader_variable(data: bytes) -> str:
    """The name in one of systemd-boot's EFI variables: four attribute bytes, then UTF-16 with a zero at its end."""
    return data[4:].decode("utf-16-le", "replace").rstrip("\0") if len(data) > 4 else ""


def matching(names: Sequence[str], pattern: str) -> Optional[str]:
    """The last of systemd-boot's entries (file names) that a default pattern fits, as the loader takes it."""
    plain = pattern.strip().lower() if len(pattern) <= _LONGEST_CHOICE else ""
    fits = [n for n in names if fnmatch.fnmatchcase(n.lower(), plain) or n.lower() == plain + ".conf"]
    return fits[-1] if plain and fits else None
