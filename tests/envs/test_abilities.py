"""Seven abilities, 28 sub-tasks: each can be made by its name, and its cues follow from what is heard."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from envs import ABILITY_NAMES
from envs.abilities import ABILITIES, AbilityScenarios, World
from envs.clip_library import ClipLibrary, Recording
from envs.clock import CHUNK_S, chunk_end_s
from envs.errors import ScenarioError
from envs.foley import Foley
from envs.planning import heard_s
from envs.scenario import SPEECH, Clip
from envs.sound_classes import HUMAN, NATURE, answer_for
from envs.speech.espeak import Espeak

WORLD = World(Foley(), Espeak())
RNG = np.random.default_rng(0)
SUB_TASKS = [(ability.name, sub_task) for ability in ABILITIES.values() for sub_task in ability.sub_tasks]


def own_sound(label: str, domain: str, number: int) -> Clip:
    """Return a user's own recording that deserves a reply."""
    audio = RNG.uniform(-0.5, 0.5, 16_000).astype(np.float32)
    answer = answer_for("no built-in label", "something is wrong", domain)
    return Clip(audio, label, "something is wrong", domain, "RESPOND", "own", (answer,), str(number))


def test_there_are_seven_abilities_and_28_sub_tasks() -> None:
    assert (*ABILITIES, "Mixed") == ABILITY_NAMES
    assert len(SUB_TASKS) == 28


@pytest.mark.parametrize(("ability", "sub_task"), SUB_TASKS)
def test_every_sub_task_is_sound(ability: str, sub_task: str) -> None:
    scenarios = AbilityScenarios(ability, WORLD, sub_task)
    cues = 0
    for seed in range(4):
        scenario = scenarios(seed)
        cues += len(scenario.cues)
        assert len(scenario.cues) == len(scenario.timeline)
        assert np.isfinite(scenario.audio).all()
        assert np.abs(scenario.audio).max() <= 1.0
        for cue, entry in zip(scenario.cues, scenario.timeline, strict=True):
            assert 0 <= cue.onset_s < cue.ready_s < cue.deadline_s <= scenario.duration_s + 1e-6
            assert cue.sub_task == sub_task
            assert entry.text in cue.replies
            assert cue.ready_s - 1e-6 <= chunk_end_s(entry.chunk) <= cue.deadline_s, "the timeline answers in time"
    assert cues > 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    for ability in ("VoiceChat", "Mixed"):
        one, other = AbilityScenarios(ability, WORLD), AbilityScenarios(ability, World(Foley(), Espeak()))
        assert one(5).audio.tobytes() == other(5).audio.tobytes()
        assert one(5).cues == other(5).cues
        assert one(5).audio.tobytes() != one(6).audio.tobytes()


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_made_by_its_name(ability: str) -> None:
    env = gym.make(f"envs:SoundFlow/{ability}-v0")
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert isinstance(info["instruction"], str)


def test_a_sub_task_can_be_picked() -> None:
    env = gym.make("envs:SoundFlow/VoiceChat-v0", sub_task="emotional")
    env.reset(seed=1)
    assert {cue.sub_task for cue in env.unwrapped.trace.cues} == {"emotional"}
    with pytest.raises(ScenarioError, match="did you mean 'emotional'"):
        gym.make("envs:SoundFlow/VoiceChat-v0", sub_task="emotionl")
    with pytest.raises(ScenarioError, match="did you mean 'VoiceChat'"):
        AbilityScenarios("VoiceChad", WORLD)


def test_users_speak_before_they_are_answered() -> None:
    """In a talk every cue is ready when a user's turn ends, and the talk goes on only after time for a reply."""
    for seed in range(6):
        scenario = AbilityScenarios("VoiceChat", WORLD, "multi_turn")(seed)
        ends = [end for _, end in scenario.user_speech]
        assert len(scenario.user_speech) == len(scenario.cues) >= 3
        for cue, end in zip(scenario.cues, ends, strict=True):
            assert cue.ready_s == pytest.approx(end, abs=1e-4)
        for (_, end), (start, _) in itertools.pairwise(scenario.user_speech):
            assert start - end > 2.0


def test_a_count_is_the_number_of_sounds() -> None:
    for seed in range(6):
        scenario = AbilityScenarios("InstructionFollowing", WORLD, "count_events")(seed)
        labels = [e.label for e in scenario.events if e.role == "foreground" and e.label != "speech"]
        words = ("zero", "one", "two", "three", "four")
        counted = [words.index(fact) for fact in scenario.cues[-1].key_facts[0].split("|") if fact in words]
        assert counted[0] in {labels.count(label) for label in set(labels)}
        assert scenario.instruction.startswith("Count how often")


def test_people_who_talk_to_each_other_are_left_alone() -> None:
    for seed in range(8):
        scenario = AbilityScenarios("EnvironmentAgent", WORLD, "non_directed_speech")(seed)
        speech = [e for e in scenario.events if e.label == "speech"]
        assert len(scenario.user_speech) == len(scenario.cues) <= 1
        assert len(speech) >= len(scenario.cues) + 2


def test_a_transcript_says_every_word_once_in_order() -> None:
    for sub_task, seed in itertools.product(("clean", "multi_speaker"), range(3)):
        scenario = AbilityScenarios("SpeechRecognition", WORLD, sub_task)(seed)
        said = " ".join(entry.text for entry in scenario.timeline)
        spoken = " ".join(e.caption.split('"')[1] for e in scenario.events if e.label == "speech")
        assert said.split() == [word.strip(".,?!") for word in spoken.split()]
        chunks = [entry.chunk for entry in scenario.timeline]
        assert len(set(chunks)) == len(chunks), "one partial transcript a chunk"


def test_mixed_scenes_hold_several_abilities() -> None:
    scenarios = AbilityScenarios("Mixed", WORLD)
    played = [scenarios(seed) for seed in range(12)]
    owner = {sub_task: ability for ability, sub_task in SUB_TASKS}
    abilities = [{owner[cue.sub_task] for cue in scenario.cues} for scenario in played]
    assert set().union(*abilities) == set(ABILITIES)
    assert np.mean([len(found) for found in abilities]) > 2
    assert all(60 <= scenario.num_chunks <= 121 for scenario in played)
    for scenario in played:
        assert 3 <= sum(event.role == "foreground" for event in scenario.events) <= 15


def test_mixed_scenes_hold_silent_talk_and_history_at_the_papers_rates() -> None:
    """At least: the same turns come by chance as well."""
    plans = [AbilityScenarios("Mixed", WORLD, chunks=(120, 120)).plan(seed) for seed in range(32)]
    review = [any(a.sub_task == "history_review" for c in plan.foreground for a in c.answers) for plan in plans]
    talk = [any(c.domain == SPEECH and not c.directed for c in plan.foreground) for plan in plans]
    assert 0.2 < np.mean(review) < 0.6
    assert 0.3 < np.mean(talk) < 0.8


def test_a_transcript_in_a_mixed_scene_keeps_to_the_chunks() -> None:
    """A word is due in the chunk in which it ends, wherever in the scene the turn stands."""
    for seed in range(6):
        plan = AbilityScenarios("Mixed", WORLD).plan(seed)
        begin_s = 0.0
        for clip, gap_s in zip(plan.foreground, plan.gaps_s, strict=True):
            begin_s += gap_s
            if clip.answers and clip.answers[0].sub_task in ("clean", "noisy", "multi_speaker"):
                assert begin_s / CHUNK_S == pytest.approx(round(begin_s / CHUNK_S), abs=1e-6)
            begin_s += heard_s(clip)


def test_three_turns_need_room() -> None:
    with pytest.raises(ScenarioError, match="no room for 3 turns"):
        AbilityScenarios("Mixed", WORLD, chunks=(10, 10)).plan(0)


def test_a_source_without_sounds_of_a_sub_task_is_refused() -> None:
    """A scene in which nothing deserves a word would pass for one of the sub-task."""
    clips = [Foley().draw(np.random.default_rng(0), *what) for what in (("RESPOND", "siren"), ("IGNORE", "rain"))]
    library = ClipLibrary([Recording(clip, "", "") for clip in clips])
    assert AbilityScenarios("Proactive", World(library, Espeak()), "safety_signal")(0).duration_s > 0
    with pytest.raises(ScenarioError, match="of the sub-task 'distress'"):
        AbilityScenarios("Proactive", World(library, Espeak()), "distress")(0)


def test_a_sub_task_that_few_clips_of_a_label_have_is_found() -> None:
    """One clip of the label is of the sub-task and many are of another; any draw finds the one."""
    clips = [own_sound("alarm", HUMAN, 0), *(own_sound("alarm", NATURE, i) for i in range(1, 40))]
    library = ClipLibrary([Recording(clip, "", "") for clip in [*clips, Foley().draw(RNG, "IGNORE", "rain")]])
    found = clips[0].answers[0].sub_task
    assert all(clip.answers[0].sub_task != found for clip in clips[1:])
    sounds = World(library, Espeak()).sounds_of(found)
    assert all(sounds.draw(RNG, "RESPOND").recording == "0" for _ in range(20))
    assert [one.clip.recording for one in sounds.candidates() if one.clip and one.decision == "RESPOND"] == ["0"]


def test_sounds_that_a_sub_task_cannot_do_without_are_named() -> None:
    library = ClipLibrary([Recording(Foley().draw(RNG, "IGNORE", "typing"), "", "")])
    for ability, sub_task in (("EnvironmentAgent", "adapt_to_noise"), ("AudioUnderstanding", "music")):
        with pytest.raises(ScenarioError, match=r"need 1 kinds of sound out of .*; the sounds given hold 0"):
            AbilityScenarios(ability, World(library, Espeak()), sub_task)(0)
