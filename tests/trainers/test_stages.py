"""`soundflow train` on the paper's four stages: what each learns from and changes, what is refused, and going on."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainingArguments

from envs.abilities import AbilityScenarios, World
from envs.corpus import Corpus, CorpusSpec, write_corpus
from envs.errors import ConfigError, ManifestError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.speech.espeak import Espeak
from policies.features import LogMel
from policies.lalm_policy import LALMPolicy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from tests.trainers.test_cli import refused
from trainers.cli import main
from trainers.config_loading import load_config
from trainers.losses import DualLoss
from trainers.options import CONFIGS
from trainers.run import one_thread
from trainers.samples import SampleMaker
from trainers.scenes import TRAIN_SEEDS, VALIDATION_SEEDS, seeds
from trainers.stage_config import DataPart, FollowingConfig, FormatConfig, StreamingConfig, SupervisedRunConfig
from trainers.stage_data import Sounds, compose_stage, mix_of, shares
from trainers.stage_trainer import Place, StageTrainer, fit_stage, free_modules
from trainers.validation import measure

Captured = pytest.CaptureFixture[str]
STAGES = ("hearing", "format", "adapter", "streaming", "following")
TINY_MODEL = (
    "model={hidden_size: 32, num_layers: 1, num_heads: 4, intermediate_size: 64, encoder_channels: [4, 8, 8, 8]}"
)
SHORT = {"streams": 2, "steps": 2, "validation_streams": 1, "eval_every": 2, "max_tokens_per_batch": 2000}


def tiny(*stages: str, **changes: object) -> list[str]:
    """Return overrides that leave nothing to learn in."""
    words = [f"{stage}.{key}={value}" for stage in stages for key, value in {**SHORT, **changes}.items()]
    return [TINY_MODEL, "workers=1", *words]


def changed(before: Path, after: Path) -> set[str]:
    """Return the parts of a model that two policy folders differ in."""
    one, other = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    return {name.partition(".")[0] for name in one if not torch.equal(one[name], other[name])}


def test_a_process_learns_on_one_gpu_though_the_machine_has_two(tmp_path: Path, tokenizer: ReplyTokenizer) -> None:
    """`Trainer` would wrap the loss for `DataParallel`, which cannot cut its batches up; torchrun is for more GPUs."""
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    assert arguments.n_gpu < 2
    arguments._n_gpu = 2  # as it counts them
    assert arguments.n_gpu == 2
    trainer = StageTrainer(model=DualLoss(tiny_model(tokenizer), 1.0), args=arguments, rows=None)
    assert trainer.args.n_gpu == 1


def test_the_four_stages_in_a_row(tmp_path: Path, capsys: Captured) -> None:
    """Each from the folder of the one before; each changes what it trains; people can hear how far it is."""
    out = tmp_path / "run"
    asked = ["train", str(CONFIGS / "four_stages.yaml"), "--out", str(out), *tiny(*STAGES)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "% of them padding" in said
    folders = [out / "start", *(out / stage / "policy" for stage in STAGES[:-1]), out / "policy"]
    parts = [changed(one, other) for one, other in pairwise(folders)]
    assert parts == [
        {"encoder", "projector"},
        {"text_model"},  # whose embedding is the head
        {"projector"},
        {"projector", "text_model"},
        {"projector", "text_model"},
    ]
    log = json.loads((out / "following" / "log.json").read_text())
    numbers = {key for entry in log for key in entry}
    assert {"loss", "eval_Mixed_L_lm", "eval_Mixed_L_stream", "eval_Mixed_trigger_balanced"} <= numbers
    assert "eval_silence_trigger_accuracy" in numbers
    assert "eval_silence_L_lm" not in numbers  # nothing is to be said there
    events = EventAccumulator(str(out / "logs" / "following")).Reload()
    assert events.Tags()["audio"] == ["listening/stream"]
    assert events.Tags()["images"] == ["listening/picture"]
    assert "listening/replies/text_summary" in events.Tags()["tensors"]
    assert "train/padding_share" in events.Tags()["scalars"]
    policy = LALMPolicy.from_pretrained(out / "policy")
    assert policy.card is not None
    assert "Mixed (0.4), Proactive (0.4), silence (0.2)" in policy.card
    assert not list(out.rglob("checkpoints"))
    assert main(asked) == 0
    assert f"{out} was complete; nothing was done" in capsys.readouterr().out


def test_a_killed_run_goes_on_bit_by_bit(tmp_path: Path, capsys: Captured) -> None:
    """Killed at a checkpoint and started again: weights and log are the bytes of a run that was left alone."""
    asked = ["train", str(CONFIGS / "stage3.yaml"), "policy=null"]
    asked += tiny("streaming", steps=24, eval_every=12, save_every=8, accumulate=2, data="[{ability: Proactive}]")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainers.cli", *asked, "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    while process.poll() is None and not any(killed.glob("checkpoints/streaming/step-*")):
        try:
            process.wait(0.005)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    assert process.wait() < 0, "it was over before it could be killed"
    assert not (killed / "policy").exists()
    with one_thread():
        assert main([*asked, "--out", str(killed)]) == 0
        assert "goes on from step 8" in capsys.readouterr().out
        assert main([*asked, "--out", str(whole)]) == 0
        assert "goes on" not in capsys.readouterr().out
    for name in ("policy/model.safetensors", "streaming/log.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    ("config", "overrides", "said"),
    [
        ("stage1", ["format.trains=[decoder]"], "format.trains names 'decoder', which the model has not; did you mean"),
        ("stage1", ["format.trains=[]"], "format.trains is []: nothing of the model would be trained"),
        ("stage1", ["fsdp=true"], "fsdp is true, and there is one process"),
        ("stage1", ["policy=nowhere"], "nowhere: no such policy folder"),
        ("stage1", ["stages=[format,format]"], "stages names one twice"),
        ("stage1", ["stages=[]"], "stages is []"),
        ("stage1", ["format.max_tokens_per_batch=20"], "format.max_tokens_per_batch is 20, and a sample of Proactive"),
        ("stage1", ["format.max_tokens_per_batch=9000000000"], "format.max_tokens_per_batch is 9000000000, and a step"),
        ("stage3", ["streaming.data=[{corpus: nowhere}]"], "nowhere/corpus.json: no such file"),
        ("stage3", ["streaming.data=[{ability: Translate}]"], "did you mean 'Translation'?"),
        ("stage3", ["streaming.data=[{weight: 1}]"], "expected either an ability or a corpus"),
        ("stage3", ["streaming.data=[{ability: Mixed, respond_share: 0.1}]"], "respond_share is for the ability"),
        (
            "stage3",
            ["streaming.data=[{ability: Proactive, respond_share: 0}]"],
            "streaming.data: none of its 2 streams has a cue, so there is nothing to reply to",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(
    config: str, overrides: list[str], said: str, tmp_path: Path, capsys: Captured
) -> None:
    stages = ["format"] if config == "stage1" else ["streaming"]
    words = [*tiny(*stages), f"stages={stages}".replace("'", ""), "policy=null", *overrides]
    assert main(["train", str(CONFIGS / f"{config}.yaml"), "--out", str(tmp_path / "run"), *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # some are known once streams have been composed, under a bar
    assert line.startswith("soundflow: error: ")
    assert said in line
    assert not (tmp_path / "run" / "policy").exists()
    assert not list(tmp_path.rglob("step-*"))


def test_what_was_refused_can_be_mended_in_the_same_folder(tmp_path: Path, capsys: Captured) -> None:
    """Nothing was trained, so the run is still what it is asked to be; afterwards it is not."""
    out = tmp_path / "run"
    asked = ["train", str(CONFIGS / "stage1.yaml"), "--out", str(out), "stages=[format]", *tiny("format")]
    assert main([*asked, "format.max_tokens_per_batch=20"]) == 2
    assert main([*asked, "seed=4"]) == 0
    assert not list(out.glob("earlier-*"))
    before = (out / "policy" / "model.safetensors").read_bytes()
    assert main([*asked, "seed=5"]) == 0
    assert f"is kept as {out / 'earlier-1'}" in capsys.readouterr().out
    assert (out / "earlier-1" / "policy" / "model.safetensors").read_bytes() == before
    assert (out / "policy" / "model.safetensors").read_bytes() != before


def test_recordings_are_part_of_a_run(tmp_path: Path, capsys: Captured) -> None:
    """They are trained on, and without them it is another run."""
    make_clips = runpy.run_path(str(CONFIGS.parent / ".ci" / "make_clips.py"))["make_clips"]
    make_clips(tmp_path / "clips", per_label=2)
    asked = ["train", str(CONFIGS / "stage1.yaml"), "--out", str(tmp_path / "run"), "stages=[format]", *tiny("format")]
    assert main([*asked, "--clips", str(tmp_path / "clips")]) == 0
    assert "recordings of sha256" in (tmp_path / "run" / "policy" / "README.md").read_text()
    assert main(asked) == 0
    assert "is kept as" in capsys.readouterr().out
    assert "recordings of sha256" not in (tmp_path / "run" / "policy" / "README.md").read_text()


def test_workers_compose_without_torch(tmp_path: Path) -> None:
    """What they are handed is unpickled in each of them, and seconds of imports are theirs to wait for."""
    mix, _ = mix_of(replace(FollowingConfig(), streams=2, validation_streams=1), Sounds(), 0)
    (tmp_path / "mix").write_bytes(pickle.dumps(mix))
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); print('torch' in sys.modules)"
    asked = [sys.executable, "-c", code, str(tmp_path / "mix")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=CONFIGS.parent)
    assert done.stdout.strip() == "False"


def test_an_unknown_kind_is_refused(tmp_path: Path, capsys: Captured) -> None:
    for text, said in (
        ("kind: supervized\nstages: [format]\n", "kind is 'supervized', expected one of supervised"),
        ("stages: [format]\n", "no key 'kind', expected one of supervised"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        assert said in refused(["train", str(tmp_path / "run.yaml")], capsys)


def test_the_defaults_are_the_papers() -> None:
    """Its table of the four stages; the batch is counted in tokens here."""
    config = SupervisedRunConfig(stages=("format",))
    stages = (config.format, config.adapter, config.streaming, config.following)
    assert [stage.learning_rate for stage in stages] == [1e-4, 1e-4, 5e-5, 1e-5]
    assert [stage.steps for stage in stages] == [5_000, 20_000, 80_000, 15_000]
    assert [stage.stream_weight for stage in stages] == [0.0, 0.0, 1.0, 1.0]
    assert {(stage.weight_decay, stage.warmup_share) for stage in stages} == {(0.01, 0.03)}
    assert config.adapter.trains == ("projector",)


def test_four_stages_is_the_stages_of_the_other_files() -> None:
    """Who trains them one by one trains the same."""
    row = load_config(SupervisedRunConfig, CONFIGS / "four_stages.yaml")
    for number in range(1, 5):
        alone = load_config(SupervisedRunConfig, CONFIGS / f"stage{number}.yaml")
        for name in alone.stages:
            assert alone.stage(name) == row.stage(name), name


@pytest.mark.parametrize(
    ("weights", "count", "expected"),
    [([0.6, 0.4], 600, [360, 240]), ([1, 1, 1], 10, [4, 3, 3]), ([1e6, 1], 10, [9, 1]), ([1, 1, 1], 2, [1, 1, 1])],
)
def test_a_mix_is_dealt_by_weight(weights: list[float], count: int, expected: list[int]) -> None:
    got = shares(weights, count)
    assert sum(got) >= count
    assert all(abs(one - other) <= 1 for one, other in zip(got, expected, strict=True))


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    """By seed; of a corpus, its last streams. A corpus that is too short for its weight is read again."""
    write_corpus(tmp_path / "corpus", CorpusSpec("Proactive", hours=0.02, streams_per_shard=2))
    corpus = Corpus(tmp_path / "corpus")
    data = (DataPart(ability="Proactive"), DataPart(corpus=str(tmp_path / "corpus")))
    mix, jobs = mix_of(replace(StreamingConfig(), data=data, streams=20, validation_streams=3), Sounds(), 1)
    by_kind = {
        (part, held): [job.seed for job in jobs if (job.part, job.held_out) == (part, held)]
        for part in (0, 1)
        for held in (False, True)
    }
    assert by_kind[0, False] == list(seeds(TRAIN_SEEDS, 1, 10))
    assert by_kind[0, True] == list(seeds(VALIDATION_SEEDS, 1, 3))
    assert by_kind[1, True] == [len(corpus) - 1]
    assert set(by_kind[1, False]) == set(range(len(corpus) - 1))
    assert len(by_kind[1, False]) == 10
    heard = mix(len(mix) - 1)
    assert heard.seed == corpus[len(corpus) - 1].seed
    write_corpus(tmp_path / "short", CorpusSpec("Proactive", hours=0.001))
    short = replace(StreamingConfig(), data=(DataPart(corpus=str(tmp_path / "short")),))
    with pytest.raises(ManifestError, match="one stream, expected at least 2"):
        mix_of(short, Sounds(), 0)


def test_stage_four_reviews_history_and_keeps_silent() -> None:
    """A late question about a turn at least three rounds back; and two streams in five in which nobody needs a word."""
    world = World(Foley(), Espeak())
    review = AbilityScenarios("VoiceChat", world, "history_review")(3)
    assert len(review.cues) == 5
    told, asked = review.events[0], review.cues[-1]
    speech = [event for event in review.events if event.label == "speech"]
    assert len(speech) == 5
    (fact,) = asked.key_facts
    assert fact in speech[0].caption
    assert not any(fact in event.caption for event in speech[1:])
    assert told.onset_s < asked.onset_s
    weights = {part.name: part.weight for part in FollowingConfig().data}
    assert weights == {"Mixed": 0.6, "silence": 0.4}
    silence = ProactiveScenarios(Foley(), respond_share=0.0)
    assert not any(silence(seed).cues for seed in range(3))


def test_new_tokens_learn_and_others_stay(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """Stage 1 on a pretrained model: its head, and of its embedding the control tokens, bit by bit."""
    model = tiny_model(tokenizer, backbone="qwen2.5-omni")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maker = SampleMaker(tokenizer, model.layout, model.make_features())
    config = replace(FormatConfig(), streams=2, steps=3, validation_streams=1, max_tokens_per_batch=4000)
    data = compose_stage("format", config, Sounds(), maker, 0, 1, tmp_path / "samples")
    place = Place(tmp_path / "checkpoints", tmp_path / "logs", {})
    fit_stage("format", config, model, tokenizer, data, place, seed=0)
    after = model.state_dict()
    assert {name for name in after if not torch.equal(before[name], after[name])} == {
        "lm_head.weight",
        "text_model.embed_tokens.weight",
    }
    rows = (before["text_model.embed_tokens.weight"] != after["text_model.embed_tokens.weight"]).any(dim=1)
    assert set(rows.nonzero().squeeze(1).tolist()) <= {*model.layout.not_speakable, model.layout.end}
    assert rows[model.layout.assistant]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_module_without_parameters_is_nothing_to_train(tokenizer: ReplyTokenizer) -> None:
    with pytest.raises(ConfigError, match="nothing of the model would be trained"):
        free_modules("adapter", ("text_model.rotary_emb",), tiny_model(tokenizer))


def test_validation_counts_what_the_model_decides(tokenizer: ReplyTokenizer) -> None:
    """Against the dual loss of one batch; a model that always responds is right at the cues and wrong elsewhere."""
    model = tiny_model(tokenizer)
    maker = SampleMaker(tokenizer, model.layout, LogMel())
    scenarios = [ProactiveScenarios(Foley(), 0.8, (20, 24))(seed) for seed in range(4)]
    streams = [maker.stream(scenario) for scenario in scenarios]
    together = measure(DualLoss(model, 2.0, 4.0), streams, 10_000)
    by_ones = measure(DualLoss(model, 2.0, 4.0), streams, max(len(s.sequence) for s in streams))
    assert together == pytest.approx(by_ones, rel=1e-4)
    model.decision_head.bias.data.fill_(1e3)
    eager = measure(DualLoss(model, 1.0), streams, 10_000)
    decisions = sum(len(stream.sequence.decisions) for stream in streams)
    cues = sum(len(scenario.timeline) for scenario in scenarios)
    assert eager["trigger_accuracy"] == pytest.approx(cues / decisions)
    assert eager["trigger_balanced"] == 0.5
    silent = [maker.stream(ProactiveScenarios(Foley(), 0.0, (20, 24))(0))]
    assert measure(DualLoss(model, 1.0), silent, 10_000).keys() == {"L_stream", "trigger_accuracy"}


def test_parts_of_one_name_have_numbers_of_their_own(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    data = tuple(DataPart(ability="Proactive", weight=weight) for weight in (1.0, 2.0))
    config = replace(StreamingConfig(), data=data, streams=2, validation_streams=2)
    maker = SampleMaker(tokenizer, tiny_model(tokenizer).layout, LogMel())
    made = compose_stage("streaming", config, Sounds(), maker, 0, 1, tmp_path / "samples")
    assert {name: len(samples) for name, samples in made.validation.items()} == {"Proactive 1": 2, "Proactive 2": 2}
    assert FollowingConfig().part_names == ["Mixed", "silence"]


def test_samples_that_the_disk_has_no_room_for_are_refused_early(
    tokenizer: ReplyTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few of them, and nothing of them is left."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    config = replace(StreamingConfig(), data=(DataPart(ability="Proactive"),))
    maker = SampleMaker(tokenizer, tiny_model(tokenizer).layout, LogMel())
    with pytest.raises(ConfigError, match=r"^streaming\.streams is 100000, whose samples take .* has room for"):
        compose_stage("streaming", config, Sounds(), maker, 0, 1, tmp_path / "samples")
    assert not list(tmp_path.iterdir())
