"""Compare rewards on stored traces: `soundflow reward compare`."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from envs.errors import ConfigError
from envs.metrics import Metric, evaluate_traces
from envs.rewards import Reward, reward_from_config
from envs.rewards.bill import BILLS, Bill, write_bills
from envs.rewards.comparison import RewardReport, compare_rewards
from envs.trace_files import read_policies
from trainers.config import QuickstartConfig
from trainers.config_loading import load_config, read_yaml
from trainers.run_folder import check_out
from trainers.train import read_config

_WIDTH = 14


def compare_reward_files(
    paths: Sequence[Path], traces: Path, out: Path | None, stream: TextIO, as_json: bool = False
) -> None:
    """Score the traces of policies under the rewards of several files, and print how each ranks them.

    What scorers cost is printed on stderr and written beside the traces, where any cost something.

    Args:
        paths: Each a run's YAML with a key `reward`, or the list alone.
        traces: A folder of traces for each policy (`envs.trace_files.read_policies`).
        out: A page with tables and curves, or None.
        stream: Where to print.
        as_json: Print one JSON object.

    Raises:
        ConfigError: when a file holds no reward, a component fails, or `out` cannot be written.
        ScenarioError: when the traces cannot be read or scored.
    """
    if out is not None:
        check_out(out.parent)
    rewards = {name: load_reward(path) for name, path in _names(paths).items()}
    played = read_policies(traces)
    try:
        reports = compare_rewards(rewards, played)
    finally:  # what was asked before a failure is paid for all the same
        bills = show_bills(rewards)
        if bills:
            write_bills(traces / BILLS, bills)
    f1 = {policy: evaluate_traces(of_policy)["trigger_f1"] for policy, of_policy in played.items()}
    if out is not None:
        from trainers.reward_page import write_reward_page  # noqa: PLC0415 - only where a page is asked for

        write_reward_page(out, reports, f1, bills)
    if as_json:
        document = {
            "rewards": {report.name: report.to_json() for report in reports},
            "trigger_f1": {policy: metric.to_json() for policy, metric in f1.items()},
            "bills": {name: asdict(bill) for name, bill in bills.items()},
        }
        print(json.dumps(document, indent=2, allow_nan=False), file=stream)
    else:
        print("\n\n".join(_text(report, f1) for report in reports), file=stream)


def load_reward(path: Path) -> Reward:
    """Read a reward from a run's YAML, or from one that holds the list of components alone.

    Raises:
        ConfigError: naming the file, when there is no reward in it, or one that cannot be built.
    """
    data = read_yaml(path)
    entries: list[Any]
    if isinstance(data, list):
        entries = data
    elif isinstance(data, dict):
        config = read_config(path)[1] if "kind" in data else load_config(QuickstartConfig, path)
        if not hasattr(config, "reward"):
            raise ConfigError(f"{path}: kind is {data['kind']!r}, a run without a reward; name a file that lists one")
        entries = config.reward
    else:
        raise ConfigError(f"{path}: expected a list of the reward's components, or a run's keys with `reward`")
    try:
        return reward_from_config(entries)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def show_bills(rewards: Mapping[str, Reward]) -> dict[str, Bill]:
    """Print what the rewards' scorers have cost on stderr; return the bills as "REWARD/COMPONENT"."""
    bills = {f"{name}/{part}": bill for name, reward in rewards.items() for part, bill in reward.bills.items()}
    for name, bill in bills.items():
        print(f"{name}: {bill}", file=sys.stderr)
    return bills


def _names(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the files by what they are called: their stems where these differ."""
    stems = Counter(path.stem for path in paths)
    names = {path.stem if stems[path.stem] == 1 else str(path): path for path in paths}
    if len(names) < len(paths):
        raise ConfigError(f"{max(paths, key=paths.count)} is given twice; a reward is compared with others")
    return names


def _text(report: RewardReport, f1: Mapping[str, Metric]) -> str:
    names = list(report.standings[0].components)
    wide = max(_WIDTH, *(len(standing.policy) for standing in report.standings))
    columns = [max(len(name), 7) for name in names]
    head = f"{'':3s} {'policy':{wide}s} {'mean reward':>11s}   {'95 % interval':>19s}   {'trigger F1':>10s}   "
    lines = [report.name, head + "  ".join(f"{n:>{c}s}" for n, c in zip(names, columns, strict=True))]
    for place, standing in enumerate(report.standings, start=1):
        mean = standing.reward
        parts = (f"{standing.components[n]:{c}.3f}" for n, c in zip(names, columns, strict=True))
        lines.append(
            f"{place:2d}. {standing.policy:{wide}s} {mean.value:11.3f}   {mean.low:8.3f} to {mean.high:7.3f}   "
            f"{f1[standing.policy].value:10.3f}   " + "  ".join(parts)
        )
    return "\n".join([*lines, *(f"warning: {finding.message}" for finding in report.findings)])
