"""The page itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erase.eval.pages.html import template

if TYPE_CHECKING:
    from erase.demo.show import Show


def page_of(show: Show) -> str:
    """The page as HTML."""
    sampler, jury = show.sampler, show.jury
    told = [
        ("Sampler", f"{sampler.name}, {sampler.steps} steps, guidance {sampler.guidance:g}"),
        ("Device", str(show.columns[0].model.device)),
        *((f"Judge by {axis}", judge.spec.partition("@")[0]) for axis, judge in jury.judges),
        *(("Judge by nudity", str(own.facts["detector"])) for own in jury.detectors),
    ]
    html: str = template("demo.html.j2").render(show=show, told_facts=told)
    return html
