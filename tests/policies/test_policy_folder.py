"""Policy folders: what is in them, what is refused and why, and the way to the hub and back."""

import json
import resource
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, ModelCard, RepoUrl
from safetensors.torch import load_file, save_file

from envs.errors import PolicyError
from policies.lalm_policy import LALMPolicy
from policies.lora import add_lora
from policies.modeling_lalm import LALM
from policies.policy_folder import find_policy, write_policy
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model, tiny_omni

FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def folder(tokenizer: ReplyTokenizer, tmp_path: Path) -> Path:
    write_policy(tmp_path / "policy", tiny_model(tokenizer), tokenizer)
    return tmp_path / "policy"


def refusal(folder: Path) -> str:
    """Return the one line that a folder is refused with."""
    with pytest.raises(PolicyError) as error:
        LALMPolicy.from_pretrained(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_holds_what_the_hub_expects_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert load_file(folder / "model.safetensors")
    for name in set(FILES) - {"model.safetensors"}:
        assert (folder / name).read_text(encoding="utf-8")


def test_the_card_goes_where_the_policy_goes(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """Loaded and saved again, it is the same; who gives another one replaces it; without one, a folder loads."""
    LALMPolicy(tiny_model(tokenizer), tokenizer).save_pretrained(
        tmp_path / "a", card="---\nlicense: mit\n---\n# Mine\n"
    )
    policy = LALMPolicy.from_pretrained(str(tmp_path / "a"))
    policy.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "README.md").read_text() == (tmp_path / "a" / "README.md").read_text()
    policy.save_pretrained(tmp_path / "b", card="# Trained on\n")
    assert LALMPolicy.from_pretrained(tmp_path / "b").card == "# Trained on\n"
    (tmp_path / "b" / "README.md").unlink()
    bare = LALMPolicy.from_pretrained(tmp_path / "b")
    assert bare.card is None
    write_policy(tmp_path / "a", bare.model, bare.tokenizer)
    card = (tmp_path / "a" / "README.md").read_text()
    assert "Mine" not in card, "the card of another policy must not stay"
    assert "Nothing was measured" in card


def test_a_folder_of_another_version_is_refused_with_the_reason(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    for version, reason in (
        (99, "99, this release reads 1; a newer release wrote it: upgrade"),
        (0, "0, this release"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, "format_version": version}))
        assert f"config.json: format version {reason}" in refusal(folder)
    del config["format_version"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "format version None" in refusal(folder)


def test_a_configuration_of_something_else_is_refused_with_the_reason(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    layout = {key: value for key, value in config["layout"].items() if key != "pad"}
    for change, reason in (
        ({"model_type": "qwen2"}, "not a SoundFlow policy (model_type is 'qwen2', expected 'soundflow_lalm')"),
        ({"layout": layout}, "describes no model: TypeError"),
        ({"text_config": {**config["text_config"], "num_attention_heads": 0}}, "describes no model: "),
        ({"backbone": "compakt"}, "did you mean 'compact'?"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        assert reason in refusal(folder)
        assert str(folder / "config.json") in refusal(folder)
    for text in ("[1]", "{", ""):
        (folder / "config.json").write_text(text)
        assert str(folder / "config.json") in refusal(folder)


def test_all_tensors_that_do_not_fit_are_named_at_once(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["projector.0.bias"]
    for n in range(2):
        del tensors[f"text_model.layers.{n}.self_attn.q_proj.bias"]
        tensors[f"text_model.layers.{n}.mlp.up_proj.weight"] = torch.zeros(3, 4)
    tensors["decision_head.weight"] = torch.zeros(2, 32)
    tensors["talker.weight"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert refusal(folder) == (
        f"{folder}/model.safetensors: tensors do not fit:"
        " 3 missing: projector.0.bias, text_model.layers.{0-1}.self_attn.q_proj.bias;"
        " 1 unexpected: talker.weight;"
        " 3 of another shape: decision_head.weight [2, 32], not [1, 32],"
        " text_model.layers.{0-1}.mlp.up_proj.weight [3, 4], not [64, 32]"
    )


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "it has no model.safetensors" in refusal(folder)


def test_adapters_that_are_not_merged_are_not_lost_in_silence(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"call merge_lora\(model\) first"):
        write_policy(tmp_path / "policy", add_lora(tiny_model(tokenizer), 2), tokenizer)
    assert not list(tmp_path.iterdir())


def test_what_is_uploaded_is_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, sent = {}, {}

    def create_repo(_: HfApi, repo_id: str, **options: object) -> RepoUrl:
        asked.update(options, repo_id=repo_id)
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_commit(_: HfApi, repo_id: str, operations: list[CommitOperationAdd], **__: object) -> CommitInfo:
        for operation in operations:
            with operation.as_file() as file:
                sent[operation.path_in_repo] = file.read()
        return CommitInfo(f"https://huggingface.co/{repo_id}/commit/1", "Upload", "", "1")

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    address = LALMPolicy.from_pretrained(folder).push_to_hub("me/doorbell", private=True)
    assert address == "https://huggingface.co/me/doorbell/commit/1"
    assert (asked["repo_id"], asked["private"], asked["exist_ok"]) == ("me/doorbell", True, True)
    assert sent == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(sent) == FILES


@pytest.mark.parametrize("fails", ["create_repo", "create_commit"])
def test_what_the_hub_says_is_one_policy_error(
    fails: str, tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("401 Client Error.\n\nInvalid username or password.")

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: RepoUrl("https://huggingface.co/me/doorbell"))
    monkeypatch.setattr(HfApi, fails, refuse)
    with pytest.raises(PolicyError, match=r"me/doorbell: the policy cannot be uploaded: 401 Client Error\.$"):
        LALMPolicy(tiny_model(tokenizer), tokenizer).push_to_hub("me/doorbell")


def test_an_id_of_the_hub_is_fetched_and_a_folder_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision))
        assert "model.safetensors" in allow_patterns
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".bin", ".py", "*"))]
        return str(folder)

    monkeypatch.setattr("policies.policy_folder.snapshot_download", fetch)
    assert len(LALMPolicy.from_pretrained("me/doorbell", 2, revision="v1").sessions) == 2
    assert asked == [("me/doorbell", "v1")]
    monkeypatch.chdir(folder.parent)
    (folder.parent / "me").mkdir()
    folder.rename(folder.parent / "me" / "doorbell")
    LALMPolicy.from_pretrained("me/doorbell")
    assert len(asked) == 1


def test_what_is_neither_a_folder_nor_on_the_hub_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise ConnectionError("Cannot reach https://huggingface.co.\nYou are offline.")

    monkeypatch.setattr("policies.policy_folder.snapshot_download", fetch)
    with pytest.raises(PolicyError, match=r"the hub cannot give one of that id: Cannot reach \S+$"):
        LALMPolicy.from_pretrained("me/doorbell")
    for name in ("nowhere", "runs/mine/policy"):
        with pytest.raises(PolicyError, match=f"{name}: no such policy folder, and no id of the hub"):
            LALMPolicy.from_pretrained(name)
    with pytest.raises(PolicyError, match="me/doorbell: no such policy folder; train one"):
        LALMPolicy.from_pretrained(Path("me/doorbell"))
    assert find_policy(Path("me/doorbell")) == Path("me/doorbell")


def test_the_card_of_a_policy_that_nobody_measured_says_so(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name, card.data.eval_results) == ("unknown", "soundflow", None)


def test_a_policy_that_cannot_be_written_leaves_the_one_before(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """A file may grow to 64 kB and no further, as on a disk that fills up."""
    model, folder = tiny_model(tokenizer), tmp_path / "policy"
    write_policy(folder, model, tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model.decision_head.bias.data.fill_(7.0)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, unlimited[1]))
    try:
        with pytest.raises(PolicyError, match="policy: the policy cannot be written") as error:
            write_policy(folder, model, tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "\n" not in str(error.value)
    assert ".policy" not in str(error.value), "the file aside is nobody's path"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_tokenizer_of_another_policy_is_refused(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """It would load, and every word would be another one."""
    folder, other = tmp_path / "policy", train_tokenizer([*REPLIES, "Something else."], 280)
    write_policy(folder, tiny_model(tokenizer), tokenizer)
    other.hf.save_pretrained(folder)
    with pytest.raises(PolicyError, match="belongs to another policy"):
        LALMPolicy.from_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(PolicyError, match=r"tokenizer\.json: cannot be read") as error:
        LALMPolicy.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_policy_folder_is_refused_in_one_line(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy folder"):
        LALMPolicy.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match=r"it has no config\.json"):
        LALMPolicy.from_pretrained(tmp_path)
    folder = tmp_path / "policy"
    write_policy(folder, tiny_model(tokenizer), tokenizer)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(PolicyError, match="format version 99"):
        LALMPolicy.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(PolicyError, match="cannot be read") as error:
        LALMPolicy.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_head_that_is_the_embedding_need_not_be_in_the_file(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """Where the two are tied, one is written; where they are not, a missing head is an error."""
    config = tiny_omni(tokenizer, 64)
    config.tie_word_embeddings = True
    model = LALM(config)
    write_policy(tmp_path / "policy", model, tokenizer)
    assert "lm_head.weight" not in load_file(tmp_path / "policy" / "model.safetensors")
    loaded = LALMPolicy.from_pretrained(tmp_path / "policy", device="cpu").model
    assert torch.equal(loaded.lm_head.weight, model.text_model.embed_tokens.weight)
    document = json.loads((tmp_path / "policy" / "config.json").read_text())
    document["tie_word_embeddings"] = False
    (tmp_path / "policy" / "config.json").write_text(json.dumps(document))
    assert "1 missing: lm_head.weight" in refusal(tmp_path / "policy")
