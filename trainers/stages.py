"""Runs of supervised stages, one after another, each from the policy folder that the one before it wrote."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from envs.clip_library import ClipLibrary
from envs.errors import ConfigError, PolicyError, first_line
from envs.files import remove_leftovers, write_text
from envs.speech.knowledge import ask
from envs.speech.phrases import draw_phrase
from policies.model_card import CardFacts, model_card
from policies.modeling_lalm import LALM
from policies.policy_folder import find_policy, read_policy, write_policy
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from trainers.checkpoints import difference
from trainers.clips import ClipFolder
from trainers.compose import fingerprint
from trainers.new_model import new_compact
from trainers.run import known_texts, split_clips
from trainers.run_folder import CHECKPOINTS, CONFIG, check_run_folder
from trainers.samples import SampleMaker
from trainers.stage_config import StageName, SupervisedRunConfig
from trainers.stage_data import Sounds, compose_stage, open_parts
from trainers.stage_trainer import Log, Place, fit_stage, free_modules

_RECORDINGS = "# recordings: "  # the first line of a run's `config.yaml`
_DRAWN_TEXTS = 2000  # questions and sentences that a new tokenizer is trained on, beside what sounds are called


def run_stages(config: SupervisedRunConfig, out: Path, clips: ClipFolder | None = None) -> None:
    """Train the stages of a configuration; everything is written under `out`.

    Writes `config.yaml`, and for each stage `STAGE/policy/`, `STAGE/log.json` and TensorBoard events in `logs/STAGE/`;
    the last stage's policy is `policy/`. After a kill, the same command goes on, stage and step.

    Raises:
        ConfigError: when `out` cannot be a folder or holds another run, or a stage cannot be trained as asked for.
        SoundFlowError: for clips, corpora and policies that cannot be used; stages before that are kept.
    """
    remove_leftovers(out, CONFIG)
    check_run_folder(out)
    library, held = split_clips(clips, config.held_out_clips) if clips else (None, None)
    sounds = Sounds() if library is None or held is None else Sounds.with_recordings(library, held, config.real_share)
    for name in config.stages:
        open_parts(config.stage(name), sounds)
    identity = {**_plain(config), "clips": None if library is None else fingerprint(library)}
    _check_same_run(identity, out)
    final = out / "policy"
    if final.is_dir():
        print(f"{out} was complete; nothing was done")
        return
    start = None if config.policy is None else find_policy(config.policy)
    if start is not None:
        _check_trains(config, read_policy(start)[0])
    write_text(out / CONFIG, _config_text(identity))
    if start is None:
        start = _new_policy(config, out / "start", library)
    for name in config.stages:
        policy = final if name == config.stages[-1] else out / name / "policy"
        if not policy.is_dir():
            _run_stage(name, config, sounds, start, policy, out, identity)
        start = policy
    print(f"policy: {final}")


def _run_stage(
    name: StageName,
    config: SupervisedRunConfig,
    sounds: Sounds,
    start: Path,
    policy: Path,
    out: Path,
    identity: dict[str, Any],
) -> None:
    """Train one stage from the policy in `start`, and write its policy."""
    print(f"[{name}]", flush=True)
    stage = config.stage(name)
    model, tokenizer, _ = read_policy(start)
    maker = SampleMaker(tokenizer, model.layout, model.make_features())
    data = compose_stage(name, stage, sounds, maker, config.seed, config.workers)
    torch.manual_seed(config.seed)
    place = Place(out / name / CHECKPOINTS, out / "logs" / name, identity)
    log = fit_stage(name, stage, model, tokenizer, data, place, seed=config.seed, bf16=config.bf16)
    write_text(out / name / "log.json", json.dumps(log, indent=2))
    print(_last_numbers(log), flush=True)
    facts = _facts(name, config, identity, log)
    _write_whole(policy, model, tokenizer, facts)
    shutil.rmtree(place.checkpoints, ignore_errors=True)  # the policy is what they were for


def _new_policy(config: SupervisedRunConfig, folder: Path, library: ClipLibrary | None) -> Path:
    """Write a new model of the `compact` backbone with its tokenizer, where it is not there yet; return its folder.

    Raises:
        ConfigError: when the model's window is too short, or a stage cannot train it.
    """
    if folder.is_dir():
        return folder
    torch.manual_seed(config.seed)
    rng, shape = np.random.default_rng(config.seed), config.model
    captions, replies = known_texts(library)
    for _ in range(_DRAWN_TEXTS):
        question, phrase = ask(rng), draw_phrase(rng)
        replies += [*question.replies, phrase.english, phrase.chinese]
    tokenizer = train_tokenizer([*captions, *replies], shape.vocab_size)
    model = new_compact(shape, tokenizer, list(dict.fromkeys(replies)))
    _check_trains(config, model)
    _write_whole(folder, model, tokenizer, None)
    return folder


def _check_trains(config: SupervisedRunConfig, model: LALM) -> None:
    """Ask of every stage, before the first one, whether it has something to train.

    Raises:
        ConfigError: naming the first that has not.
    """
    for name in config.stages:
        hook = free_modules(name, config.stage(name).trains, model)
        if hook is not None:
            hook.remove()
    model.requires_grad_(True)


def _write_whole(folder: Path, model: LALM, tokenizer: ReplyTokenizer, facts: CardFacts | None) -> None:
    """Write a policy folder that is there whole or not at all: that it is there says that a stage is done."""
    aside = folder.with_name(f".{folder.name}.whole")
    for left in folder.parent.glob(f"*{aside.name}*"):  # of a run that was killed
        shutil.rmtree(left)
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_policy(aside, model, tokenizer, None if facts is None else model_card(facts, model.config))
    except PolicyError as error:
        raise PolicyError(str(error).replace(str(aside), str(folder))) from error
    aside.replace(folder)


def _config_text(identity: Mapping[str, Any]) -> str:
    """Return the text of a run's `config.yaml`, with a comment on the recordings that it was made with."""
    config = {key: value for key, value in identity.items() if key != "clips"}
    return f"{_RECORDINGS}{identity['clips']}\n{yaml.safe_dump(config, sort_keys=False)}"


def _check_same_run(identity: Mapping[str, Any], out: Path) -> None:
    """Ask whether what was trained in `out` was asked for with the same words and recordings.

    Where nothing was trained yet, because the data could not be used say, what was asked for may change.

    Raises:
        ConfigError: naming the first key that differs.
    """
    path = out / CONFIG
    found = path.read_text(encoding="utf-8") if path.is_file() else _config_text(identity)
    if found == _config_text(identity):
        return
    if not (out / "logs").exists() and not (out / "policy").exists():
        shutil.rmtree(out / "start", ignore_errors=True)
        return
    try:
        said = difference(yaml.safe_load(found), yaml.safe_load(_config_text(identity)))
    except yaml.YAMLError as error:
        said = first_line(f"not YAML: {error}")
    said = said or f"its recordings were {found.splitlines()[0].removeprefix(_RECORDINGS)}, not {identity['clips']}"
    raise ConfigError(f"{path}: of another run: {said}; name another folder with --out, or ask for the same")


def _plain(config: SupervisedRunConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def _last_numbers(log: Log) -> str:
    """Say what the last validation measured."""
    last = next((entry for entry in reversed(log) if any(key.startswith("eval_") for key in entry)), {})
    numbers = [f"{key.removeprefix('eval_')} {value:.3f}" for key, value in last.items() if key != "step"]
    return f"Held out, at step {last.get('step', 0)}: {', '.join(numbers)}"


def _facts(name: StageName, config: SupervisedRunConfig, identity: Mapping[str, Any], log: Log) -> CardFacts:
    """Return what the model card of a stage's policy says."""
    stage = config.stage(name)
    done = config.stages[: config.stages.index(name) + 1]
    heard = identity["clips"] or "no recordings"
    corpora = any(part.corpus for one in done for part in config.stage(one).data)
    own = config.policy is None and identity["clips"] is None and not corpora
    parts = ", ".join(f"{part.name} ({part.weight:g})" for part in stage.data)
    return CardFacts(
        name=f"SoundFlow after the supervised stage `{name}`, seed {config.seed}",
        summary=f"A listener after the stages {', '.join(done)} of `soundflow train`"
        + ("." if config.policy is None else f", begun from the policy `{config.policy}`."),
        data=f"Streams composed of built-in sounds and {heard}; in the last stage, by weight: {parts}.",
        training=f"{stage.steps} steps of the last stage. {_last_numbers(log)}. The whole configuration:\n\n```yaml\n"
        f"{yaml.safe_dump(_plain(config), sort_keys=False)}```",
        limitations="It was judged by its losses on composed streams with seeds never trained on, and not in rooms; ask"
        " `soundflow evaluate` how it does on streams like yours. Its decision threshold was not calibrated.",
        license="apache-2.0" if own else "unknown",
    )
