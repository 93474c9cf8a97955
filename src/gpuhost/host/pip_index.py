"""Where pip on this machine looks for packages, read as pip reads it: variables first, then its files.

Runs on the target and on the controller: Python 3.6, standard library.
"""

import configparser
import os
from pathlib import Path
from typing import List, Optional
from urllib.parse import unquote

PYPI = "https://pypi.org/simple"


def files() -> List[str]:
    """Return the files in which pip looks for its settings, the one that counts most first."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    return [*([named] if named else []), "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf"]


def setting(name: str) -> Optional[str]:
    """Return a setting of pip by its long name, such as `index-url`; None where nobody has set it."""
    said = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    for place in files():
        if said:
            break
        parser = configparser.RawConfigParser()
        try:
            parser.read(str(Path(place).expanduser()), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        said = parser.get("download", name, fallback=None) or parser.get("global", name, fallback=None)
    return said or None


def index() -> str:
    """Return the package index: what is set, else PyPI."""
    return (setting("index-url") or PYPI).rstrip("/")


def places() -> List[str]:
    """Return every address at which pip may find a package, the index first; folders that are there are among them."""
    found = [] if setting("no-index") else [index(), *(setting("extra-index-url") or "").split()]
    return [url for url in found + (setting("find-links") or "").split() if not is_absent(url)]


def is_absent(url: str) -> bool:
    """Return whether an address is that of a folder, or a file, that is not there: pip passes it over."""
    path = unquote(url[len("file://") :]) if url.startswith("file://") else url
    return path.startswith("/") and not Path(path).exists()
