"""Predictions in many threads while the tier is switched."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pliant.runtime import Bundle

THREADS, PREDICTIONS = 8, 1000


def test_every_score_is_its_tiers_golden_score(tiny, bundle_file):
    bundle = Bundle.open(bundle_file)
    names = ["low", "high", "HL", "low", "LH", "high", "LL", "HH"]  # more than are kept
    promised = {}
    for name in set(names):
        bundle.use(name)
        for k in range(3):
            found = bundle.predict(tiny.images[k], box=tiny.boxes[k])
            promised[found.tier, found.configuration, k] = (found.score, found.verdict)
    for row, tier in enumerate(("low", "high")):
        for k in range(3):
            score = promised[tier, "LLHH"[2 * row :][:2], k][0]
            assert abs(score - tiny.score(tier, k)) < 1e-5
    assert len({score for score, _ in promised.values()}) == len(promised)

    begin, done = threading.Barrier(THREADS + 1), threading.Event()

    def predict(seed: int) -> tuple[int, set[str]]:
        begin.wait()
        wrong, seen = 0, set()
        for k in np.random.default_rng(seed).integers(0, 3, PREDICTIONS).tolist():
            found = bundle.predict(tiny.images[k], box=tiny.boxes[k])
            expected = promised[found.tier, found.configuration, k]
            wrong += (found.score, found.verdict) != expected
            seen.add(found.tier or found.configuration)
        return wrong, seen

    def switch() -> int:
        begin.wait()
        count = 0
        while not done.is_set():
            bundle.use(names[count % len(names)])
            count += 1
        return count

    with ThreadPoolExecutor(THREADS + 1) as pool:
        switching = pool.submit(switch)
        results = [pool.submit(predict, seed) for seed in range(THREADS)]
        outcomes = [result.result() for result in results]
        done.set()
        switches = switching.result()
    assert [wrong for wrong, _ in outcomes] == [0] * THREADS
    assert set.union(*(seen for _, seen in outcomes)) >= {"low", "high"}
    assert switches > 20


def test_threads_that_load_the_same_tier_share_its_session(bundle_file):
    bundle = Bundle.open(bundle_file)
    begin = threading.Barrier(THREADS)

    def load(_: int) -> int:
        begin.wait()
        return id(bundle.load("HL").session)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(load, range(THREADS)))) == 1
