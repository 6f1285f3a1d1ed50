"""Scores over frames as a drawing and as a table."""

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pliant.errors import UserError
from pliant.jobs.trace import MAX_POINTS, Point, as_csv, as_svg, check_trace, thinned, write_trace
from pliant.runtime.verdict import Prediction

SVG = "{http://www.w3.org/2000/svg}"


def point(
    place: int,
    score: float | None,
    tier: str = "mid",
    threshold: float | None = 0.5,
    source: str = "film",
):
    found = Prediction(
        verdict="attack" if score is not None else "undecided(no face found)",
        reason=None if score is not None else "no face found",
        score=score, threshold=threshold, tier=tier, configuration="HL", box=None, num_frames=1,
        latency_ms=2.0, synthetic=False,
    )  # fmt: skip
    return Point(place=place, time_s=place / 25, found=found, source=source)


def drawn(points: list[Point], title: str = "film") -> ElementTree.Element:
    return ElementTree.fromstring(as_svg(points, title))


def lines(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    found = []
    for line in root.iter(f"{SVG}polyline"):
        pairs = [pair.split(",") for pair in line.attrib["points"].split()]
        found.append([(float(x), float(y)) for x, y in pairs])
    return found


def dots(root: ElementTree.Element) -> int:
    return sum(e.attrib["d"].count("M") for e in root.iter(f"{SVG}path") if e.get("class") == "dot")


def test_by_hand():
    root = drawn([point(0, 0.0), point(1, 1.0), point(2, 0.5)])
    # x from 60 to 884, y from 248 (score 0) up to 34 (score 1)
    assert lines(root) == [[(60, 248), (472, 34), (884, 141)]]
    (path,) = [e for e in root.iter(f"{SVG}path") if e.get("class") == "threshold"]
    assert path.attrib["d"] == "M60.0 141.0H884"
    words = [e.text for e in root.iter(f"{SVG}text")]
    assert "mid accepts from 0.5000" in words
    assert words[-2:] == ["0, 0.0 s", "2, 0.1 s"]


def test_a_frame_without_a_score_is_a_gap():
    root = drawn([point(0, 0.2), point(1, 0.3), point(2, None), point(3, 0.4)])
    assert [len(line) for line in lines(root)] == [2]
    assert dots(root) == 1
    (gap,) = [e for e in root.iter(f"{SVG}path") if e.get("class") == "gap"]
    assert gap.attrib["d"].count("M") == 1


def test_unrelated_photos_are_not_joined():
    photos = [point(k, 0.1 * k, source=f"{k}.png") for k in range(5)]
    assert lines(drawn(photos)) == []
    assert dots(drawn(photos)) == 5
    assert len(as_svg([point(k, 0.5, source=str(k)) for k in range(50_000)], "long")) < 60_000


def test_the_threshold_steps_with_the_tier():
    root = drawn([point(0, 0.2), point(1, 0.2, "low", 0.25), point(2, 0.2, "low", 0.25)])
    (path,) = [e for e in root.iter(f"{SVG}path") if e.get("class") == "threshold"]
    assert path.attrib["d"] == "M60.0 141.0H472.0V194.5H884"


def test_one_frame_no_scores_no_threshold():
    assert 'class="dot" d="M60.0 141.0h0"' in as_svg([point(7, 0.5)], "film")
    assert lines(drawn([point(0, None), point(1, None)])) == []
    root = drawn([point(0, 0.5, threshold=None), point(1, 0.5, threshold=None)])
    assert not [e for e in root.iter(f"{SVG}path") if e.get("class") == "threshold"]


def test_names_cannot_break_the_drawing():
    root = drawn([point(0, 0.1, "<b>")], 'a"<script>&')
    assert root.attrib["aria-label"] == 'a"<script>&'
    assert not list(root.iter(f"{SVG}script"))


def test_many_frames_are_thinned_without_losing_a_peak():
    points = [point(i, 0.5) for i in range(50_000)]
    points[31_415] = point(31_415, 0.99)
    points[27_182] = point(27_182, 0.01)
    kept = thinned(points)
    assert len(kept) <= MAX_POINTS
    assert {31_415, 27_182} <= {p.place for p in kept}
    assert [p.place for p in kept] == sorted(p.place for p in kept)
    assert len(as_svg(points, "long")) < 60_000


def test_the_table(tmp_path: Path):
    rows = list(csv.DictReader(as_csv([point(3, 0.25), point(4, None)]).splitlines()))
    assert rows[0]["place"] == "3"
    assert rows[0]["time_s"] == "0.12"
    assert float(rows[0]["score"]) == 0.25
    assert rows[1]["score"] == ""
    assert rows[1]["reason"] == "no face found"
    write_trace(tmp_path / "t.csv", [point(0, 0.5)], "x")
    write_trace(tmp_path / "t.SVG", [point(0, 0.5)], "x")
    assert (tmp_path / "t.csv").read_text().startswith("place,source,time_s,score")
    assert (tmp_path / "t.SVG").read_text().startswith("<svg")


def test_refusals(tmp_path: Path):
    with pytest.raises(UserError, match=r"must end with .svg or .csv, got trace.png"):
        check_trace(tmp_path / "trace.png")
    (tmp_path / "old.svg").write_text("x")
    for name, why in (("no/t.svg", "there is no folder"), ("t.svg", "is a folder; give")):
        (tmp_path / "t.svg").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=why):
            check_trace(tmp_path / name)
    with pytest.raises(UserError, match="exists already; give --trace another name"):
        check_trace(tmp_path / "old.svg")
