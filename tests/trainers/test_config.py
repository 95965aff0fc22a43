"""Configuration: what is given is used, and everything wrong is said at once, by file, key, value and remedy."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import ConfigError
from envs.rewards import reward_from_config
from trainers.config import QuickstartConfig
from trainers.config_loading import load_config, read_value
from trainers.gate_config import GateConfig
from trainers.options import CONFIGS
from trainers.train import read_config


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error(folder: Path, text: str, *overrides: str) -> str:
    """Return the one line that a faulty configuration gives."""
    with pytest.raises(ConfigError) as caught:
        load_config(QuickstartConfig, write(folder, text), overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_packaged_configurations_load(path: Path) -> None:
    if read_value(path, "kind") is None:
        reward_from_config(load_config(QuickstartConfig, path).reward)
        return
    config = read_config(path)[1]
    if hasattr(config, "reward"):
        reward_from_config(config.reward)


def test_there_are_packaged_configurations() -> None:
    wanted = {
        "quickstart",
        "smoke",
        "stage1",
        "stage2",
        "stage3",
        "stage4",
        "four_stages",
        "ppo",
        "quiet",
        "mixed",
        "recordings",
        "grpo",
        "gate",
    }
    assert wanted <= {path.stem for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}"])
def test_what_is_left_out_has_its_default(tmp_path: Path, text: str) -> None:
    assert load_config(QuickstartConfig, write(tmp_path, text)) == QuickstartConfig()


def test_values_arrive(tmp_path: Path) -> None:
    text = "seed: 7\nppo: {learning_rate: 1e-3}\nmodel:\n  encoder_channels: [8, 8, 16, 16]\nreward: [{name: miss}]\n"
    config = load_config(QuickstartConfig, write(tmp_path, text))
    assert (config.seed, config.ppo.learning_rate, config.reward) == (7, 0.001, [{"name": "miss"}])
    assert config.model.encoder_channels == (8, 8, 16, 16)


def test_overrides_win_and_the_last_one_most(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 7\nppo:\n  iterations: 9\n")
    overrides = [
        "seed=8",
        "ppo.iterations=4",
        "seed=9",
        "supervised.streams.weight_decay=2e-4",
        "reward=[{name: miss}]",
    ]
    config = load_config(QuickstartConfig, path, overrides)
    assert (config.seed, config.ppo.iterations, config.supervised.streams.weight_decay) == (9, 4, 2e-4)
    assert config.reward == [{"name": "miss"}]


def test_an_override_fills_an_empty_section(tmp_path: Path) -> None:
    assert load_config(QuickstartConfig, write(tmp_path, "ppo:\n"), ["ppo.clip=0.1"]).ppo.clip == 0.1


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = error(tmp_path, "ppo: {iteratons: 4, clip: abc}\nsed: 1\nseed: 1\nseed: 2\n", "model.num_layers=-1")
    assert f"{tmp_path / 'run.yaml'}: ppo.clip is 'abc', expected a number" in said
    assert "unknown key 'ppo.iteratons'; did you mean 'ppo.iterations'?" in said
    assert "unknown key 'sed'; did you mean 'seed'?" in said
    assert f"{tmp_path / 'run.yaml'}, line 4: key 'seed' was given in line 3 already" in said
    assert "override 'model.num_layers=-1': model.num_layers is -1, expected greater than 0" in said


def test_a_list_whose_item_is_wrong_is_not_called_too_short(tmp_path: Path) -> None:
    assert error(tmp_path, "", "evaluation.thresholds=[2]").count("evaluation.thresholds") == 2  # override and key


def test_a_key_of_another_section_is_suggested(tmp_path: Path) -> None:
    assert "unknown key 'iterations'; did you mean 'ppo.iterations'?" in error(tmp_path, "", "iterations=4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: true", "seed is True, expected an integer"),
        ("seed: '4'", "seed is '4', expected an integer"),
        ("seed: 1.0", "seed is 1.0, expected an integer"),
        ("seed: -1", "seed is -1, expected greater than or equal to 0"),
        ("seed: 4294967296", "seed is 4294967296, expected less than 4294967296"),
        ("evaluation: {thresholds: []}", "evaluation.thresholds is [], expected a list of at least 1"),
        ("evaluation: {thresholds: 0.5}", "evaluation.thresholds is 0.5, expected a list"),
        ("reward: 5", "reward is 5, expected a list"),
        ("seed: " + 3000 * "[", "run.yaml: nested too deep"),
        ("ppo: {gamma: .nan}", "ppo.gamma is nan, expected a finite number"),
        ("ppo: {gamma: 1.5}", "ppo.gamma is 1.5, expected less than or equal to 1"),
        ("ppo: {clip: 1}", "ppo.clip is 1, expected less than 1"),
        ("ppo: 3", "ppo is 3, expected a section of keys"),
        ("ppo: {clip: 2026-01-01}", "run.yaml: only texts, numbers, truths, lists and keys are read"),
        ("scenes: {min_chunks: 60, max_chunks: 40}", "scenes: min_chunks is 60, expected at most max_chunks"),
        ("model: {num_heads: 3}", "model: num_heads is 3, expected an even number"),
        ("model: {hidden_size: 50}", "model: hidden_size is 50, expected a multiple of"),
        ("model: {encoder_channels: [8, 8]}", "model.encoder_channels"),
        ("ppo: {minibatches: 5}", "ppo: episodes_per_iteration is 64, expected a multiple of minibatches"),
        ("ppo: {algorithm: grpo, episodes_per_scenario: 1}", "episodes_per_scenario is 1, expected at least 2"),
        ("ppo: {algorithm: grpo, episodes_per_scenario: 24}", "expected a multiple of episodes_per_scenario (24)"),
        ("ppo: {algorithm: grpo, streams: 7}", "streams is 7, expected at least episodes_per_iteration / episodes_per"),
        ("ppo: {streams: 63}", "ppo: streams is 63, expected at least episodes_per_iteration (64)"),
        ("ppo: {train: head}", "train is 'head' and mode is 'joint', expected mode: decision_only"),
        ("ppo: {train: head, mode: decision_only, lora_rank: 4}", "lora_rank is 4 and train is 'head'"),
        ("ppo: {objective: raw_token, mode: content_only}", "expected mode: joint"),
        ("ppo: {kl_coef: 0, kl_target: 0.1}", "kl_coef is 0.0 and kl_target is given"),
        ("ppo: {mode: decisions}", "ppo.mode is 'decisions', expected 'joint', 'decision_only' or 'content_only'"),
        ("supervised: {streams: {batch_size: 4}}", "unknown key 'supervised.streams.batch_size'"),
        ("supervised: {format: {naming_weight: 1}}", "naming_weight is 1.0, expected 0 where single sounds are"),
        ("[1, 2]", "run.yaml: expected keys and values, got [1, 2]"),
        ("seed: [1", "run.yaml, line 1: not valid YAML"),
        ("? [a]\n: 1", "run.yaml, line 1: not valid YAML"),
        ("seed: !!python/name:os.system", "run.yaml, line 1: not valid YAML"),
        ("a: &a [*a]", "Circular reference"),
    ],
)
def test_bad_values_are_named_with_the_remedy(tmp_path: Path, text: str, said: str) -> None:
    assert said in error(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("ppo.iterations", "expected KEY=VALUE"),
        ("=4", "expected KEY=VALUE"),
        ("ppo..clip=1", "expected KEY=VALUE"),
        ("reward.0.weight=2", "'reward' is []"),
        ("seed=[1", "override 'seed=[1', line 1: not valid YAML"),
    ],
)
def test_bad_overrides_are_named(tmp_path: Path, override: str, said: str) -> None:
    message = error(tmp_path, "reward: []", override)
    assert repr(override) in message
    assert said in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(QuickstartConfig, path)
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(QuickstartConfig, tmp_path / "latin.yaml")


@given(rate=st.floats(1e-12, 1e6), steps=st.integers(1, 10**6))
@settings(max_examples=50, deadline=None)
def test_numbers_survive_the_way_through_an_override(rate: float, steps: int) -> None:
    overrides = [f"supervised.format.weight_decay={rate!r}", f"ppo.iterations={steps}"]
    config = load_config(QuickstartConfig, CONFIGS / "quickstart.yaml", overrides)
    assert (config.supervised.format.weight_decay, config.ppo.iterations) == (rate, steps)


@given(text=st.text(max_size=60))
@settings(max_examples=50, deadline=None)
def test_no_text_does_worse_than_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with suppress(ConfigError):
        load_config(QuickstartConfig, path, [text])


def test_a_configuration_can_be_written_as_yaml_and_read_again(tmp_path: Path) -> None:

    config = load_config(QuickstartConfig, CONFIGS / "smoke.yaml", ["seed=5"])
    path = write(tmp_path, yaml.safe_dump(asdict(config)))
    assert load_config(QuickstartConfig, path) == config


def test_items_of_a_list_are_named_by_their_number(tmp_path: Path) -> None:
    path = write(tmp_path, "kind: gate\ncurriculum: [{until: 0.5}, {snr: [1, 2], distractors: many}]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(GateConfig, path)
    for said in (
        "unknown key 'curriculum.1.snr'; did you mean 'curriculum.1.snr_db'?",
        "curriculum.1.distractors is 'many', expected a number",
        "curriculum.1.until is missing",
    ):
        assert f"{path}: {said}" in str(caught.value)
