"""``erase export``: a model, or what its erasure changed, in another format."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import Parser
from erase.runs.folder import base_of
from erase.runtime.errors import UserError

ABOUT = "convert: folder <-> single file, or what an erasure changed as a LoRA, LyCORIS or delta"


def parser(exporting: bool) -> ArgumentParser:
    """The flags of ``erase export``.

    Args:
        exporting: whether the flags of formats are wanted, which importing them takes.
    """
    made = Parser(ABOUT, "erase export SOURCE TARGET [options]")
    add = made.add_argument
    add("source", type=str, help="a run, a diffusers folder, or a file of any format")
    add("target", type=str, help="a .safetensors file, or a folder to unpack a file into")
    add(
        "--dtype",
        choices=("keep", "fp16", "bf16", "fp32"),
        default="keep",
        help="number format of the weights (default: keep, each as it is)",
    )
    if exporting:
        from erase.formats import targets

        every = {form.KIND: form.HELP for form in targets()}
        told = "; ".join(f"{kind}: {text}" for kind, text in every.items())
        add(
            "--format",
            choices=tuple(every),
            help=f"format to write or unpack. {told} (default: a whole model, in "
            "the format that the target's name says)",
        )
        add("--delta", action="store_true", help="the same as --format delta")
        for form in targets():
            for name, field in _options(form).items():
                text = f"{field.metadata['help']} (default: {field.default})"
                kind = get_type_hints(form.Options)[name]  # type: ignore[attr-defined]
                add(f"--{name}", type=kind, help=text)
    add(
        "--base",
        type=str,
        help="model that the erased one was made from, for a LoRA, LyCORIS or delta (default: the "
        "run's own), or to count the edits that survive --dtype",
    )
    add("--overwrite", action="store_true", help="replace an existing target")
    return made


def run_export(chosen: Namespace) -> None:
    """Does what a parsed ``erase export`` asks for."""
    from erase.formats import targets
    from erase.formats.export import export

    if chosen.delta and chosen.format not in (None, "delta"):
        raise UserError(f"--delta and --format {chosen.format} can't be combined: give one.")
    named = {name for form in targets() for name in _options(form)}
    print(
        export(
            chosen.source,
            chosen.target,
            kind="delta" if chosen.delta else chosen.format,
            dtype=chosen.dtype,
            base=chosen.base,
            origin=base_of(chosen.source),
            options={name: chosen[name] for name in named if chosen[name] is not None},
            overwrite=chosen.overwrite,
        )
    )


def _options(form: object) -> dict[str, Field[Any]]:
    """A format's own options, by name."""
    stated = getattr(form, "Options", None)
    return {field.name: field for field in fields(stated)} if stated else {}
