import json

import pytest

from pliant.errors import UserError
from pliant.pad.scores import Scores
from pliant.pad.threshold_file import load_threshold, save_threshold
from pliant.pad.thresholds import Threshold, fit_threshold

DEV = Scores.of([0.9, 0.7, 0.1, 0.3], [True, True, False, False], subject=list("abab"))


@pytest.mark.parametrize(
    "threshold",
    [fit_threshold(DEV, draws=20), Threshold(policy="fixed=0.1", value=0.1, source="by hand")],
)
def test_it_comes_back_whole(tmp_path, threshold):
    path = save_threshold(threshold, tmp_path / "threshold.json")
    assert load_threshold(path) == threshold
    content = json.loads(path.read_text())
    assert content["threshold"]["policy"] == threshold.policy
    assert "accept iff score >= value" in content["convention"]


def test_refusals(tmp_path):
    path = save_threshold(fit_threshold(DEV, draws=0), tmp_path / "threshold.json")
    content = json.loads(path.read_text())
    content["threshold"]["value"] = 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="changed after it was written"):
        load_threshold(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no threshold file"):
        load_threshold(path)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        load_threshold(path)
    with pytest.raises(UserError, match="cannot read"):
        load_threshold(tmp_path / "nowhere.json")
