"""What the run time says about one image or one presentation."""

from dataclasses import dataclass

NO_FACE = {
    "no_face": "no face found",
    "several_faces": "several faces found",
    "face_too_small": "the face is too small",
}
"""Said for each reason that `choose_face` gives."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A verdict and what it rests on."""

    verdict: str
    """`bona_fide`, `attack` or `undecided(reason)`; for other tasks the class's name."""
    reason: str | None
    """Why it is undecided, the words in the brackets; None: it is decided."""
    score: float | None
    """In [0, 1], higher = more bona fide; for other tasks the class's probability. Of several
    frames the mean. None: nothing could be scored. A score beside a reason decides nothing."""
    threshold: float | None
    """Accepted iff score >= threshold; None: what ran has none."""
    tier: str | None
    """The tier that ran; None: a configuration that is no tier."""
    configuration: str
    """What ran, one letter per adaptive block."""
    box: tuple[float, float, float, float] | None
    """The face: x, y, width, height in pixels; None for several frames, or without a face."""
    num_frames: int
    """Frames that the score was taken from."""
    latency_ms: float
    """Wall time of the whole call: reading files, finding the face, the network. Where pixels and
    a box were given, it is the time that budgets count; else it is more, and not for a `Pacer`."""
    synthetic: bool
    """Whether the model has seen synthetic faces alone: no judge of real ones."""
    probabilities: tuple[float, ...] | None = None
    """Of every class, in the model's order, for other tasks than anti-spoofing; of several frames
    the mean. None: nothing could be scored, or the score says it all."""

    @property
    def responded(self) -> bool:
        """Whether the score counts: there is one, and the image was fit to be judged.

        A missing threshold takes the verdict away, not the score: it is what thresholds are
        fitted on.
        """
        missing = no_threshold(self.tier or self.configuration)
        return self.score is not None and self.reason in (None, missing)


def no_threshold(name: str) -> str:
    """The reason of a tier, or of a configuration, that has a score and no threshold."""
    return f"no threshold is stored for {name}"


def undecided(reason: str) -> str:
    """The verdict that says so."""
    return f"undecided({reason})"
