"""What a quickstart has done, so that one that was killed goes on: numbers here, weights in its folders."""

import json
import time
from dataclasses import asdict

from envs.files import write_text
from envs.metrics import Metric
from envs.rewards.bill import Bill, add_bills
from trainers.checkpoints import newest_checkpoint
from trainers.results import Results, results_json
from trainers.run import Run
from trainers.run_folder import CHECKPOINTS

PPO_CHECKPOINTS = "ppo"  # in the folder of checkpoints
_FILE = "quickstart.json"  # likewise


def save_progress(run: Run, results: Results) -> None:
    """Write down the seconds, curves and results so far, and what scoring has cost.

    Raises:
        OSError: when they cannot be written; what was there before stays.
    """
    document = {
        "seconds": {**run.seconds, "total": total_seconds(run)},
        "curves": run.curves,
        "results": results_json(results),
        "bills": {name: asdict(bill) for name, bill in run.reward.bills.items()},
    }
    write_text(run.out / CHECKPOINTS / _FILE, json.dumps(document))


def load_progress(run: Run) -> Results:
    """Fill a run with what was written down in its folder, if anything was; return the results."""
    checkpoints = run.out / CHECKPOINTS
    path = checkpoints / _FILE
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    run.seconds = document["seconds"]
    if newest_checkpoint(checkpoints / PPO_CHECKPOINTS, None) is None:  # one of PPO has these costs among its own
        add_bills(run.reward.bills, {name: Bill(**own) for name, own in document["bills"].items()})
    run.curves = {name: [(step, value) for step, value in curve] for name, curve in document["curves"].items()}
    return {
        suite: {who: {name: Metric(**metric) for name, metric in own.items()} for who, own in table.items()}
        for suite, table in document["results"].items()
    }


def total_seconds(run: Run) -> float:
    """Return what the run took so far, before a kill and since."""
    return round(run.seconds.get("total", 0.0) + time.perf_counter() - run.begun, 1)
