"""The pages in a real Chromium, as a user opens them: on a phone, in the dark, and without scripts.

    ./run pytest -m full tests/unit/test_watch_browser.py

It needs Debian's package chromium. The pages hold no script; what measures here is added to a copy of them, and to see
that they need none, they are also opened with scripts switched off.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.report import fleet as report_fleet
from gpuhost.report import report

from .test_report_files import made
from .test_watch_fleet import fleet
from .test_watch_hostile import PAYLOAD

pytestmark = pytest.mark.full

Json = Dict[str, Any]
PHONE, DESK = (360, 740), (1280, 900)
#: WCAG 2.1, level AA, for text of ordinary size.
CONTRAST = 4.5
#: Opens every detail, then says how wide the page is, and of each text its contrast with what lies behind it.
MEASURE = r"""
<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const parse = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const found = { wide: document.documentElement.scrollWidth, view: innerWidth, texts: [], dark: dark };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walk.nextNode());) {
    const e = n.parentElement, style = getComputedStyle(e);
    if (!n.data.trim() || style.display === "none" || e.closest("script, style, title")) continue;
    const front = parse(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(front), light(behind(e))].sort((x, y) => y - x);
    found.texts.push([n.data.trim().slice(0, 40), Math.round(100 * (a + .05) / (b + .05)) / 100]);
  }
  document.body.textContent = "MEASURED" + JSON.stringify(found) + "MEASURED";
});
</script>
"""


def chromium(folder: Path, page: Path, *options: str) -> str:
    """What Chromium makes of a page: its document, written out after it was laid out."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium here: apt-get install chromium")
    common = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--no-first-run"]
    done = subprocess.run(
        [found, *common, *options, "--virtual-time-budget=4000", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def measured(folder: Path, page: Path, width: int, height: int, dark: bool) -> Json:
    """The measurements of a copy of a page, in a frame of this width: Chromium's windows are never below 500."""
    copy = folder / "copy.html"
    text = page.read_text(encoding="utf-8").replace(
        "default-src 'none'; style-src", "script-src 'unsafe-inline'; style-src"
    )
    copy.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(
        f'<meta name="color-scheme" content="{"dark" if dark else "light"}"><body style="margin:0">'
        f'<iframe id="f" src="copy.html" style="border:0;width:{width}px;height:{height}px"></iframe><script>'
        'const take = () => { const t = document.getElementById("f").contentDocument.body.textContent;'
        ' if (t.startsWith("MEASURED")) document.body.textContent = t; else setTimeout(take, 50); };'
        "addEventListener('load', take);</script>",
        encoding="utf-8",
    )
    options = ["--allow-file-access-from-files", f"--window-size={max(width, 500)},{height}"]
    options += ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
    document = chromium(folder, frame, "--dump-dom", *options)
    match = re.search(r"MEASURED(\{.*\})MEASURED", document, re.DOTALL)
    assert match, document[-2000:]
    text = match.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """A host that is broken and whose words are attacks, with earlier runs; a fleet."""
    folder = tmp_path_factory.mktemp("pages")
    fleet(folder)

    def change(seen: Json) -> None:
        seen["machine"]["observation"]["dpkg_audit"].append(PAYLOAD * 5 + "x" * 400)

    for day in (1, 2):
        paths = report.write(
            {**made(folder, "gpu", "box", change), "when": f"2026-01-0{day}T00:00:00Z"}, folder / "reports" / "box"
        )
    return {"host": paths["html"], "fleet": report_fleet.write(folder / "reports")}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("page", ["host", "fleet"])
def test_it_can_be_read(pages: Dict[str, Path], tmp_path: Path, page: str, size: Any, dark: bool) -> None:
    """Nothing stands out to the right, with every detail open, and each text has contrast enough."""
    found = measured(tmp_path, pages[page], *size, dark)
    assert (found["view"], found["dark"]) == (size[0], dark)
    assert found["wide"] <= found["view"]
    faint: List[Any] = [row for row in found["texts"] if row[1] < CONTRAST]
    assert faint == []
    assert len(found["texts"]) > 100


@pytest.mark.parametrize("page", ["host", "fleet"])
def test_what_a_host_says_is_text_in_the_document(pages: Dict[str, Path], tmp_path: Path, page: str) -> None:
    """Chromium's own parser sees every check and no element that came out of a host's words."""
    document = chromium(tmp_path, pages[page], "--dump-dom")
    assert document.count("<details") >= 33 and "host.dpkg" in document and "apt-get -f install" in document
    assert "alert(1)" in document
    assert not re.search(r"<(script|img|iframe|object|link)\b|<[a-z]+ [^>]*\son[a-z]+=", document)


@pytest.mark.parametrize("page", ["host", "fleet"])
def test_it_needs_no_scripts(pages: Dict[str, Path], tmp_path: Path, page: str) -> None:
    """In a frame that lets no script run it looks the same as in one that does, point by point."""
    pictures = []
    for allowed in ("allow-scripts", ""):
        frame, file = tmp_path / "frame.html", tmp_path / f"picture-{allowed}.png"
        frame.write_text(
            f'<body style="margin:0"><iframe sandbox="{allowed}" src="{pages[page].as_uri()}" '
            'style="border:0;width:500px;height:2000px"></iframe>',
            encoding="utf-8",
        )
        chromium(tmp_path, frame, f"--screenshot={file}", "--window-size=500,2000", "--allow-file-access-from-files")
        pictures.append(file.read_bytes())
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 20_000  # it is not empty
