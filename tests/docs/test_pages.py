"""The pages: what they repeat is what is measured, they link to what is there, and they build."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import erase
from erase.cli.listing import CATALOGUE
from tests.docs.pages import DOCS, PAGES, ROOT, fenced


def rows(page: str, after: str = "") -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell, the first of each name after some words."""
    found: dict[str, list[str]] = {}
    text = PAGES[page].read_text(encoding="utf-8")
    for line in text[text.index(after) :].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|"):
            found.setdefault(cells[0], cells[1:])
    return found


SHARES = ("UA %", "IRA %", "CRA %", "FID[mini]")


def measured() -> dict[str, dict[str, str]]:
    """The table of ten objects: by recipe, its cells by column."""
    lines = PAGES["results.md"].read_text(encoding="utf-8").splitlines()
    [first] = [i for i, line in enumerate(lines) if "| seconds with images |" in line]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:][:15]]
    return {cells[0]: dict(zip(table[0], cells, strict=True)) for cells in table[2:]}


def attacked(recipe: str) -> list[str]:
    """The best of the attacks that need a prompt alone, and ten steps of relearning."""
    every = rows("results.md", "## What attacks bring back")
    own = every.get("ceiling: the base" if recipe == "base model" else recipe)
    if own is None:
        return ["–", "–"]
    told = dict(zip(every["recipe"], own, strict=True))
    prompts = ("prefix", "ring-a-bell", "paraphrase", "words")
    return [max((told[name] for name in prompts), key=int), told["10"]]


def test_the_decision_table_repeats_the_results() -> None:
    told = {k: v for k, v in rows("choosing.md").items() if k in measured()}
    assert len(told) == 8
    for recipe, cells in told.items():
        plain = {column: cell.partition(" (")[0] for column, cell in measured()[recipe].items()}
        wanted = [plain[column] for column in SHARES]
        wanted += [*attacked(recipe), plain["seconds with images"], plain["weights moved %"]]
        assert cells == wanted, recipe


def test_the_readme_is_short_and_repeats_the_results() -> None:
    text = PAGES["README.md"].read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    told = {k: v for k, v in rows("README.md").items() if k in measured()}
    assert {"base model", "salun-mini", "uce-mini", "esd-u-mini", "esd-x-mini"} == told.keys()
    for recipe, cells in told.items():
        assert cells == [measured()[recipe][c] for c in SHARES], recipe
    seconds = (measured()[recipe]["seconds with images"] for recipe in ("uce-mini", "salun-mini"))
    assert "UCE takes {} s, SalUn {} s.".format(*seconds) in text
    stages = json.loads((ROOT / "benchmarks/measured/saliency-cpu.json").read_text())["stages"]
    spent = sum(stages[stage]["seconds"] for stage in ("saliency", "mask", "masked step"))
    assert f"| {spent:.0f} s | {stages['masked step']['peak_gb']:.1f} GB |" in text


@pytest.mark.parametrize("page", ["README.md", "classifiers.md"])
def test_the_gaps_of_classifiers_are_the_results(page: str) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    for recipe in ("salun-unseen", "salun"):
        gap, interval = rows("results.md", "A random tenth:")[recipe][4].rstrip(")").split(" (")
        assert re.search(rf"\b{gap}\b[^()]*\({interval}", text), recipe


def test_every_public_name_is_shown_and_documented() -> None:
    code = "\n".join(fenced(PAGES["python.md"], "python"))
    reference = "\n".join(fenced(PAGES["python.md"], r"\{eval-rst\}"))
    for name in erase.__all__:
        assert f"erase.{name}" in code, name
        assert re.search(rf"^\.\. auto\w+:: erase\.{name}$", reference, re.MULTILINE), name


def test_every_method_and_command_has_a_page() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import generated
    finally:
        sys.path.remove(str(DOCS))
    methods = generated.method_pages()
    assert [*methods] == [row[0] for row in CATALOGUE["methods"]()[1]]
    # The equation stands as in the docstring, and markup that nobody meant is not there.
    assert "```text\nL(θ) = MSE(ε_θ(x_t|c), sg[ε_θ(x_t|c')])" in methods["salun"]
    assert "[arXiv 2310.12508](https://arxiv.org/abs/2310.12508)" in methods["salun"]
    assert "| `--alpha` | 0.5 | weight of the retain loss (>= 0) |" in methods["salun"]
    assert "erase compare --recipes sld-mini" in methods["sld"]
    commands = generated.command_pages()
    assert {"run", "export", "classifier-run", "list"} <= commands.keys()
    assert "```{option} --format {delta,diffusers,lora,lycoris,single}" in commands["export"]
    assert "{option} --alpha" in commands["run"] and "{option} --alpha" not in commands["tune"]
    assert "20\N{NO-BREAK SPACE}% of" in commands["run"] and "%%" not in commands["run"]


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    text = re.sub(r"[`*]|\]\([^)]*\)|\[(?=[^]]*\])", "", heading.lower())
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def test_links_lead_somewhere_in_the_clone() -> None:
    dead = []
    for page in (*PAGES.values(), ROOT / "CONTRIBUTING.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, fragment = link.partition("#")
            if re.match(r"https?:", link):
                continue
            target = (page.parent / file).resolve() if file else page
            if not target.exists():
                dead.append(f"{page.name}: {link}")
            elif fragment:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                if fragment not in map(anchor, headings):
                    dead.append(f"{page.name}: {link}")
    assert not dead, dead


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d"]
    done = subprocess.run(
        [*command, str(tmp_path / "trees"), str(DOCS), str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (site / "methods" / "salun.html").exists()
    loads = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["'](?:https?:)?//"""
        r"""|<link[^>]+rel=["'](?:stylesheet|preload|preconnect|icon)["'][^>]+href=["'](?:https?:)?//"""
        r"""|url\(["']?(?:https?:)?//|@import"""
    )
    for file in (f for kind in ("html", "css") for f in site.rglob(f"*.{kind}")):
        assert not loads.search(file.read_text(encoding="utf-8")), file


@pytest.mark.slow
@pytest.mark.parametrize("page", ["python.md", "quickstart.md"])
def test_the_python_on_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, quick = erase.run, {"sampling_steps": 1, "eval_forget": 2, "eval_retain": 2}
    quick |= {"eval_neighbours": 0, "eval_general": 0, "eval_empty": 0}
    training = {"forget_images": 2, "retain_images": 2, "steps": 1, "batch_size": 2}

    def smaller(**given: object) -> erase.Report:
        more = {} if given.get("recipe") == "uce" else training
        return run(**given, **quick, **more, anyway=True)  # type: ignore[arg-type]

    monkeypatch.setattr(erase, "run", smaller)
    monkeypatch.chdir(tmp_path)
    # A page may show what opens a run before it shows what makes one.
    erase.run(model="mini", concept="church", recipe="uce", out="runs/church")
    names: dict[str, object] = {}
    for block in fenced(PAGES[page], "python"):
        if "erase.run" in block and page == "quickstart.md":
            block = block.replace("runs/church", "runs/again")
        exec(block, names)
