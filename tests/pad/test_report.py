"""The report of fabricated evaluations: whole, partial, and hostile ones."""

import html.parser
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.pad import markup, report, sections, sheet
from pliant.pad.evaluation import evaluate_scores
from pliant.pad.report import headline, render, write_report
from pliant.pad.scores import Scores
from pliant.pad.svg import Plot
from pliant.pad.thresholds import fit_threshold

SPECIES = ("print_flat", "print_bent", "replay", "mask")


def rate(errors: int, n: int) -> dict:
    """A rate with rough interval ends."""
    share, wide = errors / n, 1.96 * ((errors + 1) / n * (1 - errors / n) / n) ** 0.5
    ends = {"low": max(share - wide, 0.0), "high": min(share + wide, 1.0)}
    return {"errors": errors, "n": n, "rate": share} | ends


def clustered(errors: int, n: int) -> dict:
    """A rate that has an interval over resampled subjects too."""
    ends = rate(errors, n)
    middle, half = ends["rate"], 0.8 * (ends["high"] - ends["low"])
    return ends | {"cluster_low": max(middle - half, 0.0), "cluster_high": middle + half}


def value(x: float, wide: float = 0.02) -> dict:
    return {"value": x, "low": max(x - wide, 0.0), "high": min(x + wide, 1.0)}


def fabricated_tier(name: str, letters: str, strength: float, rng: np.random.Generator) -> dict:
    """One tier's record from normal scores that lie `strength` apart; no model is behind it."""
    weak = dict(zip(SPECIES, (1.0, 0.95, 0.8, 0.62), strict=True))
    logit = {"bona_fide": rng.normal(strength, 1.6, 400)}
    logit |= {kind: rng.normal(-strength * weak[kind], 1.6, 200) for kind in SPECIES}
    score = {kind: 1 / (1 + np.exp(-x)) for kind, x in logit.items()}
    threshold = 0.46
    apcer = {kind: clustered(int((score[kind] >= threshold).sum()), 200) for kind in SPECIES}
    worst = max(SPECIES, key=lambda kind: apcer[kind]["rate"])
    bpcer = clustered(int((score["bona_fide"] < threshold).sum()), 400)
    edges = np.linspace(0, 1, 41)
    grid = np.unique(np.concatenate([[0, 1.0001], *score.values()]))[::8]
    det = {
        kind: {
            "apcer": [float((score[kind] >= t).mean()) for t in grid],
            "bpcer": [float((score["bona_fide"] < t).mean()) for t in grid],
        }
        for kind in SPECIES
    }
    every = [det[kind]["apcer"] for kind in SPECIES]
    det["all"] = {"apcer": np.max(every, axis=0).tolist(), "bpcer": det["mask"]["bpcer"]}
    acer = (apcer[worst]["rate"] + bpcer["rate"]) / 2
    macs = 9_700_000 + 4_100_000 * sum({"L": 0, "H": 1, "B": 1.25}[x] for x in letters)
    return {
        "tier": name,
        "configuration": letters,
        "params": int(macs / 18),
        "macs": macs,
        "size_bytes": macs // 7,
        "latency_ms": {"median": macs / 1.3e7, "p90": macs / 1.1e7, "threads": 1, "runs": 30},
        "threshold": {
            "policy": "min_acer",
            "value": threshold,
            "source": "the dev split",
            "dev_sha256": "0" * 64,
            "num_bona_fide": 200,
            "num_attack": 400,
            "num_subjects": 8,
            "interval": [0.38, 0.57],
        },
        "metrics": {
            "apcer": apcer,
            "apcer_ap": apcer[worst] | {"species": worst},
            "apcer_pooled": rate(sum(r["errors"] for r in apcer.values()), 800),
            "bpcer": bpcer,
            "acer": value(acer) | {"name": "ACER (max APCER over species)"},
            "hter": value(acer * 0.8),
            "eer": value(acer * 0.85),
            "auc": value(1 - acer**2 * 2, 0.008),
            "bpcer10": value(acer * 0.7) | {"supported": True},
            "bpcer20": value(acer * 1.4) | {"supported": True},
            "bpcer100": value(acer * 2.2) | {"supported": False},
            "num_subjects": 12,
            "bootstrap_draws": 2000,
            "interval_method": "95 %; Clopper-Pearson, all others bootstrap over subjects",
            "notes": [],
        },
        "det": det,
        "histogram": {"edges": edges.tolist()}
        | {kind: np.histogram(x, edges)[0].tolist() for kind, x in score.items()},
        "scores_csv": f"scores_{name}.csv",
    }


LETTERS = {"low": "L" * 16, "mid": "HLLHLLHLLHLHLHLH", "high": "H" * 16, "max": "B" * 16}


def fabricated(*tiers_wanted: str) -> dict:
    """A whole evaluation.json of the anti-spoofing task, made up; all tiers, or those named."""
    rng = np.random.default_rng(0)
    letters = {name: LETTERS[name] for name in tiers_wanted or LETTERS}
    strength = {"low": 2.6, "mid": 3.4, "high": 4.2, "max": 4.9}
    tiers = [fabricated_tier(name, letters[name], strength[name], rng) for name in letters]
    names = list(letters)
    points = [
        {
            "configuration": t["configuration"],
            "tier": t["tier"],
            "macs": t["macs"],
            "latency_ms": t["latency_ms"]["median"],
            "quality": t["metrics"]["auc"]["value"],
        }
        for t in tiers
    ]
    for share in np.linspace(0.1, 0.9, 9):
        macs = 9.7e6 + share * 6.6e7
        quality = 0.963 + 0.03 * share**0.5 - rng.uniform(0.001, 0.012)
        points.append(
            {"configuration": "LH" * 8, "tier": None, "macs": macs, "latency_ms": macs / 1.3e7}
            | {"quality": quality}
        )
    pictures = rng.integers(60, 200, (60, 12, 12, 3), dtype=np.uint8)
    pages = []
    for tier in ("low", "max"):
        live = rng.random(60) < 0.3
        pages += sheet.make_sheet(
            tier=tier,
            score=np.clip(np.where(live, 0.7, 0.3) + rng.normal(0, 0.2, 60), 0, 1),
            threshold=0.46,
            bona_fide=live,
            species=[SPECIES[i % 4] for i in range(60)],
            presentation=[f"clip {i}" for i in range(60)],
            image_of=lambda i: pictures[i],
        )
    return {
        "pliant": "0.1.0",
        "created": "2026-07-01T12:00:00+00:00",
        "statement": "self-assessment, not a certification",
        "model": {
            "name": "pta_mobilenet_v2",
            "sha256": "ab" * 32,
            "input_px": 96,
            "crop_scale": 1.5,
            "padding": "same_tf",
            "start": "random",
        },
        "data": {
            "name": "synthetic-rig",
            "synthetic": True,
            "role": "test",
            "counts": {"bona_fide": 400, "attack": 800, "subjects": 12},
            "species": dict.fromkeys(SPECIES, 200),
            "subject_overlap": "none: no name of the 12 subjects occurs in training",
            "split_note": "",
            "num_skipped": 1,
            "skipped": [{"path": "live/07/000031.jpg", "reason": "truncated"}],
        },
        "tiers": tiers,
        "agreement": [
            {
                "a": a,
                "b": b,
                "n": 1200,
                "different": 14 * (j - i) + 9,
                "rate": (14 * (j - i) + 9) / 1200,
            }
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i < j
        ],
        "baseline": {
            "name": "colour histogram",
            "metrics": {
                "apcer_ap": rate(112, 200) | {"species": "mask"},
                "bpcer": rate(96, 400),
                "acer": value(0.40, 0.05),
                "eer": value(0.31, 0.04),
                "auc": value(0.752, 0.03),
            },
        },
        "pareto": points,
        "training": {
            "curve": [
                {
                    "epoch": epoch,
                    "loss": 0.12 + 0.6 * 0.75**epoch,
                    "dev_seconds": 1.5,
                    "dev_mean": 0.9,
                    **{
                        f"dev_auc_{n}": 0.99
                        - 0.01 * (3 - i)
                        - 0.4 * (0.62 + 0.04 * (3 - i)) ** epoch
                        for i, n in enumerate(names)
                    },
                }
                for epoch in range(15)
            ],
            "seconds": 143.0,
        },
        "sheet": pages,
        "settings": {
            "evaluate": {"policy": "min_acer", "draws": 2000, "seed": 0},
            "train": {"epochs": 15, "lr": 0.01, "sampler": "sandwich", "simulate": ["replay"]},
        },
        "environment": {"python": "3.11.2", "torch": "2.13.0", "cpu": "2 cores", "commit": None},
        "limits": ["silicone masks and make-up were not tested", "injected video was not tested"],
    }


def fabricated_classes() -> dict:
    """A whole evaluation.json of the classification task, made up."""
    whole = fabricated()
    for tier, right in zip(whole["tiers"], (812, 846, 871, 880), strict=True):
        tier["metrics"] = {"accuracy": rate(right, 1000), "nll": 0.41, "ece": 0.032}
        tier["threshold"] = tier["det"] = tier["histogram"] = None
    gone = dict.fromkeys(("agreement", "baseline", "pareto", "sheet"))
    counts = {"images": 1000, "bona_fide": 0, "attack": 0, "subjects": 0}
    data = whole["data"] | {"synthetic": False, "name": "flowers", "counts": counts, "species": {}}
    return whole | gone | {"data": data, "task": "classify"}


class Outline(html.parser.HTMLParser):
    """What stands in a page: tags, ids, addresses; refuses tags that are closed out of order."""

    VOID = frozenset(("meta", "img", "br", "path", "circle", "rect", "use", "link"))

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs):
        self.ids += [value for key, value in attrs if key == "id"]
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "action", "srcset")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def whole() -> str:
    return render(fabricated())


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are painted but not turned into SVG, which takes most of a page's time."""
    monkeypatch.setattr(Plot, "inline", lambda self: f"<svg><title>{self.name}</title></svg>")


def check_sound(page: str) -> Outline:
    outline = Outline(page)
    assert not outline.open
    assert len(set(outline.ids)) == len(outline.ids), "ids are unique"
    assert "script" not in outline.tags
    assert outline.handlers == []
    for address in outline.addresses:
        assert address.startswith(("#", "data:image/jpeg;base64,")), address
        if address.startswith("#"):
            assert address[1:] in outline.ids
    return outline


def test_one_offline_file(tmp_path):
    path = write_report(fabricated(), tmp_path)
    assert path == tmp_path / "report.html"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    page = path.read_text(encoding="utf-8")
    check_sound(page)
    for outside in ("@import", "url(http", "<link", "<iframe", "<script"):
        assert outside not in page
    assert len(page) < 1_000_000


def test_every_section_is_there(whole):
    anchors = re.findall(r'<section id="(\w+)"', whole)
    assert anchors == [
        "tiers", "cost", "species", "det", "scores", "agreement", "sheet", "training", "records",
    ]  # fmt: skip


def test_verdict_stands_first(whole):
    first = re.search(r"<h1>(.*?)</h1>", whole)
    assert first
    words = re.sub(r"<[^>]+>", "", first[1])
    assert re.match(
        r"Tier max errs least: it accepts [\d.]+\u202f% of attacks of its worst species \(mask\) "
        r"and rejects [\d.]+\u202f% of bona fide presentations, in [\d.]+\u202fms\. "
        r"Tier low, the cheapest: [\d.]+\u202f% and [\d.]+\u202f%, in 0.75\u202fms\.",
        words,
    )


def verdict_of(*tiers: tuple[str, int, float | None]) -> str:
    """The headline's words for (name, MACs, APCER and BPCER, None without a threshold)."""
    rows = [
        {"tier": name, "macs": macs, "metrics": {"auc": {"value": 0.8}}}
        | ({} if e is None else {"metrics": {"apcer_ap": {"rate": e}, "bpcer": {"rate": e}}})
        for name, macs, e in tiers
    ]
    return re.sub(r"<[^>]+>", "", headline({"tiers": rows})).replace("\u202f", "")


def test_verdict_by_hand():
    said = "accepts 10.0% of attacks and rejects 10.0% of bona fide presentations"
    assert verdict_of(("a", 1, 0.1)) == f"Tier a {said}."
    assert verdict_of(("b", 2, 0.1), ("a", 1, 0.2)) == (
        f"Tier b errs least: it {said}. Tier a, the cheapest: 20.0% and 20.0%."
    )
    assert verdict_of(("b", 2, 0.1), ("a", 1, 0.1)) == (
        f"Tier a, the cheapest, {said}. No tier errs less."
    )
    assert verdict_of(("b", 2, 0.1), ("a", 1, None)) == (
        f"Tier b errs least: it {said}. Tier a, the cheapest, has no threshold."
    )


def test_says_what_it_is(whole):
    assert "self-assessment, not a certification" in whole
    assert '<span class="badge">Synthetic data</span>' in whole
    assert whole.count('class="tag">synthetic data') == 8, "every section with results"
    assert "injected video was not tested" in whole
    assert "live/07/000031.jpg" in whole
    assert "2 min 23 s" in whole


def test_real_data_carries_no_synthetic_badge(undrawn):
    evaluation = fabricated()
    evaluation["data"]["synthetic"] = False
    assert "ynthetic data" not in render(evaluation)


def test_dark_print_and_phone(whole):
    for rule in ("prefers-color-scheme:dark", "@media print", "max-width: 760px", "--live:#0069a8"):
        assert rule in whole
    assert whole.count('role="img"') >= 11
    assert "aria-label" in whole


def test_numbers_of_the_tiers_table_by_hand(undrawn):
    evaluation = fabricated()
    metrics = evaluation["tiers"][0]["metrics"]
    metrics["bpcer"] = {"errors": 3, "n": 96, "rate": 3 / 96, "low": 0.0065, "high": 0.0886}
    table = re.search(r"<table class=\"tiers\">.*?</table>", render(evaluation), re.DOTALL)
    assert table
    assert '<span class="figure">3.1\u202f%</span><small class="range">0.7–8.9</small>' in table[0]
    assert "0.460</span>" in table[0]
    assert "colour histogram" in table[0]


def test_a_baseline_as_good_as_a_tier_is_a_warning(undrawn):
    evaluation = fabricated()
    evaluation["baseline"]["metrics"]["auc"]["value"] = 0.999
    page = render(evaluation)
    assert "no worse than low, mid" in page
    assert "the data may give itself away" in page


def test_an_overlap_with_training_is_a_warning(undrawn):
    evaluation = fabricated("low")
    evaluation["data"]["subject_overlap"] = "warning: 2 of 9 subjects (a, b) are in training"
    page = render(evaluation)
    assert '<li class="warn">Overlap with training: 2 of 9 subjects (a, b)' in page


def test_long_and_deep_settings_stay_short():
    record = {"train": {"subjects": [str(i) for i in range(40)], "network": {"width": 1.0}}}
    shown = re.sub(r"<[^>]+>", " ", markup.pairs(record))
    assert "10, 11 … (40 in all)" in shown
    assert re.search(r"train +› +network +› +width +1 ", shown)
    assert markup.pairs(record).count("<dl>") == 1, "flat"


def test_settings_are_folded_away(whole):
    assert re.search(r"<details><summary>Settings</summary><dl>.*?</dl></details>", whole)


def method_of(*, refit: bool) -> str:
    """What an evaluation itself says of its intervals."""
    rng = np.random.default_rng(0)
    live = np.arange(40) % 2 == 0
    scores = Scores(
        subject=[str(i // 10) for i in range(40)],
        presentation=[str(i) for i in range(40)],
        bona_fide=live,
        species=["" if alive else "mask" for alive in live],
        score=np.clip(0.5 + 0.2 * np.where(live, 1, -1) + rng.normal(0, 0.2, 40), 0, 1),
    )
    threshold = fit_threshold(scores, "min_acer", source="dev", draws=0)
    dev = scores if refit else None
    return evaluate_scores(scores, threshold, dev=dev, draws=10)["interval_method"]


def test_intervals_are_explained_per_tier():
    rows = [
        {"tier": name, "threshold": {"value": 0.5}}
        | {"metrics": {"interval_method": method_of(refit=refit)}}
        for name, refit in (("low", True), ("mid", False), ("max", False))
    ]
    common = "95 %; APCER and BPCER: Clopper-Pearson; all others, and thin bars: percentile "
    common += "bootstrap over subjects"
    assert sections.interval_method(rows) == (
        f"{common}; the threshold refitted on resampled dev (low); threshold held (mid, max)"
    )
    assert sections.interval_method(rows[1:]) == f"{common}, threshold held"
    assert sections.interval_method([rows[1] | {"threshold": None}]) == (
        "95 %; percentile bootstrap over subjects"
    )


def test_rates_share_one_scale(undrawn):
    """The largest end, here 0.42, rounded up; a rate of half of it lies in the middle."""
    evaluation = fabricated("low") | {"baseline": None}
    (tier,) = evaluation["tiers"]
    bars = {"low": 0.1, "high": 0.42}
    tier["metrics"] = {
        "apcer_ap": {"rate": 0.25, **bars}, "bpcer": {"rate": 0.25, **bars},
        "eer": {"value": 0.25, "low": 0.2, "high": 0.3},
    }  # fmt: skip
    page = render(evaluation)
    assert "from 0 to 50\u202f% in every column" in page
    assert page.count('<circle cx="40.0" cy="4" r="2.6"/>') == 3


def test_a_tier_has_one_colour_wherever_it_stands(whole):
    for place, name in enumerate(LETTERS, start=1):
        found = re.findall(rf'chip series(\d)"><span class="name">{name}<', whole)
        assert found == [str(place)] * len(found)
        assert len(found) >= 5


def test_one_of_a_thing_is_singular(undrawn):
    evaluation = fabricated("low")
    evaluation["data"]["counts"] = {"images": 1, "bona_fide": 1, "attack": 1, "subjects": 1}
    evaluation["data"]["subject_overlap"] = "none: no name of the 1 subjects occurs in training"
    (tier,) = evaluation["tiers"]
    tier["threshold"] |= {"num_attack": 1, "num_subjects": 1}
    tier["latency_ms"]["runs"] = 1
    tier["metrics"]["notes"] = ["only 1 subjects: few", "11 subjects stay"]
    page = render(evaluation)
    assert not re.search(r"\b1 \w+s\b", re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page))
    for said in ("1 image, 1 bona fide, 1 attack, 1 subject<", "Only 1 subject: few", "1 run, "):
        assert said in page
    assert "11 subjects stay" in page


def test_a_note_on_some_tiers_names_them(undrawn):
    evaluation = fabricated("low", "mid")
    evaluation["tiers"][1]["metrics"]["notes"] = ["AUC below chance"]
    assert '<li class="warn">Tier mid: AUC below chance.</li>' in render(evaluation)


def test_one_epoch_is_said(undrawn):
    evaluation = fabricated("low")
    evaluation["training"]["curve"] = evaluation["training"]["curve"][:1]
    page = render(evaluation)
    assert "One epoch</b> is a point" in page
    assert "Watch the gap" not in page


def test_no_threshold_is_said():
    evaluation = fabricated() | {"baseline": None}
    for tier in evaluation["tiers"]:
        tier["threshold"] = None
        tier["metrics"] |= dict.fromkeys(("apcer", "apcer_ap", "bpcer", "acer", "hter"))
    page = render(evaluation)
    check_sound(page)
    assert "it has no threshold" in page
    assert "No threshold was fitted" in page
    for untrue in ("decided wrongly", "thresholds in use", "APCER<small>worst"):
        assert untrue not in page


def test_classification_has_its_own_table():
    page = render(fabricated_classes())
    check_sound(page)
    assert "errs least: it names <b>88.0\u202f%</b> of images rightly" in page
    assert "the cheapest: <b>81.2\u202f%</b>" in page
    assert "Accuracy" in page
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    for foreign in ("APCER", "min_acer", "bona fide", "attack", "subject", "ISO/IEC"):
        assert foreign not in shown, foreign


@pytest.mark.parametrize("block", sorted(fabricated()))
@pytest.mark.parametrize("gone", [True, False], ids=["missing", "none"])
def test_any_block_may_lack(block, gone, undrawn):
    evaluation = fabricated("low", "max")
    if gone:
        del evaluation[block]
    else:
        evaluation[block] = None
    check_sound(render(evaluation))


def test_any_key_of_a_tier_may_lack(undrawn):
    whole = fabricated("low") | {"pareto": None, "sheet": None, "training": None}
    (tier,) = whole["tiers"]
    for key in tier:
        check_sound(render(whole | {"tiers": [tier | {key: None}]}))
    for key in tier["metrics"]:
        metrics = {name: value for name, value in tier["metrics"].items() if name != key}
        check_sound(render(whole | {"tiers": [tier | {"metrics": metrics, "det": None}]}))


def test_an_empty_evaluation_is_still_a_page():
    page = render({})
    check_sound(page)
    assert "No tier was evaluated." in page


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "]]><svg onload=alert(1)>",
    "$title ${style} $x^2$ {0} %s",
    "\x00\x1b[31m\u202egnp.exe",
    "面具 قناع 🎭",
]


def hostile(value, bad: str):
    """The same structure with every name, key of data and text replaced."""
    if isinstance(value, dict):
        return {key: hostile(item, bad) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, bad) for item in value]
    return bad if isinstance(value, str) else value


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_text_stays_text(bad):
    evaluation = hostile(fabricated("low"), bad)
    for tier in evaluation["tiers"]:
        for block in (tier["det"], tier["histogram"], tier["metrics"]["apcer"]):
            block[bad] = block.pop("mask")
    evaluation["data"]["species"] = {bad: 200}
    evaluation["settings"] = {bad: {bad: [bad]}}
    evaluation["training"]["curve"][0][f"dev_{bad}"] = 0.5
    page = render(evaluation)
    check_sound(page)
    assert "<img" not in page, "no picture that is not a picture"
    assert "\x00" not in page
    assert "\u202e" not in page


@given(st.text(max_size=30))
@settings(max_examples=50)
def test_text_cannot_open_a_tag_or_leave_an_attribute(raw):
    safe = markup.text(raw)
    assert not set(safe) & set("<>\"'")
    assert Outline(f'<p title="{safe}">{safe}</p>').tags == ["p"]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0"), (1, "100"), (0.0314, "3.1"), (0.0004, "0.04"), (0.9999, "100"), (0.5, "50.0")],
)
def test_percent_by_hand(share, shown):
    assert markup.percent(share) == f"{shown}\u202f%"


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "3", True])
def test_a_missing_number_is_a_dash(missing):
    assert markup.percent(missing) == markup.NONE
    assert markup.decimal(missing) == markup.NONE
    assert markup.count(missing) == markup.NONE


def test_counts_by_hand():
    assert markup.count(12_345_678) == "12.3\u202fM"
    assert markup.count(999_999, "B") == "1\u202fMB"
    assert markup.count(750) == "750"


def test_strip_draws_one_block_per_letter():
    drawn = markup.strip("LHB")
    assert drawn.count("heavy") == 2
    assert drawn.count('"light"') == 2
    assert markup.strip("XYZ") == "<code>XYZ</code>"


def test_statement_is_one_thing():
    assert report.STATEMENT in render({})
    assert headline({"tiers": None}) == "No tier was evaluated."
