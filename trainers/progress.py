"""One progress bar for everything that Hugging Face's and TRL's trainers run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState


class ProgressBar(TrainerCallback):
    """Shows steps done, with the latest value of one logged number."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.bar: tqdm[Any] | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar; of several processes, the main one."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, unit="step")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move it."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Show the number, where it was logged."""
        if self.bar is not None and logs and self.shown in logs:
            self.bar.set_postfix_str(f"{self.shown.replace('/', ' ')} {logs[self.shown]:.3f}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it, where it is open: what is printed next begins a line."""
        if self.bar is not None:
            self.bar.close()


@contextmanager
def progress(trainer: Trainer, shown: str) -> Iterator[None]:
    """Replace a trainer's printed dictionaries by a bar that shows the logged number `shown`, while it trains."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    bar = ProgressBar(shown)
    trainer.add_callback(bar)
    try:
        yield
    finally:
        bar.close()
