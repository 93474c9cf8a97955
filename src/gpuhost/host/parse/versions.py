"""The order of Debian version numbers, so that kernels are sorted as the boot loader and dpkg sort them.

Rules: Debian Policy, section 5.6.12. Runs on the target, so Python 3.6 and the standard library only.
"""

import functools
import re
from typing import Iterable, List, Tuple


def sort_versions(versions: Iterable[str]) -> List[str]:
    """The versions, each once, oldest first."""
    # Two spellings of one version (1.0 and 1.00) compare equal; the text decides then, so the order is fixed.
    return sorted(sorted(set(versions)), key=order)


def compare_versions(left: str, right: str) -> int:
    """Below zero when `left` is older than `right`, above when newer, zero when dpkg takes them as equal."""
    left_epoch, left_upstream, left_revision = _split(left)
    right_epoch, right_upstream, right_revision = _split(right)
    if left_epoch != right_epoch:
        return -1 if left_epoch < right_epoch else 1
    return _compare_part(left_upstream, right_upstream) or _compare_part(left_revision, right_revision)


#: The key by which values sort as their versions do, oldest first.
order = functools.cmp_to_key(compare_versions)


def _split(version: str) -> Tuple[int, str, str]:
    """Epoch (0 when absent), upstream version and revision of one version."""
    epoch, colon, rest = version.partition(":")
    if not colon or not re.match(r"[0-9]+$", epoch):
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if hyphen else (int(epoch), rest, "")


def _compare_part(left: str, right: str) -> int:
    """Compare two upstream versions or two revisions: runs of non-digits and of digits, in turn."""
    left_runs = re.findall(r"([^0-9]*)([0-9]*)", left)
    right_runs = re.findall(r"([^0-9]*)([0-9]*)", right)
    for index in range(max(len(left_runs), len(right_runs))):
        left_text, left_digits = left_runs[index] if index < len(left_runs) else ("", "")
        right_text, right_digits = right_runs[index] if index < len(right_runs) else ("", "")
        left_key = (_weights(left_text), int(left_digits or "0"))
        right_key = (_weights(right_text), int(right_digits or "0"))
        if left_key != right_key:
            return -1 if left_key < right_key else 1
    return 0


def _weights(text: str) -> List[int]:
    """Sort key of a run of non-digits: tilde before the run's end, that before letters, then the rest."""
    weights = []
    for character in text:
        if character == "~":
            weights.append(-1)
        elif "A" <= character <= "Z" or "a" <= character <= "z":
            weights.append(ord(character))
        else:
            weights.append(ord(character) + 256)
    return [*weights, 0]
