"""Readers of published data sets by name, and the text that names one where a path is expected.

`NAME:PATH?option=value&option=value`, such as `oulu_npu:/data/OULU?protocol=3.1&frames=8`. The
options are the keywords of the reader.
"""

import difflib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pliant.data.casia_fasd import read_casia_fasd
from pliant.data.casia_surf import read_casia_surf
from pliant.data.cefa import read_cefa
from pliant.data.celeba_spoof import read_celeba_spoof
from pliant.data.folder import read_folder
from pliant.data.frames import FRAMES
from pliant.data.lcc_fasd import read_lcc_fasd
from pliant.data.manifest import read_manifest
from pliant.data.msu_mfsd import read_msu_mfsd
from pliant.data.nuaa import read_nuaa
from pliant.data.oulu_npu import read_oulu_npu
from pliant.data.reading import Reading, finish
from pliant.data.replay_attack import read_replay_attack
from pliant.data.siw import read_siw
from pliant.data.wmca import read_wmca
from pliant.errors import UserError


def read_any_manifest(root: Path) -> Reading:
    """The samples of a manifest CSV, or of the manifest.csv in a folder."""
    path = root / "manifest.csv" if root.is_dir() else root
    return finish("manifest", root, read_manifest(path), [])


def read_any_folder(root: Path, *, frames: str = FRAMES) -> Reading:
    """The samples of live/ and spoof/ folders; of videos some frames."""
    return finish("folder", root, read_folder(root, "pad", frames=frames), [])


READERS: dict[str, Callable[..., Reading]] = {
    "casia_fasd": read_casia_fasd,
    "casia_surf": read_casia_surf,
    "cefa": read_cefa,
    "celeba_spoof": read_celeba_spoof,
    "folder": read_any_folder,
    "lcc_fasd": read_lcc_fasd,
    "manifest": read_any_manifest,
    "msu_mfsd": read_msu_mfsd,
    "nuaa": read_nuaa,
    "oulu_npu": read_oulu_npu,
    "replay_attack": read_replay_attack,
    "siw": read_siw,
    "wmca": read_wmca,
}


def read(name: str, root: Path, **options: str | float | None) -> Reading:
    """The reading of a data set.

    Args:
        name: One of READERS.
        root: Where it lies.
        **options: Keywords of the reader; None leaves one out.

    Raises:
        UserError: if there is no such reader or option, or the reader refuses.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise UserError(f"unknown data set {name!r}{hint} ({', '.join(READERS)})")
    parameters = inspect.signature(READERS[name]).parameters
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    for option, value in given.items():
        if option == "root" or option not in parameters:
            allowed = ", ".join(k for k in parameters if k != "root") or "none"
            raise UserError(f"{name} has no option {option!r}; allowed: {allowed}")
        if isinstance(parameters[option].default, float):
            given[option] = _share(option, value)
    return READERS[name](Path(root), **given)


def parse(text: str) -> tuple[str, Path, dict[str, str]] | None:
    """Reader, path and options that a text names; None where it is a plain path.

    Raises:
        UserError: if the options are no `key=value` joined by `&`, or the path is missing.
    """
    found = re.fullmatch(r"([a-z_]+):([^?]*)(?:\?(.*))?", text)
    if not found or found[1] not in READERS:
        return None
    try:
        options = dict(parse_qsl(found[3] or "", strict_parsing=bool(found[3])))
    except ValueError:
        raise UserError(
            f"{text!r}: what follows ? is no option=value joined by &, such as ?protocol=1"
        ) from None
    if not found[2]:
        raise UserError(f"{text!r} names no path; needed: {found[1]}:PATH")
    return found[1], Path(found[2]), options


def _share(option: str, value: Any) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UserError(f"{option} must lie between 0 and 1, got {value}")
    return share
