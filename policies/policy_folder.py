"""Policy folders: `config.json`, `model.safetensors`, the tokenizer and a model card; here, or on the hub.

Nothing in one is run: no pickle is written or read, and no code is loaded from it.
"""

import json
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from safetensors import safe_open

from envs.errors import PolicyError, first_line
from policies.checkpoint_tensors import check_tensors, lalm_shapes
from policies.configuration_lalm import FORMAT_VERSION, LALMConfig
from policies.model_card import unmeasured_card
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer

CARD = "README.md"
_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_FILES = (_CONFIG, _WEIGHTS, _TOKENIZER)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def write_policy(folder: Path, model: LALM, tokenizer: ReplyTokenizer, card: str | None = None) -> None:
    """Write the files of a policy aside, then move them into `folder`; one that was not there appears whole.

    Args:
        folder: Is made where it is not there, as is what it lies in; other files in it stay.
        model: The model.
        tokenizer: Its tokenizer.
        card: The model card, Markdown after YAML metadata; None: one that says that nothing was measured.

    Raises:
        PolicyError: when they cannot be written (a full disk, no permission), or the model has adapters that are not
            merged; no file in `folder` is half-written then.
    """
    if getattr(model, "peft_config", None):
        raise PolicyError(f"{folder}: the model has adapters beside its weights; call merge_lora(model) first")
    asked, folder = folder, folder.resolve()  # "." has no name to stand beside
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        model.save_pretrained(aside)
        tokenizer.hf.save_pretrained(aside)
        (aside / CARD).write_text(unmeasured_card(model.config) if card is None else card, encoding="utf-8")
        mode = (aside / CARD).stat().st_mode  # as the user's umask has it; weights come readable by their owner alone
        for file in sorted(aside.iterdir()):
            file.chmod(mode)
        if not folder.exists():
            aside.replace(folder)
            return
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    except Exception as error:  # safetensors and tokenizers have errors of their own, of no special kind
        said = str(error).replace(str(aside), str(asked))  # which is gone before anybody reads this
        raise PolicyError(first_line(f"{asked}: the policy cannot be written: {said}")) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_policy(folder: Path) -> tuple[LALM, ReplyTokenizer, str | None]:
    """Read a policy folder: the model, its tokenizer, and the model card where there is one.

    Raises:
        PolicyError: when it is no policy folder, is incomplete or spoilt, is of another version, or its tensors do
            not fit its configuration: all of them are named.
    """
    config = check_policy(folder)
    try:
        model = LALM.from_pretrained(folder, config=config, use_safetensors=True)
        card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else None
    except Exception as error:  # of no common kind
        raise PolicyError(first_line(f"{folder}: the policy cannot be read: {error}")) from error
    return model, _read_tokenizer(folder, model), card


def check_policy(folder: Path) -> LALMConfig:
    """Return the configuration of a policy folder whose files are there and fit each other; no weights are read.

    Raises:
        PolicyError: as `read_policy`, but for what only reading weights and tokenizer shows.
    """
    if not folder.is_dir():
        raise PolicyError(f"{folder}: no such policy folder; train one with `soundflow quickstart`")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise PolicyError(f"{folder}: not a policy folder, it has no {', '.join(missing)}")
    config = _read_config(folder)
    _check_weights(folder / _WEIGHTS, config)
    return config


def find_policy(source: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a policy: the one named, or what the hub has under that id, brought here.

    Args:
        source: A folder; a string may also be an id of the hub, "name/policy". An existing folder comes first, and a
            `Path` is never looked for on the hub.
        revision: Branch, tag or commit on the hub.

    Raises:
        PolicyError: when there is neither.
    """
    folder = Path(source)
    if folder.is_dir() or not isinstance(source, str):
        return folder
    if not _HUB_ID.fullmatch(source):
        raise PolicyError(
            f"{source}: no such policy folder, and no id of the hub, which is like 'name/policy'; train one with"
            " `soundflow quickstart`"
        )
    try:  # these files and no others: what else is there is none of ours, and may be a pickle
        return Path(snapshot_download(source, revision=revision, allow_patterns=[*_FILES, "*_config.json", CARD]))
    except Exception as error:  # of the hub, the network and the disk: of no common kind
        raise PolicyError(
            first_line(f"{source}: no such policy folder here, and the hub cannot give one of that id: {error}")
        ) from error


def push_policy(
    model: LALM,
    tokenizer: ReplyTokenizer,
    card: str | None,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> str:
    """Upload a policy folder to the hub, all of its files in one commit; return the commit's address.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        card: As in `write_policy`.
        repo_id: "name/policy"; it is made where it is not there.
        private: Whether a repository that is made is private; None: as its owner's default.
        token: Of the hub; None: the one of `hf auth login` or of the variable HF_TOKEN.
        revision: The branch to commit to; None: main.

    Raises:
        PolicyError: when the folder cannot be written, or the hub refuses or cannot be reached; no file of the policy
            is in the repository then.
    """
    with TemporaryDirectory(prefix="soundflow-") as aside:
        folder = Path(aside) / "policy"
        write_policy(folder, model, tokenizer, card)
        files = [CommitOperationAdd(file.name, str(file)) for file in sorted(folder.iterdir())]
        api = HfApi(token=token)
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return str(
                api.create_commit(name, files, commit_message="Upload a SoundFlow policy", revision=revision).commit_url
            )
        except Exception as error:  # of the hub, the network and the token's store: of no common kind
            raise PolicyError(first_line(f"{repo_id}: the policy cannot be uploaded: {error}")) from error


def _read_config(folder: Path) -> LALMConfig:
    """Read `config.json`; what it is of is asked before anything of it is used.

    Raises:
        PolicyError: when it is no SoundFlow policy's, or of another version.
    """
    path = folder / _CONFIG
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(first_line(f"{path}: cannot be read: {error}")) from error
    if not isinstance(document, dict):
        raise PolicyError(f"{path}: holds a {type(document).__name__}, expected an object")
    kind, version = document.get("model_type"), document.get("format_version")
    if kind != LALMConfig.model_type:
        raise PolicyError(
            f"{path}: not a SoundFlow policy (model_type is {kind!r}, expected {LALMConfig.model_type!r}); checkpoints"
            " of others are converted by `soundflow convert` and `policies.conversion`"
        )
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "a newer release wrote it: upgrade SoundFlow" if newer else "train or convert it again"
        raise PolicyError(f"{path}: format version {version!r}, this release reads {FORMAT_VERSION}; {remedy}")
    try:
        return LALMConfig.from_dict(document)
    except Exception as error:  # of no common kind
        raise PolicyError(first_line(f"{path}: cannot be read: {error}")) from error


def _check_weights(path: Path, config: LALMConfig) -> None:
    """Compare the tensors that a file announces with those of a configuration.

    Raises:
        PolicyError: when the file is no safetensors, the configuration describes no model, or they do not fit.
    """
    try:
        expected = lalm_shapes(config)
    except PolicyError as error:  # an unknown backbone
        raise PolicyError(f"{path.with_name(_CONFIG)}: {error}") from error
    except Exception as error:  # what a wrong number or a missing key leads to is of no common kind
        message = f"{path.with_name(_CONFIG)}: describes no model: {type(error).__name__}: {error}"
        raise PolicyError(first_line(message)) from error
    try:
        with safe_open(path, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors' own, and the disk's
        raise PolicyError(first_line(f"{path}: cannot be read: {error}")) from error
    tied = LALM._tied_weights_keys if getattr(config, "tie_word_embeddings", False) else {}
    check_tensors({n: shape for n, shape in expected.items() if n in found or n not in tied}, found, path)


def _read_tokenizer(folder: Path, model: LALM) -> ReplyTokenizer:
    """Read the tokenizer of a policy folder.

    Raises:
        PolicyError: when it is none, or not the one that the model was trained with.
    """
    layout, path = model.layout, folder / _TOKENIZER
    try:
        tokenizer = ReplyTokenizer.from_pretrained(folder)
        own = tokenizer.layout(
            audio_tokens_per_chunk=layout.audio_tokens_per_chunk,
            tokens_per_chunk=layout.tokens_per_chunk,
            window_chunks=layout.window_chunks,
            sink_chunks=layout.sink_chunks,
        )
    except Exception as error:  # tokenizers raises nothing more special
        raise PolicyError(first_line(f"{path}: cannot be read: {error}")) from error
    size = model.text_model.config.vocab_size
    if own != layout or tokenizer.vocab_size != size:
        raise PolicyError(
            f"{path}: {tokenizer.vocab_size} ids that do not fit the model's {size}; it belongs to another policy"
        )
    return tokenizer
