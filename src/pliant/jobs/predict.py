"""`pliant predict MODEL SOURCE...`: find the face, score it, say the verdict and what it rests on.

A bundle needs no torch; a run folder of training is judged in PyTorch, by the same words.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pliant.errors import UserError
from pliant.jobs.judged import Judged, brief, judged, judged_frames, judged_images
from pliant.jobs.judges import BundleJudge, Judge, PacedJudge, is_bundle, open_run
from pliant.jobs.labelled import check_scores, labelled_images, write_scores
from pliant.jobs.presentation import Presentation
from pliant.jobs.sources import Sources, find_sources
from pliant.jobs.trace import Point, check_trace, write_trace
from pliant.runtime.audit import AuditLog
from pliant.runtime.bundle import Bundle
from pliant.runtime.pick import choose
from pliant.runtime.quality import DEFAULT_LIMITS
from pliant.runtime.video import MAX_FRAMES, Footage


def predict(
    model: Annotated[Path, Positional, arg(metavar="MODEL")],
    sources: Annotated[Sequence[Path], Positional, arg(metavar="SOURCE...")],
    *,
    tier: str | None = None,
    detector: Path | None = None,
    budget_ms: float | None = None,
    remeasure: bool = False,
    every: int = 1,
    seconds: float | None = None,
    json_lines: bool = False,
    trace: Path | None = None,
    scores: Path | None = None,
    quality: bool = True,
    audit: Path | None = None,
    reference: str | None = None,
    self_test: bool = True,
    public_key: str | None = None,
    threads: int = 1,
) -> list[Judged]:
    """Judge images, folders of them, a video or a camera; a verdict needs a tier with a threshold.

    Args:
        model: A bundle of `pliant export`, or a run folder of `pliant train`.
        sources: Images, folders (all images beneath), one video, or camera (camera:1 is the next).
        tier: A tier's name or a configuration such as HHLL...; None: the model's default.
        detector: A YuNet ONNX file; None: the face cascade inside OpenCV.
        budget_ms: Measure the tiers of a bundle on this device and use the best one that takes no
            longer from a face's box to its score. A camera steps down when the device slows.
        remeasure: Measure the tiers for the budget anew, whatever is remembered of this device.
        every: Of a video or camera, judge the first of each so many frames.
        seconds: A camera ends after this time; None: at Ctrl-C. All between start and end is one
            presentation.
        json_lines: Print each verdict as a line of JSON as soon as it is known, and nothing else.
        trace: Where to write the scores over the frames (.svg or .csv); None: no file.
        scores: Where to write a score file for pliant pad evaluate (.csv); the source is then one
            manifest CSV, or one folder of live/ and spoof/; None: no file.
        quality: A face that is too dark, overexposed, blurred or cut off is undecided.
        audit: A hash-chained log of a bundle's verdicts, created or continued; None: no log.
        reference: What the lines of the audit log are known by; without it they name no image.
        self_test: Compare a bundle's scores with the promised ones first.
        public_key: Whose signature a bundle must carry: 64 hexadecimal digits, or their file.
        threads: CPU threads inside an operator of a bundle.

    Returns:
        One entry per image or frame; of a video or camera the last is that of the presentation.
        Empty where `json_lines` has printed them.

    Raises:
        UserError: if the model, a source or the tier does not exist, options do not fit, or a
            camera stops giving frames (the verdict on those before was logged and said then).
    """
    model, sources = Path(model), _paths(sources)
    trace, scores, audit = (None if p is None else Path(p) for p in (trace, scores, audit))
    samples = None
    if scores is not None:
        check_scores(scores)
        samples = labelled_images(sources)
    paths = None if samples is None else tuple(sample.path for sample in samples)
    found = find_sources(sources) if paths is None else Sources(images=paths)
    bundled = is_bundle(model)
    _check_options(
        found, bundled, tier=tier, budget_ms=budget_ms, remeasure=remeasure, every=every,
        seconds=seconds, audit=audit, reference=reference, public_key=public_key, threads=threads,
    )  # fmt: skip
    if trace is not None:
        check_trace(trace)
    limits = DEFAULT_LIMITS if quality else None
    with ExitStack() as stack:
        log = footage = bundle = None
        if bundled:
            bundle = Bundle.open(
                model, tier=tier, self_test=self_test, public_key=public_key, detector=detector,
                quality=limits, threads=threads,
            )  # fmt: skip
            judge = _bundle_judge(bundle, found, budget_ms, remeasure)
        else:
            judge = stack.enter_context(open_run(model, tier, detector, limits))
        if scores is not None and judge.task != "pad":
            raise UserError("--scores is for anti-spoofing; this model names classes")
        if not found.images:
            footage = stack.enter_context(_open(found))
        if bundle is not None and audit is not None:  # nothing is left behind without a verdict
            log = stack.enter_context(AuditLog(audit, model=bundle.sha256))
            if log.num_torn_bytes:
                print(f"{audit}: the line that a crash had torn was ended", file=sys.stderr)
        endless = json_lines and trace is None
        most = None if endless else MAX_FRAMES
        kept: list[Judged] = []
        points: list[Point] = []
        answers: list[Judged] = []

        def emit(row: Judged) -> None:
            if log is not None:
                log.append(row, reference=reference, frame=row.frame)
            if json_lines:
                print(json.dumps(asdict(row), allow_nan=False), flush=True)
            else:
                kept.append(row)

        presentation = Presentation(judge.task, judge.classes)
        # a bar and JSON lines would overwrite each other on the same terminal
        shown = sys.stderr.isatty() and not (json_lines and sys.stdout.isatty())
        if footage is None:
            rows = judged_images(judge, found.images, shown=shown)
        else:
            told = found.camera is not None and not shown and not json_lines
            rows = judged_frames(
                judge, footage, shown=shown, told=told, every=every, seconds=seconds, most=most
            )
        ended, lost = "at Ctrl-C", None
        try:
            with closing(rows):
                for row in rows:
                    emit(row)
                    presentation.add(row)
                    if samples is not None:
                        answers.append(row)
                    if trace is not None:
                        place = len(points) if row.frame is None else row.frame
                        points.append(
                            Point(place=place, time_s=row.time_s, found=row, source=row.source)
                        )
            ended = footage and footage.ended
        except KeyboardInterrupt:
            if found.camera is None:  # Ctrl-C is how a camera ends
                raise
        except UserError as problem:
            if found.camera is None:
                raise
            lost = problem
        whole = None if footage is None else presentation.verdict()
        if footage is not None and whole is not None:
            row = judged(whole, str(found.video or footage.name))
            emit(row)
            if lost is not None:  # no table will be printed
                print(f"{row.source}, {row.num_frames} frames: {brief(row)}", file=sys.stderr)
            elif found.camera is not None and ended is not None:
                print(f"{row.source} ended {ended}", file=sys.stderr)
    if scores is not None and samples is not None:
        print(write_scores(scores, samples, answers), file=sys.stderr)
    if trace is not None and points:
        write_trace(trace, points, f"score of {', '.join(path.name for path in sources)[:80]}")
    if lost is not None:
        raise lost
    return kept


def _paths(sources: Sequence[Path | str] | Path | str) -> tuple[Path, ...]:
    """One source or several, as Python callers give them."""
    several = [sources] if isinstance(sources, Path | str) else sources
    return tuple(Path(source) for source in several)


def _bundle_judge(bundle: Bundle, found: Sources, budget_ms: float | None, again: bool) -> Judge:
    if budget_ms is None:
        return BundleJudge(bundle)
    if found.camera is not None:
        judge: Judge = PacedJudge(bundle, budget_ms, remeasure=again)
        tier, ms = judge.paced.tier, judge.paced.pacer.expected_ms
    else:
        choice = choose(bundle, budget_ms, remeasure=again)
        bundle.use(choice.tier)
        judge, tier, ms = BundleJudge(bundle), choice.tier, choice.ms
    span = "from pixels to score; reading the file is not in it"
    if judge.task == "pad":
        span = (
            "from the face's box to its score; finding the face is not in it, but in the ms shown"
        )
    print(f"{tier}: {ms[tier]:.3g} ms of a {budget_ms:g} ms budget, {span}", file=sys.stderr)
    return judge


def _check_options(found: Sources, bundled: bool, **given: Any) -> None:
    if given["tier"] is not None and given["budget_ms"] is not None:
        raise UserError("give --tier or --budget-ms: a budget chooses the tier itself")
    if given["remeasure"] and given["budget_ms"] is None:
        raise UserError("--remeasure is for a budget; give --budget-ms too")
    usual = {"threads": 1}
    for name in ("budget_ms", "audit", "public_key", "threads"):
        if given[name] != usual.get(name) and not bundled:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} needs a bundle; pliant export RUN --out x.pliant writes one")
    if given["reference"] is not None and given["audit"] is None:
        raise UserError("--reference is for the audit log; give --audit FILE too")
    if given["every"] < 1:
        raise UserError(f"--every must be at least 1, got {given['every']}")
    if given["every"] > 1 and found.images:
        raise UserError("--every is for the frames of a video or camera; leave it out for images")
    seconds = given["seconds"]
    if seconds is not None and found.camera is None:
        raise UserError("--seconds is for a camera; leave it out")
    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds must be above 0, got {seconds:g}")


def _open(found: Sources) -> Footage:
    return Footage.video(found.video) if found.video else Footage.camera(found.camera or 0)


def summary(predictions: Sequence[Judged]) -> list:
    """The table for the terminal, how the frames went, and a way out where a threshold misses."""
    from rich.table import Column, Table
    from rich.text import Text

    if not predictions:
        return []
    frames = [p for p in predictions if p.frame is not None]
    rows = [p for p in predictions if p.frame is None]
    folders = {str(Path(p.source).parent) for p in rows}
    folder = folders.pop() if len(folders) == 1 else "."
    table = Table(
        *(Column(name, overflow="fold") for name in ("source", "verdict")),
        *(Column(name, no_wrap=True) for name in ("score", "threshold")),
        Column("tier", overflow="fold"),
        Column("ms", no_wrap=True),
        caption=None if folder == "." else Text(f"in {folder}", overflow="fold"),
    )
    for p in rows:
        score, threshold = ("" if x is None else f"{x:.4f}" for x in (p.score, p.threshold))
        source = p.source if folder == "." else Path(p.source).name
        tier, ms = p.tier or p.configuration, f"{p.latency_ms:.1f}"
        table.add_row(*map(Text, (source, p.verdict, score, threshold, tier, ms)))
    said = []
    if frames:
        counts = Counter(p.verdict for p in frames).most_common()
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts)
        ms = median(p.latency_ms for p in frames)
        scored = predictions[-1].num_frames
        said.append(f"{len(frames)} frames: {listed}; median {ms:.1f} ms a frame")
        said.append(f"The verdict rests on the mean of {scored}; --json-lines shows each")
    if any("no threshold" in p.verdict for p in predictions):
        said.append(
            "Only a tier has a threshold: pliant evaluate fits a missing one on a dev split; "
            "pliant tiers --search --name makes a configuration a tier"
        )
    if any(p.synthetic for p in predictions):
        said.append("This model has seen synthetic faces alone: it is no judge of real ones.")
    return [table, *said]
