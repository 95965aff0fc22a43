"""Published corpora of speech: each read in exactly the layout that it is published in, and a source that draws them.

LibriSpeech, Common Voice, CoVoST 2 and AISHELL-1. Reading opens no recording: hours of speech are decoded when drawn.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from envs.audio import read_audio
from envs.clock import SAMPLE_RATE
from envs.errors import AudioError, ManifestError, SpeechError, did_you_mean
from envs.layouts import nearest_column, published
from envs.records import (
    ALLOW_BROKEN,
    BrokenRecord,
    BrokenTally,
    Columns,
    Entry,
    Record,
    missing,
    read_lines,
    read_table,
)
from envs.scenario import Audio
from envs.speech.espeak import Espeak
from envs.speech.utterance import Language, SpeechSource, Utterance, Voice, Word
from envs.tfjp import frame_power

_FRAME = 160  # samples of a frame of `frame_power`
_BELOW_LOUDEST = 1e-3  # power: 30 dB; what is softer at either end is no speech
_MOST_MISSES = 100  # draws of broken recordings in a row, which no corpus with few of them gives
_LANGUAGES = {"zh-cn": "zh", "zh-tw": "zh"}


def read_speech(folder: Path, layout: str, split: str | None = None) -> list[Entry]:
    """Return the utterances of a corpus; broken ones as such.

    Args:
        folder: Where the corpus lies.
        layout: One of `SPEECH_LAYOUTS`.
        split: Only those of this part, by its published name ("train", "test-clean"); default: of all parts.

    Returns:
        Records with the columns path (in the folder), text, speaker, language, translation, into (the language of the
        translation) and split.

    Raises:
        ManifestError: when the layout or split is unknown, a file of the corpus is missing, no table, or lacks a
            column, or a path leads out of the folder.
    """
    if layout not in SPEECH_LAYOUTS:
        raise ManifestError(f"no layout of speech is called {layout!r}{did_you_mean(layout, SPEECH_LAYOUTS)}")
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of speech")
    rows = list(SPEECH_LAYOUTS[layout](folder))
    if not rows:
        raise ManifestError(f"{folder}: holds no speech in the layout of {layout}")
    splits = {row.columns["split"] for row in rows if isinstance(row, Record)}
    if split is not None and splits and split not in splits:
        raise ManifestError(f"{folder}: has no split {split!r}{did_you_mean(split, splits)}")
    # the clips of other parts need not be there
    wanted = [row for row in rows if split is None or isinstance(row, BrokenRecord) or row.columns["split"] == split]
    return list(_checked(folder, wanted))


def _checked(folder: Path, rows: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the rows, those that cannot be used as broken records."""
    for row in rows:
        if isinstance(row, BrokenRecord):
            yield row
        elif gone := missing(folder, row.columns["path"], row.place):
            yield row.broken(gone)
        elif not _words_in(row.columns):
            yield row.broken(f"text {row.columns['text']!r} holds no words")
        elif row.columns["into"] and not row.columns["translation"].strip():
            yield row.broken("translation is blank")
        else:
            yield row


def _row(path: str, text: str, speaker: str, language: str, split: str, **more: str) -> Columns:
    row = {"path": path, "text": text, "speaker": speaker, "language": _language(language), "split": split}
    return {**row, "translation": "", "into": "", **more}


def _language(name: str) -> str:
    """Return a corpus's language as ours; Chinese is Mandarin, in either script."""
    return _LANGUAGES.get(name.lower(), name)


def _librispeech(folder: Path) -> Iterator[Entry]:
    """LibriSpeech: `SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTT.flac`, `SPEAKER-CHAPTER.trans.txt` beside them."""
    for table in sorted(folder.glob("*/*/*/*.trans.txt")):
        chapter = table.parent.relative_to(folder)
        split, speaker, _ = chapter.parts
        for line, text in read_lines(table):
            name, _, said = text.partition(" ")
            yield Record(table, line, _row(f"{chapter.as_posix()}/{name}.flac", said, speaker, "en", split))


def _common_voice(folder: Path) -> Iterator[Entry]:
    """Common Voice: `LANG/{train,dev,test,validated}.tsv`, `LANG/clips/*.mp3`.

    All of a split is in `validated.tsv` as well; only what is in no split counts as that.
    """
    for home in sorted(path.parent for path in folder.glob("*/clips")):
        named: set[str] = set()
        for split in ("train", "dev", "test", "validated"):
            table = home / f"{split}.tsv"
            for row in _tsv(table, ("client_id", "path", "sentence")) if table.is_file() else ():
                if isinstance(row, BrokenRecord):
                    yield row
                elif row.columns["path"] not in named:
                    named.add(row.columns["path"])
                    yield Record(table, row.line, _clip_row(folder, home, row.columns, home.name, split))


def _covost2(folder: Path) -> Iterator[Entry]:
    """CoVoST 2: `LANG/covost_v2.{src}_{tgt}.{split}.tsv` in Common Voice's folders, or one of these alone."""
    for table in sorted({*folder.glob("covost_v2.*_*.*.tsv"), *folder.glob("*/covost_v2.*_*.*.tsv")}):
        _, pair, split, _ = table.name.split(".")
        source, _, target = pair.partition("_")
        for row in _tsv(table, ("path", "sentence", "translation", "client_id")):
            if isinstance(row, BrokenRecord):
                yield row
                continue
            columns = _clip_row(folder, table.parent, row.columns, source, split)
            translated = {"translation": row.columns["translation"], "into": _language(target)}
            yield Record(table, row.line, {**columns, **translated})


def _tsv(table: Path, columns: tuple[str, ...]) -> Iterator[Entry]:
    return read_table(table, columns, nearest_column, delimiter="\t", quoting=False)


def _clip_row(folder: Path, home: Path, row: Columns, language: str, split: str) -> Columns:
    clip = (home / "clips").relative_to(folder) / row["path"]
    return _row(clip.as_posix(), row["sentence"], row["client_id"], language, split)


def _aishell(folder: Path) -> Iterator[Entry]:
    """AISHELL-1: `wav/{train,dev,test}/SPEAKER/*.wav`, `transcript/aishell_transcript_v0.8.txt` in `data_aishell`.

    Some hundred recordings have no transcript, as published; they are left out. Its words are joined, as one writes.
    """
    home = folder / "data_aishell"
    table = published(home / "transcript" / "aishell_transcript_v0.8.txt")
    wavs = {path.stem: path for path in sorted((home / "wav").glob("*/*/*.wav"))}
    for line, text in read_lines(table):
        name, *words = text.split()
        if name not in wavs:
            yield BrokenRecord(table, line, f"no recording is called {name}.wav")
            continue
        path = wavs[name].relative_to(folder)
        split, speaker = path.parts[2:4]
        yield Record(table, line, _row(path.as_posix(), "".join(words), speaker, "zh", split))


SPEECH_LAYOUTS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "librispeech": _librispeech,
    "common_voice": _common_voice,
    "covost2": _covost2,
    "aishell1": _aishell,
}


class RecordedSpeech:
    """A corpus as a source of speech; speakers are drawn in balance, however much each has said.

    It speaks the sentences that were recorded. What an ability words itself is spoken by a synthesiser.

    When the words of a recording are said is not published. They are placed over what is left after the silence at
    both ends has been cut off, each in proportion to its characters: near enough for partial transcripts, and no more.

    Args:
        folder: Where the corpus lies.
        layout: One of `SPEECH_LAYOUTS`.
        split: As `read_speech`; a policy is to be judged on a split that it was not trained on.
        synthesiser: Speaks given texts; default: espeak-ng.
        allow_broken: The share of recordings that may be broken; which are shows when they are drawn.

    Raises:
        ManifestError: as `read_speech`, and when more than `allow_broken` of the utterances cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        layout: str,
        split: str | None = None,
        *,
        synthesiser: SpeechSource | None = None,
        allow_broken: float = ALLOW_BROKEN,
    ) -> None:
        self.folder = folder
        self.synthesiser: SpeechSource = Espeak() if synthesiser is None else synthesiser
        rows = read_speech(folder, layout, split)
        self._tally = BrokenTally(folder, len(rows), allow_broken)
        self._tally.add(row for row in rows if isinstance(row, BrokenRecord))
        self._tally.warn()
        self.rows = tuple(row for row in rows if isinstance(row, Record))
        self._by_speaker: dict[str, dict[str, list[Record]]] = {}
        for row in self.rows:
            language, into = row.columns["language"], row.columns["into"]
            for kind in (language, f"{language} to {into}") if into else (language,):
                self._by_speaker.setdefault(kind, {}).setdefault(row.columns["speaker"], []).append(row)

    @property
    def broken(self) -> tuple[BrokenRecord, ...]:
        """What was left out so far."""
        return tuple(self._tally.found)

    def voice(self, rng: np.random.Generator, language: Language) -> Voice:
        """Draw a voice of the synthesiser."""
        return self.synthesiser.voice(rng, language)

    def say(self, text: str, voice: Voice) -> Utterance:
        """Let the synthesiser speak a text.

        Raises:
            SpeechError: when it cannot be spoken.
        """
        return self.synthesiser.say(text, voice)

    def sentence(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw a speaker, then one of the recorded utterances.

        Raises:
            SpeechError: when there is none in the language.
            ManifestError: when more recordings than allowed have proved broken.
        """
        return self._draw(rng, language)

    def translated(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw an utterance whose translation into the other language is published.

        Raises:
            SpeechError: when there is none.
            ManifestError: when more recordings than allowed have proved broken.
        """
        return self._draw(rng, f"{language} to {'zh' if language == 'en' else 'en'}")

    def _draw(self, rng: np.random.Generator, kind: str) -> Utterance:
        speakers = self._by_speaker.get(kind)
        if speakers is None:
            known = ", ".join(sorted(self._by_speaker))
            raise SpeechError(f"{self.folder}: holds no utterance of {kind!r}, only of {known}; give another corpus")
        names = sorted(speakers)
        for _ in range(_MOST_MISSES):
            rows = speakers[names[int(rng.integers(len(names)))]]
            row = rows[int(rng.integers(len(rows)))]
            try:
                return _utterance(self.folder, row)
            except AudioError as error:
                self._tally.meet(row.broken(str(error)))
        raise SpeechError(f"{self.folder}: {_MOST_MISSES} draws of {kind!r} gave broken recordings only; repair them")


def _utterance(folder: Path, row: Record) -> Utterance:
    """Read one recording.

    Raises:
        AudioError: when it cannot be used, or holds nothing but silence.
    """
    columns = row.columns
    audio = _spoken_part(read_audio(folder / columns["path"]))
    if not audio.any():
        raise AudioError(f"{folder / columns['path']}: holds nothing but silence")
    audio.setflags(write=False)
    words = _place(_words_in(columns), len(audio) / SAMPLE_RATE)
    return Utterance(audio, columns["text"], words, columns["speaker"], columns["translation"])


def _spoken_part(audio: Audio) -> Audio:
    """Cut silence off both ends: frames of 10 ms that are 30 dB softer than the loudest."""
    power = frame_power(audio)
    loud = np.flatnonzero(power >= power.max() * _BELOW_LOUDEST)
    return audio[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME].copy()


def _words_in(columns: Columns) -> list[str]:
    """Return the words of a text without punctuation: in Chinese its characters.

    >>> _words_in({"text": "Isn't it, Anna?", "language": "en"})
    ["Isn't", 'it', 'Anna']
    >>> _words_in({"text": "打开TV。", "language": "zh"})
    ['打', '开', 'TV']
    """
    if columns["language"] == "zh":
        return re.findall(r"[A-Za-z0-9]+|[^\W_]", columns["text"])
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", columns["text"])  # noqa: RUF001 - an apostrophe as printed


def _place(words: list[str], seconds: float) -> tuple[Word, ...]:
    """Give each word a share of the time, by its characters."""
    ends = [0, *accumulate(len(word) for word in words)]
    moments = [seconds * end / ends[-1] for end in ends]
    return tuple(Word(word, start, end) for word, (start, end) in zip(words, pairwise(moments), strict=True))
