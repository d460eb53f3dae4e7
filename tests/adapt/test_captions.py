"""Captions: articles, and what fits a text encoder."""

import logging
from dataclasses import replace

import pytest

from adapt.clip import model as base_models
from adapt.clip.captions import article, class_prompts, fitted, fitting
from adapt.methods.ekda import EKDA
from adapt.methods.parts.teacher import _mean_features
from adapt.settings.layers import resolve
from runtime.errors import BaseModelError


@pytest.mark.parametrize(
    ("name", "said"),
    [("apple", "an"), ("cup", "a"), ("hour glass", "an"), ("unicorn", "a"), ("umbrella", "an"),
     ("euro coin", "a"), ("one-way sign", "a"), ("onion", "an"), ("European bison", "a"),
     ("uninhabited house", "an"), ("usb stick", "a"), ("", "a"), ("Ananas", "an"), ("8-ball", "an"),
     ("11 pins", "an"), ("1 euro", "a"), ("110 V plug", "a"), ("X-ray", "an"), ("T-shirt", "a")],
)  # fmt: skip
def test_names_take_the_article_that_english_gives_them(name, said):
    assert article(name) == said


def test_a_template_says_where_the_article_goes():
    classes = ("alarm_clock", "Cup")
    assert class_prompts(classes, "a photo of {a} {}.") == (
        "a photo of an alarm clock.",
        "a photo of a cup.",
    )
    assert class_prompts(classes, "a photo of a {}")[0] == "a photo of a alarm clock"


def test_a_prompt_that_is_too_long_gives_way_to_a_shorter_one_with_a_note(caplog):
    clip = base_models.load("demo-rn32", "demo")
    classes = ("apple", "sports equipment")
    long = "a very very long caption of a {domain} picture of {a} {}"
    with caplog.at_level(logging.WARNING, "adapt"):
        found = fitting(clip, classes, long, "art")
    assert (
        found == "a photo of {a} {}" and "too long for the text encoder of demo-rn32" in caplog.text
    )
    caplog.clear()
    assert fitting(clip, classes, "a photo of {a} {}", "art") == "a photo of {a} {}"
    assert not caplog.records
    wordy = ("apple", "one two three four five six seven eight nine ten")
    assert fitting(clip, wordy, long, "art") == "{}"
    too_long = (
        "class name 'word word .* demo-rn32, even with the prompt '{}'; shorten the class name"
    )
    with pytest.raises(BaseModelError, match=too_long):
        fitting(clip, ("apple", "word " * 30), long, "art")


def test_a_shorter_prompt_has_room_for_fewer_learned_words_and_says_so(caplog):
    clip, long = base_models.load("demo-vit32", "demo"), "a very very long caption of {a} {}"
    own = ["model=demo-vit32", "pretrained=demo", f"prompt={long}", "n_ctx=4"]
    config = resolve(EKDA.Config, "folder", "ekda", own).config
    found = fitted(clip, ("apple", "cup"), config, "art")  # whose six words fit into twelve tokens
    assert (found.prompt, found.n_ctx) == (long, 4)
    names = ("apple", "one two three four five")
    found = fitted(clip, names, config, "art")
    assert (found.prompt, found.n_ctx) == ("a photo of {a} {}", 4)
    names = ("apple", "one two three four five six seven")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "adapt"):
        found = fitted(clip, names, config, "art")
    assert (found.prompt, found.n_ctx) == ("{a} {}", 1)
    assert "has room for n_ctx=1 learned words instead of 4; shorter class names " in caplog.text
    caplog.clear()
    longest = replace(
        config, prompt="a very long caption that has no room for any name {}", n_ctx=6
    )
    with caplog.at_level(logging.WARNING, "adapt"):
        assert fitted(clip, ("apple", "cup"), longest, "art").n_ctx == 4
    assert "has room for n_ctx=4 learned words instead of 6; another, shorter" in caplog.text
    method = EKDA(clip, class_prompts(names, found.prompt), found)
    assert method.teacher.ctx.shape[-2] == 1 and len(method.prompts["0"]) == 1
    with pytest.raises(BaseModelError, match="even with the prompt '{a} {}'; shorten the class"):
        fitted(clip, ("apple", "one two three four five six seven eight nine ten"), config, "art")


def test_ekda_runs_with_articles_of_both_kinds():
    settings = resolve(EKDA.Config, "folder", "ekda", ["model=demo-vit32", "pretrained=demo"])
    clip = base_models.load("demo-vit32", "demo")
    prompts = class_prompts(("apple", "cup"), settings.config.prompt)
    method = EKDA(clip, prompts, settings.config)
    assert method.config.teacher == "demo-vit32-wide"


def test_a_name_that_is_too_long_for_the_80_captions_says_what_helps():
    clip, names = base_models.load("demo-vit32", "demo"), ("cup", "one two three four five six")
    with pytest.raises(BaseModelError, match="templates=imagenet .*pass --set templates=prompt"):
        _mean_features(clip, names)
