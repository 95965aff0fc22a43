"""A folder of recordings: read, split by recording and speaker, drawn from. What its rows hold: `envs.manifest`."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.audio import read_audio
from envs.dataset_rows import DatasetRows
from envs.errors import AudioError, ScenarioError, did_you_mean
from envs.manifest import COLUMNS, read_rows
from envs.records import ALLOW_BROKEN, BrokenRecord, BrokenTally, Columns, Entry
from envs.scenario import SPEECH, Audio, Clip, Decision
from envs.sound_classes import answer_for
from envs.sources import Candidate
from envs.tfjp import tfjp

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["COLUMNS", "ClipLibrary", "Recording", "make_recording"]  # COLUMNS is what its folders have
_QUIETEST_PEAK = 1e-4  # -80 dBFS: what is below is not blown up to full scale


@dataclass(frozen=True)
class Recording:
    """One row of a manifest: its clip, preprocessed (TFJP), and what ties it to other rows."""

    clip: Clip
    speaker: str
    source: str
    licence: str = ""  # as its row names it

    @property
    def group_keys(self) -> tuple[str, ...]:
        """What must not stand on both sides of a split: recording and speaker, else source and label."""
        keys = tuple(f"{kind}:{v}" for kind, v in (("recording", self.clip.recording), ("speaker", self.speaker)) if v)
        return keys or (f"unknown:{self.source}:{self.clip.label}",)


class ClipLibrary:
    """Recordings to plan scenes from; draws balance labels so that no large one drowns the rest."""

    def __init__(self, recordings: Sequence[Recording], broken: Sequence[BrokenRecord] = ()) -> None:
        self.recordings = tuple(recordings)
        self.broken = tuple(broken)  # what was left out when they were read

    @classmethod
    def from_folder(cls, folder: Path, layout: str = "manifest", allow_broken: float = ALLOW_BROKEN) -> "ClipLibrary":
        """Read every clip that `folder/manifest.csv` names, or a published corpus in its own layout.

        Records that cannot be used are left out, kept in `broken`, and warned of.

        Args:
            folder: Where the manifest, or the corpus, lies.
            layout: "manifest", or one of `envs.layouts.LAYOUTS`.
            allow_broken: The share of records that may be broken.

        Raises:
            ManifestError: when the folder or manifest is missing or lacks a column, a path leads out of the folder,
                or more than `allow_broken` of the records cannot be used; the first of them is named.
        """
        rows = read_rows(folder, layout)
        tally = BrokenTally(folder, len(rows), allow_broken)
        tally.add(row for row in rows if isinstance(row, BrokenRecord))  # before a corpus is decoded
        return cls._read(lambda index: _read_recording(folder, rows[index]), tally)

    @classmethod
    def from_dataset(
        cls,
        dataset: "Dataset | Path",
        *,
        audio: str = "audio",
        allow_broken: float = ALLOW_BROKEN,
        **columns: str,
    ) -> "ClipLibrary":
        """Read every row of a Hugging Face dataset with an audio column.

        Args:
            dataset: A `datasets.Dataset`, or the folder that one was saved to with `save_to_disk`.
            audio: The column of audio: the feature `Audio`, paths, or dicts of `array` and `sampling_rate`.
            allow_broken: The share of rows that may be broken.
            **columns: Which column of the dataset is which of `envs.manifest.COLUMNS`, as `label="category"`; default:
                `label="label"`. What is not named is blank, and the caption "the sound of" the label.

        Raises:
            ManifestError: when it is no dataset, has no such column, or too many rows cannot be used.
        """
        rows = DatasetRows(dataset, audio, {"label": "label", **columns})
        return cls._read(lambda index: _read_row(rows, index), BrokenTally(rows.place, len(rows), allow_broken))

    @classmethod
    def _read(cls, read: Callable[[int], Recording | BrokenRecord], tally: BrokenTally) -> "ClipLibrary":
        """Read each record of a corpus, count and warn of the broken ones, and keep the others."""
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(read, range(tally.total)))
        broken = [record for record in found if isinstance(record, BrokenRecord)]
        tally.add(broken)
        tally.warn(depth=3)
        return cls([record for record in found if isinstance(record, Recording)], broken)

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return tuple(sorted({r.clip.label for r in self.recordings}))

    def has(self, decision: Decision) -> bool:
        """Return whether there is a recording of this decision."""
        return decision in self._by_decision

    def num_sources(self, decision: Decision) -> int:
        """Return how many recordings and speakers are behind its clips of this decision; what they share is one."""
        return sum(any(r.clip.decision == decision for r in group) for group in _connected_groups(self.recordings))

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        """Return the labels of its recordings of this decision."""
        return tuple(sorted(self._by_decision.get(decision, {})))

    @cached_property
    def _by_decision(self) -> dict[Decision, dict[str, dict[str, list[Clip]]]]:
        """Clips by decision, label and group."""
        tree: dict[Decision, dict[str, dict[str, list[Clip]]]] = {}
        for r in self.recordings:
            labels = tree.setdefault(r.clip.decision, {})
            labels.setdefault(r.clip.label, {}).setdefault(r.group_keys[0], []).append(r.clip)
        return tree

    @cached_property
    def _label_weights(self) -> dict[Decision, NDArray[np.float64]]:
        """Odds of a decision's sorted labels: root of their clips; spoken words share those of one label."""
        weights = {}
        for decision, labels in self._by_decision.items():
            clips = {label: [c for group in labels[label].values() for c in group] for label in sorted(labels)}
            spoken = {label for label, members in clips.items() if members[0].domain == SPEECH}
            odds = np.array([np.sqrt(len(c)) / (len(spoken) if label in spoken else 1) for label, c in clips.items()])
            weights[decision] = odds / odds.sum()
        return weights

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a label by the square root of its clips, then a recording (or speaker) of it, then a clip.

        Raises:
            ScenarioError: when there is no such recording.
        """
        labels = self._by_decision.get(decision, {})
        if not labels or (label is not None and label not in labels):
            hint = f" of {label!r}{did_you_mean(label, labels)}" if labels and label else ""
            raise ScenarioError(f"the clips hold no {decision} recording{hint}")
        if label is None:
            label = sorted(labels)[int(rng.choice(len(labels), p=self._label_weights[decision]))]
        groups = labels[label]
        members = groups[sorted(groups)[int(rng.integers(len(groups)))]]
        return members[int(rng.integers(len(members)))]

    def candidates(self) -> list[Candidate]:
        """Return every recording, in the manifest's order."""
        clips = [recording.clip for recording in self.recordings]
        return [Candidate(clip.label, clip.caption, clip.decision, self, clip) for clip in clips]

    def split(self, held_out: float, seed: int, fold: int = 0) -> tuple["ClipLibrary", "ClipLibrary"]:
        """Split into (train, held out) by recordings and speakers, about `held_out` of each label's clips.

        Clips that share a recording or a speaker, directly or through others, stay together; clips without
        either stay with those of their source and label. A label of a single such group is trained on, one of
        more stands on both sides, unless what ties its groups to other labels forbids it.

        Args:
            held_out: The share.
            seed: Of the order in which groups are taken.
            fold: For cross-validation: what is held out in one fold is held out in no other, as far as a label has
                groups enough.

        Raises:
            ScenarioError: when `held_out` is not in (0, 1), or there are not so many folds.
        """
        if not 0 < held_out < 1:
            raise ScenarioError(f"the share to hold out is {held_out}, expected more than 0 and less than 1")
        if not 0 <= fold < (folds := math.floor(1 / held_out + 1e-9)):
            raise ScenarioError(f"fold is {fold}, expected 0 to {folds - 1}: {held_out} can be held out {folds} times")
        groups = _connected_groups(self.recordings)
        rng = np.random.default_rng([seed, 0x5711])
        counts = [Counter(r.clip.label for r in group) for group in groups]
        owners = {label: [i for i, c in enumerate(counts) if label in c] for label in self.labels}
        names = sorted(owners, key=lambda name: (len(owners[name]), name))  # those with the least choice first
        orders = {label: [owners[label][i] for i in rng.permutation(len(owners[label]))] for label in names}
        before, held = set[int](), set[int]()
        for _ in range(fold + 1):
            before |= held
            held, train = set(), {own[0] for own in owners.values() if len(own) == 1}
            for label, order in orders.items():
                held |= _choose(order, {i: counts[i][label] for i in order}, held, train, before, held_out)
                train |= set(order) - held
        halves = [[r for i in sorted(side) for r in groups[i]] for side in (train, held)]
        return ClipLibrary(halves[0]), ClipLibrary(halves[1])


def _choose(
    own: list[int], sizes: dict[int, int], held: set[int], train: set[int], before: set[int], share: float
) -> set[int]:
    """Choose, of one label's undecided groups, those to hold out besides the ones already held.

    Groups are taken while that brings the clips held nearer to `share`; at least one, and never all. Those that were
    held out in a fold before are left, where there are others.
    """
    chosen: set[int] = set()
    wanted = share * sum(sizes.values())
    taken = sum(sizes[i] for i in own if i in held)
    free = [i for i in own if i not in held and i not in train]
    spare = len(free) - (not train.intersection(own))  # one has to be left to train on
    free = [i for i in free if i not in before] or free
    for group in free:
        nearer = abs(taken + sizes[group] - wanted) < abs(taken - wanted)
        if nearer and len(chosen) < spare:
            chosen.add(group)
            taken += sizes[group]
    if taken == 0 and spare > 0:
        chosen.add(min(free, key=lambda i: sizes[i]))
    return chosen


def _connected_groups(recordings: Sequence[Recording]) -> list[list[Recording]]:
    """Return the connected components of recordings that share a recording or a speaker."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for r in recordings:
        first, *others = r.group_keys
        for other in others:
            parent[root(other)] = root(first)
    groups: dict[str, list[Recording]] = defaultdict(list)
    for r in recordings:
        groups[root(r.group_keys[0])].append(r)
    return [groups[key] for key in sorted(groups)]


def _read_recording(folder: Path, row: Entry) -> Recording | BrokenRecord:
    """Read one clip, preprocess it, and bring its peak to 1."""
    if isinstance(row, BrokenRecord):
        return row
    try:
        return make_recording(read_audio(folder / row.columns["path"]), row.columns)
    except AudioError as error:
        return row.broken(str(error))


def _read_row(rows: DatasetRows, index: int) -> Recording | BrokenRecord:
    """Read one row of a dataset likewise."""
    row = rows.read(index)
    if isinstance(row, BrokenRecord):
        return row
    record, audio = row
    try:
        return make_recording(audio, record.columns)
    except AudioError as error:
        return record.broken(str(error))


def make_recording(audio: Audio, columns: Columns) -> Recording:
    """Preprocess a clip (TFJP), bring its peak to 1, and give it what a row of a manifest says of it.

    Raises:
        AudioError: when it asks for a reply and holds nothing but silence.
    """
    audio = tfjp(audio)
    peak = float(np.abs(audio).max(initial=0.0))
    decision: Decision = "RESPOND" if columns["decision"] == "RESPOND" else "IGNORE"
    if peak == 0.0 and decision == "RESPOND":
        raise AudioError(f"{columns['path']}: holds nothing but silence, and its row asks for a reply")
    label, caption, domain = columns["label"], columns["caption"], columns["domain"]
    clip = Clip(
        audio=(audio / max(peak, _QUIETEST_PEAK)).astype(np.float32),
        label=label,
        caption=caption,
        domain=domain,
        decision=decision,
        origin=columns["path"],
        answers=(answer_for(label, caption, domain),) if decision == "RESPOND" else (),
        recording=columns["recording"],
    )
    return Recording(clip, columns["speaker"], columns["source"], columns["licence"])
