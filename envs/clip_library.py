"""A folder of recordings with a `manifest.csv`: read whole, checked, split by recording and speaker, drawn from.

Columns: path, label, caption, domain, decision (RESPOND, IGNORE or blank), recording, speaker, seconds, source,
licence. A blank decision means that nobody asked for a reply to the sound: it serves as a distractor and deserves
silence.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.audio import read_audio
from envs.errors import ManifestError, ScenarioError, did_you_mean
from envs.scenario import Clip, Decision
from envs.sound_classes import answer_for
from envs.tfjp import tfjp

COLUMNS = ("path", "label", "caption", "domain", "decision", "recording", "speaker", "seconds", "source", "licence")


@dataclass(frozen=True)
class Recording:
    """One row of a manifest with its audio, preprocessed (TFJP) and held as 16-bit integers."""

    path: str
    label: str
    caption: str
    domain: str
    decision: Decision
    recording: str
    speaker: str
    source: str
    audio: NDArray[np.int16]

    @property
    def group_keys(self) -> tuple[str, ...]:
        """What must not stand on both sides of a split: the recording and the speaker, else source and label."""
        keys = tuple(f"{kind}:{v}" for kind, v in (("recording", self.recording), ("speaker", self.speaker)) if v)
        return keys or (f"unknown:{self.source}:{self.label}",)

    def clip(self) -> Clip:
        """Return the clip."""
        answer = answer_for(self.label, self.caption) if self.decision == "RESPOND" else None
        audio = self.audio.astype(np.float32) / 32767.0
        return Clip(
            audio, self.label, self.caption, self.domain, self.decision, self.path, answer, self.group_keys[0]
        )


class ClipLibrary:
    """Recordings to plan scenes from; draws balance labels so that no large one drowns the rest."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = tuple(recordings)

    @classmethod
    def from_folder(cls, folder: Path) -> "ClipLibrary":
        """Read `folder/manifest.csv` and every clip it names.

        Raises:
            ManifestError: when the folder or manifest is missing, lacks a column, or a row cannot be used.
            AudioError: when a clip cannot be used; none is ever skipped.
        """
        rows = _read_manifest(folder)
        with ThreadPoolExecutor(4) as pool:
            return cls(list(pool.map(lambda row: _read_recording(folder, *row), rows)))

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return tuple(sorted({r.label for r in self.recordings}))

    def has(self, decision: Decision) -> bool:
        """Return whether there is a recording of this decision."""
        return decision in self._by_decision

    @cached_property
    def _by_decision(self) -> dict[str, dict[str, dict[str, list[Recording]]]]:
        """Recordings by decision, label and group."""
        tree: dict[str, dict[str, dict[str, list[Recording]]]] = {}
        for r in self.recordings:
            label = "digits" if r.domain == "Speech" else r.label  # spoken words are one kind of sound
            tree.setdefault(r.decision, {}).setdefault(label, {}).setdefault(r.group_keys[0], []).append(r)
        return tree

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a label by the square root of its groups, then a group, then a clip.

        Raises:
            ScenarioError: when there is no such recording.
        """
        labels = self._by_decision.get(decision, {})
        if label is not None:
            labels = {label: labels[label]} if label in labels else {}
        if not labels:
            raise ScenarioError(f"the clips hold no {decision} recording{f' of {label!r}' if label else ''}")
        names = sorted(labels)
        weights = np.sqrt([len(labels[n]) for n in names])
        groups = labels[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        members = groups[sorted(groups)[int(rng.integers(len(groups)))]]
        return members[int(rng.integers(len(members)))].clip()

    def split(self, held_out: float, seed: int) -> tuple["ClipLibrary", "ClipLibrary"]:
        """Split into (train, held out) by whole recordings and speakers, about `held_out` of each label's clips.

        A label whose clips all belong together is trained on.
        """
        groups = _connected_groups(self.recordings)
        rng = np.random.default_rng([seed, 0x5711])
        by_label: dict[tuple[str, ...], list[list[Recording]]] = defaultdict(list)
        for group in groups:
            by_label[tuple(sorted({r.label for r in group}))].append(group)
        train: list[Recording] = []
        held: list[Recording] = []
        for labels in sorted(by_label):
            members = by_label[labels]
            order = [members[i] for i in rng.permutation(len(members))]
            wanted = held_out * sum(len(g) for g in order)
            taken = 0
            for index, group in enumerate(order):
                last_chance = index == len(order) - 1 and taken == 0
                fits = taken + len(group) <= wanted + max(1.0, 0.15 * wanted)
                if len(order) > 1 and taken < wanted and (fits or last_chance):
                    held += group
                    taken += len(group)
                else:
                    train += group
        return ClipLibrary(train), ClipLibrary(held)


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


def _read_manifest(folder: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, row) pairs, checked as far as text goes."""
    path = folder / "manifest.csv"
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of clips")
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; it needs the columns {', '.join(COLUMNS)}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            for column in COLUMNS:
                if column not in header:
                    raise ManifestError(f"{path}: no column {column!r}{did_you_mean(column, header or ['nothing'])}")
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: not a UTF-8 CSV file: {error}") from error
    if not rows:
        raise ManifestError(f"{path}: the manifest names no clips")
    for line, row in rows:
        if None in row or None in row.values():
            raise ManifestError(f"{path}, line {line}: expected {len(header)} fields")
        if row["decision"] not in ("RESPOND", "IGNORE", ""):
            raise ManifestError(f"{path}, line {line}: decision {row['decision']!r}, expected RESPOND, IGNORE or blank")
        clip = (folder / row["path"]).resolve()
        if not clip.is_relative_to(folder.resolve()):
            raise ManifestError(f"{path}, line {line}: path {row['path']!r} leads out of the folder")
        if not clip.is_file():
            raise ManifestError(f"{path}, line {line}: no such clip {row['path']!r}")
    return rows


def _read_recording(folder: Path, line: int, row: dict[str, str]) -> Recording:
    audio = tfjp(read_audio(folder / row["path"]))
    if not np.abs(audio).max(initial=0.0) > 0:
        raise ManifestError(f"{folder / 'manifest.csv'}, line {line}: clip {row['path']!r} is silent throughout")
    audio = audio / np.abs(audio).max()
    return Recording(
        path=row["path"],
        label=row["label"],
        caption=row["caption"],
        domain=row["domain"],
        decision="RESPOND" if row["decision"] == "RESPOND" else "IGNORE",
        recording=row["recording"],
        speaker=row["speaker"],
        source=row["source"],
        audio=np.round(audio * 32767.0).astype(np.int16),
    )
