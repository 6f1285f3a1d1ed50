"""The page in headless Chromium, from the bundle to the verdict."""

import base64
import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest

from pliant.export.golden import golden_images
from pliant.runtime import quality
from pliant.runtime.bundle import Bundle
from pliant.runtime.crop import crop_square

TIMEOUT_MS = 30_000
TIERS = ("low", "mid", "high", "max")
SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (360, 740)}


def ask(tab: Any, expression: str, given: Any = None) -> Any:
    """The value of an expression that knows `page`, `all` of the module and `given`."""
    imported = "const all = await import('/pliant.js'); const { page } = all;"
    return tab.evaluate(f"async (given) => {{ {imported} return {expression}; }}", given)


def until(tab: Any, expression: str, given: Any = None) -> None:
    """Asks until the answer is true; the page's policy forbids Playwright's own way of waiting."""
    end = time.monotonic() + TIMEOUT_MS / 1e3
    while not ask(tab, expression, given):
        assert time.monotonic() < end, f"never true: {expression}"
        time.sleep(0.02)


def open_page(browser: Any, address: str, *, size: str = "wide", **context: Any) -> Any:
    width, height = SIZES[size]
    tab = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.goto(address)
    tab.wait_for_selector("#bench:not([hidden])", timeout=TIMEOUT_MS)
    until(tab, "page.reading !== null")
    return tab


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Any]:
    """The page with the bundle open; what a test changes here the next one finds."""
    tab = open_page(browser, address)
    yield tab
    assert tab.problems == []


@pytest.fixture(scope="module")
def contract(bundle: Path) -> dict[str, Any]:
    return json.loads(zipfile.ZipFile(bundle).read("bundle.json"))


def use_tier(tab: Any, place: int) -> None:
    tab.locator("#tier").evaluate(
        "(slider, place) => { slider.value = place; slider.dispatchEvent(new Event('input')); }",
        place,
    )
    until(tab, "page.model.current.tier?.name === page.bundle.contract.tiers[given].name", place)


def reading_of_sample(tab: Any, place: int) -> dict[str, Any]:
    ask(tab, "(page.reading = null)")
    tab.click(f"#samples li:nth-child({place + 1}) button")
    until(tab, "page.reading !== null")
    return ask(tab, "(({score, verdict}) => ({score, verdict}))(page.reading)")


def test_scores_of_eight_golden_images_in_every_tier_are_pythons(tab: Any, contract: Any):
    assert len(contract["golden"]) == 8
    verdicts = set()
    for place, tier in enumerate(contract["tiers"]):
        use_tier(tab, place)
        for number, golden in enumerate(contract["golden"]):
            reading = reading_of_sample(tab, number)
            promised = golden["probabilities"][tier["name"]][1]
            assert reading["score"] == pytest.approx(promised, abs=1e-4)  # asked for: 1e-3
            accepted = promised >= tier["threshold"]["value"]
            assert reading["verdict"] == ("bona_fide" if accepted else "attack")
            verdicts.add(reading["verdict"])
    assert verdicts == {"bona_fide", "attack"}


@pytest.fixture
def page_of_its_own(browser: Any, address: str) -> Iterator[Any]:
    """For a test that opens another bundle or changes what is remembered."""
    tab = open_page(browser, address)
    yield tab
    tab.context.close()
    assert tab.problems == []


def open_bundle(tab: Any, path: Path) -> None:
    name = json.loads(zipfile.ZipFile(path).read("bundle.json"))["name"]
    tab.set_input_files("#bundle-file", path)
    until(tab, "page.bundle.contract.name === given && page.reading !== null && !page.busy", name)


def test_a_bundle_in_8_bits_runs_its_tiers_and_nothing_else(
    page_of_its_own: Any, int8_bundle: Path
):
    tab = page_of_its_own
    contract = json.loads(zipfile.ZipFile(int8_bundle).read("bundle.json"))
    assert contract["selection"]["num_blocks"] == 0
    assert contract["tiers"][0]["configuration"] != ""
    open_bundle(tab, int8_bundle)
    for place in (1, 0):
        use_tier(tab, place)
        promised = contract["golden"][2]["probabilities"][contract["tiers"][place]["name"]][1]
        assert reading_of_sample(tab, 2)["score"] == pytest.approx(promised, abs=0.05)
    assert not tab.is_visible("#custom")
    assert not tab.is_visible("#problem")


def test_while_another_bundle_opens_its_progress_is_seen_and_the_old_one_waits(
    page_of_its_own: Any, bundle: Path, int8_bundle: Path, tmp_path: Path
):
    tab = page_of_its_own
    tab.evaluate(WATCH_OPENING)
    tab.focus("#choose-photo")
    bad = tmp_path / "bad.pliant"
    bad.write_bytes(_spoiled(bundle, "score"))
    tab.set_input_files("#bundle-file", bad)
    tab.wait_for_selector("#problem:not([hidden])", timeout=TIMEOUT_MS)
    assert tab.inner_text("#problem").endswith("“test model” is still open.")
    assert tab.evaluate("[document.activeElement.id, bench.inert]") == ["choose-photo", False]
    use_tier(tab, 2)
    assert reading_of_sample(tab, 1)["score"] is not None

    open_bundle(tab, int8_bundle)
    assert not tab.is_visible("#opening")
    assert not tab.is_visible("#problem")
    seen = tab.evaluate("seen")
    assert all(entry["inert"] and entry["drawn"] for entry in seen)
    assert {entry["title"] for entry in seen} == {"Opening “bad.pliant”", "Opening “small.pliant”"}
    assert "self-test, tier 2 of 2; “test model” stays until then" in [e["words"] for e in seen]
    shares = [entry["share"] for entry in seen if "small" in entry["title"]]
    assert shares == sorted(shares)
    assert shares[-1] > 0.8


WATCH_OPENING = """() => {
  globalThis.seen = [];
  new MutationObserver(() => seen.push({
    title: document.getElementById("opening-title").textContent,
    words: document.getElementById("progress").textContent,
    share: document.getElementById("progress-bar").value,
    inert: document.getElementById("bench").inert,
    drawn: document.getElementById("opening").checkVisibility(),
  })).observe(document.getElementById("progress"), { childList: true });
}"""


@pytest.mark.parametrize("border", ["reflect101", "replicate", "black"])
def test_crop_is_that_of_python_bit_by_bit(tab: Any, border: str):
    random = np.random.default_rng(1)
    for _ in range(6):
        height, width = random.integers(5, 260, 2).tolist()
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        box = [*random.uniform(-40, 200, 2), *random.uniform(8, 260, 2)]
        scale, size = random.uniform(0.5, 3), int(random.integers(16, 97))
        found = ask(
            tab,
            f"Array.from(all.cropSquare({PIXELS}, given.box, given))",
            {"box": box, "crop_scale": scale, "size": size, "border": border, **_pixels(image)},
        )
        expected = crop_square(image, box, scale=scale, size=size, border=border)
        np.testing.assert_array_equal(np.array(found, np.uint8).reshape(expected.shape), expected)


GOOD = golden_images()[2]
assert GOOD.box is not None
BOX = [160 + GOOD.box[0], 120 + GOOD.box[1], *GOOD.box[2:]]
PICTURE = cv2.copyMakeBorder(GOOD.pixels, 120, 120, 160, 160, cv2.BORDER_REFLECT_101)
LEFT_EDGE = int(BOX[0] + 0.3 * BOX[2])
POOR = {
    "good": (PICTURE, BOX, None),
    "darkened": ((PICTURE * 0.08).astype(np.uint8), BOX, "the face is too dark"),
    "overexposed": (
        np.clip(PICTURE * 3.0 + 160, 0, 255).astype(np.uint8), BOX, "the face is overexposed"
    ),
    "blurred": (cv2.GaussianBlur(PICTURE, (0, 0), 6), BOX, "the face is blurred"),
    "at the edge": (
        np.ascontiguousarray(PICTURE[:, LEFT_EDGE:]), [BOX[0] - LEFT_EDGE, *BOX[1:]],
        "the face is cut off at the edge of the image",
    ),
    "nearly at the edge": (
        np.ascontiguousarray(PICTURE[:, int(BOX[0] + 5) :]), [BOX[0] - int(BOX[0] + 5), *BOX[1:]],
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POOR)
def test_the_quality_gate_says_what_python_says(tab: Any, bundle: Path, name: str):
    image, box, reason = POOR[name]
    expected = Bundle.open(bundle).predict(image, box=box)
    assert expected.reason == reason
    use_tier(tab, 2)
    examined = f"all.examine(page.model, null, {{ image: {PIXELS}, box: given.box }})"
    found = ask(tab, examined, {"box": box, **_pixels(image)})
    assert found["verdict"] == ("undecided" if reason else expected.verdict)
    assert found.get("reason") == expected.reason
    assert found["score"] == pytest.approx(expected.score, abs=1e-4)  # shown in any case


@pytest.mark.parametrize(("size", "scale"), [(64, 1.5), (112, 1.5), (97, 1.0), (80, 2.7), (16, 4)])
def test_the_measures_of_quality_are_pythons(tab: Any, size: int, scale: float):
    for image, box, _ in POOR.values():
        crop = crop_square(image, box, scale=scale, size=size, border="reflect101")
        given = {"box": box, "crop_scale": scale, "size": size, "border": "reflect101"}
        cropped = f"all.cropSquare({PIXELS}, given.box, given)"
        measured = f"all.qualityOf({cropped}, given.box, given, given.crop_scale)"
        found = ask(tab, measured, given | _pixels(image))
        luma = quality.face_luma(crop, scale)
        assert found["dark"] == quality.dark_share(luma)
        assert found["bright"] == quality.bright_share(luma)
        assert found["outside"] == pytest.approx(quality.outside_share(box, image.shape))
        assert found["sharpness"] == pytest.approx(quality.sharpness(luma), rel=1e-4)


def _pixels(image: np.ndarray) -> dict[str, Any]:
    data = np.dstack([image, image[..., :1]]).tobytes()
    height, width = image.shape[:2]
    return {"width": width, "height": height, "data": base64.b64encode(data).decode()}


PIXELS = (
    "{ width: given.width, height: given.height, "
    "data: Uint8Array.from(atob(given.data), (c) => c.charCodeAt(0)) }"
)


def test_switching_takes_less_than_150_ms(tab: Any):
    rounds = []
    for _ in range(5):  # a busy machine may spoil some
        switches = [(use_tier(tab, place), ask(tab, "page.switchMs"))[1] for place in (0, 3, 1, 2)]
        rounds.append(median(switches))
        if rounds[-1] < 150:
            break
    assert min(rounds) < 150, rounds
    assert tab.inner_text("#switched").startswith("37 of ")


def test_nothing_leaves_the_page(browser: Any, address: str, tmp_path: Path):
    context = browser.new_context()
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector("#bench:not([hidden])", timeout=TIMEOUT_MS)
    until(tab, "page.reading !== null")
    assert ask(tab, "crossOriginIsolated")
    assert requests
    assert all(url.startswith((address, f"blob:{address}")) for url in requests)
    requests.clear()

    photo = tmp_path / "photo.png"
    photo.write_bytes(golden_images()[4].png)
    tab.set_input_files("#photo-file", photo)
    tab.wait_for_selector("#source:text('photo.png')")
    use_tier(tab, 3)
    reading_of_sample(tab, 2)
    tab.click("#by-hand")
    tab.fill("#budget", "0.1")
    tab.click("#find button")
    tab.wait_for_selector("#found:text('No tier fits 0.1 ms')", timeout=TIMEOUT_MS)
    assert ask(tab, "page.model.current.tier.name") == "max"  # as before
    tab.click("#custom summary")
    tab.click("#blocks button:first-child")
    until(tab, "page.model.current.tier === null")
    assert [url for url in requests if not url.startswith("blob:")] == []
    assert context.cookies() == []
    blocked = tab.evaluate("fetch('https://example.com/').then(() => 'sent', () => 'refused')")
    assert blocked == "refused"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ("model.onnx", "model.onnx does not have the SHA-256"),
        ("bundle.json", "bundle.json does not have the SHA-256"),
        ("compressed", "must be stored, not compressed"),
        ("format", "is of format 2"),
        ("golden", "golden/0.png is no PNG image, or it is too large"),
        ("score", "The self-test failed in tier low"),
        ("text", "This file is no bundle; choose one that pliant export wrote"),
        ("cut", "is no bundle, or it is damaged"),
    ],
)
def test_a_bad_bundle_is_refused_in_one_sentence(
    tab: Any, bundle: Path, tmp_path: Path, spoil: str, sentence: str
):
    bad = tmp_path / "bad.pliant"
    bad.write_bytes(_spoiled(bundle, spoil))
    tab.set_input_files("#bundle-file", bad)
    tab.wait_for_selector("#problem:not([hidden])")
    said = tab.inner_text("#problem")
    assert sentence in said
    assert said.count("\n") == 0
    assert tab.get_attribute("#problem", "role") == "alert"
    assert not tab.is_visible("#opening")
    assert reading_of_sample(tab, 0)["score"] is not None  # the old bundle is still open


def _spoiled(bundle: Path, how: str) -> bytes:
    if how == "text":
        return b"no bundle at all"
    if how == "cut":
        return bundle.read_bytes()[:-30]
    with zipfile.ZipFile(bundle) as file:
        files = {name: file.read(name) for name in file.namelist()}
    if how in ("format", "golden", "score"):
        record = json.loads(files["bundle.json"])
        if how == "format":
            record["format"] = 2
        elif how == "golden":
            record["golden"][0]["box"] = [0, 0, 90_000, 90_000]
        else:
            record["golden"][0]["probabilities"]["low"] = [0.5, 0.5]
        files["bundle.json"] = json.dumps(record).encode()
        files["bundle.sha256"] = hashlib.sha256(files["bundle.json"]).hexdigest().encode() + b"\n"
    elif how != "compressed":
        files[how] = files[how][:-2] + b"  "
    packed = BytesIO()
    method = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return packed.getvalue()


def test_a_box_by_hand_where_no_face_is_found(tab: Any, tmp_path: Path):
    photo = tmp_path / "grey.png"
    cv2.imwrite(str(photo), np.full((240, 320, 3), 127, np.uint8))
    tab.set_input_files("#photo-file", photo)
    until(tab, "page.reading?.reason === 'no face found'")
    assert tab.inner_text("#verdict-word") == "Undecided"
    assert ask(tab, "page.reading.score") is None

    stage = tab.locator("#stage").bounding_box()
    scale = min(stage["width"] / 320, stage["height"] / 240)
    left = stage["x"] + (stage["width"] - 320 * scale) / 2
    top = stage["y"] + (stage["height"] - 240 * scale) / 2
    tab.mouse.move(left + 96 * scale, top + 48 * scale)
    tab.mouse.down()
    tab.mouse.move(left + 192 * scale, top + 192 * scale, steps=4)
    tab.mouse.up()
    until(tab, "page.reading.score !== null")
    x, y, width, height = ask(tab, "page.reading.box")
    assert [x, y, width, height] == pytest.approx([96, 48, 96, 144], abs=2)

    tab.focus("#stage")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Shift+ArrowDown")
    until(tab, "page.reading.box[0] > given", x)
    until(tab, "page.reading.box[3] > given", height)
    tab.click("#by-hand")
    until(tab, "page.reading.reason === 'no face found'")


def test_the_slider_works_by_keyboard(tab: Any, contract: Any):
    use_tier(tab, 0)
    names = [tier["name"] for tier in contract["tiers"]]
    tab.focus("#tier")
    for name in names[1:]:
        tab.keyboard.press("ArrowRight")
        until(tab, "page.model.current.tier?.name === given", name)
        assert tab.get_attribute("#tier", "aria-valuetext").startswith(f"{name}, ")
        assert tab.inner_text("#tier-list .chosen b") == name
    tab.keyboard.press("Home")
    until(tab, "page.model.current.tier?.name === given", names[0])
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_configuration_of_ones_own_has_a_score_but_no_verdict(tab: Any, contract: Any):
    use_tier(tab, 0)
    reading_of_sample(tab, 0)
    if not tab.locator("#custom").evaluate("(details) => details.open"):
        tab.click("#custom summary")
    tab.click("#blocks button:nth-child(3)")
    until(tab, "page.model.current.tier === null && page.reading.verdict === 'undecided'")
    assert ask(tab, "page.model.current.configuration") == "LLH" + 13 * "L"
    assert ask(tab, "page.reading.score") is not None
    assert tab.inner_text("#threshold") == "none"
    tab.click("#back-to-tier")
    until(tab, "page.reading.made.tier?.name === 'low'")


def test_find_my_tier_picks_the_best_within_the_budget_and_remembers(
    browser: Any, address: str, contract: Any
):
    tab = open_page(browser, address)
    tab.fill("#budget", "5000")
    tab.click("#find button")
    tab.wait_for_selector("#found:text('is your tier')", timeout=TIMEOUT_MS)
    best = max(contract["tiers"], key=lambda tier: tier["dev"]["auc"])["name"]
    assert ask(tab, "page.model.current.tier.name") == best
    assert set(ask(tab, "page.tierMs")) == {tier["name"] for tier in contract["tiers"]}
    tab.reload()
    tab.wait_for_selector("#bench:not([hidden])", timeout=TIMEOUT_MS)
    until(tab, "page.reading !== null")
    assert ask(tab, "page.model.current.tier.name") == best
    assert tab.input_value("#budget") == "5000"


def start_measuring(tab: Any) -> None:
    tab.fill("#budget", "5000")
    tab.click("#find button")
    until(tab, "page.busy === 'measuring'")
    tab.wait_for_selector("#found:text('round 2 of 3')", timeout=TIMEOUT_MS)


def test_a_tier_chosen_while_all_are_measured_stays(page_of_its_own: Any, contract: Any):
    tab = page_of_its_own
    start_measuring(tab)
    tab.locator("#tier").evaluate(
        "(slider) => { for (slider.value of [2, 0, 1]) slider.dispatchEvent(new Event('input')); }"
    )
    assert tab.inner_text("#switched") == "waits until the tiers are measured"
    assert ask(tab, "page.busy") == "measuring"
    until(tab, "!page.busy && !page.asked && page.model.current.tier.name === 'mid'")
    ask(tab, "page.turn")
    assert ask(tab, "page.reading.made.tier.name") == "mid"
    assert tab.input_value("#tier") == "1"
    assert tab.inner_text("#tier-list .chosen b") == "mid"
    assert tab.inner_text("#found").startswith("max is the best within 5000 ms")
    assert set(ask(tab, "page.tierMs")) == {tier["name"] for tier in contract["tiers"]}
    # no score of a tier that was measured, or passed over, came between
    assert {entry["tier"] for entry in ask(tab, "page.history")} == {"high", "mid"}


def test_a_photo_dropped_while_all_are_measured_is_scored_in_the_tier_found(page_of_its_own: Any):
    tab = page_of_its_own
    start_measuring(tab)
    before = ask(tab, "page.history.length")
    tab.evaluate(DROP, ["photo.png", base64.b64encode(golden_images()[4].png).decode()])
    tab.wait_for_selector("#waiting:not([hidden])")
    assert tab.inner_text("#waiting") == "Waits until the tiers are measured"
    assert "Test image 1" in tab.inner_text("#source")  # as the verdict beside it
    tab.wait_for_selector("#source:text('photo.png')", timeout=TIMEOUT_MS)
    ask(tab, "page.turn")
    assert not tab.is_visible("#waiting")
    assert ask(tab, "page.reading.made.tier.name") == "max"
    # the old picture in the tier found, then the photo in it
    tiers = [entry["tier"] for entry in ask(tab, "page.history")[before:]]
    assert tiers == ["max", "max"]


def test_a_bundle_opened_while_all_are_measured_follows(
    page_of_its_own: Any, bundle: Path, int8_bundle: Path
):
    tab = page_of_its_own
    old = ask(tab, "page.bundle.hash")
    start_measuring(tab)
    packed = base64.b64encode(int8_bundle.read_bytes()).decode()
    tab.evaluate(DROP, ["small.pliant", packed])
    tab.evaluate(DROP, ["photo.png", base64.b64encode(golden_images()[4].png).decode()])
    tab.locator("#tier").evaluate(
        "(slider) => { slider.value = 2; slider.dispatchEvent(new Event('input')); }"
    )
    tab.wait_for_selector("#source:text('photo.png')", timeout=TIMEOUT_MS)
    ask(tab, "page.turn")
    assert ask(tab, "[page.busy, page.asked]") == [None, None]
    assert ask(tab, "page.bundle.contract.name") == "small model"
    assert ask(tab, "page.model.contract === page.bundle.contract")
    current = ask(tab, "page.model.current.tier.name")
    assert current == ask(tab, "page.bundle.contract.default_tier")  # not the old bundle's
    assert ask(tab, "page.tierMs") == {}
    assert tab.inner_text("#found") == ""
    assert not tab.is_visible("#problem")
    assert {entry["tier"] for entry in ask(tab, "page.history")} == {current}
    kept = json.loads(tab.evaluate("(hash) => localStorage.getItem(`pliant ${hash}`)", old))
    assert kept["tier"] == "max"
    assert set(kept["ms"]) == set(TIERS)


DROP = """([name, data]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
  dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
}"""


def test_choice_is_by_quality_and_else_by_cost(tab: Any):
    tiers = [
        {"name": "low", "macs": 1, "dev": {"auc": 0.9}},
        {"name": "high", "macs": 2, "dev": {"auc": 0.8}},
    ]
    ask_best = "all.bestWithin({ tiers: given }, { low: 1, high: 2 }, 3).name"
    assert ask(tab, ask_best, tiers) == "low"
    assert ask(tab, ask_best, [tiers[0], tiers[1] | {"dev": None}]) == "high"


def test_faces_are_chosen_as_in_python(tab: Any):
    def choice(*sides: float) -> Any:
        boxes = [[0, 0, 0.75 * side, side] for side in sides]
        return ask(tab, "all.chooseFace(given).reason ?? 'one'", boxes)

    assert choice() == "no face found"
    assert choice(100) == choice(100, 49) == "one"
    assert choice(100, 50) == "several faces found"
    assert choice(47) == "the face is too small"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_have_contrast_and_names(browser: Any, address: str, scheme: str):
    tab = open_page(browser, address, color_scheme=scheme)
    tab.click("#custom summary")
    tab.click("details:last-of-type summary")
    faint = tab.evaluate(FAINT)
    assert faint == []
    nameless = tab.evaluate(NAMELESS)
    assert nameless == []
    assert tab.get_attribute("html", "lang") == "en"
    assert tab.evaluate("document.querySelectorAll('h1').length") == 1
    assert tab.get_attribute("#live", "aria-live") == "polite"


FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (css) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor); if (colour[3] === 255) return colour; }
    return [255, 255, 255, 255]; };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || element.disabled || !element.checkVisibility()) continue;
    if (element.closest(".stage, .unseen")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, [role=img], [role=group]")]
  .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim() ||
    e.getAttribute("aria-labelledby"))).map((e) => e.outerHTML.slice(0, 100))"""


@pytest.mark.parametrize("size", ["wide", "phone"])
def test_what_is_read_or_reached_next_lies_below_or_beside(browser: Any, address: str, size: str):
    tab = open_page(browser, address, size=size)
    tab.evaluate("for (const more of document.querySelectorAll('details')) more.open = true")
    read = tab.evaluate(PLACES)
    names = [place["name"] for place in read]
    assert {"photo", "verdict-word", "score", "whole", "camera", "trace", "tier"} <= set(names)
    assert [moved for pair in pairwise(read) if (moved := _goes_back(*pair))] == []

    tab.focus("#open-bundle")
    reached = []
    while (here := tab.evaluate("document.activeElement.dataset.place")) is not None:
        reached.append(int(here))
        tab.keyboard.press("Tab")
    assert reached == sorted(set(reached))
    assert {"open-bundle", "camera", "budget", "tier"} <= {names[place] for place in reached}


def _goes_back(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Both names, if the second lies neither below the first nor to its right."""
    below = other["top"] >= one["bottom"] - 2
    beside = other["left"] >= one["right"] - 2
    return None if below or beside else f"{one['name']}, {other['name']}"


PLACES = """() => [...document.querySelectorAll(
    "button, input, summary, canvas, h2, p, dd, li, [role=img]")]
  .filter((e) => e.checkVisibility() && !e.closest(".unseen, .overlay, [aria-hidden=true]") &&
    !e.parentElement.closest("button") && (e.textContent.trim() || !e.matches("p, li")) &&
    (e.matches("button") || !e.querySelector("button, input, canvas")))
  .map((e, i) => {
    const { left, right, top, bottom } = e.getBoundingClientRect();
    e.dataset.place = i;
    return { name: e.id || e.className || e.textContent.slice(0, 20), left, right,
      top: top + scrollY, bottom: bottom + scrollY };
  })"""


def test_times_say_what_they_count(page_of_its_own: Any, tmp_path: Path):
    tab = page_of_its_own
    ms = ask(tab, "page.reading.ms")
    names = tab.locator(".figures dt").all_inner_texts()
    assert names[2:4] == ["Face to score", "Whole picture"]
    assert tab.inner_text("#time") == f"{ms['crop'] + ms['model']:.1f} ms\ncrop and network"
    assert tab.inner_text("#whole").endswith("the box was given")
    assert tab.inner_text("#find").split("\n")[-2:] == ["from face to score", "Find my tier"]
    assert not tab.is_visible("#ms-meaning")

    photo = tmp_path / "photo.png"
    photo.write_bytes(golden_images()[4].png)
    tab.set_input_files("#photo-file", photo)
    tab.wait_for_selector("#source:text('photo.png')")
    ask(tab, "page.turn")
    ms = ask(tab, "page.reading.ms")
    whole = round(sum(ms.values()))
    assert float(tab.inner_text("#whole").split(" ms")[0]) == pytest.approx(whole, abs=1)
    assert tab.inner_text("#whole").endswith("to find the face")

    tab.fill("#budget", "5000")
    tab.click("#find button")
    tab.wait_for_selector("#found:text('ms from face to score, within')", timeout=TIMEOUT_MS)
    assert "Finding the face comes on top" in tab.inner_text("#ms-meaning")


def test_photos_are_dots_in_the_trace_and_each_tier_has_its_threshold(
    page_of_its_own: Any, contract: Any
):
    tab = page_of_its_own
    for place in (1, 2, 3):
        reading_of_sample(tab, place)
    use_tier(tab, 0)
    ask(tab, "page.turn")
    reading_of_sample(tab, 4)
    assert len(ask(tab, "page.history")) == 6
    assert tab.get_attribute("#trace-line", "d") == ""
    dots = "".join(tab.get_attribute(f"#trace-{v}", "d") for v in ("bona_fide", "attack"))
    assert dots.count("M") == 6
    high, low = (contract["tiers"][place]["threshold"] for place in (2, 0))
    places = [(-0.5, high["value"], 21.5), (21.5, low["value"], 23.5)]
    expected = "".join(f"M{a:g} {100 * (1 - y):.2f}H{b:g}" for a, y, b in places)
    assert tab.get_attribute("#trace-threshold", "d") == expected
    assert tab.get_attribute("#trace-switches", "d") == "M21.5 0V100"
    assert tab.get_attribute("#trace-band", "d").count("Z") == 2
    assert tab.inner_text("#trace-label").startswith(f"low accepts from {low['value']:.2f}")


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Any, address: str):
    tab = open_page(browser, address, size="narrow", reduced_motion="reduce", has_touch=True)
    tab.click("#custom summary")
    tab.click("details:last-of-type summary")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    small = tab.evaluate(
        "[...document.querySelectorAll('button, input, summary')].filter((e) => "
        "e.checkVisibility() && !e.matches('.unseen') && e.getBoundingClientRect().height < 40)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert small == []
    verdict, stage = (tab.locator(one).bounding_box() for one in ("#verdict", "#stage"))
    assert verdict["y"] + verdict["height"] < 740, "the verdict is seen with the picture"
    assert stage["y"] < verdict["y"]
    moves = tab.evaluate("getComputedStyle(document.querySelector('.block i')).transitionDuration")
    assert moves == "0s"


def test_the_notice_on_synthetic_training(tab: Any):
    assert tab.inner_text("#notice") == (
        "This model has seen synthetic faces alone: it is no judge of real ones."
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic people, half a second each, as an uncompressed film."""
    path = tmp_path_factory.mktemp("camera") / "faces.y4m"
    with path.open("wb") as film:
        film.write(b"YUV4MPEG2 W320 H240 F10:1 Ip A1:1 C420jpeg\n")
        for golden in (golden_images()[i] for i in (2, 4)):
            face = cv2.resize(golden.pixels, (240, 240), interpolation=cv2.INTER_CUBIC)
            frame = cv2.copyMakeBorder(face, 0, 0, 40, 40, cv2.BORDER_REPLICATE)
            planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes()
            film.write((b"FRAME\n" + planes) * 5)
    return path


def test_a_camera_gets_verdicts(launch: Callable[..., Any], address: str, video: Path):
    browser = launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    )
    tab = open_page(browser, address)
    tab.click("#camera")
    until(tab, "page.history.filter(({ score }) => score !== null).length >= 8")
    assert ask(tab, "page.stream !== null")
    verdicts = set(ask(tab, "page.history.map(({ verdict }) => verdict)"))
    assert verdicts & {"bona_fide", "attack"}
    assert tab.inner_text("#verdict-word") in ("Bona fide", "Attack", "Undecided")
    seen = ask(tab, "page.history.length")
    use_tier(tab, 3)  # live
    until(tab, "page.history.length > given || page.history.length === 120", seen)
    until(tab, "page.reading.made.tier?.name === 'max'")
    assert tab.get_attribute("#trace-line", "d") != ""  # frames are joined
    tab.click("#camera")
    until(tab, "page.stream === null")
    ask(tab, "page.turn")
    joined = tab.get_attribute("#trace-line", "d").count("L")
    reading_of_sample(tab, 1)  # is not joined to them; it may push the oldest out
    assert tab.get_attribute("#trace-line", "d").count("L") in (joined, joined - 1)
    assert tab.problems == []
