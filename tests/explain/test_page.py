"""The page holds the account, fetches nothing, and trusts no text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgedistill.explain import explain, open_input
from edgedistill.explain.page import render
from edgedistill.report import format as wording

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def account(run, recipe):
    return explain(open_input(run, 2, recipe=recipe), "occlusion", lambda *_: None)


def test_page_holds_figure_and_windows(account):
    """Both models with their strongest windows, as many as asked for."""
    page = render(account, 3)

    assert page.count("<svg") == 1
    assert page.count('<tr><th scope="row">') == 6
    for told in account.attributions:
        strongest = account.windows(told, 1)[0]
        assert wording.decimals(float(told.scores[strongest])) in page
        assert f"{told.role.capitalize()}: " in page
    assert render(account, 3) == page


def test_page_fetches_nothing(account):
    """No script, no link, no picture from elsewhere."""
    page = render(account, 3)

    assert not re.search(r"<script|<link|<img|https?://", page)


def test_names_are_text(account):
    """A class may be called anything."""
    subject = replace(account.input, class_names=(EVIL, EVIL), label=EVIL, origin=EVIL)

    page = render(replace(account, input=subject), 3)

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_gradients_have_no_kl(run, recipe):
    """Neither a column nor an explanation of it."""
    subject = open_input(run, 2, recipe=recipe)

    page = render(explain(subject, "gradient-input", lambda *_: None), 3)

    assert "KL" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
