"""Which VirtualBox compiles its kernel modules against which kernel, as far as a source says."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

from ...versions import in_series, release
from ..candidates import Candidate, Request
from ..catalog import Catalog
from ..versions import version


class Known(NamedTuple):
    """What is known of a release: the newest kernel it compiles against, the first it does not, and whence."""

    builds: Optional[str]
    fails: Optional[str]
    source: str

    def compiles(self, kernel: str) -> Optional[bool]:
        """Return whether it compiles against a kernel; None where no source says."""
        if self.builds is not None and figures(kernel) <= figures(self.builds):
            return True
        if self.fails is not None and figures(kernel) >= figures(self.fails):
            return False
        return None


def figures(kernel: str) -> List[int]:
    """Return the two figures of a kernel's release that its interfaces go by."""
    return list(release(kernel)[:2])


def series(text: str) -> str:
    """Return the series of a release: "6.0" of 6.0.24."""
    return ".".join(text.split(".")[:2])


def known(catalog: Catalog, candidate: Candidate) -> Known:
    """Return what is known of a release, and of the patches of a distribution's package of it."""
    rows = [row for row in catalog.virtualbox["kernels"] if in_series(row["from"], series(candidate.version))]
    rows = [row for row in rows if version(row["from"]) <= version(candidate.version)]
    own, plain = candidate.row, rows[-1] if rows else {}
    builds = [text for text in (own.get("builds"), plain.get("builds")) if text]
    sources = [own["source"]] if own.get("builds") or own.get("fails") else []
    sources += [plain["source"]] if plain else []
    newest = max(builds, key=release, default=None)
    return Known(newest, own.get("fails") or plain.get("fails"), "; ".join(sources) or "no source was read")


def kernel(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A release compiles its modules against the kernels of its time; a later one is needed for later kernels."""
    if request.kernel is None:
        return None
    found = known(catalog, c)
    if found.compiles(request.kernel) is not False:
        return None
    return (
        f"VirtualBox {c.row.get('package_version', c.version)} does not compile against kernel {request.kernel}: the "
        f"first that it is known to fail with is {found.fails} ({found.source})"
    )


def that_would_do(catalog: Catalog, wanted: str) -> List[str]:
    """Return the first release of each series that a source says compiles against a kernel."""
    found: Dict[str, str] = {}
    for row in catalog.virtualbox["kernels"]:
        if row["builds"] is not None and figures(wanted) <= figures(row["builds"]):
            found.setdefault(series(row["from"]), row["from"])
    return list(found.values())
