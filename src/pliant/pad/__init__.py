"""Face anti-spoofing (presentation attack detection, PAD): ISO-style measures, thresholds, report.

Score convention, here and everywhere in pliant: **a score lies in [0, 1] and higher means more
bona fide; a presentation is accepted iff score >= threshold** (a tie is accepted). Labels are
`bona_fide: bool` and a species name for attacks, never a bare 0/1. APCER counts attacks accepted,
BPCER counts bona fide presentations rejected. The unit is the presentation: one clip, or one image
where there is no clip.

Names are imported on first use, so `import pliant.pad` stays light.
"""

import importlib
from typing import Any

_HOME = {
    "Scores": "scores",
    "pool_presentations": "scores",
    "read_scores": "scores",
    "write_scores": "scores",
    "ScoreTable": "table",
    "read_table": "table",
    "write_table": "table",
    "Rate": "metrics",
    "acer": "metrics",
    "apcer": "metrics",
    "apcer_at_bpcer": "metrics",
    "apcer_pooled": "metrics",
    "auc": "metrics",
    "bpcer": "metrics",
    "bpcer_at_apcer": "metrics",
    "celeba_tpr_at_fpr": "celeba",
    "det_curve": "metrics",
    "eer": "metrics",
    "hter": "metrics",
    "clopper_pearson": "intervals",
    "subject_bootstrap": "intervals",
    "Threshold": "thresholds",
    "fit_threshold": "thresholds",
    "load_threshold": "threshold_file",
    "save_threshold": "threshold_file",
    "ColourHistogram": "baseline",
    "fit_baseline": "baseline",
    "evaluate": "assess",
    "compare": "paired",
    "slice_record": "slices",
    "reliability_record": "reliability",
    "nonresponse_record": "nonresponse",
    "celeba_official": "celeba",
    "fold_summary": "folds",
    "Claim": "plan",
    "plan_record": "plan",
    "presentations_needed": "plan",
    "det_curves": "evaluation",
    "evaluate_scores": "evaluation",
    "score_histogram": "evaluation",
    "tier_agreement": "evaluation",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
