"""The pictures on the pages, from a run's report: ``python docs/pictures.py runs/church``.

Needs playwright (`make test` installs it) and a Chromium, whose place may be given as the second
argument.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, sync_playwright

IMAGES = Path(__file__).parent / "images"
WIDTH = 1100
PARTS = {
    "strip": ".hero aside .strip",
    "report-verdict": ".hero",
    "report-figures": "#figures thead tr, #figures tbody tr:nth-child(-n+5)",
    "report-pictures": "#pictures .grid",
    "report-became": "#became .body",
    "report-moved": "#moved .body table",
}
"""By picture, the part of the report that it shows, or the parts one below the other."""


def take(parts: list[Locator], file: Path) -> None:
    """Parts of the page as a picture of few colours, which is a third of the size."""
    taken = [Image.open(io.BytesIO(part.screenshot(scale="device"))) for part in parts]
    shot = Image.new("RGB", (taken[0].width, sum(image.height for image in taken)))
    top = 0
    for image in taken:
        shot.paste(image, (0, top))
        top += image.height
    shot.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file} {shot.width} × {shot.height}, {file.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    """Takes all of them."""
    if len(sys.argv) not in (2, 3):
        sys.exit("Give a run folder, and the place of Chromium where playwright has none.")
    report = (Path(sys.argv[1]) / "report.html").resolve()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        chromium = sys.argv[2] if len(sys.argv) == 3 else None
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size = {"width": WIDTH, "height": 900}
        page = browser.new_page(viewport=size, device_scale_factor=1.5, color_scheme="light")
        page.goto(report.as_uri())
        for name, selector in PARTS.items():
            parts = page.locator(selector).all()
            take(parts if "tr:" in selector else parts[:1], IMAGES / f"{name}.png")
        browser.close()


main()
