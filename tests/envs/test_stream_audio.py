"""StreamAudio-2M's items, in every form that they are released in, as scenarios."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from envs.clock import due_chunk
from envs.errors import ManifestError
from envs.records import BrokenRecordsWarning
from envs.scenario import Scenario
from envs.stream_audio import SILENCE, StreamAudioScenarios
from envs.stream_env import StreamingAudioEnv


def clip(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, round(16_000 * seconds))
    sf.write(path, audio.astype(np.float32), 16_000)


def item(folder: Path, number: int, *assistants: str, **more: Any) -> dict[str, Any]:
    """Return an item as published, and write its clips."""
    turns = []
    for i, assistant in enumerate(assistants):
        path = f"voice_chatting/{number:06d}/turn_{i}.wav"
        clip(folder / path, 7.0 if i else 1.0)
        turn = {"user": f"Question {i}.", "assistant": assistant, "emotion": "normal", "scene_type": "Home Smart"}
        turns.append({**turn, "audio_path": path})
    about = {"id": f"voice_chatting_{number:06d}", "stream_scene_type": "Home Smart", "num_turns": len(turns)}
    return {**about, "turns": turns, **more}


def lines(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in items), encoding="utf-8")
    return path


def replies(scenario: Scenario) -> list[str]:
    return [entry.text for entry in scenario.timeline]


def test_an_item_is_a_stream_whose_replies_are_due_at_the_end_of_their_turns(tmp_path: Path) -> None:
    file = lines(tmp_path / "train.jsonl", item(tmp_path, 0, "It is 22 degrees.", SILENCE, "好的。"))
    scenario = StreamAudioScenarios(file)(0)
    assert scenario.ability == "VoiceChat"
    assert replies(scenario) == ["It is 22 degrees.", "好的。"]
    first, second, third = (event for event in scenario.events if event.role == "foreground")
    assert second.duration_s == pytest.approx(7.0), "a turn is heard to its end"
    assert second.decision == "IGNORE"
    assert [entry.chunk for entry in scenario.timeline] == [due_chunk(first.end_s), due_chunk(third.end_s)]
    assert [cue.ready_s for cue in scenario.cues] == pytest.approx([first.end_s, third.end_s])
    assert {cue.sub_task for cue in scenario.cues} == {"Home Smart"}
    assert len(scenario.user_speech) == 2, "the turn that deserves no reply is not directed at the agent"
    assert first.caption == 'a person says: "Question 0."'


def test_same_seed_same_bytes_and_seeds_go_round(tmp_path: Path) -> None:
    file = lines(tmp_path / "train.jsonl", item(tmp_path, 0, "One."), item(tmp_path, 1, "Two."))
    scenarios = StreamAudioScenarios(file)
    assert len(scenarios) == 2
    assert [replies(scenarios(seed)) for seed in range(4)] == [["One."], ["Two."], ["One."], ["Two."]]
    again = pickle.loads(pickle.dumps(scenarios))
    np.testing.assert_array_equal(scenarios(5).audio, again(5).audio)
    assert scenarios(1).audio.tobytes() != scenarios(3).audio.tobytes(), "other noise, other gaps"
    env = StreamingAudioEnv(scenarios)
    env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, _ = env.step({"kind": 0, "tokens": [257] * 16})


def test_every_released_form_is_read(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav")
    conversation = [
        {"audio_path": "a.wav", "assistant": "Yes.", "emotion": "normal"},
        {"audio_path": "a.wav", "assistant": SILENCE, "emotion": "normal"},
    ]
    file = lines(
        tmp_path / "released.jsonl",
        {"conversation": conversation},
        {"merge_path": "a.wav", "assistant": "A dog barks.", "emotion": "normal"},
        {"user": "What is heard?", "assistant": "A dog.", "audio_path": "a.wav"},
        {"assistant": "Hello.", "audio_path": "a.wav"},
    )
    scenarios = StreamAudioScenarios(file)
    streams = [scenarios(seed) for seed in range(4)]
    assert [replies(stream) for stream in streams] == [["Yes."], ["A dog barks."], ["A dog."], ["Hello."]]
    assert [stream.instruction for stream in streams] == ["", "", "What is heard?", ""]
    assert {stream.ability for stream in streams} == {"Mixed"}


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_is_read_as_well_and_a_folder_of_files(indent: int | None, tmp_path: Path) -> None:
    items = [
        item(tmp_path, 0, "One."),
        item(tmp_path, 1, "Two.", id="realtime_asr_000001", stream_scene_type="Chat Room"),
        {"turns": []},
    ]
    (tmp_path / "a.json").write_text(json.dumps(items, indent=indent), encoding="utf-8")
    lines(tmp_path / "b.jsonl", item(tmp_path, 2, "Three."))
    with pytest.warns(BrokenRecordsWarning, match=r"a\.json, line \d+: turns holds no list of turns"):
        scenarios = StreamAudioScenarios(tmp_path, allow_broken=0.3)
    assert [replies(scenarios(seed)) for seed in range(3)] == [["One."], ["Two."], ["Three."]]
    assert [scenarios(seed).ability for seed in range(2)] == ["VoiceChat", "SpeechRecognition"]
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    place = text.index('{"turns"') if indent is None else text.rindex("{")
    assert scenarios.broken[0].line == text.count("\n", 0, place) + 1


FAULTS = [
    ("[1, 2", "expected a comma or the end"),
    ("[", "line 1: not JSON"),
    ("[3] [4]", "more follows the end of its list"),
    ("{", "line 1: not JSON"),
    ("3", "expected an object, got int"),
    ('{"id": "x"}', r"expected turns, conversation, merge_path or assistant, got \['id'\]"),
    ('{"turns": [{"assistant": "x"}]}', "audio_path is missing"),
    ('{"turns": [3]}', "a turn is no object but int"),
    ('{"turns": [{"audio_path": "a.wav"}]}', "assistant is blank, expected a reply or '<no need to response>'"),
    ('{"num_turns": 2, "turns": [{"audio_path": "a.wav", "assistant": "x"}]}', "num_turns is 2, and there are 1 turns"),
    ('{"audio_path": "a.wav", "assistant": 7}', "assistant is 7, expected text"),
    ('{"audio_path": "b.wav", "assistant": "x"}', "path 'b.wav' names no file"),
    ('{"user": "x", "assistant": "x"}', "audio_path is missing: words alone make no stream"),
    ('{"audio_path": "../a.wav", "assistant": "x"}', r"line 1: path '\.\./a\.wav' leads out of the folder"),
    ("", "holds no items"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_faults_are_named(text: str, message: str, tmp_path: Path) -> None:
    clip(tmp_path / "in" / "a.wav")
    clip(tmp_path / "a.wav")
    file = tmp_path / "in" / "items.jsonl"
    file.write_text(text)
    with pytest.raises(ManifestError, match=rf"items\.jsonl.*{message}"):
        StreamAudioScenarios(file)
    with pytest.raises(ManifestError, match="no such file"):
        StreamAudioScenarios(tmp_path / "none.jsonl")


def test_broken_items_are_left_out_and_corrupt_clips_met_when_drawn(tmp_path: Path) -> None:
    items = [item(tmp_path, i, f"Reply {i}.") for i in range(4)]
    file = lines(tmp_path / "items.jsonl", *items[:3], {"turns": 1}, items[3])
    with pytest.warns(BrokenRecordsWarning, match="left out: 1 of 5 records"):
        scenarios = StreamAudioScenarios(file, allow_broken=0.4)
    path = tmp_path / items[1]["turns"][0]["audio_path"]
    sf.write(path, np.zeros(16_000), 16_000)
    with pytest.warns(BrokenRecordsWarning, match=r"items\.jsonl, line 2: .*turn_0\.wav: holds nothing but silence"):
        assert replies(scenarios(1)) == ["Reply 2."]
    assert [record.line for record in scenarios.broken] == [4, 2]
    (tmp_path / items[2]["turns"][0]["audio_path"]).write_text("no sound")
    with pytest.raises(ManifestError, match=r"line 4: .* 3 of 5 records .* cannot be used"):
        scenarios(2)
