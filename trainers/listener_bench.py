"""`soundflow bench listener`: how well `compact` hears after minutes on this machine, beside a classifier."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from envs.metrics import Metric, compare_traces, evaluate_traces, metrics_json
from policies.baselines import make_baseline
from trainers.classifier import train_classifier
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.run import calibrate, compose_suites, play_model, play_policy, prepare
from trainers.supervised import supervise

SUITE = "real_held_out"


@dataclass(frozen=True)
class ListenerNumbers:
    """What was measured; every metric is of the same streams of recordings that were held out.

    Attributes:
        parameters: Of the listener.
        train_s: Seconds of composing streams, those to judge by among them, training and finding the threshold: all but
            reading and judging.
        train_cpu_s: Seconds of CPU that training took in this process, all threads together; workers not counted.
        listener: Its metrics.
        classifier_train_s: Seconds that the classifier took, its streams included. None where it was left out.
        classifier: Its metrics.
        difference: Of the metrics, listener minus classifier, with paired intervals.
    """

    parameters: int
    train_s: float
    train_cpu_s: float
    listener: dict[str, Metric]
    classifier_train_s: float | None
    classifier: dict[str, Metric] | None
    difference: dict[str, Metric] | None

    def to_json(self) -> dict[str, object]:
        """Return the numbers of the listener's reach, then all metrics, as plain JSON types."""
        gain = None if self.difference is None else self.difference["trigger_f1"].to_json()
        return {
            "parameters": self.parameters,
            "train_s": round(self.train_s, 1),
            "train_cpu_s": round(self.train_cpu_s, 1),
            "trigger_f1": self.listener["trigger_f1"].to_json(),
            "key_fact_match": self.listener["key_fact_match"].to_json(),
            "classifier_train_s": None if self.classifier_train_s is None else round(self.classifier_train_s, 1),
            "f1_over_classifier": gain,
            "listener": metrics_json(self.listener),
            "classifier": None if self.classifier is None else metrics_json(self.classifier),
        }


def bench_listener(config: QuickstartConfig, clips: ClipFolder, classifier: bool = True) -> ListenerNumbers:
    """Train `compact` supervised on recordings and built-in sounds, and judge it on recordings it never heard.

    It is what `soundflow quickstart --clips` does before PPO, with the same streams for the same seed.

    Args:
        config: Of the run; its part `ppo` is not used.
        clips: The recordings.
        classifier: Train and judge the classifier baseline too.

    Raises:
        ManifestError: when the clips cannot be used, or are too few to hold some out.
    """
    torch.manual_seed(config.seed)
    with TemporaryDirectory() as folder:
        run = prepare(config, Path(folder), clips)
        begin = time.perf_counter()
        compose_suites(run, foley=False)
        streams = run.held_out[SUITE]
        wanted = list(streams.by_seed)
        cpu = time.process_time()
        model, tokenizer = supervise(run)
        cpu = time.process_time() - cpu
        calibrate(run, model, tokenizer)
        train_s = time.perf_counter() - begin
        with run.phase("judge the listener"):
            traces = play_model(run, model, tokenizer, streams, wanted)
    bootstrap = config.evaluation.bootstrap
    parameters = sum(parameter.numel() for parameter in model.parameters())
    own = evaluate_traces(traces, config.seed, bootstrap)
    if not classifier:
        return ListenerNumbers(parameters, train_s, cpu, own, None, None, None)
    with run.phase("train the classifier"):
        trained = train_classifier(run.recordings, config.seed, config.scenes.workers)
    slots = min(config.evaluation.batch_size, len(wanted))
    rate = config.model.tokens_per_chunk
    policy = make_baseline("classifier", slots, tokenizer, rate, config.seed, classifier=trained)
    with run.phase("judge the classifier"):
        others = play_policy(run, policy, streams, wanted, tokenizer, slots)
    return ListenerNumbers(
        parameters,
        train_s,
        cpu,
        own,
        run.seconds["train the classifier"],
        evaluate_traces(others, config.seed, bootstrap),
        compare_traces(traces, others, config.seed, bootstrap),
    )
