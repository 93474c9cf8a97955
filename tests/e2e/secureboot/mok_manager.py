"""The person at the console: shim's blue screens, driven over the serial line."""

from __future__ import annotations

import re
from typing import List, Tuple

from .guest import Console

DOWN, ENTER = "\x1b[B", "\r"
#: Firmware, shim and MokManager draw slowly under emulation.
SECONDS = 600
START = ("Press any key", ENTER)
REBOOT = ("Reboot", ENTER)


def _walk(console: Console, screens: List[Tuple[str, str]]) -> None:
    """Wait for each screen's words and type its keys."""
    for words, keys in screens:
        console.wait_for(words, SECONDS)
        console.forget()
        console.type(keys)


def enrol(console: Console, password: str) -> None:
    """Confirm the key whose enrolment was asked for, and reboot."""
    _walk(console, [START, ("Enroll MOK", DOWN + ENTER), (r"View key 0[\s\S]*Continue", DOWN + ENTER)])
    _walk(console, [(r"Enroll the key[\s\S]*Yes", DOWN + ENTER), ("Password:", password + ENTER), REBOOT])


def switch_validation_off(console: Console, password: str) -> None:
    """Confirm that shim is no longer to validate what it starts, and reboot."""
    _walk(console, [START, ("Change Secure Boot state", DOWN + ENTER)])
    for _ in range(3):
        asked = console.wait_for(r"password character \d+", SECONDS)
        console.forget()
        console.type(password[int(re.findall(r"\d+", asked)[0]) - 1] + ENTER)
    _walk(console, [(r"Disable Secure Boot[\s\S]*Yes", DOWN + ENTER), REBOOT])


def miss(console: Console) -> None:
    """Nobody is there: the screen counts down, and the machine goes on."""
    console.wait_for("Press any key", SECONDS)
    console.forget()
