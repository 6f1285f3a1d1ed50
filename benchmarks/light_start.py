"""How far a light branch starts from its heavy one, by way of starting; writes light_start.csv.

    python benchmarks/light_start.py --images FOLDER --init mobilenet_v2_imagenet.safetensors

The share of the heavy branch's variance that the light branch misses (`light_errors`: 0 the same,
1 no better than a constant), for each of the 16 blocks, on 64 photos; `fitted` was fitted to 64 or
256 others, and `random` is the mean of three seeds. The photos are the first 320 of the folder by
name, 96 px, as the ImageNet weights take them. A few minutes on one core.
"""

import argparse
import statistics
from pathlib import Path

import torch

from pliant.adaptive.network import pta_mobilenet_v2
from pliant.adaptive.start import light_errors, load_start
from pliant.runtime.crop import Preprocessing, crop_square, to_input
from pliant.runtime.files import write_atomic
from pliant.runtime.images import read_image

RESULTS = Path(__file__).parent / "results" / "light_start.csv"
HELD_OUT = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    photos = photos_of(given.images, HELD_OUT + 256)
    unseen, seen = photos[:HELD_OUT], photos[HELD_OUT:]
    lines = [["light_expand", "start", "fitted_to", "mean", *(f"block_{k}" for k in range(16))]]
    for expand in (1, 2, 3):
        for start, fit in (
            *(("random", 0), ("largest", 0), ("rank1", 0)),
            *(("fitted", 64), ("fitted", 256)),
        ):
            runs = []
            for seed in range(3 if start == "random" else 1):
                network = pta_mobilenet_v2(num_classes=1000, light_expand=expand)
                load_start(network, given.init, start, images=seen[:fit], seed=seed)
                runs.append(light_errors(network, unseen))
            errors = [statistics.fmean(block) for block in zip(*runs, strict=True)]
            shown = [f"{error:.3f}" for error in (statistics.fmean(errors), *errors)]
            lines.append([str(expand), start, str(fit), *shown])
            print(*lines[-1][:4])
    text = "\n".join(",".join(line) for line in lines) + "\n"
    write_atomic(RESULTS, text)


def photos_of(folder: Path, number: int) -> torch.Tensor:
    """(number, 3, 96, 96), the network's input."""
    how = Preprocessing()
    crops = [
        to_input(crop_square(read_image(path), None, scale=1, size=how.size), how)
        for path in sorted(folder.glob("*.jpg"))[:number]
    ]
    return torch.stack([torch.from_numpy(crop) for crop in crops])


if __name__ == "__main__":
    main()
