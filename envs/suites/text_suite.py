"""Recordings that are each answered by a text: streamed, with all that was said joined, or asked offline.

A stream is the recording as it was published, then what is asked about it where that has to be heard, then ten seconds
of silence for words that come late: a hundred tokens, at four a chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs.audio import read_audio
from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE, chunks_to_cover, due_chunk, samples
from envs.errors import ScenarioError
from envs.metrics import Metric
from envs.scenario import Audio, Cue, Event, Scenario, TimelineEntry
from envs.speech.espeak import say
from envs.speech.utterance import Voice
from envs.suites import Coverage, Question
from envs.text_metrics import accuracies, chosen
from envs.trace import Trace

TALK_S = 10.0
ASKED_AFTER_S = 0.8  # from a recording's end to the question about it


@dataclass(frozen=True)
class TextItem:
    """One recording, and what a good answer is."""

    id: str
    path: str  # in the folder
    reference: str
    instruction: str  # as text, of an offline turn
    spoken: str = ""  # what is asked in a stream, after the recording; blank: nothing, the recording is enough
    choices: tuple[str, ...] = ()  # where the answer is one of them
    groups: tuple[str, ...] = ()  # that have numbers of their own
    line: Mapping[str, Any] = field(default_factory=dict)  # of its release, what a prediction repeats


Metrics = Callable[[Sequence[TextItem], Sequence[str]], dict[str, Metric]]  # of items and their answers


@dataclass(frozen=True)
class TextSuite:
    """A suite of such items, an `OfflineSuite`; seed i is the i-th item that is there.

    Attributes:
        name: As on the command line.
        ability: Of its streams.
        folder: Holds the release.
        items: Those whose recordings are there.
        missing: What the release names beside them, each with the reason why it is left out.
        metrics: Scores answers.
        notes: See `Suite`.
        said_as: The key of an answer in a line of predictions.
        joined_by: What stands between the replies of a stream; nothing in Chinese.
        recording: Reads one by its path; None: it is a file of the folder.
        released: How many items its release has; 0: that is not known.
    """

    name: str
    ability: str
    folder: Path
    items: tuple[TextItem, ...]
    missing: tuple[str, ...]
    metrics: Metrics
    notes: Mapping[str, str]
    said_as: str = "prediction"
    joined_by: str = " "
    recording: Callable[[str], Audio] | None = None
    released: int = 0

    @property
    def seeds(self) -> Sequence[int]:
        """Of the items that are there."""
        return range(len(self.items))

    @property
    def coverage(self) -> Coverage:
        """How many items are there."""
        named = len(self.items) + len(self.missing)
        return Coverage(named, self.missing, named, self.released)

    def scenario(self, seed: int) -> Scenario:
        """Return an item as a stream; its one cue is ready when all has been heard.

        Raises:
            AudioError: when the recording cannot be decoded.
            SpeechError: when there is something to ask, and nobody to say it.
        """
        item = self.items[seed]
        audio = self._audio(item)
        events = [_event(item.id, item.path, 0, len(audio))]
        if item.spoken:
            question = say(item.spoken, Voice()).audio
            start = len(audio) + samples(ASKED_AFTER_S)
            events.append(_event(item.spoken, "espeak-ng", start, len(question)))
            audio = np.concatenate((audio, np.zeros(start - len(audio), np.float32), question))
        ready_s = len(audio) / SAMPLE_RATE
        chunks = chunks_to_cover(ready_s) + chunks_to_cover(TALK_S)
        end_s = chunks * CHUNK_SAMPLES / SAMPLE_RATE
        return Scenario(
            seed=seed,
            ability=self.ability,
            audio=np.pad(audio, (0, chunks * CHUNK_SAMPLES - len(audio))),
            events=tuple(events),
            cues=(Cue(0.0, ready_s, end_s, item.id, (item.reference,), (), 1.0, "", self.name),),
            timeline=(TimelineEntry(due_chunk(ready_s), item.reference),),
            instruction=item.instruction,
        )

    def question(self, seed: int) -> Question:
        """Return an item as an offline turn.

        Raises:
            AudioError: when the recording cannot be decoded.
        """
        item = self.items[seed]
        return Question(self._audio(item), item.instruction)

    def _audio(self, item: TextItem) -> Audio:
        return read_audio(self.folder / item.path) if self.recording is None else self.recording(item.path)

    def answered(self, traces: Sequence[Trace]) -> list[str]:
        """Return every reply of each stream, joined in time order."""
        return [self.joined_by.join(reply.text.strip() for reply in trace.replies) for trace in traces]

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return a line an item: what its release says of it, and the answer."""
        said = zip(traces, self.answered(traces), strict=True)
        return [{**self.items[trace.seed].line, self.said_as: text} for trace, text in said]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return the numbers of what was said in streams.

        Raises:
            ScenarioError: when nothing was played.
        """
        return self.score_answers([trace.seed for trace in traces], self.answered(traces))

    def score_answers(self, seeds: Sequence[int], answers: Sequence[str]) -> dict[str, Metric]:
        """Return the numbers of answers.

        Raises:
            ScenarioError: when there are none.
        """
        if not seeds:
            raise ScenarioError(f"{self.folder}: no item of {self.name} was played; {self.coverage}")
        return self.metrics([self.items[seed] for seed in seeds], answers)


def choice_metrics(items: Sequence[TextItem], answers: Sequence[str]) -> dict[str, Metric]:
    """Return the accuracy of choices, of each group too, and the share of answers that can be told."""
    made = [chosen(said, item.choices) for item, said in zip(items, answers, strict=True)]
    right = [i is not None and item.choices[i] == item.reference for item, i in zip(items, made, strict=True)]
    decided = accuracies([i is not None for i in made])["accuracy"]
    return {**accuracies(right, [item.groups for item in items]), "decided": decided}


def _event(label: str, origin: str, start: int, length: int) -> Event:
    return Event(label, label, "foreground", "RESPOND", start / SAMPLE_RATE, length / SAMPLE_RATE, origin)
