"""The model cards of a quickstart: its own data, configuration and results, and nobody else's."""

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from envs.clip_library import ClipLibrary, Recording
from envs.foley import Foley
from envs.metrics import Metric
from policies.modeling_lalm import LALM
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from trainers.card import quickstart_card
from trainers.config import QuickstartConfig, ScenesConfig


def metrics(f1: float) -> dict[str, Metric]:
    return {"trigger_f1": Metric(f1, 90, f1 - 0.1, f1 + 0.1), "mean_reward": Metric(1.0, 12, 0.5, 1.5)}


RESULTS = {
    "held_out": {"silent": metrics(0.11), "supervised": metrics(0.52), "ppo": metrics(0.73)},
    "real_held_out": {"silent": metrics(0.21), "supervised": metrics(0.62)},
}


@pytest.fixture(scope="module")
def model() -> LALM:
    return tiny_model(train_tokenizer(REPLIES, 300))


def recordings(*licences: tuple[str, str]) -> ClipLibrary:
    clip = Foley().draw(np.random.default_rng(0), "IGNORE", "rain")
    return ClipLibrary([Recording(clip, "", source, licence) for source, licence in licences])


def test_each_policy_has_its_own_results(model: LALM) -> None:
    config = QuickstartConfig(seed=3)
    supervised = quickstart_card("supervised", config, model, RESULTS, None)
    ppo = quickstart_card("ppo", config, model, RESULTS, None)
    values = {r.dataset_type: r.metric_value for r in ModelCard(ppo).data.eval_results if r.metric_type == "trigger_f1"}
    assert values == {"soundflow-held-out": 0.73}
    values = {r.metric_value for r in ModelCard(supervised).data.eval_results if r.metric_type == "trigger_f1"}
    assert values == {0.52, 0.62}
    assert "| `trigger_f1` | 0.730 | 0.630 to 0.830 | 90 |" in ppo
    assert "### `held_out`: 12 streams of built-in sounds" in ppo
    assert "Then PPO" in ppo
    assert "Then PPO" not in supervised
    assert "reinforcement-learning" in ModelCard(ppo).data.tags


def test_the_whole_configuration_is_in_it(model: LALM) -> None:
    card = quickstart_card("ppo", QuickstartConfig(seed=3), model, RESULTS, None)
    document = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert (document["seed"], document["scenes"]["train_count"]) == (3, 1800)
    assert "seed 3" in card


def test_recordings_are_counted_by_source_and_licence(model: LALM) -> None:
    """What they allow decides what may be done with the weights: the card claims no licence of its own."""
    library = recordings(("freesound", "CC0"), ("freesound", "CC-BY"), ("freesound", "CC-BY"), ("a|b", ""))
    card = quickstart_card("ppo", QuickstartConfig(), model, RESULTS, library)
    assert "| freesound | CC-BY | 2 |\n" in card
    assert "| freesound | CC0 | 1 |\n" in card
    assert r"| a\|b | not named | 1 |" in card
    assert ModelCard(card).data.license == "other"
    for heard, config in ((None, QuickstartConfig()), (library, QuickstartConfig(scenes=ScenesConfig(real_share=0.0)))):
        card = quickstart_card("ppo", config, model, RESULTS, heard)
        assert ModelCard(card).data.license == "apache-2.0"
        assert "No recording was used" in card
