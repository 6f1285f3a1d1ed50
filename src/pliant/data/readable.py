"""Leave out the images that cannot be read, count and list them, and stop where they are many."""

from collections.abc import Sequence

from pliant.data.frames import read_sample
from pliant.data.manifest import Sample, Skipped
from pliant.data.progress import map_threads, watched
from pliant.errors import UserError
from pliant.runtime.images import BadImage

MAX_BAD_SHARE = 0.05
"""A data set of which more cannot be read is broken, or not the one that was meant."""


def load_or_skip(
    samples: Sequence[Sample], *, progress: bool = True, workers: int | None = None
) -> tuple[list[Sample], list[Skipped]]:
    """Decodes every image once; returns those that can be used, and the others with the reason.

    Args:
        samples: What is to be checked; their order is kept.
        progress: Show a bar on stderr where that is a terminal.
        workers: Threads; None for one per core.

    Raises:
        UserError: if more than 5 % cannot be used, or nothing is left.
    """
    reasons = watched(
        map_threads(why_unusable, samples, workers=workers),
        len(samples),
        "checking images",
        progress=progress,
    )
    kept, skipped = [], []
    for sample, reason in zip(samples, reasons, strict=True):
        if reason is None:
            kept.append(sample)
        else:
            skipped.append(Skipped(sample.path, reason))
    refuse_too_many(skipped, len(samples))
    return kept, skipped


def why_unusable(sample: Sample) -> str | None:
    """The reason why an image cannot be read, or None where it can."""
    try:
        read_sample(sample)
    except BadImage as error:
        return str(error)
    return None


def refuse_too_many(skipped: Sequence[Skipped], total: int) -> None:
    """Stops where unreadable images are no accident.

    Raises:
        UserError: if `skipped` is more than 5 % of `total`, or `total` is 0.
    """
    if not total:
        raise UserError("there are no images to use")
    if len(skipped) <= MAX_BAD_SHARE * total:
        return
    first = "; ".join(f"{skip.path}: {skip.reason}" for skip in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    raise UserError(
        f"{len(skipped)} of {total} images cannot be used, more than 5 %; repair or remove them "
        f"({first}{more})"
    )
