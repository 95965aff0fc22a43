"""Runs of supervised stages, one after another, each from the policy folder that the one before it wrote."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from envs.clip_library import ClipLibrary
from envs.files import remove_leftovers, write_text
from envs.speech.knowledge import ask
from envs.speech.phrases import draw_phrase
from policies.model_card import CardFacts, model_card
from policies.modeling_lalm import LALM
from policies.policy_folder import find_policy, read_policy, write_policy
from policies.tokenizer import train_tokenizer
from trainers.checkpoints import module_digest
from trainers.clips import ClipFolder
from trainers.compose import fingerprint
from trainers.learners import Learners
from trainers.memory import check_memory
from trainers.new_model import new_compact
from trainers.run import known_texts, split_clips
from trainers.run_folder import CHECKPOINTS, START, begin_run, check_run_folder, is_complete, plain, words
from trainers.sample_store import StoredSamples
from trainers.samples import SampleMaker
from trainers.sharding import check_fsdp
from trainers.stage_config import StageName, SupervisedRunConfig
from trainers.stage_data import Sounds, StageData, compose_stage, open_parts
from trainers.stage_trainer import Log, Place, fit_stage, free_modules

_LAST = "policy"  # of what a run writes
_DRAWN_TEXTS = 2000  # questions and sentences that a new tokenizer is trained on, beside what sounds are called


def run_stages(config: SupervisedRunConfig, out: Path, clips: ClipFolder | None = None) -> None:
    """Train the stages of a configuration; everything is written under `out`.

    Writes `config.yaml`, and for each stage `STAGE/policy/`, `STAGE/log.json` and TensorBoard events in `logs/STAGE/`;
    the last stage's policy is `policy/`. After a kill, the same command goes on, stage and step; what a run of other
    words or recordings left there is kept in `earlier-N/`. Under `torchrun`, all processes learn, each from its share
    of every batch, and the main one composes, measures and writes; `out` has to be seen by all of them.

    Raises:
        ConfigError: when `out` cannot be a folder, a stage cannot be trained as asked for, or `fsdp` is and there is
            one process.
        SoundFlowError: for clips, corpora and policies that cannot be used; stages before that are kept.
    """
    check_fsdp("fsdp", config.fsdp)
    check_run_folder(out)
    library, held = split_clips(clips, config.held_out_clips) if clips else (None, None)
    sounds = Sounds() if library is None or held is None else Sounds.with_recordings(library, held, config.real_share)
    for name in config.stages:
        open_parts(config.stage(name), sounds)
    start, made_with = out / START, {"recordings": None if library is None else fingerprint(library)}
    if config.policy is not None:
        start = find_policy(config.policy)
        began = read_policy(start)[0]
        _check_trains(config, began)
        made_with["policy"] = module_digest(began)
    learners, asked, final = Learners(), words(config, **made_with), out / _LAST
    complete = is_complete(out, asked, _LAST)
    learners.wait()  # all have looked before one writes
    if learners.is_main and begin_run(out, asked, _LAST) and config.policy is None:
        _new_policy(config, start, library)
    if complete:
        return
    learners.wait()
    stages = _Stages(config, out, sounds, made_with, learners)
    for name in config.stages:
        policy = final if name == config.stages[-1] else out / name / "policy"
        if not policy.is_dir():
            stages.run(name, start, policy)
        learners.wait()
        start = policy
    if learners.is_main:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        print(f"policy: {final}")


@dataclass(frozen=True)
class _Stages:
    """What the stages of a run share."""

    config: SupervisedRunConfig
    out: Path
    sounds: Sounds
    made_with: dict[str, str | None]
    learners: Learners

    def run(self, name: StageName, start: Path, policy: Path) -> None:
        """Train one stage from the policy in `start`; the main process writes its policy."""
        config, stage, main = self.config, self.config.stage(name), self.learners.is_main
        model, tokenizer, _ = read_policy(start)
        kept = self.out / CHECKPOINTS / name
        samples, place = kept / "samples", Place(kept, self.out / "logs" / name, {**plain(config), **self.made_with})
        self.learners.wait()  # nobody writes while others look for `policy`
        data = None
        if main:
            print(f"[{name}]", flush=True)
            remove_leftovers(self.out / name, "*")
            maker = SampleMaker(tokenizer, model.layout, model.make_features(), stage.early_share)
            data = compose_stage(name, stage, self.sounds, maker, config.seed, config.workers, samples)
        self.learners.wait()
        data = data or StageData(StoredSamples(samples))
        if not config.fsdp:
            model.to(self.learners.device)
        log = fit_stage(
            name, stage, model, tokenizer, data, place, seed=config.seed, bf16=config.bf16, fsdp=config.fsdp
        )
        if main:
            write_text(self.out / name / "log.json", json.dumps(log, indent=2))
            print(_last_numbers(log), flush=True)
            facts = _facts(name, config, self.made_with["recordings"], log)
            write_policy(policy, model, tokenizer, model_card(facts, model.config))
            shutil.rmtree(kept, ignore_errors=True)  # the policy is what they were for


def _new_policy(config: SupervisedRunConfig, folder: Path, library: ClipLibrary | None) -> None:
    """Write a new model of the `compact` backbone with its tokenizer, where it is not there yet.

    Raises:
        ConfigError: when the model's window is too short, or a stage cannot train it.
    """
    if folder.is_dir():
        return
    torch.manual_seed(config.seed)
    rng, shape = np.random.default_rng(config.seed), config.model
    captions, replies = known_texts(library)
    for _ in range(_DRAWN_TEXTS):
        question, phrase = ask(rng), draw_phrase(rng)
        replies += [*question.replies, phrase.english, phrase.chinese]
    tokenizer = train_tokenizer([*captions, *replies], shape.vocab_size)
    model = new_compact(shape, tokenizer, list(dict.fromkeys(replies)))
    _check_trains(config, model)
    write_policy(folder, model, tokenizer)


def _check_trains(config: SupervisedRunConfig, model: LALM) -> None:
    """Ask of every stage, before the first one, whether it has something to train, and memory for a batch.

    Raises:
        ConfigError: naming the first that has not.
    """
    for name in config.stages:
        free_modules(name, config.stage(name).trains, model)
        check_memory(name, config.stage(name), model, Learners() if config.fsdp else None)
    model.requires_grad_(True)


def _last_numbers(log: Log) -> str:
    """Say what the last validation measured."""
    last = next((entry for entry in reversed(log) if any(key.startswith("eval_") for key in entry)), {})
    numbers = [f"{key.removeprefix('eval_')} {value:.3f}" for key, value in last.items() if key != "step"]
    return f"Held out, at step {last.get('step', 0)}: {', '.join(numbers)}"


def _facts(name: StageName, config: SupervisedRunConfig, recordings: str | None, log: Log) -> CardFacts:
    """Return what the model card of a stage's policy says."""
    stage = config.stage(name)
    done = config.stages[: config.stages.index(name) + 1]
    heard = recordings or "no recordings"
    corpora = any(part.corpus for one in done for part in config.stage(one).data)
    own = config.policy is None and recordings is None and not corpora
    parts = ", ".join(f"{name} ({p.weight:g})" for name, p in zip(stage.part_names, stage.data, strict=True))
    return CardFacts(
        name=f"SoundFlow after the supervised stage `{name}`, seed {config.seed}",
        summary=f"A listener after the stages {', '.join(done)} of `soundflow train`"
        + ("." if config.policy is None else f", begun from the policy `{config.policy}`."),
        data=f"Streams composed of built-in sounds and {heard}; in the last stage, by weight: {parts}.",
        training=f"{stage.steps} steps of the last stage. {_last_numbers(log)}. The whole configuration:\n\n```yaml\n"
        f"{words(config)}```",
        limitations="It was judged by its losses on composed streams with seeds never trained on, and not in rooms; ask"
        " `soundflow evaluate` how it does on streams like yours. Its decision threshold was not calibrated.",
        license="apache-2.0" if own else "unknown",
    )
