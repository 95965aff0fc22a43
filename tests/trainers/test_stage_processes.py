"""Two processes that learn supervised stages from half of every batch each end with the weights of one.

So they do where each of them holds half of every weight, and where they are killed in the middle of that.
"""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from tests.trainers.two_processes import PROCESSES, meet, run_processes
from trainers.config import ModelConfig
from trainers.run import one_thread
from trainers.stage_config import SOUNDS, FormatConfig, StreamingConfig, SupervisedRunConfig
from trainers.stage_trainer import StageTrainer
from trainers.stages import run_stages

# Adam moves a weight by about the learning rate, however small its gradient is: where that is low, other roundings
# stay below the tolerance, and a gradient that is missing or counted twice does not.
SHORT = {
    **{"data": SOUNDS, "streams": 3, "validation_streams": 1, "learning_rate": 1e-5},
    **{"steps": 3, "eval_every": 3, "save_every": 2},
}
CONFIG = SupervisedRunConfig(
    stages=("format", "streaming"),
    model=ModelConfig(hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64, encoder_channels=(4, 8, 8, 8)),
    workers=1,
    format=FormatConfig(**SHORT, trains=("projector", "new_tokens"), max_tokens_per_batch=130),
    streaming=StreamingConfig(**SHORT, naming_weight=0.5, response_weight=4.0, max_tokens_per_batch=900, accumulate=2),
)


def run_killed(folder: Path) -> None:
    """Run the stages until the last step of the second one, of which a checkpoint is there."""
    own = StageTrainer.compute_loss

    def dying(trainer: StageTrainer, *args: Any, **kwargs: Any) -> Any:
        if "streaming" in trainer.args.output_dir and trainer.state.global_step == 2:
            raise SystemExit
        return own(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "compute_loss", dying)
        with pytest.raises(SystemExit):
            run_stages(replace(CONFIG, fsdp=True), folder)


def work(process: int, folder: Path) -> None:
    """One process, with what torchrun would tell it."""
    ours, all_of_us = dict.fromkeys(("RANK", "LOCAL_RANK"), process), ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    os.environ |= {name: str(value) for name, value in {**ours, **dict.fromkeys(all_of_us, PROCESSES)}.items()}
    torch.set_num_threads(1)
    meet(process, folder)
    run_stages(CONFIG, folder / "two")
    run_stages(CONFIG, folder / "two")  # is complete, and all see it
    run_killed(folder / "sharded")
    assert process or list(folder.glob("sharded/checkpoints/streaming/step-00000002"))
    run_stages(replace(CONFIG, fsdp=True), folder / "sharded")  # goes on
    distributed.destroy_process_group()


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    """And the main one alone writes: what is there is what one process writes."""
    run_processes(work, tmp_path)
    with one_thread():
        run_stages(CONFIG, tmp_path / "one")
    start = load_file(tmp_path / "one" / "start" / "model.safetensors")
    for who, policy in product(("two", "sharded"), ("format/policy", "policy")):
        found, expected = (load_file(tmp_path / run / policy / "model.safetensors") for run in (who, "one"))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
        moved = max(float((value - start[name]).abs().max()) for name, value in expected.items())
        assert moved > 1e-5, "what is compared has to have been trained"

    def written(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)).partition(".tfevents.")[0] for path in folder.rglob("*"))

    assert written(tmp_path / "two") == written(tmp_path / "one")
