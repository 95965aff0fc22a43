"""What a corpus is asked to be, and the numbers and the picture that say what it is."""

import json
from pathlib import Path

import pytest
from beeps import beeps

from envs.corpus import Corpus, CorpusSpec, summarise, write_corpus
from envs.corpus.layout import StreamLine
from envs.corpus.summary import count, draw_summary
from envs.errors import ConfigError
from envs.scenario import Cue, TimelineEntry


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hours": 0.0}, "hours is 0.0"),
        ({"hours": float("nan")}, "hours is nan"),
        ({"hours": 1e9}, "at most 10000"),
        ({"seed": -1}, "seed is -1"),
        ({"streams_per_shard": 0}, "streams_per_shard is 0"),
    ],
)
def test_specifications_that_cannot_be(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CorpusSpec(**{"ability": "Proactive", "hours": 1.0, **values})


def test_the_summary_counts_what_is_there(tmp_path: Path) -> None:
    write_corpus(tmp_path, CorpusSpec("Proactive", hours=0.02), beeps)
    streams, summary = list(Corpus(tmp_path)), summarise(tmp_path)
    cues = [len(s.cues) for s in streams]
    assert (summary.streams, summary.chunks) == (len(streams), sum(s.num_chunks for s in streams))
    assert summary.cues == {"Proactive": {"safety_signal": sum(cues)}}
    assert summary.rounds == {k: cues.count(k) for k in sorted(set(cues))}
    assert summary.silent_stream_share == cues.count(0) / len(cues)
    assert summary.silent_chunk_share == pytest.approx(1 - sum(cues) / summary.chunks)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["shares"] == {"safety_signal": 1.0}
    assert f"{len(streams)} streams, 0.02 hours, {sum(cues)} cues" in summary.table()


def mixed_line(seed: int, *sub_tasks: str) -> StreamLine:
    cues = tuple(Cue(k, k + 0.5, k + 1.0, "x", ("yes",), (), 0.5, "", name) for k, name in enumerate(sub_tasks))
    timeline = tuple(TimelineEntry(k // 2, "yes") for k in range(len(cues)))  # two of them after one chunk
    return StreamLine(seed, "Mixed", 0, 40, (), cues, timeline, "", ())


def test_cues_of_a_mixed_stream_count_for_their_abilities() -> None:
    summary = count([mixed_line(0, "distress", "en_zh"), mixed_line(1, "en_zh", "clean", "my_own"), mixed_line(2)])
    assert summary.cues == {
        "Translation": {"en_zh": 2},
        "SpeechRecognition": {"clean": 1},
        "Proactive": {"distress": 1},
        "Mixed": {"my_own": 1},  # a user's own scenarios may ask for what no ability knows
    }
    assert summary.shares["Translation"] == 0.4
    assert (summary.rounds, summary.due_chunks, summary.silent_streams) == ({0: 1, 2: 1, 3: 1}, 3, 1)


def test_the_picture_follows_from_the_numbers_and_needs_no_cue() -> None:
    for lines in ([mixed_line(0, "distress")], [mixed_line(0, *["clean"] * 30)], [mixed_line(0)]):
        first, again = draw_summary(count(lines)), draw_summary(count(lines))
        assert first == again
        assert first.startswith(b"\x89PNG")
