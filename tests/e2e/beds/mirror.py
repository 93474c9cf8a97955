"""The vendor mirror: NVIDIA's files as stand-ins, by checksum, over https, with an access log and faults to order."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from . import signing, vendor
from .network import ServiceAddress
from .server import Fault, FileServer


class Mirror:
    """A folder in the layout <sha256>/<name> and, in a `with` block, its https server."""

    def __init__(self, folder: Path) -> None:
        """Keep the mirror's files in `folder`."""
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self._server: Optional[FileServer] = None

    def __enter__(self) -> Mirror:
        """Serve it, at an address that the test machine and all beds reach."""
        with contextlib.ExitStack() as stack:
            address = ServiceAddress()
            stack.callback(address.close)
            self.address = address.address
            keys = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-")))
            self._server = FileServer(self.files, self.address, signing.server(self.address, keys))
            stack.callback(self._server.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End the server and give the address back."""
        self._stack.close()
        self._server = None

    @property
    def authority(self) -> Path:
        """The authority that signed the server's certificate; the beds trust it, a controller has to be told."""
        return signing.authority().certificate

    @property
    def url(self) -> str:
        """The mirror's base, for `gpuhost_mirror_url`."""
        return f"https://{self.address}:{self._serving().port}"

    @property
    def requests(self) -> List[str]:
        """What was asked for so far: method, path and, if any, Range."""
        return self._serving().requests

    def artifact(self, kind: str, version: str, cuda: Optional[str] = None) -> Dict[str, Any]:
        """Put a stand-in there ("driver", "cuda", "cudnn"): its name, sha256, size and url.

        The name is the catalog's. The catalog's checksum cannot be met: a test writes this one into its lock.
        """
        made = vendor.make(kind, version, cuda)
        return self.add(made.name, made.data)

    def add(self, name: str, data: bytes) -> Dict[str, Any]:
        """Put any file there."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.files / digest / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return {"name": name, "sha256": digest, "size": len(data), "url": f"{self.url}/{digest}/{name}"}

    def order(self, artifact: Dict[str, Any], kind: str, count: int = 0, **more: Any) -> None:
        """Let something go wrong with an artifact from now on; see server.Fault. `swap` takes another artifact."""
        other = more.pop("other", None)
        path = self._path(other) if other else None
        self._serving().faults[f"/{artifact['sha256']}/{artifact['name']}"] = Fault(kind, count, path, **more)

    def repair(self) -> None:
        """All faults are gone."""
        self._serving().faults.clear()

    def _path(self, artifact: Dict[str, Any]) -> Path:
        """Where an artifact's file is."""
        return self.files / str(artifact["sha256"]) / str(artifact["name"])

    def _serving(self) -> FileServer:
        """The server; an error when there is none."""
        assert self._server is not None, "the mirror is not served: use it in a with block"
        return self._server


__all__ = ["Mirror"]
