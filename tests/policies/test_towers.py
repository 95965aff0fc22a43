"""What is said of the published models behind `qwen2-audio` and `voxtral`."""

import pytest
import torch
from transformers.models.llama import LlamaConfig, LlamaModel
from transformers.models.qwen2 import Qwen2Config, Qwen2Model
from transformers.models.qwen2_audio.configuration_qwen2_audio import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder
from transformers.models.voxtral.configuration_voxtral import VoxtralConfig
from transformers.models.voxtral.modeling_voxtral import VoxtralMultiModalProjector

from envs.errors import PolicyError
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import ROPE, TINY, TINY_TEXT, VOXTRAL_TOWER, tiny_model


def test_a_llama_is_a_qwen2_without_biases() -> None:
    """Of its own head size as well: Voxtral's is not the width over the number of heads."""
    torch.manual_seed(0)
    shape = {**TINY_TEXT, "vocab_size": 50, "head_dim": 12, "rope_parameters": ROPE}
    llama, ours = LlamaModel(LlamaConfig(**shape, rms_norm_eps=1e-6)).eval(), Qwen2Model(Qwen2Config(**shape)).eval()
    missing, unexpected = ours.load_state_dict(llama.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[-1] for name in missing} == {"bias"}
    for name in missing:
        torch.nn.init.zeros_(ours.get_parameter(name))
    ids = torch.randint(0, 50, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).last_hidden_state, llama(ids).last_hidden_state, atol=1e-5, rtol=0)


def test_voxtral_projects_four_states_at_once(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer, backbone="voxtral")
    text = {"model_type": "llama", "vocab_size": 50, **TINY_TEXT}
    audio = {"model_type": "voxtral_encoder", **VOXTRAL_TOWER, "intermediate_size": 4 * VOXTRAL_TOWER["hidden_size"]}
    theirs = VoxtralMultiModalProjector(VoxtralConfig(text_config=text, audio_config=audio))
    theirs.linear_1.weight, theirs.linear_2.weight = model.projector[0].weight, model.projector[2].weight
    features = torch.randn(3, 40, 128)
    with torch.no_grad():
        states = model.encoder.tower(features.transpose(1, 2)).last_hidden_state  # [3, 20, 24]
        expected = theirs(states.reshape(3, 5, -1))
        torch.testing.assert_close(model.encode(features), expected)


def test_a_published_tower_fits_but_for_its_table_of_positions(tokenizer: ReplyTokenizer) -> None:
    ours = tiny_model(tokenizer, backbone="qwen2-audio").encoder.tower.state_dict()
    shape = {"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    theirs = Qwen2AudioEncoder(Qwen2AudioEncoderConfig(**shape)).state_dict()
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name].shape != theirs[name].shape} == {"embed_positions.weight"}


@pytest.mark.parametrize("backbone", ["qwen2-audio", "voxtral"])
def test_what_does_not_fit_a_tower_is_refused(tokenizer: ReplyTokenizer, backbone: str) -> None:
    config = TINY[backbone](tokenizer, 64)
    with pytest.raises(PolicyError, match="num_mel_bins 80, expected 128"):
        LALM(type(config)(**{**config.to_dict(), "audio_config": {**config.audio_config, "num_mel_bins": 80}}))
    with pytest.raises(PolicyError, match="audio_tokens_per_chunk is 2, the audio tower makes"):
        LALM(type(config)(**{**config.to_dict(), "layout": {**config.layout, "audio_tokens_per_chunk": 2}}))
