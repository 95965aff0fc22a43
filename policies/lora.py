"""Low-rank adapters on the language model, through the optional extra `lora` (peft)."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from envs.errors import PolicyError
from policies.modeling_lalm import LALM

_TARGETS = r"text_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
_ADAPTER = ".lora_"  # in the name of every parameter of an adapter


def add_lora(model: LALM, rank: int, *, alpha: float | None = None, dropout: float = 0.0) -> LALM:
    """Put adapters on the attention and MLP projections, in place; of the model only they have gradients then.

    `train_only` gives others theirs: the projector, and an untied head, where the control tokens begin as equal rows.

    Args:
        model: Computes the same as before until the adapters are trained.
        rank: Of the adapters.
        alpha: Their scale is `alpha / rank`; default: twice the rank.
        dropout: On their input.

    Raises:
        PolicyError: when peft is not installed, or the rank is below 1.
    """
    if rank < 1:
        raise PolicyError(f"the rank of adapters is {rank}, expected at least 1")
    peft = _peft()
    model.text_model.requires_grad_(False)
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank if alpha is None else alpha, lora_dropout=dropout, target_modules=_TARGETS
    )
    peft.inject_adapter_in_model(config, model)
    return model


def merge_lora(model: LALM) -> LALM:
    """Add trained adapters into the weights they stand beside, in place: the model can be saved as any other."""
    for name, layer in _adapted(model).items():
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config  # `save_pretrained` would write adapters
        model._hf_peft_config_loaded = False
    return model.requires_grad_(True)


@contextmanager
def adapters_off(model: LALM) -> Iterator[None]:
    """Let a model compute as it did before adapters were put on it, so long as the context lasts.

    Gradients are not touched: run it without.
    """
    layers = list(_adapted(model).values())
    for layer in layers:
        layer._disable_adapters = True  # `enable_adapters` would also decide who has gradients
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def has_lora(model: LALM) -> bool:
    """Return whether there are adapters on a model."""
    return any(_ADAPTER in name for name, _ in model.named_parameters())


def train_only(model: LALM, modules: Collection[str]) -> LALM:
    """Freeze all of a model but the named modules, in place; of a language model with adapters, all but the adapters.

    Args:
        model: With adapters or without.
        modules: Names of its modules, such as `projector`, `text_model` or `text_model.embed_tokens`.
    """
    adapted = has_lora(model)
    for name, parameter in model.named_parameters():  # a tied head is the language model's embedding
        named = any(name.startswith(f"{module}.") for module in modules)
        frozen_base = adapted and name.startswith("text_model.") and _ADAPTER not in name
        parameter.requires_grad_(named and not frozen_base)
    return model


def _adapted(model: LALM) -> dict[str, Any]:
    """Return the layers that have adapters, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _peft().tuners.lora.LoraLayer)}


def _peft() -> ModuleType:
    try:
        import peft  # noqa: PLC0415 - optional
    except ImportError as error:
        raise PolicyError("adapters need peft: install soundflow[lora]") from error
    return peft
