"""What tells two diffusion models apart: weights and configurations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from erase.formats.layouts import part_of
from erase.runtime.files import digest

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


_NO_EFFECT = frozenset(
    "transformers_version architectures dtype torch_dtype torchscript use_bfloat16 pruned_heads "
    "tie_word_embeddings is_decoder cross_attention_hidden_size add_cross_attention "
    "tie_encoder_decoder finetuning_task task_specific_params tokenizer_class prefix sep_token_id "
    "decoder_start_token_id max_length min_length do_sample early_stopping num_beams "
    "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty "
    "length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids "
    "num_return_sequences output_scores return_dict_in_generate forced_bos_token_id "
    "forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens "
    "begin_suppress_tokens tf_legacy_loss".split()
)
"""Entries of a configuration that say where a model comes from, or that some versions of
transformers add to every model's."""


def model_fingerprint(diffusion: Diffusion) -> dict[str, str]:
    """Hashes of the networks' weights, whatever files they came from, and of the rest.

    ``settings`` covers what else decides the images: configurations, the noise schedule, and what
    prompts are read by.
    """
    from erase.runtime.fingerprint import fingerprint_state

    own = diffusion.family.layout.denoiser
    networks: dict[str, Any] = {
        "denoiser" if n == own else n: net for n, net in diffusion.networks.items()
    }
    texts = [net.config.to_dict() for n, net in networks.items() if part_of(n) == "text_encoder"]
    others = [net.config for n, net in networks.items() if part_of(n) == "denoiser"]
    configs = [*others, diffusion.pipeline.scheduler.config, *texts]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    read = diffusion.reader.facts()
    settings = digest(json.loads(json.dumps([told, *read], default=str)))
    return {n: fingerprint_state(_state(n, net)) for n, net in networks.items()} | {
        "settings": settings
    }


def _state(name: str, network: Any) -> dict[str, Any]:
    """A network's weights; a text encoder's without the prefix that some versions put before."""
    prefix = "text_model." if part_of(name) == "text_encoder" else ""
    return {n.removeprefix(prefix): p for n, p in network.named_parameters()}
