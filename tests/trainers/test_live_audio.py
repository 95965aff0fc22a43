"""Live sources: chunks come when they are due, raw bytes are samples, and a microphone that is not there says so."""

import io
import json
import sys
import types
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.audio import write_wav
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.errors import AudioError
from policies.engine.recording import Recording
from policies.lalm_policy import LALMPolicy
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, noise, tiny_model
from trainers.cli import main
from trainers.live_audio import microphone, paced, raw_samples


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live") / "policy"
    tokenizer = train_tokenizer(REPLIES, 300)
    LALMPolicy(tiny_model(tokenizer), tokenizer).save_pretrained(folder)
    return folder


def test_chunks_come_when_their_last_sample_would_and_late_ones_at_once() -> None:
    time, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time[0] += seconds

    for i, _ in enumerate(paced([np.zeros(CHUNK_SAMPLES, np.float32)] * 4, lambda: time[0], sleep)):
        assert time[0] >= 100.0 + (i + 1) * CHUNK_S - 1e-9
        time[0] += 1.0 if i == 0 else 0.1  # the first takes its listener two and a half chunks
    assert slept == pytest.approx([0.4, 0.0, 0.0, 0.0])  # at 0.0, 1.4, 1.5, 1.6: the fourth was due at 1.6


def test_raw_bytes_are_samples_and_the_last_chunk_is_padded() -> None:
    samples = np.arange(-8000, 0, dtype="<i2")
    chunks = list(raw_samples(io.BytesIO(samples.tobytes())))
    assert [chunk.shape for chunk in chunks] == [(CHUNK_SAMPLES,)] * 2
    heard = np.concatenate(chunks)
    np.testing.assert_array_equal(heard[:8000], samples / np.float32(32768))
    assert not heard[8000:].any()


def test_bytes_that_end_in_the_middle_of_a_sample_are_said() -> None:
    chunks = raw_samples(io.BytesIO(bytes(2 * CHUNK_SAMPLES + 1)), "pipe")
    assert len(next(chunks)) == CHUNK_SAMPLES
    with pytest.raises(AudioError, match="pipe: ends in the middle of a sample"):
        next(chunks)


def test_a_file_with_a_header_is_no_raw_samples(tmp_path: Path) -> None:
    write_wav(tmp_path / "noise.wav", noise(1, 2))
    with (tmp_path / "noise.wav").open("rb") as file, pytest.raises(AudioError, match="begins with b'RIFF'"):
        next(raw_samples(file))


def test_a_file_and_its_raw_bytes_are_decided_on_alike(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = noise(1, 5)
    write_wav(tmp_path / "noise.wav", audio)
    logs, record = tmp_path / "logs", tmp_path / "live.safetensors"
    assert (
        main(
            [
                "listen",
                str(tmp_path / "noise.wav"),
                "--policy",
                str(policy),
                "--json",
                "--logs",
                str(logs),
                "--record",
                str(record),
            ]
        )
        == 0
    )
    board = EventAccumulator(str(logs)).Reload()
    assert board.Scalars("engine/decisions")[-1].value >= 1
    assert len(Recording.load(record).thinking_times) == board.Scalars("engine/decisions")[-1].value
    of_file = capsys.readouterr().out
    raw = np.round(audio.clip(-1, 1) * 32768).clip(-32768, 32767).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(raw)))
    assert main(["listen", "-", "--policy", str(policy), "--json"]) == 0
    of_pipe = capsys.readouterr().out
    assert [json.loads(line)["decision"] for line in of_pipe.splitlines()] == [
        json.loads(line)["decision"] for line in of_file.splitlines()
    ]


@pytest.mark.parametrize("extra", [["--bias", "50"], ["--bias", "-50"], ["--full-duplex"]])
def test_the_dials_of_listen_do_what_they_say(
    extra: list[str], policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "noise.wav", noise(1, 5))
    assert main(["listen", str(tmp_path / "noise.wav"), "--policy", str(policy), "--json", *extra]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    decided = [line for line in lines if line["probability"] is not None]
    if "--full-duplex" in extra:
        assert decided == lines
    else:
        assert {line["decision"] for line in decided} == {"response" if extra[1] == "50" else "silent"}


def test_a_file_in_real_time_gives_latencies_and_a_summary(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainers.listen.paced", lambda chunks: islice(chunks, 8))  # nobody waits in a test
    write_wav(tmp_path / "noise.wav", noise(1, 5))
    arguments = [
        "listen",
        str(tmp_path / "noise.wav"),
        "--policy",
        str(policy),
        "--realtime",
        "--bias",
        "-50",
        "--json",
    ]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["chunk"] >= 4
    assert all(line["decision_latency_s"] > 0 for line in lines)
    assert "0 later than a chunk" in err


def test_a_microphone_is_heard_until_it_fails(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No machine of ours has one: a stand-in of sounddevice's interface hands over three chunks, then is unplugged."""

    class PortAudioError(Exception):
        pass

    class Stream:
        def __init__(self, rate: int, size: int, *, channels: int, dtype: str) -> None:
            assert (rate, size, channels, dtype) == (16_000, CHUNK_SAMPLES, 1, "float32")
            self.left = 3

        def __enter__(self) -> "Stream":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, count: int) -> tuple[np.ndarray, bool]:
            if not self.left:
                raise PortAudioError("Device unavailable")
            self.left -= 1
            return noise(2, 1)[:, None], self.left == 1

    stand_in = types.SimpleNamespace(InputStream=Stream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", stand_in)
    assert main(["listen", "--microphone", "--policy", str(policy), "--json"]) == 2
    out, err = capsys.readouterr()
    assert "the microphone cannot be used: Device unavailable" in err
    assert "the microphone lost samples" in err
    assert "decisions, half of them within" in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["chunk"] == 2
    assert all(line["decision_latency_s"] > 0 for line in lines if line["probability"] is not None)


def test_without_sounddevice_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"install soundflow\[microphone\]"):
        next(microphone())
