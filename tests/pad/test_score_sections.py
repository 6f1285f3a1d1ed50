"""The report of a score file alone."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pliant.pad.assess import evaluate
from pliant.pad.report import headline, render
from pliant.pad.scores import Scores
from pliant.pad.table import ScoreTable


def some_table(seed, *, species=("print", "mask"), **extra):
    rng = np.random.default_rng(seed)
    n = 600
    live = np.arange(n) % 3 == 0
    dark = rng.random(n) < 0.4
    score = 1 / (1 + np.exp(-rng.normal(np.where(live, 2 - 2.5 * dark, -1.5))))
    quiet = np.arange(n) % 50 == 0
    return ScoreTable(
        subject=(np.arange(n) // 10).astype(str),
        presentation=np.arange(n).astype(str),
        bona_fide=live,
        species=np.where(live, "", np.where(np.arange(n) % 2 == 0, *species)),
        score=np.where(quiet, np.nan, score),
        reason=np.where(quiet, "<b>no face</b>", ""),
        extra={"light": np.where(dark, "dark", "bright"), "total_ms": np.full(n, "12.5")} | extra,
    )


RECORD = evaluate(some_table(1), dev=some_table(2), draws=60, celeba=True)
PAGE = render(RECORD)


class Ids(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]


def test_sections_in_order():
    found = re.findall(r'<section id="([\w-]+)"', PAGE)
    wanted = "errors det scores nonresponse slices free reliability celeba durations records"
    assert found == wanted.split()
    parser = Ids()
    parser.feed(PAGE)
    assert len(parser.ids) == len(set(parser.ids))


def test_the_head_names_no_tier():
    said = re.sub("<[^>]+>", "", headline(RECORD))
    assert said.startswith("This system accepts ")
    assert "of its worst species" in said
    assert "Tier" not in said


def test_figures_of_the_record_are_on_the_page():
    metrics = RECORD["tiers"][0]["metrics"]
    assert f"{metrics['bpcer']['errors']} of {metrics['bpcer']['n']}" in PAGE
    assert f"ECE {RECORD['tiers'][0]['reliability']['ece']:.3f}" in PAGE
    assert f"{RECORD['tiers'][0]['celeba_official'][0]['tpr_at_fpr']:.5f}" in PAGE
    assert "light = dark: BPCER" in PAGE
    assert 'class="differs"' in PAGE
    assert "about 0 of so many" in PAGE


def test_the_page_is_offline_and_escapes_what_comes_from_files():
    assert "<script" not in PAGE
    assert "http://" not in re.sub(r"xmlns[:\w]*=\S+", "", PAGE)
    assert "<b>no face</b>" not in PAGE
    assert "&lt;b&gt;no face&lt;/b&gt;" in PAGE
    hostile = evaluate(some_table(1, species=("<i>x", "$y$")), policy="fixed=0.5", draws=0)
    assert "<i>x" not in render(hostile)


@pytest.mark.parametrize("policy", [None, "fixed=0.5"])
def test_the_least_scores_still_make_a_page(policy):
    scores = Scores.of([0.9, 0.2], [True, False])
    page = render(evaluate(scores, policy=policy, draws=0))
    found = re.findall(r'<section id="([\w-]+)"', page)
    assert ("errors" in found) == (policy is not None)
    assert {"det", "free", "reliability", "records"} <= set(found)
    assert "nonresponse" not in found
    assert "slices" not in found


def test_the_full_system_has_a_section_of_its_own():
    rng = np.random.default_rng(5)
    table = some_table(1, match_score=rng.normal(size=600).astype(str))
    record = evaluate(table, policy="fixed=0.5", match_threshold=-1.5, draws=20)
    page = render(record)
    found = re.findall(r'<section id="([\w-]+)"', page)
    assert found.index("full-system") == found.index("nonresponse") + 1
    frr = record["tiers"][0]["full_system"]["frr"]
    section = page[page.index('<section id="full-system"') :].split("</section>")[0]
    assert f"{frr['errors']} of {frr['n']}" in section
    assert "match score -1.5000" in section
    assert "(12) count as not accepted" in section
    assert "full-system" not in PAGE


def test_the_roc_stands_beside_the_det():
    section = PAGE[PAGE.index('<section id="det"') :].split("</section>")[0]
    assert re.findall(r'aria-label="(\w+) per species', section) == ["DET", "ROC"]


def test_no_part_differs():
    table = some_table(1, light=np.where(np.arange(600) % 7 < 3, "a", "b"))
    page = render(evaluate(table, policy="fixed=0.5", draws=0))
    assert "No part differs from the whole." in page
