"""A configuration: one letter per adaptive block, and the presets that have names.

`L` runs the light branch, `H` the heavy one, `B` both. A network with other branches has other
letters (its `letters`, cheapest first, `B` last); presets use the first, the last, and B.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pliant.errors import UserError

LETTERS = "LHB"
"""Of the default block: light, heavy, both."""
ALL = "B"
"""The letter that runs every branch of a block."""


@dataclass(frozen=True)
class Configuration:
    """One choice of branch for every adaptive block; `str()` gives its letters."""

    letters: str
    """One capital letter per block, the first block first."""
    used: frozenset[str] = field(init=False, repr=False, compare=False)
    """The letters that occur."""

    def __post_init__(self) -> None:
        if not isinstance(self.letters, str) or not all("A" <= c <= "Z" for c in self.letters):
            raise UserError(f"a configuration is made of capital letters, got {self.letters!r}")
        object.__setattr__(self, "used", frozenset(self.letters))

    def __str__(self) -> str:
        return self.letters

    def __len__(self) -> int:
        return len(self.letters)

    def __iter__(self) -> Iterator[str]:
        return iter(self.letters)

    def to_json(self) -> str:
        """The letters."""
        return self.letters

    @classmethod
    def from_text(
        cls,
        text: str,
        num_blocks: int = 16,
        letters: str = LETTERS,
        tiers: Iterable[str] = (),
    ) -> "Configuration":
        """The configuration that a user means by letters ("HHLL...") or by a preset's name.

        Args:
            text: Letters, or a name in PRESETS; a network without blocks has `plain` alone.
            num_blocks: Adaptive blocks of the network.
            letters: Letters that its blocks know, cheapest first, B last.
            tiers: Further names that the message may suggest.

        Raises:
            UserError: for an unknown letter, with its place; for a wrong length; for an unknown
                name, with the nearest known one.
        """
        if num_blocks == 0 and text in ("", "plain"):
            return cls("")
        if text in PRESETS:
            return preset(text, num_blocks, letters)
        foreign = not text or not set(text.upper()) <= set(letters)
        if foreign and sum("A" <= c <= "Z" for c in text) * 2 <= len(text):  # meant as a name
            known = list(dict.fromkeys([*tiers, *PRESETS]))
            near = difflib.get_close_matches(text, known, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ";"
            raise UserError(
                f'unknown configuration "{text}"{hint} ({", ".join(known)}, or '
                f"{num_blocks} letters of {', '.join(letters)})"
            )
        for place, letter in enumerate(text, start=1):
            if letter not in letters:
                raise UserError(
                    f'unknown letter "{letter}" at place {place} of configuration "{text}"; '
                    f"allowed are {', '.join(letters)}"
                )
        if len(text) != num_blocks:
            raise UserError(
                f'configuration "{text}" has {len(text)} letters, the network has {num_blocks} '
                "adaptive blocks; give one letter for each"
            )
        return cls(text)


def _first_of_stages(num_blocks: int) -> list[bool]:
    """Whether a block is the first of its stage; in other nets than MobileNetV2, every third."""
    if num_blocks == 16:
        starts = {0, 2, 5, 9, 12, 15}  # table 2 of MobileNetV2: stages of 2, 3, 4, 3, 3, 1 blocks
        return [block in starts for block in range(num_blocks)]
    return [block % 3 == 0 for block in range(num_blocks)]


Preset = Callable[[int], list[int]]
"""Number of blocks -> for every block 0 (lightest branch), 1 (heaviest) or 2 (all of them)."""

PRESETS: dict[str, Preset] = {
    # all light: the cheapest
    "low": lambda n: [0] * n,
    # heavy where a stage begins, light elsewhere: those blocks change size or channels, so no
    # residual carries the signal past them
    "mid": lambda n: [int(first) for first in _first_of_stages(n)],
    # all heavy: the plain network
    "high": lambda n: [1] * n,
    # all branches everywhere: the costliest
    "max": lambda n: [2] * n,
    # stage-wise: heavy in the first half, light in the second, and the reverse
    "early_heavy": lambda n: [int(block < n // 2) for block in range(n)],
    "late_heavy": lambda n: [int(block >= n // 2) for block in range(n)],
    # heavy and light in turn, heavy first
    "alternating": lambda n: [int(block % 2 == 0) for block in range(n)],
}
"""Named configurations, as functions of the number of blocks; `preset` writes their letters."""


def preset(name: str, num_blocks: int = 16, letters: str = LETTERS) -> Configuration:
    """The preset `name` in a network's own letters.

    Raises:
        KeyError: if there is no such preset.
    """
    chosen = letters[0], letters.replace(ALL, "")[-1], ALL
    return Configuration("".join(chosen[i] for i in PRESETS[name](num_blocks)))
