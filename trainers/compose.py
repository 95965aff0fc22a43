"""The command `compose`: a corpus on disk, with a bar while it grows and a table when it is there."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.corpus import CorpusSpec, summarise, write_corpus
from envs.corpus.layout import PICTURE, SUMMARY
from envs.foley import Foley
from envs.sources import ClipSource, Mixture
from envs.stream_env import default_scenarios
from trainers.run_folder import check_out


def compose(
    out: Path, ability: str, hours: float, sub_task: str | None, seed: int, workers: int, clips: Path | None
) -> None:
    """Write the corpus into `out`, or what it lacks, and print what it holds.

    Raises:
        SoundFlowError: for input that cannot be used, as `write_corpus` and `ClipLibrary` say.
    """
    check_out(out)
    spec = CorpusSpec(ability, hours, sub_task, seed)
    source: ClipSource = Foley()
    if clips is not None:
        library = ClipLibrary.from_folder(clips)
        source = Mixture((source, library), (0.5, 0.5))
        spec = replace(spec, sounds=f"foley and {_fingerprint(library)}")
    with closing(_Bar(hours)) as bar:
        new = write_corpus(out, spec, default_scenarios(ability, sub_task, source), workers, bar)
    print(f"{summarise(out).table()}\n")
    print(f"{out / SUMMARY} and {out / PICTURE} show the same" if new else f"{out} was complete; nothing was done")


class _Bar:
    """Shows the seconds of stream that there are; opened by the first, so that a refusal stays one line."""

    def __init__(self, hours: float) -> None:
        self.total_s, self.done_s = hours * 3600.0, 0.0
        self.bar: tqdm[NoReturn] | None = None

    def __call__(self, seconds: float) -> None:
        """Count more seconds; the last stream may go beyond the hours asked for."""
        self.done_s = min(self.done_s + seconds, self.total_s)
        if self.bar is None:
            self.bar = tqdm(total=round(self.total_s), unit="s of stream")
        self.bar.update(round(self.done_s) - self.bar.n)

    def close(self) -> None:
        """Leave the line."""
        if self.bar is not None:
            self.bar.close()


def _fingerprint(library: ClipLibrary) -> str:
    """Return a name of recordings that differs when what is heard of them, or said about them, does."""
    digest = hashlib.sha256()
    for recording in library.recordings:
        clip = recording.clip
        about = (clip.label, clip.caption, clip.domain, clip.decision, clip.origin, clip.recording, recording.speaker)
        digest.update(repr((*about, recording.source, len(clip.audio))).encode())
        digest.update(clip.audio.tobytes())
    return f"{len(library)} recordings of sha256 {digest.hexdigest()[:16]}"
