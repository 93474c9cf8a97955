"""Text that is safe to show and names that are safe to use, whoever supplied them.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

from typing import Optional, Sequence

from .errors import UsageError

#: Longer names do not fit into one path component together with the suffixes that are added to them.
LONGEST_NAME = 200
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def printable(value: object, longest: Optional[int] = None) -> str:
    """Return a value as one line of text in which nothing can move the cursor, change colours or end the line.

    Every character that is not printable becomes U+FFFD, and white space becomes single spaces. With `longest` the
    text is cut to that many characters.
    """
    text = str(value)
    if longest is not None:
        text = text[: longest * 4]  # before the loop, so that an endless text costs no time
    shown = _visible(" ".join(text.split()))
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def printable_lines(value: object) -> str:
    """Return a value as text whose lines and columns stay: only line feeds and spaces move the cursor in it."""
    return "\n".join(_visible(line.expandtabs()) for line in str(value).replace("\r\n", "\n").split("\n"))


def folder_name(host: str) -> str:
    """Return the name of the folder that belongs to a host: one path component, and no two hosts share one.

    Letters, digits, `.`, `_` and `-` stand for themselves; every other byte of the UTF-8 form, and a leading dot, is
    percent-encoded (RFC 3986, section 2.1). An empty or overlong name is a `UsageError`.
    """
    name = "".join(
        char if char in _PLAIN and (at > 0 or char != ".") else _encoded(char) for at, char in enumerate(host)
    )
    if not name or len(name) > LONGEST_NAME:
        raise UsageError(
            f"The host name '{printable(host, 40)}' is empty or longer than {LONGEST_NAME} characters.",
            "Give the host a shorter alias in the inventory.",
        )
    return name


def _encoded(char: str) -> str:
    """Return one character percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _visible(text: str) -> str:
    """Return a text with every character that is not printable replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def few(told: Sequence[str], most: int = 4, beside: int = 0) -> str:
    """Return the first of many sentences or names, and how many more there are; `beside` are those not even read."""
    more = max(len(told) - most, 0) + beside
    return "; ".join([*told[:most], *([f"{more} more"] if more else [])])
