"""The stand-alone front of the builder, `build/opencv_cmake.py`: what the catalog decides for a command line."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from ..cvbuild import cli
from ..cvbuild.failures import failure
from ..cvbuild.recipe import Recipe
from ..errors import UnreadableError
from ..host.probe.machine import observe
from ..planning.catalog import shipped
from ..planning.gpus import from_observation, parse
from ..planning.plan import make as made_plan
from ..planning.recipes import make, newest_for, toolkit_row
from ..planning.request import request_from
from ..planning.resolve import resolver
from ..types import present


class Catalog:
    """`cvbuild.cli.Known`, from the catalog of this package."""

    def cards_here(self) -> List[str]:
        """Return the capabilities of this machine's cards; [] when there is none, an error when one is unreadable."""
        try:
            seen = observe()
            found = from_observation(shipped(), seen["gpus"], seen["nvidia"]["smi"]["status"])
        except UnreadableError as error:
            raise failure("D25-detection-failed", error.message, error.next_step or "Say it: --arch-bin 6.1") from None
        return sorted({card.compute_capability for card in found})

    def capability(self, card: str) -> str:
        """Return the capability of a card by its name or PCI id."""
        return parse(shipped(), card).compute_capability

    def builds(self, series: str) -> List[str]:
        """Return the capabilities that a toolkit's series builds for."""
        row = toolkit_row(shipped(), series)
        if row is None:
            raise failure("B-usage", f"The catalog has no CUDA {series}.", "gpuhost plan names those it has.")
        return list(row["capabilities"])

    def toolkit(self, platform: str, cards: List[str]) -> Tuple[str, str]:
        """Return the CUDA and the cuDNN that a plan has for cards on a platform."""
        found = resolver()
        gpus = [parse(shipped(), card) for card in cards]
        plan = made_plan(found, request_from(found, platform, gpus, {}, without=frozenset(["tensorflow"])))
        if plan["status"] != "planned":
            step = f"See why: gpuhost plan {' '.join('--gpu ' + card for card in cards)} --without tensorflow"
            raise failure("B-usage", "No CUDA fits these cards on this platform.", step)
        return present(plan["cuda"])["version"], present(plan["cudnn"])["version"]

    def recipe(self, opencv: str, cuda: str, cudnn: str, platform: str, cards: List[str]) -> Recipe:
        """Return the recipe of an OpenCV release ("" for the newest that fits) for cards on a platform."""
        wanted = opencv or newest_for(shipped(), cuda, cudnn, cards)
        return make(shipped(), wanted, cuda, platform, cards)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the builder with the catalog available."""
    return cli.main(argv, Catalog())
