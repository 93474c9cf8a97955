"""From what a user types, or a probe reads, to a card of the catalog: marketing name, PCI id or capability."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..errors import UnreadableError, UsageError
from ..versions import capability
from .catalog import Catalog

NVIDIA = "10de"
# Words of a product line that people leave out, and words that name a form of one product.
BRANDS = ("nvidia", "geforce", "quadro", "tesla", "rtx", "gtx")
MOBILE = {"mobile", "laptop", "max"}
LOOSE = re.compile(r"with|max|q|design|mobile|laptop|gpu|collectors|edition|refresh|\d+gb")
FORM = re.compile(r"(pcie|nvl|cnx|sxm\d?|hbm\d\w*|\d+gb|rev\. \w)( |$)")


@dataclass(frozen=True)
class Gpu:
    """One card; `device` is its PCI device id (four hex digits), or None when only a capability is known."""

    compute_capability: str
    generation: str
    device: Optional[str] = None
    name: Optional[str] = None
    chip: Optional[str] = None
    first_listed_driver: Optional[str] = None
    note: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """The words by which messages call this card."""
        return self.name or (
            f"{self.chip} ({NVIDIA}:{self.device})" if self.device else f"a card of {self.compute_capability}"
        )

    def as_json(self) -> Dict[str, Any]:
        """The card's row in a plan."""
        return {
            "pci_id": f"{NVIDIA}:{self.device}" if self.device else None,
            "name": self.name,
            "chip": self.chip,
            "compute_capability": self.compute_capability,
            "generation": self.generation,
        }


def generation_of(catalog: Catalog, wanted: str) -> Optional[str]:
    """Return the generation (Maxwell, Ampere GA10x, ...) of a compute capability, or None when no chip has it."""
    return next((str(row["name"]) for row in catalog.gpus["generations"] if wanted in row["capabilities"]), None)


def from_device(catalog: Catalog, device: str, note: str = "") -> Gpu:
    """The card behind a PCI device id of NVIDIA; an id the catalog does not hold is a `UsageError`."""
    row = catalog.gpus["devices"].get(device.lower())
    if row is None:
        raise UsageError(
            f"No NVIDIA card with the PCI id {NVIDIA}:{device.lower()} is in the catalog.",
            "If it is a new card, add its row to src/gpuhost/data/gpus.json, or plan by capability (--gpu 8.9).",
        )
    cc = str(catalog.gpus["chips"][row["chip"]]["compute_capability"])
    generation = generation_of(catalog, cc)
    if generation is None:
        raise AssertionError(f"chip {row['chip']} has no generation")  # a law of the catalog's tests
    return Gpu(cc, generation, device.lower(), row["name"] or None, row["chip"], row.get("first_listed_driver"), note)


def from_observation(catalog: Catalog, rows: List[Dict[str, Any]], smi_status: str) -> List[Gpu]:
    """The cards of a probed machine; one that cannot be mapped or does not answer is an `UnreadableError`."""
    found = []
    for row in rows:
        vendor, _, device = str(row["pci_id"]).partition(":")
        where = row.get("pci_address", "?")
        if vendor != NVIDIA or device not in catalog.gpus["devices"]:
            raise UnreadableError(
                f"The card at {where} has the PCI id {row['pci_id']}, which the catalog does not know.",
                "Look it up, add its row to src/gpuhost/data/gpus.json, or plan by capability: gpuhost plan --gpu 8.9",
            )
        if is_virtual(catalog, device, str(row.get("subsystem_id") or "")):
            raise UnreadableError(
                f"The card at {where} ({row['pci_id']}, subsystem {row['subsystem_id']}) is a virtual GPU: it takes "
                "the guest driver of its host's release of NVIDIA's vGPU software, and no driver of an archive.",
                "Get that driver from whoever runs the host, or have the card passed through whole; "
                "for a stack without a card: gpuhost plan --gpu none",
            )
        if row.get("readable") is False and smi_status == "ok":
            raise UnreadableError(
                f"The card at {where} ({row['pci_id']}) is on the PCI bus, but the driver does not see it: "
                f"{row.get('error') or 'no answer'}.",
                "Look for 'Xid' or 'RmInitAdapter' in the kernel log (dmesg), reseat the card and its power cable.",
            )
        found.append(from_device(catalog, device))
    return found


def is_virtual(catalog: Catalog, device: str, subsystem: str) -> bool:
    """Return whether a card with this device and subsystem ("10de:1310") is a share of a card, lent to a guest."""
    vendor, _, part = subsystem.partition(":")
    return vendor == NVIDIA and part in catalog.gpus["virtual"].get(device, ())


def parse(catalog: Catalog, text: str) -> Gpu:
    """What `--gpu` takes: '10de:1c30' or '1c30', '6.1', or a marketing name. Anything else is a `UsageError`."""
    wanted = text.strip()
    # A whole line of lspci -nn has the id in brackets.
    line = re.search(r"\[(10de:[0-9a-f]{4})\]", wanted, re.IGNORECASE)
    wanted = line.group(1) if line else wanted
    match = re.fullmatch(r"(?:(?:0x)?10de:)?(?:0x)?([0-9a-f]{4})", wanted, re.IGNORECASE)
    if match and (":" in wanted or match.group(1).lower() in catalog.gpus["devices"]):
        if wanted.isdigit() and named(catalog, words_of(wanted)):
            raise UsageError(
                f"'{wanted}' is a PCI id and part of a card's name.",
                f"Write the id as {NVIDIA}:{wanted}, or the whole name.",
            )
        return from_device(catalog, match.group(1))
    if re.fullmatch(r"\d{1,2}\.\d", wanted):
        generation = generation_of(catalog, wanted)
        if generation is None:
            known = sorted({cc for row in catalog.gpus["generations"] for cc in row["capabilities"]}, key=capability)
            raise UsageError(
                f"No card of the catalog has the compute capability {wanted}.",
                f"Known are {', '.join(known)}.",
            )
        return Gpu(
            wanted,
            generation,
            note="planned for the capability alone: whether a driver claims the card's PCI id is not checked",
        )
    return by_name(catalog, wanted)


def words_of(name: str) -> Tuple[str, ...]:
    """A marketing name as lower-case words without brackets, so that case and spacing do not matter."""
    return tuple(re.sub(r"[\[\](),/]", " ", name.casefold()).split())


def without_brand(words: Tuple[str, ...]) -> Tuple[str, ...]:
    """The words after the leading brand words ('geforce gtx 750 ti' is '750 ti')."""
    start = 0
    while start < len(words) - 1 and words[start] in BRANDS:
        start += 1
    return words[start:]


def only_forms(words: Tuple[str, ...]) -> bool:
    """Return whether the words name nothing but forms of one product ('pcie 80gb', 'rev. a', or nothing at all)."""
    return not FORM.sub("", " ".join(words))


def named(catalog: Catalog, wanted: Tuple[str, ...]) -> List[str]:
    """The device ids that a name, as words, stands for: itself with or without its brand, and forms of that product."""
    if not wanted:
        return []
    rows = [(device, words_of(row["name"])) for device, row in catalog.gpus["devices"].items() if row["name"]]
    same = [d for d, words in rows if words == wanted]
    if not same:
        tail = len(wanted)
        same = [
            d
            for d, words in rows
            if len(words) > tail and words[-tail:] == wanted and set(words[:-tail]) <= set(BRANDS)
        ]
    if same:
        full = words_of(catalog.gpus["devices"][same[0]]["name"])
        return same + [
            d for d, words in rows if d not in same and words[: len(full)] == full and only_forms(words[len(full) :])
        ]
    core = without_brand(wanted)
    bare = [(d, without_brand(words)) for d, words in rows]
    return [d for d, words in bare if words[: len(core)] == core and only_forms(words[len(core) :])]


def plain_words(name: str) -> Tuple[str, ...]:
    """A name as words, hyphens counted as blanks and without its maker: nvidia-smi writes V100-SXM2-16GB."""
    words = words_of(name.replace("-", " "))
    return words[1:] if words[:1] == BRANDS[:1] else words


def as_printed(catalog: Catalog, name: str) -> List[str]:
    """The device ids that a name as nvidia-smi prints it stands for."""
    wanted = plain_words(name)
    also = catalog.gpus["also_called"].items()
    found = [device for device, names in also if any(plain_words(text) == wanted for text in names)]
    rows = [(d, plain_words(row["name"])) for d, row in catalog.gpus["devices"].items() if row["name"]]
    found = found or [device for device, words in rows if words == wanted]
    return found or loosely(catalog, rows, wanted)


def loosely(catalog: Catalog, rows: Sequence[Tuple[str, Tuple[str, ...]]], wanted: Tuple[str, ...]) -> List[str]:
    """The devices that a name fits without the words for its form and its memory; none where they differ in capability.

    nvidia-smi says "with Max-Q Design" where others say Mobile, and nothing at all for a card that is only made for
    laptops. Of those that fit, the ones of the same form are meant, where there are any.
    """
    key = without_form(wanted)
    fits = [(device, words) for device, words in rows if key and without_form(words) == key]
    mobile = [device for device, words in fits if MOBILE & set(words)] if MOBILE & set(wanted) else []
    found = mobile or [device for device, _ in fits]
    return found if len({from_device(catalog, device).compute_capability for device in found}) == 1 else []


def without_form(words: Tuple[str, ...]) -> Tuple[str, ...]:
    """The words of a name that tell one product from another."""
    return tuple(word for word in without_brand(words) if not LOOSE.fullmatch(word))


def by_name(catalog: Catalog, text: str) -> Gpu:
    """The card of a marketing name.

    One name can stand for several PCI ids (two chips were sold as one product, or a product comes in several forms).
    Then the id that most driver packages of all archives claim is meant, the lowest id among equals, and the card's
    `note` names the others: a person who means another one gives the PCI id.
    """
    same = named(catalog, words_of(text)) or as_printed(catalog, text)
    if not same:
        names = {row["name"].casefold(): row["name"] for row in catalog.gpus["devices"].values() if row["name"]}
        close = [names[n] for n in difflib.get_close_matches(text.casefold(), list(names), n=3, cutoff=0.5)]
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        raise UsageError(
            f"No card called '{text}' is in the catalog.",
            f"{hint}Its PCI id (lspci -nn | grep 10de) always works: --gpu 10de:1c30",
        )
    claims = [set(p.get("claims", ())) for packages in catalog.drivers["archives"].values() for p in packages]
    ranked = sorted(same, key=lambda d: (-sum(d in c for c in claims), d))
    chosen = from_device(catalog, ranked[0])
    others = [from_device(catalog, d) for d in ranked[1:]]
    if not others:
        return chosen
    listed = "; ".join(f"{NVIDIA}:{o.device} {o.label}, {o.chip}, {o.compute_capability}" for o in others)
    return from_device(
        catalog,
        ranked[0],
        f"the name '{text}' is taken as {NVIDIA}:{chosen.device} ({chosen.chip}); it also fits {listed}",
    )
