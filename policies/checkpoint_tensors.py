"""Which tensors a LALM has, and what is said of a checkpoint whose tensors do not fit."""

import re
from collections.abc import Iterable, Mapping, Sequence

import torch

from envs.errors import PolicyError
from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM

Shape = Sequence[int]
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def lalm_shapes(config: LALMConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the LALM of a configuration, by name; no memory is taken for them."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in LALM(config).state_dict().items()}


def check_tensors(expected: Mapping[str, Shape], found: Mapping[str, Shape], source: object) -> None:
    """Check that a checkpoint's tensors have the expected names and shapes.

    Args:
        expected: Shapes by name.
        found: Shapes by name.
        source: The checkpoint, for the message.

    Raises:
        PolicyError: as `refuse_tensors`.
    """
    refuse_tensors(
        source,
        missing=expected.keys() - found.keys(),
        unexpected=found.keys() - expected.keys(),
        misshapen={
            name: (found[name], expected[name])
            for name in expected.keys() & found.keys()
            if tuple(found[name]) != tuple(expected[name])
        },
    )


def refuse_tensors(
    source: object, missing: Iterable[str], unexpected: Iterable[str], misshapen: Mapping[str, tuple[Shape, Shape]]
) -> None:
    """Raise where any tensor is named, and name all of them; layers of a kind share one entry.

    Args:
        source: The checkpoint, for the message.
        missing: Names that the model has and the checkpoint lacks.
        unexpected: Names that the checkpoint has and the model lacks.
        misshapen: The shape found and the shape expected, by name.

    Raises:
        PolicyError: when there are any.
    """
    groups: dict[str, list[str]] = {}
    for name, (found, expected) in misshapen.items():
        groups.setdefault(f"{list(found)}, not {list(expected)}", []).append(name)
    shapes = [f"{entry} {shapes}" for shapes, names in groups.items() for entry in _by_layer(names)]
    wrong = {
        "missing": (missing := list(missing), _by_layer(missing)),
        "unexpected": (unexpected := list(unexpected), _by_layer(unexpected)),
        "of another shape": (list(misshapen), sorted(shapes)),
    }
    parts = [f"{len(names)} {how}: {', '.join(entries)}" for how, (names, entries) in wrong.items() if names]
    if parts:
        raise PolicyError(f"{source}: tensors do not fit: {'; '.join(parts)}")


def _by_layer(names: Iterable[str]) -> list[str]:
    """Return names, sorted; those that differ in the number of their layer alone as one, `layers.{0-2,7}.weight`."""
    layers: dict[tuple[str, str], list[int]] = {}
    entries = []
    for name in names:
        number = _LAYER.search(name)
        if number is None:
            entries.append(name)
        else:
            layers.setdefault((name[: number.start()], name[number.end() :]), []).append(int(number[0]))
    for (before, after), numbers in layers.items():
        shown = _ranges(sorted(numbers))
        entries.append(before + (shown if len(numbers) == 1 else f"{{{shown}}}") + after)
    return sorted(entries)


def _ranges(numbers: list[int]) -> str:
    """Return sorted numbers as text, runs of them as `first-last`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
