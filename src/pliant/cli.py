"""The command line: find the verb, parse its arguments, call one job, print what it returned.

A verb is a function of the same name in its module of `pliant.jobs`, whose `summary` draws the
result. A module with `VERBS` of its own has one function and one `..._summary` for each of them:
`pliant bundle self-test FILE` calls `jobs.bundle.self_test`.

Results go to stdout (a table, or `--json`), progress and errors to stderr. Exit codes: 0 done,
1 failed (a bug: the traceback is shown), 2 bad input (one sentence), 130 stopped with Ctrl-C.
Nothing heavy is imported before its verb is known.
"""

import dataclasses
import difflib
import errno
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pliant import __version__
from pliant.errors import UserError

ABOUT = "train one vision model, run it on every device, know when to trust it"
VERBS = {
    "demo": "make a synthetic data set, train on it, evaluate every tier, write a report",
    "train": "train one adaptive model on your photos",
    "distill": "train networks that teach each other, or a student of a trained run",
    "evaluate": "measure every tier of a run on a data set; JSON, CSV and an HTML report",
    "pad": "judge score files of any face anti-spoofing system: error rates, intervals, report",
    "tiers": "show what every tier costs on this device, and pick one for a budget",
    "predict": "find the face in each image or frame and say: bona fide, attack or undecided",
    "export": "write a finished run as one bundle for every device",
    "bundle": "show, test, time or sign a bundle",
    "audit": "check that an audit log is whole",
    "data": "look at a data set before a model is trained on it",
    "web": "show a bundle in the browser, on this machine alone",
}
EXTRAS = {
    "cli": ("tyro", "rich"),
    "sign": ("cryptography",),
    "train": (
        "torch",
        "lightning",
        "torchmetrics",
        "safetensors",
        "scipy",
        "matplotlib",
        "jaxtyping",
        "onnx",
        "onnxscript",
    ),
}
"""Name of an optional part of pliant -> packages that come with it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code comes back.

    Args:
        argv: The words after `pliant`; None takes those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except UserError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt as stop:
        return _say(str(stop) or "stopped by Ctrl-C", 130)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into exit(1) while it handles the KeyboardInterrupt.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _say("stopped by Ctrl-C", 130)
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extra = next((extra for extra, names in EXTRAS.items() if package in names), None)
        if extra is None:
            raise
        return _say(f"{error.name} is not installed; run: pip install 'pliant[{extra}]'", 2)
    except BrokenPipeError:  # the reader of our output has left, as in `pliant tiers RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        return _say(_os_sentence(error), 2)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview("pliant", ABOUT, VERBS))
        return 0 if words else 2
    if words[0] == "--version":
        print(f"pliant {__version__}")
        return 0
    verb, rest = _known(words[0], VERBS, "verb"), words[1:]
    as_json = "--json" in rest
    rest = [word for word in rest if word != "--json"]
    if as_json and "--json-lines" in rest:
        raise UserError("--json-lines prints JSON already; leave --json out")

    job = importlib.import_module(f"pliant.jobs.{verb}")
    name, title = verb, f"pliant {verb}"
    parts: Mapping[str, str] | None = getattr(job, "VERBS", None)
    if parts:
        if not rest or rest[0] in ("-h", "--help"):
            print(_overview(title, VERBS[verb], parts))
            return 0 if rest else 2
        name, rest = _known(rest[0], parts, f"verb of {title}"), rest[1:]
        title = f"{title} {name}"
    name = name.replace("-", "_")
    result = _parse(getattr(job, name), title, rest)()
    if as_json:
        print(json.dumps(_plain(result), indent=2, allow_nan=False))
    else:
        summary = getattr(job, f"{name}_summary" if parts else "summary", None)
        _print(summary(result) if summary else [str(result)])
    return 0


def _known(word: str, verbs: Mapping[str, str], kind: str) -> str:
    if word not in verbs:
        close = difflib.get_close_matches(word, verbs, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ";"
        raise UserError(f'unknown {kind} "{word}"{hint} ({", ".join(verbs)})')
    return word


def _parse(function: Callable[..., Any], title: str, words: list[str]) -> Callable[[], Any]:
    """A call of `function` with the flags in `words`; tyro prints help and bad flags itself."""
    import tyro

    about = f"{function.__doc__ or ''}".split("\n\n")[0].strip()
    return tyro.cli(
        tyro.conf.configure(tyro.conf.AvoidSubcommands)(_delayed(function)),
        args=words,
        prog=title,
        description=f"{about} --json prints the result as JSON.".strip(),
    )


def _delayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same signature and help, but the call waits: errors of the job are not tyro's."""
    import functools

    @functools.wraps(function)
    def bind(*args: Any, **keywords: Any) -> Callable[[], Any]:
        return lambda: function(*args, **keywords)

    return bind


def _overview(title: str, about: str, verbs: Mapping[str, str]) -> str:
    width = max(map(len, verbs))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in verbs.items()]
    return "\n".join(
        [
            f"{title}: {about}.",
            "",
            f"usage: {title} VERB [--json] ...      {title} VERB --help",
            "",
            *lines,
        ]
    )


def _print(parts: Sequence[Any]) -> None:
    from rich.console import Console

    console = Console()
    for part in parts:
        # names come from files: no markup; a sentence is copied whole, so only tables are wrapped
        console.print(part, markup=False, soft_wrap=isinstance(part, str))


def _plain(value: Any) -> Any:
    """Dataclasses, paths, numpy scalars and arrays as what JSON knows; NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    as_list = getattr(value, "tolist", None)  # numpy's and torch's
    if as_list is not None:
        return _plain(as_list())
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value


def _os_sentence(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space and run it again"
    return f"{(error.strerror or str(error)).lower()}{where}"


def _say(sentence: str, code: int) -> int:
    print(f"pliant: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
