"""The recordings that a command is given: where they lie, how they are read, and what is said of the broken ones."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from envs.clip_library import ClipLibrary
from envs.records import ALLOW_BROKEN, BrokenRecordsWarning, broken_lines

_SPLIT_SEED = 0


@dataclass(frozen=True)
class ClipFolder:
    """A folder of recordings in a layout, how much of it may be broken, and which part of it is held out.

    Attributes:
        path: The folder.
        layout: How it is laid out.
        allow_broken: The share of its records that may be broken.
        fold: Which part is held out, of as many as there are that do not overlap.
    """

    path: Path
    layout: str = "manifest"
    allow_broken: float = ALLOW_BROKEN
    fold: int = 0

    def read(self) -> ClipLibrary:
        """Read the recordings; those that cannot be used are named on stderr.

        Raises:
            ManifestError: as `ClipLibrary.from_folder`.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrokenRecordsWarning)  # said below, without the line of code
            library = ClipLibrary.from_folder(self.path, self.layout, self.allow_broken)
        if library.broken:
            lines = broken_lines(library.broken, len(library) + len(library.broken))
            print("\n".join(f"soundflow: {line}" for line in lines), file=sys.stderr, flush=True)
        return library

    def split(self, held_out: float) -> tuple[ClipLibrary, ClipLibrary]:
        """Read the recordings and return (those to train on, those held out), by recording and speaker.

        No run's seed has a part in it: what one run held out is held out in every run that goes on from its policy.

        Raises:
            ManifestError: as `ClipLibrary.from_folder`.
            ScenarioError: when there is no such fold.
        """
        return self.read().split(held_out, _SPLIT_SEED, self.fold)
