"""Train the classifier baseline as an agent is trained: on streams of recordings and built-in sounds."""

from dataclasses import replace

from envs.clip_library import ClipLibrary
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.sources import ClipSource, Mixture
from policies.sound_classifier import SoundClassifier
from trainers.scenes import TRAIN_SEEDS, VALIDATION_SEEDS, seeds

TRAIN_STREAMS, VALIDATION_STREAMS = 1800, 192  # as many as a quickstart trains on; three times its validation streams
REAL_SHARE = 0.6  # of the draws, as in a quickstart
VALIDATION_PART = 0.3  # of the recordings, to tune the trigger on


def train_classifier(library: ClipLibrary | None, seed: int, workers: int = 2) -> SoundClassifier:
    """Train a classifier on recordings and built-in sounds; without recordings on built-in sounds alone.

    Its trigger is tuned on streams of recordings that a first classifier was not trained on; the classifier returned
    was trained on all of them, with that trigger.

    Raises:
        PolicyError: when the streams hold no sound that deserves a reply.
    """
    learn = seeds(TRAIN_SEEDS, seed, TRAIN_STREAMS)
    validate = seeds(VALIDATION_SEEDS, seed, VALIDATION_STREAMS)
    if library is None:
        streams = ProactiveScenarios(Foley())
        return SoundClassifier.train(streams, learn, seed=seed, workers=workers).tuned(
            streams, validate, workers=workers
        )
    fit, held = (ProactiveScenarios(_mixed(part)) for part in library.split(VALIDATION_PART, seed))
    tuned = SoundClassifier.train(fit, learn, seed=seed, workers=workers).tuned(held, validate, workers=workers)
    everything = ProactiveScenarios(_mixed(library))
    return replace(SoundClassifier.train(everything, learn, seed=seed, workers=workers), trigger=tuned.trigger)


def _mixed(library: ClipLibrary) -> ClipSource:
    return Mixture((Foley(), library), (1 - REAL_SHARE, REAL_SHARE)) if len(library) else Foley()
