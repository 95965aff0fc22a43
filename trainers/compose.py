"""The command `compose`: a corpus on disk, with a bar while it grows and a table when it is there."""

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.corpus import CorpusSpec, summarise, write_corpus
from envs.corpus.layout import PICTURE, SUMMARY
from envs.curation import CuratedScenarios, curated_scenarios, planner_from_options
from envs.errors import ConfigError
from envs.foley import Foley
from envs.sources import ClipSource, Mixture
from envs.speech.corpora import RecordedSpeech
from envs.stream_env import Scenarios, default_scenarios
from trainers.clips import ClipFolder
from trainers.plan import counts_text
from trainers.run_folder import check_out


@dataclass(frozen=True)
class Sounds:
    """What streams are made of: half of the sounds from `clips`, planned by a planner where one is named.

    `speech` is a folder of recorded speech and its layout (`envs.speech.corpora.SPEECH_LAYOUTS`).
    """

    clips: ClipFolder | None = None
    speech: tuple[Path, str] | None = None
    planner: str | None = None
    base_url: str | None = None
    model: str | None = None


def compose(out: Path, spec: CorpusSpec, sounds: Sounds, workers: int) -> None:
    """Write the corpus into `out`, or what it lacks, and print what it holds.

    Streams that a planner plans are composed in this process, so that all that was refused is counted. A language model
    may give other plans when it is asked again: after a kill, what follows the last whole shard may be other streams.

    Raises:
        SoundFlowError: for input that cannot be used, as `write_corpus` and `ClipLibrary` say.
    """
    check_out(out)
    source: ClipSource = Foley()
    if sounds.clips is not None:
        library = sounds.clips.read()
        source = Mixture((source, library), (0.5, 0.5))
        spec = replace(spec, sounds=f"foley and {fingerprint(library)}")
    speech = None
    if sounds.speech is not None:
        folder, layout = sounds.speech
        speech = RecordedSpeech(folder, layout)
        spec = replace(spec, speech=f"{layout}, {_fingerprint_of_rows(speech)}")
    spec = replace(spec, planner=" ".join(filter(None, (sounds.planner, sounds.model))))
    scenarios, workers = _scenarios(spec, sounds, source, speech), 1 if sounds.planner else workers
    with closing(_Bar(spec.hours)) as bar:
        new = write_corpus(out, spec, scenarios, workers, bar)
    print(f"{summarise(out).table()}\n")
    if isinstance(scenarios, CuratedScenarios):
        print(f"{counts_text(scenarios.counts)}\n")
    print(f"{out / SUMMARY} and {out / PICTURE} show the same" if new else f"{out} was complete; nothing was done")


def _scenarios(spec: CorpusSpec, sounds: Sounds, source: ClipSource, speech: RecordedSpeech | None) -> Scenarios:
    if sounds.planner is None:
        if sounds.base_url or sounds.model:
            raise ConfigError("--base-url and --model are the planner's; say --planner llm with them")
        return default_scenarios(spec.ability, spec.sub_task, source, speech)
    if (spec.ability, spec.sub_task) != ("Proactive", None):
        raise ConfigError("--planner plans the sounds of --ability Proactive, without a sub-task; ask for that")
    return curated_scenarios(source, planner_from_options(sounds.planner, sounds.base_url, sounds.model))


class _Bar:
    """Shows the seconds of stream that there are; opened by the first, so that a refusal stays one line."""

    def __init__(self, hours: float) -> None:
        self.total_s, self.done_s = hours * 3600.0, 0.0
        self.bar: tqdm[NoReturn] | None = None

    def __call__(self, seconds: float) -> None:
        """Count more seconds; the last stream may go beyond the hours asked for."""
        self.done_s = min(self.done_s + seconds, self.total_s)
        if self.bar is None:
            self.bar = tqdm(total=round(self.total_s), unit="s", desc="seconds of stream")
        self.bar.update(round(self.done_s) - self.bar.n)

    def close(self) -> None:
        """Leave the line."""
        if self.bar is not None:
            self.bar.close()


def fingerprint(library: ClipLibrary) -> str:
    """Return a name of recordings that differs when what is heard of them, or said about them, does."""
    digest = hashlib.sha256()
    for recording in library.recordings:
        clip = recording.clip
        about = (clip.label, clip.caption, clip.domain, clip.decision, clip.origin, clip.recording, recording.speaker)
        digest.update(repr((*about, recording.source, len(clip.audio))).encode())
        digest.update(clip.audio.tobytes())
    return f"{len(library)} recordings of sha256 {digest.hexdigest()[:16]}"


def _fingerprint_of_rows(speech: RecordedSpeech) -> str:
    """Return a name of recorded speech that differs when its files' names, or what is said in them, do."""
    digest = hashlib.sha256(repr([sorted(row.columns.items()) for row in speech.rows]).encode())
    return f"{len(speech.rows)} utterances of sha256 {digest.hexdigest()[:16]}"
