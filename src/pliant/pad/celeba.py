"""The measure of the CelebA-Spoof benchmark, bit for bit, and what it is in the words of ISO.

Zhang et al. "CelebA-Spoof: Large-Scale Face Anti-Spoofing Dataset with Rich Annotations", 2020.
https://arxiv.org/abs/2007.12342. Its evaluation ranks by P(attack) and takes attacks for
the positive class, so "TPR@FPR=x" is 1 - pooled APCER where the share of *bona fide* rejected is x:
security people call that FPR a BPCER, and their own FPR is the APCER.

Written from the behaviour of intra_dataset_code/client.py (September 2020 and later): of the N bona
fide scores, falling, number max(1, int(x N)) counted from one is the threshold, and an attack is
caught if its score lies strictly above. So at most int(x N) - 1 bona fide presentations are
rejected: one fewer than x allows, which the twin here does allow. The first release (August 2020)
counted a tie as caught.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from pliant.pad import curves, metrics
from pliant.pad.scores import Scores

LIMITS = (0.01, 0.005, 0.001)
"""The three that the benchmark prints."""


def celeba_official(
    attack_score: Float64[np.ndarray, " N"], is_attack: Bool[np.ndarray, " N"], limit: float
) -> tuple[float, float]:
    """("TPR@FPR=limit", threshold) in the benchmark's own convention.

    Args:
        attack_score: P(attack): higher is more attack, the other way round than all else here.
        is_attack: Both classes are needed.
        limit: In [0, 1].
    """
    live = np.sort(attack_score[~is_attack])[::-1]
    threshold = live[max(1, int(limit * len(live))) - 1]
    caught = int((attack_score[is_attack] > threshold).sum())
    return caught / int(is_attack.sum()), float(threshold)


def celeba_tpr_at_fpr(scores: Scores, limit: float) -> float:
    """The benchmark's "TPR@FPR=limit", with 1 - score for P(attack).

    Raises:
        UserError: if a class is missing.
        ValueError: for a limit outside [0, 1].
    """
    metrics.check_limit(limit)
    curves.check_both_classes(scores)
    return celeba_official(1 - scores.score, ~scores.bona_fide, limit)[0]


def celeba_record(scores: Scores) -> list[dict[str, Any]]:
    """Per limit: the official figure, the rates at its threshold, and the security-convention twin.

    The twin is the smallest APCER over thresholds with BPCER <= limit, accept iff score >=
    threshold: `apcer_pooled` beside the official figure, `apcer_ap` as it should be said.
    """
    curves.check_both_classes(scores)
    counts = curves.ThresholdGrid(scores).curves()
    attack_score = 1 - scores.score
    record = []
    for limit in LIMITS:
        tpr, threshold = celeba_official(attack_score, ~scores.bona_fide, limit)
        record.append(
            {
                "limit": limit,
                "tpr_at_fpr": tpr,
                "attack_score_threshold": threshold,
                "apcer_pooled_there": 1 - tpr,
                "bpcer_there": float(np.mean(attack_score[scores.bona_fide] > threshold)),
                "twin": {
                    "apcer_pooled": float(curves.apcer_at_bpcer(counts, limit, pooled=True)[0]),
                    "apcer_ap": float(curves.apcer_at_bpcer(counts, limit)[0]),
                },
            }
        )
    return record
