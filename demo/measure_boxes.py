"""How the page's face box compares with YuNet's: the constants BLAZE_* in pliant.js come from here.

    python demo/measure_boxes.py BUNDLE NUAA YUNET.onnx [--every 5]

NUAA: a folder with manifest.csv (YuNet's boxes in the crops) and raw/ (whole frames, which YuNet
looks at again). The page runs in headless Chromium; nothing is written.
"""

import argparse
import base64
import csv
import os
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from pliant.jobs.web import serving
from pliant.runtime.faces import FaceFinder
from pliant.runtime.images import read_image

CHROMIUM = os.environ.get("PLIANT_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu"]
DETECT = """async (data) => {
  const { page, decodeImage } = await import("/pliant.js");
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const image = await decodeImage(new Blob([bytes]));
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return [await page.finder.find(canvas, (box) => box), await page.finder.find(canvas)];
}"""


def main() -> None:
    """Measure both sets, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("nuaa", type=Path)
    parser.add_argument("yunet", type=Path)
    parser.add_argument("--every", type=int, default=5)
    given = parser.parse_args()
    rows = list(csv.DictReader((given.nuaa / "manifest.csv").open()))[:: given.every]
    columns = ("box_x", "box_y", "box_w", "box_h")
    crops = [(given.nuaa / row["path"], [float(row[c]) for c in columns]) for row in rows]
    finder = FaceFinder(given.yunet)
    frames = [
        (path, found[0].box)
        for path in sorted((given.nuaa / "raw").glob("*.jpg"))
        if (found := finder.find(read_image(path)))
    ]
    with serving(given.bundle) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#bench:not([hidden])")
        for name, items in (("crops", crops), ("whole frames", frames)):
            report(name, [(page.evaluate(DETECT, encoded(path)), box) for path, box in items])
        browser.close()


def encoded(path: Path) -> str:
    """The file, as text that the page can be handed."""
    return base64.b64encode(path.read_bytes()).decode()


def report(name: str, found: list) -> None:
    """The constants, and the errors that are left with those in pliant.js."""
    missed = sum(not raw for (raw, _), _ in found)
    several = sum(
        len(boxes) > 1 and max(boxes[1][2:]) >= 0.5 * max(boxes[0][2:]) for (_, boxes), _ in found
    )
    pairs = [(raw[0], boxes[0], true) for (raw, boxes), true in found if raw]
    raw, boxes, true = (np.array(column, float) for column in zip(*pairs, strict=True))
    side = raw[:, 2:].max(axis=1, keepdims=True)
    centre = np.median((middle(true) - middle(raw)) / side, axis=0)
    size = np.median(true[:, 2:] / side, axis=0)
    true_side = true[:, 2:].max(axis=1)
    error = np.abs(boxes[:, 2:].max(axis=1) / true_side - 1)
    shift = np.hypot(*(middle(boxes) - middle(true)).T) / true_side
    print(f"{name}: N = {len(pairs)}, missed {missed}, several {several}")
    print(f"  centre {centre.round(3)}, size {size.round(3)}")
    print(f"  side: median {np.median(error):.1%}, 90% within {np.quantile(error, 0.9):.1%}")
    print(
        f"  centre: median {np.median(shift):.1%}; IoU median {np.median(overlap(boxes, true)):.2f}"
    )


def middle(boxes: np.ndarray) -> np.ndarray:
    """Their centres."""
    return boxes[:, :2] + boxes[:, 2:] / 2


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    return both / (np.prod(one[:, 2:], axis=1) + np.prod(other[:, 2:], axis=1) - both)


if __name__ == "__main__":
    main()
