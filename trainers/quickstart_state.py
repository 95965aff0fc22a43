"""What a quickstart has done, so that one that was killed goes on: numbers here, weights in its folders."""

import json
import time

from envs.files import write_text
from envs.metrics import Metric
from trainers.results import Results, results_json
from trainers.run import Run
from trainers.run_folder import CHECKPOINTS

_FILE = "quickstart.json"  # in the folder of checkpoints


def save_progress(run: Run, results: Results) -> None:
    """Write down the seconds, curves and results so far.

    Raises:
        OSError: when they cannot be written; what was there before stays.
    """
    document = {
        "seconds": {**run.seconds, "total": total_seconds(run)},
        "curves": run.curves,
        "results": results_json(results),
    }
    write_text(run.out / CHECKPOINTS / _FILE, json.dumps(document))


def load_progress(run: Run) -> Results:
    """Fill a run with what was written down in its folder, if anything was; return the results."""
    path = run.out / CHECKPOINTS / _FILE
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    run.seconds = document["seconds"]
    run.curves = {name: [(step, value) for step, value in curve] for name, curve in document["curves"].items()}
    return {
        suite: {who: {name: Metric(**metric) for name, metric in own.items()} for who, own in table.items()}
        for suite, table in document["results"].items()
    }


def total_seconds(run: Run) -> float:
    """Return what the run took so far, before a kill and since."""
    return round(run.seconds.get("total", 0.0) + time.perf_counter() - run.begun, 1)
