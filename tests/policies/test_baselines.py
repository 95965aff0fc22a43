"""Baselines that listen: turns of speech, sounds that were trained, and a registry of all seven."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.clock import CHUNK_SAMPLES
from envs.errors import PolicyError
from envs.foley import Foley
from envs.metrics import evaluate_traces
from envs.proactive import ProactiveScenarios
from envs.scenario import Clip, Decision
from envs.speech.espeak import say
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace
from policies.base import Policy
from policies.baselines import BASELINES, make_baseline
from policies.classifier_policy import SoundClassifierPolicy
from policies.debounce import Debounce, Trigger
from policies.silero import load_detector
from policies.sound_classifier import SoundClassifier, stream_statistics
from policies.vad_policy import SileroVADPolicy
from tests.policies.conftest import noise
from trainers.evaluation import play

K = 32
IDS = ByteTokenizer()


class FewFoley(Foley):
    """Built-in sounds of a few labels, which a small classifier learns from few streams."""

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        kept = {"RESPOND": ("baby_cry", "smoke_alarm", "siren"), "IGNORE": ("bird", "rain", "engine", "typing")}
        return kept[decision]

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        return super().draw(rng, decision, label or str(rng.choice(self.labels_of(decision))))


STREAMS = ProactiveScenarios(FewFoley(), chunks=(30, 40))


@pytest.fixture(scope="module")
def classifier() -> SoundClassifier:
    trained = SoundClassifier.train(STREAMS, range(50), num_centres=200)
    return trained.tuned(STREAMS, range(1000, 1020))


@pytest.fixture(scope="module")
def turns() -> np.ndarray:
    """Two sentences, a second of quiet after each, over faint noise: [T * 6400]."""
    quiet = np.zeros(20_000, np.float32)
    spoken = say("Where is the nearest station, please?").audio
    audio = np.concatenate([quiet[:8000], spoken, quiet, spoken, quiet])
    audio = np.concatenate([audio, np.zeros(-len(audio) % CHUNK_SAMPLES, np.float32)])
    return audio + 0.01 * noise(0, len(audio) // CHUNK_SAMPLES)


def kinds(policy: Policy, streams: list[np.ndarray], begins: list[int]) -> list[list[int]]:
    """Play streams side by side, each beginning at its own chunk; return what was done in each."""
    policy.reset(np.ones(len(streams), bool))
    done: list[list[int]] = [[] for _ in streams]
    lengths = [len(stream) // CHUNK_SAMPLES for stream in streams]
    for t in range(max(b + n for b, n in zip(begins, lengths, strict=True))):
        policy.reset(np.array([t == begin for begin in begins]))
        audio = noise(t, len(streams)).reshape(len(streams), -1)
        on = [0 <= t - b < n for b, n in zip(begins, lengths, strict=True)]
        for slot in np.flatnonzero(on):
            audio[slot] = streams[slot].reshape(-1, CHUNK_SAMPLES)[t - begins[slot]]
        actions = policy.act({"audio": audio})["kind"]
        for slot in np.flatnonzero(on):
            done[slot].append(int(actions[slot]))
    return done


def judge(policy: Policy, num_slots: int, seeds: range) -> tuple[float, list[Trace]]:
    traces = play(policy, STREAMS, seeds, num_slots=num_slots, tokenizer=IDS, tokens_per_chunk=K)
    return evaluate_traces(traces, resamples=1)["trigger_f1"].value or 0.0, traces


def test_vad_answers_each_turn_once_it_has_ended(turns: np.ndarray) -> None:
    (done,) = kinds(SileroVADPolicy(1, IDS, K), [turns], [0])
    spoken_s = len(say("Where is the nearest station, please?").audio) / 16_000
    ends_s = (0.5 + spoken_s, 0.5 + 2 * spoken_s + 1.25)
    replies_s = [0.4 * (t + 1) for t, kind in enumerate(done) if kind == 1]
    assert len(replies_s) == 2
    assert all(0.3 < reply - end < 1.3 for reply, end in zip(replies_s, ends_s, strict=True))


def test_vad_does_not_answer_noise_or_tones() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(20 * CHUNK_SAMPLES) / 16_000)).astype(np.float32)
    gaps = tone * (np.arange(len(tone)) % 32_000 < 16_000)
    done = kinds(SileroVADPolicy(3, IDS, K), [noise(1, 20), tone, gaps], [0, 0, 0])
    assert not np.any(done)


def test_vad_batched_does_what_it_does_alone(turns: np.ndarray) -> None:
    """A chunk is twelve and a half frames: streams that began an odd number of chunks apart hold other remainders."""
    together = kinds(SileroVADPolicy(3, IDS, K), [turns, turns[: 12 * CHUNK_SAMPLES], turns], [0, 3, 6])
    (alone,) = kinds(SileroVADPolicy(1, IDS, K), [turns], [0])
    assert 1 in alone
    assert together == [alone, alone[:12], alone]


def test_vad_reset_forgets_a_turn(turns: np.ndarray) -> None:
    policy = SileroVADPolicy(1, IDS, K)
    kinds(policy, [turns[: 4 * CHUNK_SAMPLES]], [0])
    assert policy.voiced[0] > 0
    assert not np.any(kinds(policy, [np.zeros(8 * CHUNK_SAMPLES, np.float32)], [0]))


def test_vad_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    load_detector.cache_clear()
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(PolicyError, match=r"needs the package silero-vad: uv sync --extra vad$"):
        SileroVADPolicy(1, IDS, K)


def test_vad_leaves_the_threads_of_torch_alone() -> None:
    code = (
        "import torch; torch.set_num_threads(2)\nfrom envs.tokenizer import ByteTokenizer\n"
        "from policies.baselines import make_baseline\nmake_baseline('vad', 1, ByteTokenizer(), 4)\n"
        "assert torch.get_num_threads() == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_importing_the_policies_is_light() -> None:
    code = (
        "import sys, policies.baselines\n"
        "assert not {'sklearn', 'scipy', 'silero_vad', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_classifier_names_foley_that_it_has_not_heard(classifier: SoundClassifier) -> None:
    assert classifier.labels == ("baby_cry", "siren", "smoke_alarm")
    right = heard = 0
    for seed in range(2000, 2020):
        scenario = STREAMS(seed)
        named = classifier.probabilities(stream_statistics(scenario.audio)).argmax(axis=1)
        for cue in scenario.cues:
            right += classifier.labels[named[int(cue.ready_s / 0.4) + 1]] == cue.label
            heard += 1
    assert heard >= 10
    assert right / heard > 0.8


def test_the_classifier_beats_energy_and_says_the_right_thing(classifier: SoundClassifier) -> None:
    score, traces = judge(SoundClassifierPolicy(classifier, 10, IDS, K), 10, range(3000, 3020))
    energy, _ = judge(make_baseline("energy", 10, IDS, K), 10, range(3000, 3020))
    assert score > max(energy, 0.6)
    assert (evaluate_traces(traces, resamples=1)["reply_quality"].value or 0) > 0.7
    assert any(p is None for trace in traces for p in trace.probabilities)


def test_the_classifier_batched_does_what_it_does_alone(classifier: SoundClassifier) -> None:
    streams = [STREAMS(seed).audio for seed in (3000, 3001, 3002)]
    together = kinds(SoundClassifierPolicy(classifier, 3, IDS, K), streams, [0, 2, 5])
    alone = [kinds(SoundClassifierPolicy(classifier, 1, IDS, K), [stream], [0])[0] for stream in streams]
    assert any(1 in done for done in alone)
    assert together == alone


def test_what_the_policy_hears_is_what_the_classifier_was_trained_on(classifier: SoundClassifier) -> None:
    audio = STREAMS(3000).audio
    policy = SoundClassifierPolicy(classifier, 1, IDS, K)
    policy.reset(np.ones(1, bool))
    expected = classifier.probabilities(stream_statistics(audio)).max(axis=1)
    for chunk, probability in zip(audio.reshape(-1, 1, CHUNK_SAMPLES), expected, strict=True):
        policy.act({"audio": chunk})
        said = policy.response_probabilities[0]
        assert said is None or said == pytest.approx(probability, abs=1e-4)


def test_a_reset_classifier_knows_nothing_of_the_stream_before(classifier: SoundClassifier) -> None:
    policy, audio = SoundClassifierPolicy(classifier, 1, IDS, K), STREAMS(3001).audio
    first = kinds(policy, [audio], [0])
    assert kinds(policy, [audio], [0]) == first


def test_a_sound_is_answered_once_while_it_lasts() -> None:
    debounce = Debounce(Trigger(threshold=0.5, confirm=2, hold=2), 1, 2)
    heard = [0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9]  # two pauses; the second is too long
    said = [int(debounce.step(np.array([[p, 0.0]]), np.ones(1, bool))[0]) for p in heard]
    assert [t for t, label in enumerate(said) if label == 0] == [1, 11]
    debounce.reset(np.ones(1, bool))
    assert [int(debounce.step(np.array([[0.0, 0.9]]), np.ones(1, bool))[0]) for _ in range(2)] == [-1, 1]


def test_a_saved_classifier_decides_the_same(classifier: SoundClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    loaded = SoundClassifier.load(tmp_path)
    assert (loaded.labels, loaded.replies, loaded.trigger) == (
        classifier.labels,
        classifier.replies,
        classifier.trigger,
    )
    statistics = stream_statistics(STREAMS(3000).audio)
    assert np.array_equal(loaded.probabilities(statistics), classifier.probabilities(statistics))
    assert {path.name for path in tmp_path.iterdir()} == {"classifier.json", "classifier.safetensors"}


def test_a_spoilt_classifier_is_refused_in_one_line(classifier: SoundClassifier, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        SoundClassifier.load(tmp_path / "nowhere")
    classifier.save(tmp_path)
    about = json.loads((tmp_path / "classifier.json").read_text())
    for wrong, message in (
        ({"format_version": 99}, "format version 99"),
        ({"labels": ["siren"]}, "has the shape"),
        ({"trigger": {"threshold": 0.5}}, "cannot be read: KeyError"),
    ):
        (tmp_path / "classifier.json").write_text(json.dumps(about | wrong))
        with pytest.raises(PolicyError, match=message) as error:
            SoundClassifier.load(tmp_path)
        assert "\n" not in str(error.value)
    (tmp_path / "classifier.json").write_text(json.dumps(about))
    (tmp_path / "classifier.safetensors").write_bytes(b"junk")
    with pytest.raises(PolicyError, match="cannot be read"):
        SoundClassifier.load(tmp_path)


def test_streams_that_deserve_no_reply_train_nothing() -> None:
    with pytest.raises(PolicyError, match="of 0 sounds that do"):
        SoundClassifier.train(ProactiveScenarios(FewFoley(), respond_share=0.0), range(2))


def test_all_baselines_come_from_one_place(classifier: SoundClassifier) -> None:
    scenario = STREAMS(3000)
    assert len(BASELINES) == 7
    for name in BASELINES:
        policy = make_baseline(name, 1, IDS, K, classifier=classifier, scenario_of=lambda _: scenario)
        (trace,) = play(policy, lambda _: scenario, [0], num_slots=1, tokenizer=IDS, tokens_per_chunk=K)
        assert len(trace.probabilities) == scenario.num_chunks, name


def test_a_baseline_names_what_it_lacks() -> None:
    with pytest.raises(PolicyError, match="did you mean 'classifier'"):
        make_baseline("clasifier", 1, IDS, K)
    for name, lacks in (("classifier", "classifier="), ("oracle", "scenario_of=")):
        with pytest.raises(PolicyError, match=f"{name}' needs {lacks}"):
            make_baseline(name, 1, IDS, K)
