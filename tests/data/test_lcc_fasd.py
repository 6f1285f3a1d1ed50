"""LCC-FASD: labels by folder, and by name in the flat evaluation part."""

from pliant.data.lcc_fasd import read_lcc_fasd


def test_parts(put, brief):
    for part in ("training", "development"):
        put(f"LCC_FASD_{part}/real/a.png")
        put(f"LCC_FASD_{part}/spoof/a.png")
    put("LCC_FASD_evaluation/real_1.png")
    put("LCC_FASD_evaluation/spoof_980.png")
    put("LCC_FASD_evaluation/spoof/deep.png")
    root = put("LCC_FASD_evaluation/other.png")
    reading = read_lcc_fasd(root)
    found = {
        name.removeprefix("LCC_FASD_"): (row[0], row[-1]) for name, row in brief(reading).items()
    }
    assert found == {
        "training/real/a.png": (True, "train"),
        "training/spoof/a.png": (False, "train"),
        "development/real/a.png": (True, "dev"),
        "development/spoof/a.png": (False, "dev"),
        "evaluation/real_1.png": (True, "test"),
        "evaluation/spoof_980.png": (False, "test"),
        "evaluation/spoof/deep.png": (False, "test"),
    }
    (skip,) = reading.skipped
    assert (skip.path.name, skip.reason) == (
        "other.png", "its name begins with neither real nor spoof",
    )  # fmt: skip
    assert reading.notes == ["the set names no subjects"]
