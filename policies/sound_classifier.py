"""The classical sound classifier: kernel logistic regression on log-mel statistics of the last two seconds.

Of what was measured on validation streams (docs/experiments.md) it was the best: linear logistic regression and
gradient boosting were worse, a support vector machine no better and much slower. The kernel is Gaussian and
approximated by some hundreds of centres (Nystroem), so that a classifier is a handful of matrices: it is saved
without pickle, and scikit-learn is needed to train it, not to use it.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from envs.clock import CHUNK_S
from envs.errors import PolicyError, first_line
from envs.files import write_bytes, write_text
from envs.log_mel import CHUNK_FRAMES, N_MELS, LogMel, log_mel
from envs.matching import match
from envs.scenario import GRACE_S, Audio, Cue, Scenario
from envs.workers import compose_all
from policies.canned_reply import NO_REPLY
from policies.debounce import Debounce, Trigger

Scenarios = Callable[[int], Scenario]
WINDOW_CHUNKS = 5  # 2 s
NUM_FEATURES = 3 * N_MELS
FORMAT_VERSION = 1
_GAMMA = 1 / (2 * NUM_FEATURES)  # of the kernel, on standardised features
_INVERSE_PENALTY = 3.0
_PACE = 16  # bytes a chunk: the environment's default, at which a trigger is tuned
_TRIGGERS = tuple(
    Trigger(threshold, confirm, hold)
    for threshold in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    for confirm in (1, 2, 3, 4)
    for hold in (2, 4, 8)
)
_ARRAYS = ("mean", "scale", "centres", "weights", "bias")


def window_statistics(frames: LogMel) -> NDArray[np.float64]:
    """Return mean, deviation, and deviation of the differences of every band: [M, frames, 64] -> [M, 192]."""
    steps = np.diff(frames, axis=1)
    return np.concatenate([frames.mean(axis=1), frames.std(axis=1), steps.std(axis=1)], axis=1).astype(np.float64)


def stream_statistics(audio: Audio) -> NDArray[np.float64]:
    """Return the statistics of the window that ends with each chunk: float32 [T * 6400] -> [T, 192].

    Before its beginning a stream is taken to have sounded like its first chunk.
    """
    chunks = log_mel(audio).reshape(-1, CHUNK_FRAMES, N_MELS)
    padded = np.concatenate([np.repeat(chunks[:1], WINDOW_CHUNKS - 1, axis=0), chunks])
    windows = np.stack([padded[t : t + WINDOW_CHUNKS].reshape(-1, N_MELS) for t in range(len(chunks))])
    return window_statistics(windows)


@dataclass(frozen=True, eq=False)
class SoundClassifier:
    """Which sound that deserves a reply is on, and what to say to it."""

    labels: tuple[str, ...]
    replies: tuple[str, ...]  # of each label
    mean: NDArray[np.float64]  # [192]
    scale: NDArray[np.float64]  # [192]
    centres: NDArray[np.float64]  # [N, 192], standardised
    weights: NDArray[np.float64]  # [N, 1 + labels]; column 0 is nothing that deserves a reply
    bias: NDArray[np.float64]  # [1 + labels]
    trigger: Trigger

    @classmethod
    def train(
        cls, scenarios: Scenarios, seeds: Sequence[int], *, num_centres: int = 1000, seed: int = 0, workers: int = 1
    ) -> "SoundClassifier":
        """Train on every chunk of streams; a chunk's label is the cue that is ready and whose sound is on.

        Chunks at which a reply would be right although the sound is not known yet, or is over, teach nothing.

        Args:
            scenarios: Makes the stream of a seed.
            seeds: Of the training streams.
            num_centres: Of the kernel.
            seed: Of the choice of centres.
            workers: Processes that compose streams.

        Raises:
            PolicyError: when no sound of the streams deserves a reply, or nothing else is heard in them.
        """
        features, names, replies = [], list[str](), dict[str, str]()
        for scenario in compose_all(scenarios, seeds, workers):
            labels = _labels(scenario)
            kept = [t for t, label in enumerate(labels) if label is not None]
            features.append(stream_statistics(scenario.audio)[kept])
            names += [label for label in labels if label is not None]
            for cue in scenario.cues:
                replies.setdefault(cue.label, cue.replies[0])
        known = sorted(set(names) - {""})
        if not known or "" not in names:
            raise PolicyError(
                f"a sound classifier needs sounds that deserve a reply and others; {len(seeds)} training streams hold"
                f" {len(names)} labelled chunks of {len(known)} sounds that do"
            )
        targets = np.array([0 if name == "" else 1 + known.index(name) for name in names])
        mean, scale, centres, weights, bias = _fit(np.concatenate(features), targets, num_centres, seed)
        texts = tuple(replies[label] for label in known)
        return cls(tuple(known), texts, mean, scale, centres, weights, bias, Trigger())

    def probabilities(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each label: [M, 192] -> [M, labels]; what lacks to 1 is "nothing"."""
        x = (statistics - self.mean) / self.scale
        squares = np.square(x).sum(axis=1)[:, None] + np.square(self.centres).sum(axis=1)
        logits = np.exp(-_GAMMA * np.maximum(squares - 2 * x @ self.centres.T, 0)) @ self.weights + self.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray((odds / odds.sum(axis=1, keepdims=True))[:, 1:])

    def tuned(self, scenarios: Scenarios, seeds: Sequence[int], *, workers: int = 1) -> "SoundClassifier":
        """Return this classifier with the trigger of the best trigger F1 on validation streams.

        The streams should be of recordings that it was not trained on: what it knows by heart it is too sure of.
        """
        heard, cues = [], []
        for scenario in compose_all(scenarios, seeds, workers):
            heard.append(self.probabilities(stream_statistics(scenario.audio)))
            cues.append(scenario.cues)
        scores = {trigger: _trigger_f1(self._answer_times(heard, trigger), cues) for trigger in _TRIGGERS}
        return replace(self, trigger=max(scores, key=lambda trigger: scores[trigger]))

    def _answer_times(self, heard: Sequence[NDArray[np.float64]], trigger: Trigger) -> list[list[float]]:
        """Return when replies would begin in streams of which the probabilities [T, labels] are known."""
        lengths = np.array([len(stream) for stream in heard])
        padded = np.zeros((len(heard), lengths.max(), len(self.labels)))
        for row, stream in zip(padded, heard, strict=True):
            row[: len(stream)] = stream
        chunks = np.array([math.ceil((len(text.encode()) + 1) / _PACE) for text in self.replies])
        debounce, free_at = Debounce(trigger, len(heard), len(self.labels)), np.zeros(len(heard), np.int64)
        times: list[list[float]] = [[] for _ in heard]
        for t in range(padded.shape[1]):
            answers = debounce.step(padded[:, t], (free_at <= t) & (t < lengths))
            for slot in np.flatnonzero(answers != NO_REPLY):
                times[slot].append((t + 1) * CHUNK_S)
                free_at[slot] = t + chunks[answers[slot]]
        return times

    def save(self, folder: Path) -> None:
        """Write `classifier.safetensors` and `classifier.json` into a folder; neither is left half-written."""
        write_bytes(folder / "classifier.safetensors", save({name: getattr(self, name) for name in _ARRAYS}))
        about = {
            "format_version": FORMAT_VERSION,
            "labels": self.labels,
            "replies": self.replies,
            "trigger": asdict(self.trigger),
        }
        write_text(folder / "classifier.json", json.dumps(about, indent=2, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "SoundClassifier":
        """Read what `save` wrote.

        Raises:
            PolicyError: when a file is missing or spoilt, the two do not fit, or they are of another version.
        """
        try:
            about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
            arrays = load((folder / "classifier.safetensors").read_bytes())
            if about["format_version"] != FORMAT_VERSION:
                raise PolicyError(
                    f"{folder}/classifier.json: format version {about['format_version']}, this release reads"
                    f" {FORMAT_VERSION}"
                )
            trigger = Trigger(**{field.name: about["trigger"][field.name] for field in fields(Trigger)})
            mean, scale, centres, weights, bias = (arrays[name] for name in _ARRAYS)
            labels, replies = tuple(about["labels"]), tuple(about["replies"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise PolicyError(first_line(f"{folder}: the classifier cannot be read: {error!r}")) from error
        rows, classes = len(centres), 1 + len(labels)
        wanted = ((NUM_FEATURES,), (NUM_FEATURES,), (rows, NUM_FEATURES), (rows, classes), (classes,))
        for name, shape in zip(_ARRAYS, wanted, strict=True):
            if arrays[name].shape != shape or len(replies) != len(labels):
                raise PolicyError(
                    f"{folder}/classifier.safetensors: {name} has the shape {arrays[name].shape}, and"
                    f" {len(labels)} labels with {len(replies)} replies want {shape}"
                )
        return cls(labels, replies, mean, scale, centres, weights, bias, trigger)


def _labels(scenario: Scenario) -> list[str | None]:
    """Return for every chunk the sound to name after it; "" for none that deserves a reply, None for either."""
    labels: list[str | None] = [""] * scenario.num_chunks
    for t in range(scenario.num_chunks):
        now = (t + 1) * CHUNK_S
        for cue in scenario.cues:
            if cue.ready_s <= now <= max(cue.deadline_s - GRACE_S, cue.ready_s) + CHUNK_S:
                labels[t] = cue.label
                break
            if cue.onset_s <= now <= cue.deadline_s:
                labels[t] = None
    return labels


def _fit(
    features: NDArray[np.float64], targets: NDArray[np.int64], num_centres: int, seed: int
) -> list[NDArray[np.float64]]:
    """Return mean, scale, centres, weights and bias."""
    from sklearn.kernel_approximation import Nystroem  # noqa: PLC0415 - only where a classifier is trained
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - of scikit-learn

    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    kernel = Nystroem(gamma=_GAMMA, n_components=min(num_centres, len(features)), random_state=seed)
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=200)
    with threadpool_limits(1):  # its matrices are narrow: several threads wait for each other longer than they work
        model.fit(kernel.fit_transform((features - mean) / scale), targets)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # of two classes scikit-learn keeps the odds of the second
        weights, bias = np.concatenate([0 * weights, weights], axis=1), np.concatenate([0 * bias, bias])
    return [mean, scale, kernel.components_, np.ascontiguousarray(kernel.normalization_.T @ weights), bias]


def _trigger_f1(times: Sequence[Sequence[float]], cues: Sequence[Sequence[Cue]]) -> float:
    matched = sum(index is not None for t, c in zip(times, cues, strict=True) for index in match(t, c))
    return 2 * matched / max(sum(map(len, times)) + sum(map(len, cues)), 1)
