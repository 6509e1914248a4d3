"""Prompts are encoded once per pipeline, and again when the weights that encode them change."""

import pytest
import torch
from tiny_models import WORDS, tiny_clip, tiny_model

from sgxl_t.conditioning import TextCondition
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.prompt_cache import PromptCache

FOX, CAR = "a red fox", "a blue car in snow"


@pytest.fixture
def learned():
    """A generator with an encoder of its own, whose answers the condition does not keep itself."""
    clip = tiny_clip()
    condition = TextCondition(clip, own=clip, tokens=True)
    return build_generator("sgxl-tiny-16", condition.spec, seed=1).eval(), condition


def counted(condition, monkeypatch):
    """Prompts that the encoder is asked for from now on."""
    asked, keep = [], condition.own.encode_with_tokens
    monkeypatch.setattr(condition.own, "encode_with_tokens", lambda texts: asked.extend(texts) or keep(texts))
    return asked


def test_a_prompt_is_encoded_once_for_all_calls(learned, monkeypatch):
    asked = counted(learned[1], monkeypatch)
    pipe = Pipeline(*learned)
    pipe([FOX, CAR, FOX], seeds=range(3), batch_size=2)
    pipe.optimize()
    pipe(FOX, seed=5, psi=0.5)
    assert asked == [FOX, CAR]


def test_the_answers_are_those_of_the_condition(learned):
    generator, condition = learned
    prompts = PromptCache(condition, generator)
    prompts.encode([CAR])
    for asked in ([FOX, CAR, FOX], [CAR]):
        vectors, tokens, *_ = condition.encode(asked)
        torch.testing.assert_close(prompts.encode(asked).c, vectors)
        torch.testing.assert_close(prompts.encode(asked).tokens.values, tokens.values)
        assert torch.equal(prompts.encode(asked).tokens.mask, tokens.mask)
        torch.testing.assert_close(prompts.centers(asked), generator.mapping.center(vectors))


def test_rows_of_different_lengths_are_filled_up(learned, monkeypatch):
    generator, condition = learned
    prompts, keep = PromptCache(condition, generator), condition.own.encode_with_tokens

    def longest(texts):
        """As encoders that pad to the longest caption of a batch."""
        vectors, tokens = keep(texts)
        length = int(tokens.mask.sum(1).max())
        return vectors, type(tokens)(tokens.values[:, :length], tokens.mask[:, :length])

    monkeypatch.setattr(condition.own, "encode_with_tokens", longest)
    prompts.encode([FOX])
    tokens = prompts.encode([FOX, CAR]).tokens
    _, whole = longest([FOX, CAR])
    assert torch.equal(tokens.mask, whole.mask)
    torch.testing.assert_close(tokens.values[tokens.mask], whole.values[whole.mask])


def test_the_centre_of_a_prompt_is_computed_once(monkeypatch):
    generator, condition = tiny_model("text", "sgxl-tiny-16")
    pipe, made, keep = Pipeline(generator, condition), [], generator.mapping._text_center
    monkeypatch.setattr(generator.mapping, "_text_center", lambda c: made.append(len(c)) or keep(c))
    pipe([FOX, CAR], seeds=range(4), psi=0.5)
    pipe(FOX, seed=9, psi=0.3)
    pipe(FOX, seed=9)
    assert made == [1, 1]


def test_changed_weights_read_the_prompt_again(learned, monkeypatch):
    generator, condition = learned
    prompts, asked = PromptCache(condition, generator), counted(condition, monkeypatch)
    before, center = prompts.encode([FOX]).c, prompts.centers([FOX])
    with torch.no_grad():
        for parameter in condition.own.text_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert (prompts.encode([FOX]).c != before).any()
    with torch.no_grad():
        generator.mapping.get_submodule("fc0").weight.mul_(2)
    assert (prompts.centers([FOX]) != center).any()
    assert asked == [FOX] * 3


def test_no_more_is_kept_than_the_limit_and_the_last_used_stays(learned, monkeypatch):
    generator, condition = learned
    one = PromptCache(condition, generator)
    one.encode([FOX])
    prompts = PromptCache(condition, generator, limit=2 * next(iter(one._cached.values())).size)
    asked = counted(condition, monkeypatch)
    prompts.encode(WORDS[:4])
    assert len(prompts) == 2
    prompts.encode([WORDS[2]])
    prompts.encode([WORDS[0]])
    asked.clear()
    prompts.encode([WORDS[2], WORDS[0], WORDS[3]])
    assert asked == [WORDS[3]]
