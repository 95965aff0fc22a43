"""The whole loop at laptop size: compose, train supervised, reinforce, judge, report."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from envs.errors import ConfigError
from envs.files import write_text
from envs.metrics import Metric, evaluate_traces
from envs.trace import Trace
from policies.baselines import NEED_NOTHING, make_baseline
from policies.modeling_lalm import LALM
from policies.policy_folder import read_policy, write_policy
from policies.tokenizer import ReplyTokenizer
from trainers.card import quickstart_card
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.episode_view import EpisodeView
from trainers.quickstart_state import PPO_CHECKPOINTS, load_progress, save_progress, total_seconds
from trainers.report import ReportData, write_report
from trainers.results import Results, results_json
from trainers.run import Run, calibrate, compose_suites, judge_model, play_policy, prepare
from trainers.run_folder import CHECKPOINTS, begin_run, check_run_folder, words
from trainers.scenes import (
    PPO_SEEDS,
    Composed,
    Steady,
    seeds,
)
from trainers.sharding import check_fsdp
from trainers.supervised import SAMPLES, supervise

if TYPE_CHECKING:
    from trainers.ppo_summary import Reinforced

_SUPERVISED, _LAST = "supervised", "report.html"  # what training without a reward ends with, and the run


def run_quickstart(config: QuickstartConfig, out: Path, clips: ClipFolder | None = None) -> None:
    """Train and judge an agent; everything is written under `out`.

    Writes `config.yaml`, `metrics.json`, `report.html`, `policy/` (the reinforced policy), `supervised/` (the policy
    before reinforcement), `traces_*.jsonl` of the reinforced policy on each suite, `bills.json` where a scorer of the
    reward cost something, and TensorBoard events in `logs/`. After a kill, the same call goes on, stage, iteration and
    step, and on one machine, with as many threads, the policies are bit by bit those of a run that was left alone.
    What a run of other words or recordings left there is kept in `earlier-N/`.

    Raises:
        ConfigError: when `out` cannot be a folder, the reward fails, or there are several processes; nothing is
            written then. Or when a stage cannot be trained as asked for.
        ManifestError: when `clips` cannot be used; nothing is written then.
        PolicyError, OSError: when a result cannot be written; it is not left half-written.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # torchrun says so
        raise ConfigError("`soundflow quickstart` runs in one process; start it without torchrun")
    check_fsdp("ppo.fsdp", config.ppo.fsdp)
    torch.manual_seed(config.seed)
    check_run_folder(out)
    run = prepare(config, out, clips)
    if not begin_run(out, words(config, recordings=run.recordings_name), _LAST):
        return
    results = load_progress(run)
    compose_suites(run)
    _warn_of_load()
    if (out / _SUPERVISED).is_dir():
        model, tokenizer, _ = read_policy(out / _SUPERVISED)
    else:
        model, tokenizer = _supervised(run, results)
    shutil.rmtree(out / CHECKPOINTS / SAMPLES, ignore_errors=True)  # large, and learned from
    run.curves["PPO reward of sampled rollouts"] = reinforce(run, model, tokenizer).curve
    last = judge_model(run, model, tokenizer, "ppo", results)
    write_policy(out / "policy", model, tokenizer, quickstart_card("ppo", config, model, results, run.recordings))
    run.seconds["total"] = total_seconds(run)
    _publish(run, results, last)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # of no use to anybody now


def _supervised(run: Run, results: Results) -> tuple[LALM, ReplyTokenizer]:
    """Train, judge and write the supervised policy; its folder says that it is done, and by then all is kept."""
    model, tokenizer = supervise(run)
    calibrate(run, model, tokenizer)
    results.update({name: _judge_baselines(run, streams, tokenizer, name) for name, streams in run.held_out.items()})
    judge_model(run, model, tokenizer, "supervised", results)
    save_progress(run, results)
    card = quickstart_card("supervised", run.config, model, results, run.recordings)
    write_policy(run.out / _SUPERVISED, model, tokenizer, card)
    return model, tokenizer


def _warn_of_load() -> None:
    """Say what to do where others keep the machine busy: torch's threads wait for each other, and actively."""
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > 1.5 * cores and "OMP_WAIT_POLICY" not in os.environ:  # composing keeps the cores busy, too
        print(f"{load:.1f} processes share {cores} cores; OMP_WAIT_POLICY=passive helps runs beside others")


def _judge_baselines(run: Run, streams: Composed, tokenizer: ReplyTokenizer, name: str) -> dict[str, dict[str, Metric]]:
    results, wanted = {}, list(streams.by_seed)
    with run.phase(f"judge baselines on {name}"):
        for baseline in tqdm(NEED_NOTHING, unit="policy"):
            slots = min(run.config.evaluation.batch_size, len(wanted))
            policy = make_baseline(baseline, slots, tokenizer, run.config.model.tokens_per_chunk, run.config.seed)
            traces = play_policy(run, policy, streams, wanted, tokenizer, slots)
            results[baseline] = evaluate_traces(traces, run.config.seed, run.config.evaluation.bootstrap)
    return results


def reinforce(run: Run, model: LALM, tokenizer: ReplyTokenizer) -> "Reinforced":
    """Reinforce the supervised policy in place, on streams of their own."""
    from trainers.ppo import train_ppo  # noqa: PLC0415 - importing TRL takes seconds

    ppo = run.config.ppo
    torch.manual_seed(run.config.seed)  # whatever was drawn before: a run that goes on has drawn less
    with run.phase("reinforce (PPO)"):
        wanted = seeds(PPO_SEEDS, run.config.seed, ppo.streams)
        return train_ppo(
            model,
            tokenizer,
            Steady(Composed(run.scenarios(), wanted, run.config.scenes.workers)),
            wanted,
            run.reward,
            ppo,
            run.out / "logs" / "ppo",
            run.config.seed,
            run.out / CHECKPOINTS / PPO_CHECKPOINTS,
        )


def _publish(run: Run, results: Results, played: dict[str, list[Trace]]) -> None:
    """Write `metrics.json`, the traces and the report."""
    document = {
        **results_json(results),
        "seconds": run.seconds,
    }
    write_text(run.out / "metrics.json", json.dumps(document, indent=2, allow_nan=False))
    for suite, traces in played.items():
        lines = (json.dumps(trace.to_json(), allow_nan=False) for trace in traces)
        write_text(run.out / f"traces_{suite}.jsonl", "\n".join(lines) + "\n")
    run.write_bills()
    episodes = []
    for suite, traces in played.items():
        streams = run.held_out[suite]
        index = max(range(len(traces)), key=lambda i: len(traces[i].cues))
        scenario = streams(list(streams.by_seed)[index])
        episodes.append(EpisodeView(f"{suite.replace('_', ' ')}: one stream played by ppo", scenario, traces[index]))
    data = ReportData(
        title=f"SoundFlow quickstart, seed {run.config.seed}",
        seconds=run.seconds,
        tables=results,
        curves=run.curves,
        episodes=episodes,
        config=words(run.config),
    )
    write_report(run.out / _LAST, data)
    print(f"report: {run.out / _LAST}   policy: {run.out / 'policy'}   {run.seconds['total']:.0f} s in all")
