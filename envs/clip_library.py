"""A folder of recordings with a `manifest.csv`: read, checked, split by recording and speaker, drawn from.

Columns: path, label, caption, domain, decision (RESPOND, IGNORE or blank), recording, speaker, seconds,
source, licence. A blank decision means that nobody asked for a reply to the sound: it serves as a distractor
and deserves silence.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.audio import read_audio
from envs.corpora import read_layout
from envs.errors import AudioError, ManifestError, ScenarioError, did_you_mean
from envs.scenario import SPEECH, Clip, Decision
from envs.sound_classes import answer_for
from envs.tfjp import tfjp

COLUMNS = (
    "path",
    "label",
    "caption",
    "domain",
    "decision",
    "recording",
    "speaker",
    "seconds",
    "source",
    "licence",
)
LONGEST_RECORDING_S = 600.0  # a scene takes five of them; an hour would fill the memory
_QUIETEST_PEAK = 1e-4  # -80 dBFS: what is below is not blown up to full scale


@dataclass(frozen=True)
class Recording:
    """One row of a manifest: its clip, preprocessed (TFJP), and what ties it to other rows."""

    clip: Clip
    speaker: str
    source: str

    @property
    def group_keys(self) -> tuple[str, ...]:
        """What must not stand on both sides of a split: recording and speaker, else source and label."""
        keys = tuple(f"{kind}:{v}" for kind, v in (("recording", self.clip.recording), ("speaker", self.speaker)) if v)
        return keys or (f"unknown:{self.source}:{self.clip.label}",)


class ClipLibrary:
    """Recordings to plan scenes from; draws balance labels so that no large one drowns the rest."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = tuple(recordings)

    @classmethod
    def from_folder(cls, folder: Path, layout: str = "manifest") -> "ClipLibrary":
        """Read every clip that `folder/manifest.csv` names, or a published corpus in its own layout.

        Args:
            folder: Where the manifest, or the corpus, lies.
            layout: "manifest", or one of `envs.corpora.LAYOUTS`.

        Raises:
            ManifestError: when the folder or manifest is missing, lacks a column, or a row cannot be used.
            AudioError: when a clip cannot be used; none is ever skipped.
        """
        if layout == "manifest":
            rows = _read_manifest(folder)
        else:
            rows = read_layout(folder, layout)
            _check_rows(folder, folder, rows)
        with ThreadPoolExecutor(4) as pool:
            return cls(list(pool.map(lambda row: _read_recording(folder, *row), rows)))

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return tuple(sorted({r.clip.label for r in self.recordings}))

    def has(self, decision: Decision) -> bool:
        """Return whether there is a recording of this decision."""
        return decision in self._by_decision

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

    def split(self, held_out: float, seed: int) -> tuple["ClipLibrary", "ClipLibrary"]:
        """Split into (train, held out) by recordings and speakers, about `held_out` of each label's clips.

        Clips that share a recording or a speaker, directly or through others, stay together; clips without
        either stay with those of their source and label. A label of a single such group is trained on, one of
        more stands on both sides, unless what ties its groups to other labels forbids it.

        Raises:
            ScenarioError: when `held_out` is not in (0, 1).
        """
        if not 0 < held_out < 1:
            raise ScenarioError(f"the share to hold out is {held_out}, expected more than 0 and less than 1")
        groups = _connected_groups(self.recordings)
        rng = np.random.default_rng([seed, 0x5711])
        counts = [Counter(r.clip.label for r in group) for group in groups]
        owners = {label: [i for i, c in enumerate(counts) if label in c] for label in self.labels}
        train = {own[0] for own in owners.values() if len(own) == 1}
        held: set[int] = set()
        for label in sorted(owners, key=lambda name: (len(owners[name]), name)):  # those with the least choice first
            own = [owners[label][i] for i in rng.permutation(len(owners[label]))]
            held |= _choose(own, {i: counts[i][label] for i in own}, held, train, held_out)
            train |= set(own) - held
        halves = [[r for i in sorted(side) for r in groups[i]] for side in (train, held)]
        return ClipLibrary(halves[0]), ClipLibrary(halves[1])


def _choose(own: list[int], sizes: dict[int, int], held: set[int], train: set[int], share: float) -> set[int]:
    """Choose, of one label's undecided groups, those to hold out besides the ones already held.

    Groups are taken while that brings the clips held nearer to `share`; at least one, and never all.
    """
    chosen: set[int] = set()
    wanted = share * sum(sizes.values())
    taken = sum(sizes[i] for i in own if i in held)
    free = [i for i in own if i not in held and i not in train]
    spare = len(free) - (not train.intersection(own))  # one has to be left to train on
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


def _read_manifest(folder: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, row) pairs, checked as far as text goes."""
    path = folder / "manifest.csv"
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of clips")
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; it needs the columns {', '.join(COLUMNS)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            for column in COLUMNS:
                if column not in header:
                    raise ManifestError(f"{path}: no column {column!r}{_instead(column, header)}")
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: not a UTF-8 CSV file: {error}") from error
    if not rows:
        raise ManifestError(f"{path}: the manifest names no clips")
    _check_rows(folder, path, rows)
    return rows


def _instead(column: str, header: Sequence[str]) -> str:
    """Say which column of the file may be the missing one under another name."""
    close = get_close_matches(column, [name for name in header if name not in COLUMNS], n=1)
    return f"; rename {close[0]!r} to {column!r}" if close else f"; it has {', '.join(header) or 'none'}"


def _check_rows(folder: Path, path: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    """Raise for the first row that cannot be used."""
    seen: dict[Path, int] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise ManifestError(f"{path}, line {line}: has more or fewer fields than the header")
        where = f"{path}, line {line}"
        if row["decision"] not in ("RESPOND", "IGNORE", ""):
            raise ManifestError(f"{where}: decision is {row['decision']!r}, expected RESPOND, IGNORE or blank")
        if not row["label"]:
            raise ManifestError(f"{where}: label is blank, expected the name of the sound")
        if "\0" in row["path"]:
            raise ManifestError(f"{where}: path {row['path']!r} holds a NUL byte, expected the name of a file")
        clip = (folder / row["path"]).resolve()
        if not clip.is_relative_to(folder.resolve()):
            raise ManifestError(f"{where}: path {row['path']!r} leads out of the folder; clips have to lie in it")
        if not clip.is_file():
            raise ManifestError(f"{where}: path {row['path']!r} names no file; add the clip or remove the row")
        if clip in seen:
            raise ManifestError(f"{where}: path {row['path']!r} is listed before, on line {seen[clip]}; name it once")
        seen[clip] = line


def _read_recording(folder: Path, line: int, row: dict[str, str]) -> Recording:
    """Read one clip of the manifest, preprocess it, and bring its peak to 1."""
    audio = tfjp(read_audio(folder / row["path"], LONGEST_RECORDING_S))
    peak = float(np.abs(audio).max(initial=0.0))
    decision: Decision = "RESPOND" if row["decision"] == "RESPOND" else "IGNORE"
    if peak == 0.0 and decision == "RESPOND":
        raise AudioError(
            f"{folder / row['path']}: holds nothing but silence, and its row (line {line}) asks for a reply"
        )
    clip = Clip(
        audio=(audio / max(peak, _QUIETEST_PEAK)).astype(np.float32),
        label=row["label"],
        caption=row["caption"],
        domain=row["domain"],
        decision=decision,
        origin=row["path"],
        answers=(answer_for(row["label"], row["caption"], row["domain"]),) if decision == "RESPOND" else (),
        recording=row["recording"],
    )
    return Recording(clip, row["speaker"], row["source"])
