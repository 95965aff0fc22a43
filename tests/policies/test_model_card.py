"""The model card: metadata that the hub reads, results with their intervals, lines that run."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from envs.audio import write_wav
from envs.metrics import MEANINGS, Metric, evaluate_traces
from envs.trace import Trace
from policies.model_card import CardFacts, Suite, model_card, unmeasured_card
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model

SECTIONS = ["What it is", "Intended use", "Training data", "Training", "Results", "How to load it", "Limitations"]
METRICS = {
    "trigger_f1": Metric(0.85432, 612, 0.8211, 0.881),
    "latency_p50_s": Metric(None, 0, None, None),
    "pauc": Metric(0.0, 0, 0.0, 0.0),
}
FACTS = CardFacts(
    "A doorbell",
    "It hears doorbells.",
    "Bells.",
    "For a day.",
    "Deaf to knocks.",
    (Suite("held_out", "bells", METRICS),),
)


def test_the_metadata_is_what_the_hub_reads(tokenizer: ReplyTokenizer) -> None:
    facts = replace(FACTS, license="other", license_name="mine", base_model="Qwen/Qwen2.5-Omni-3B", tags=("ppo",))
    text = model_card(facts, tiny_model(tokenizer).config)
    data = ModelCard(text).data
    assert (data.license, data.license_name, data.library_name, data.language) == ("other", "mine", "soundflow", "en")
    assert (data.pipeline_tag, data.base_model) == ("audio-text-to-text", "Qwen/Qwen2.5-Omni-3B")
    assert {"soundflow", "ppo"} <= set(data.tags)
    assert len(data.eval_results) == 1, "what has no value has no place in the list of results"
    metadata = yaml.safe_load(text.split("---\n")[1])
    (index,) = metadata["model-index"]
    (shown,) = index["results"]
    assert shown["dataset"] == {"name": "bells", "type": "soundflow-held-out"}
    assert shown["metrics"] == [{"type": "trigger_f1", "value": 0.8543, "name": "trigger f1"}]


def test_it_says_what_it_must(tokenizer: ReplyTokenizer) -> None:
    text = model_card(FACTS, tiny_model(tokenizer).config)
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert "no safety device" in text
    assert "| `trigger_f1` | 0.854 | 0.821 to 0.881 | 612 | precision and recall in one" in text
    assert "| `latency_p50_s` | none |  | 0 |" in text
    assert "clock is that of the simulated stream" in text


def test_every_metric_has_a_meaning() -> None:
    trace = Trace(seed=1, ability="Proactive", num_chunks=4, cues=(), events=())
    assert set(MEANINGS) == set(evaluate_traces([trace]))


def test_its_lines_run_in_its_folder(
    tokenizer: ReplyTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(tmp_path / "policy", tiny_model(tokenizer), tokenizer)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "policy" / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path / "policy")
    write_wav(Path("recording.wav"), np.zeros(3 * 6400, np.float32))
    exec(compile(code, "README.md", "exec"), {"__name__": "card"})
    heard = re.findall(r"^(\d\.\d) s (?:silent|response|speaking)", capsys.readouterr().out, flags=re.MULTILINE)
    assert heard == ["0.4", "0.8", "1.2"]


def test_a_policy_made_of_a_checkpoint_says_of_which(tokenizer: ReplyTokenizer) -> None:
    config = tiny_model(tokenizer).config
    config.origin = {"checkpoint": "Qwen/Qwen2.5-Omni-3B", "note": "Its control tokens are new."}
    card = unmeasured_card(config)
    data = ModelCard(card).data
    assert (data.base_model, data.license, data.eval_results) == ("Qwen/Qwen2.5-Omni-3B", "other", None)
    assert "Made of the checkpoint `Qwen/Qwen2.5-Omni-3B`. Its control tokens are new." in card
    assert "Nothing was measured" in card
    config.origin = {"checkpoint": "a folder", "note": ""}
    assert ModelCard(unmeasured_card(config)).data.base_model is None, "the hub would look for it"
