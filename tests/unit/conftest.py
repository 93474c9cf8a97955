"""Fixtures that several files of unit tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Tuple

import pytest

from gpuhost.host import download

from .vendor import Vendor, certificate


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """Make one certificate, and its key, for all vendors."""
    return certificate(tmp_path_factory.mktemp("signed"))


@pytest.fixture
def vendor(signed: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    """Start a vendor that is trusted and asked without a proxy, and without waiting between tries."""
    monkeypatch.setattr(download, "PAUSES_S", (0.0, 0.0))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Vendor(*signed) as made:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        yield made
