"""PPO on a data mix: whose streams are played, what a curriculum changes of them, and what the policy is judged by."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs import ABILITY_NAMES
from envs.corpus import CorpusSpec, write_corpus
from envs.curriculum import Curriculum, Stage
from envs.errors import ConfigError, ManifestError
from envs.foley import Foley
from envs.matching import Matcher
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.stream_env import default_scenarios
from envs.tokenizer import ByteTokenizer
from policies.baselines import make_baseline
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from trainers.config import JudgingConfig, ReinforcementConfig, StreamsConfig
from trainers.config_loading import load_config
from trainers.critic import situation
from trainers.evaluation import play
from trainers.ppo_streams import played_streams
from trainers.reinforce import PPORunConfig, run_ppo
from trainers.stage_config import DataPart

SCENES = StreamsConfig(min_chunks=9, max_chunks=12, held_out_count=2, workers=1)
CURRICULUM = Curriculum(
    ProactiveScenarios(Foley(), 0.8, (9, 12)), [Stage(0.5, chunks=(9, 9), distractors=0.1), Stage(1.0, chunks=(12, 12))]
)
ANY, SILENCE = DataPart(weight=3.0, ability="Proactive"), DataPart(ability="Proactive", respond_share=0.0)
DISTRESS = DataPart(ability="Proactive", sub_task="distress")
WANTED = range(100, 110)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DataPart:
    """A part of a handful of streams on disk."""
    folder = tmp_path_factory.mktemp("corpus") / "proactive"
    write_corpus(folder, CorpusSpec("Proactive", hours=0.02))
    return DataPart(corpus=str(folder))


@pytest.mark.parametrize("beforehand", [True, False])
def test_streams_are_shared_out_and_a_curriculum_changes_those_of_sounds(beforehand: bool) -> None:
    """Whoever composes them; a part that is to be silent stays silent."""
    mix = played_streams((ANY, SILENCE, DISTRESS), CURRICULUM, WANTED, SCENES, beforehand)
    assert list(mix.picks) == list(WANTED)
    assert Counter(part for part, _ in mix.picks.values()) == {0: 6, 1: 2, 2: 2}
    for progress, chunks in ((0.0, 9), (0.7, 12)):
        streams = {seed: mix(progress)(seed) for seed in WANTED}
        of_part = [[streams[seed] for seed in WANTED if mix.picks[seed][0] == part] for part in range(3)]
        assert {stream.num_chunks for stream in of_part[0] + of_part[1]} == {chunks}
        assert not any(stream.cues for stream in of_part[1])
        assert {cue.sub_task for stream in of_part[2] for cue in stream.cues} == {"distress"}
        for seed in WANTED[:6]:
            assert streams[seed].audio.tobytes() == CURRICULUM.at(progress)(seed).audio.tobytes()


@pytest.mark.usefixtures("hasty_critic")
def test_a_run_plays_its_mix_and_is_judged_by_each_part(
    corpus: DataPart, tokenizer: ReplyTokenizer, tmp_path: Path
) -> None:
    """The last streams of a corpus are judged by, and the card says what was played."""
    write_policy(tmp_path / "begin", tiny_model(tokenizer), tokenizer)
    config = PPORunConfig(
        policy=str(tmp_path / "begin"),
        scenes=SCENES,
        data=(ANY, DISTRESS, corpus),
        ppo=ReinforcementConfig(iterations=1, episodes_per_iteration=3, epochs=1, minibatches=1, streams=4),
        evaluation=JudgingConfig(bootstrap=20),
        reward=[{"name": "false_alarm"}, {"name": "miss"}],
    )
    run_ppo(config, tmp_path / "run")
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    suites = ["held_out", "held_out_Proactive.distress", f"held_out_{corpus.name}"]
    assert list(numbers) == [*suites, "seconds"]
    assert [numbers[suite]["difference"]["mean_reward"]["count"] for suite in suites] == [2, 2, 1]
    card = (tmp_path / "run" / "policy" / "README.md").read_text()
    assert f"by weight: Proactive (3), Proactive.distress (1), {corpus.name} (1)." in card
    missing = replace(config, data=(ANY, DataPart(corpus=str(tmp_path / "nowhere"))))
    with pytest.raises(ManifestError, match="nowhere"):
        run_ppo(missing, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_the_critic_sees_of_every_ability_which_cue_a_reply_would_answer(ability: str) -> None:
    """Many cues at once, and questions that follow each other; what it is told is finite, and of a size it can use."""
    tokenizer = ByteTokenizer()
    policy = make_baseline("random", 2, tokenizer, 16, 1)
    scenarios, reward = default_scenarios(ability), Reward.default()
    traces = play(policy, scenarios, [1, 2], num_slots=2, tokenizer=tokenizer, tokens_per_chunk=16, reward=reward)
    assert any(trace.cues for trace in traces)
    for trace in traces:
        chunks = [chunk for chunk, step in enumerate(trace.steps) if step.kind != 2]
        known = situation(trace, chunks, [0.3] * len(chunks), 0.95).numpy()
        matcher, answers = Matcher(trace.cues), list[float]()
        for step in trace.steps:
            assert step.now_s is not None
            if step.kind != 2:
                answers.append(float(matcher.find(step.now_s) is not None))
            if step.kind == 1:
                matcher.take(step.now_s)
        assert np.abs(known).max() < 20.0
        np.testing.assert_array_equal(known[:, 0], answers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: [{ability: Mixed}, {ability: Mixed}]", "data names 'Mixed' 2 times; name it once"),
        ("data: [{ability: Mixt}]", "no ability is called 'Mixt'; did you mean 'Mixed'"),
        (
            "data: [{ability: Mixed}]\ncurriculum: [{until: 1.0}]",
            "a curriculum changes the streams of ability Proactive",
        ),
        ("scenes: {train_count: 12}", "unknown key 'scenes.train_count'"),
        ("scenes: {validation_count: 12}", "unknown key 'scenes.validation_count'"),
        ("evaluation: {thresholds: [0.5]}", "unknown key 'evaluation.thresholds'"),
        (
            "data: [{ability: Mixed}, {corpus: x}]\nppo: {streams: 1, episodes_per_iteration: 1, minibatches: 1}",
            "ppo.streams is 1, expected one for each part of data at least",
        ),
    ],
)
def test_what_a_run_cannot_do_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{text}\nreward: [{{name: miss}}]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(PPORunConfig, path)
    assert said in str(caught.value)
