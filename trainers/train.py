"""The command `train`: a YAML says by its key `kind` what is trained, and a table by whom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError, did_you_mean
from trainers.clips import ClipFolder
from trainers.config_loading import load_config, read_value

Runner = Callable[[Any, Path, ClipFolder | None], None]  # (its configuration, out, clips)


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        config: The dataclass that its YAML fills; it has a field `kind`.
        run: Trains; what it writes lies under `out`.
    """

    config: type
    run: Runner


def _supervised() -> Kind:
    from trainers.stage_config import SupervisedRunConfig  # noqa: PLC0415 - heavy
    from trainers.stages import run_stages  # noqa: PLC0415 - heavy

    return Kind(SupervisedRunConfig, run_stages)


def _ppo() -> Kind:
    from trainers.reinforce import PPORunConfig, run_ppo  # noqa: PLC0415 - heavy

    return Kind(PPORunConfig, run_ppo)


def _gate() -> Kind:
    from trainers.gate_config import GateConfig  # noqa: PLC0415 - heavy
    from trainers.gate_training import run_gate  # noqa: PLC0415 - heavy

    return Kind(GateConfig, run_gate)


KINDS: dict[str, Callable[[], Kind]] = {
    "supervised": _supervised,
    "ppo": _ppo,
    "gate": _gate,
}


def read_config(path: Path, overrides: Sequence[str] = ()) -> tuple[Kind, Any]:
    """Read a configuration of `soundflow train`; return what it is a kind of, and the configuration.

    Raises:
        ConfigError: when it has no `kind`, one that is not known, or anything else is wrong with it.
    """
    name = read_value(path, "kind")
    if not isinstance(name, str) or name not in KINDS:
        found = "no key 'kind'" if name is None else f"kind is {name!r}"
        raise ConfigError(f"{path}: {found}, expected one of {', '.join(KINDS)}{_hint(name)}")
    kind = KINDS[name]()
    return kind, load_config(kind.config, path, overrides)


def train(path: Path, out: Path | None, clips: ClipFolder | None, overrides: Sequence[str] = ()) -> None:
    """Train what a configuration asks for.

    Args:
        path: A YAML file.
        out: Folder of the run; None: `runs/` and the file's name.
        clips: Recordings to train on beside built-in sounds.
        overrides: Dotted assignments, as `load_config` takes them.

    Raises:
        SoundFlowError: for input that cannot be used.
    """
    kind, config = read_config(path, overrides)
    kind.run(config, out or Path("runs") / path.stem, clips)


def _hint(name: Any) -> str:
    """Return what an unknown kind may have meant; blank where nothing is near."""
    hint = did_you_mean(str(name), KINDS)
    return hint if hint.startswith("; did") else ""
