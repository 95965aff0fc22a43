"""The quickstart's supervised training: three stages, one after another, over streams composed once."""

from pathlib import Path

from tqdm import tqdm

from envs.errors import ScenarioError
from envs.scenario import Scenario
from envs.workers import compose_all
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from trainers.config import StageConfig
from trainers.learners import learning_device
from trainers.new_model import new_compact
from trainers.run import Run, one_thread
from trainers.run_folder import CHECKPOINTS, plain
from trainers.sample_store import SampleWriter, StoredSamples
from trainers.samples import SampleMaker, StreamSample
from trainers.scenes import TRAIN_SEEDS, seeds
from trainers.stage_data import StageData, check_room
from trainers.stage_trainer import Place, fit_stage

STAGES = ("hearing", "format", "streams")
SAMPLES = "samples"  # in the folder of the run's checkpoints
_HELD_OUT = "held_out"  # what the validation's numbers are logged under


def supervise(run: Run) -> tuple[LALM, ReplyTokenizer]:
    """Compose training streams and train the LALM on them, or go on with that in the run's folder.

    Raises:
        ConfigError: when a stage cannot be trained as asked for, or the disk has no room for the samples.
        ScenarioError: when the streams have no single sound.
    """
    config = run.config
    tokenizer = train_tokenizer([*run.captions, *run.replies], config.model.vocab_size)
    model = new_compact(config.model, tokenizer, run.replies)
    maker = SampleMaker(tokenizer, model.layout, model.make_features(), config.supervised.streams.early_share)
    kept = run.out / CHECKPOINTS
    with run.phase("compose training streams"):
        samples = _compose(run, maker, kept / SAMPLES)
        held_out: dict[str, list[StreamSample]] = {name: [] for name in samples}
        for scenario in run.validation.by_seed.values():
            for name, made in _samples_of(scenario, maker).items():
                held_out[name] += made
    identity = {**plain(config), "recordings": run.recordings_name}
    model.to(learning_device())
    for name in STAGES:
        stage: StageConfig = getattr(config.supervised, name)
        validation = held_out[stage.learns_from]
        data = StageData(samples[stage.learns_from], {_HELD_OUT: validation} if validation else {})
        for scenario in run.validation.by_seed.values() if stage.learns_from == "streams" else ():
            data.listen_to(scenario)
        place = Place(kept / name, run.out / "logs" / name, identity)
        with run.phase(f"train {name}"):
            log = fit_stage(f"supervised.{name}", stage, model, tokenizer, data, place, seed=config.seed)
        run.curves[f"supervised: loss of {name}"] = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    return model, tokenizer


def _compose(run: Run, maker: SampleMaker, folder: Path) -> dict[str, StoredSamples]:
    """Return the samples to learn from, by what they are of; composed, where they are not there from before a kill."""
    scenes = run.config.scenes
    folders = {name: folder / name for name in ("sounds", "streams")}
    if not all(path.is_dir() for path in folders.values()):
        wanted = seeds(TRAIN_SEEDS, run.config.seed, scenes.train_count)
        streams = compose_all(run.scenarios(), wanted, scenes.workers)
        with one_thread(), SampleWriter(folders["sounds"]) as sounds, SampleWriter(folders["streams"]) as whole:
            writers = {"sounds": sounds, "streams": whole}
            for done, scenario in enumerate(tqdm(streams, total=len(wanted), unit="stream"), 1):
                for name, made in _samples_of(scenario, maker).items():
                    for sample in made:
                        writers[name].add(sample)
                check_room(list(writers.values()), "scenes.train_count", done, len(wanted))
            if not len(sounds):
                raise ScenarioError(
                    f"{len(wanted)} streams of {scenes.min_chunks} to {scenes.max_chunks} chunks have no room for a"
                    " single sound in the foreground; set scenes.min_chunks higher"
                )
    return {name: StoredSamples(path) for name, path in folders.items()}


def _samples_of(scenario: Scenario, maker: SampleMaker) -> dict[str, list[StreamSample]]:
    stream = maker.stream(scenario)
    return {"sounds": maker.sounds(scenario, stream), "streams": [stream]}
