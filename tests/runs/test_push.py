"""A run pushed to a hub on loopback: what arrives, what never does, and every refusal."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from erase.cli import push as command
from erase.cli.main import main
from erase.recipes.recipe import as_dict, load_recipe
from erase.runs.card import card
from erase.runs.push import open_run, pack, send, told
from erase.runtime.errors import UserError
from tests.runs.hub import Hub, Repo, serving

TOKEN = "hf_AbCdEfGh"
REPO = "me/no-church"
LICENCE = {"license": "openrail"}
SENT = {
    "LICENSE", "README.md", "model_index.json", "recipe.toml", "report.json", "report.md",
    "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/tokenizer_config.json",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}  # fmt: skip
KEPT = (
    "mask.safetensors", "report.html", "report.csv", "train.jsonl", "run.json", ".lock",
    "checkpoints/step.safetensors", "images/forget/0_0.png", "images/forget/manifest.jsonl",
    "eval/erased/nudity/0_0.png", "eval/erased/nudity/manifest.jsonl", "previews/100/0.png",
    "tracking/events", "attack/attack.json", "attack/attacks/noise/erased-prompts.csv",
    "attack/attacks/noise/erased/000_after.png", "model/sample.png", "model/unet/sample.png",
    "model/mask.safetensors", "model/unet/.part.safetensors",
)  # fmt: skip
FIGURE = {"value": 0.99, "n": 100, "low": 0.95, "high": 1.0}
REPORT = {
    "verdict": ["church is erased."],
    "conclusion": {"verdict": "erased", "damaged": False, "words": ["church is erased."]},
    "summary": {side: {"ua": FIGURE, "ira": FIGURE, "cra": None} for side in ("base", "erased")},
}


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def put(folder: Path, name: str, text: str | bytes) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run folder with everything that one may hold."""
    out = tmp_path / "church"
    stages = {name: {"finished": True, "inputs": {}} for name in ("train", "eval")}
    facts = {"concept": "church", "anchor": "truck", "seed": 3, "stages": stages,
             "recipe": as_dict(load_recipe("esd-x-mini"))}  # fmt: skip
    for name in KEPT:
        lines = name.endswith("manifest.jsonl")
        put(out, name, "" if lines else f"{name} of {tmp_path}")
    put(out, "run.json", json.dumps(facts))
    put(out, "report.json", json.dumps(REPORT))
    put(out, "report.md", "# Erasing church\n")
    parts = {"unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "tokenizer": ["t", "T"],
             "scheduler": ["diffusers", "S"], "safety_checker": [None, None]}  # fmt: skip
    put(out, "model/model_index.json", json.dumps({"_class_name": "P", **parts}))
    put(out, "model/LICENSE", "terms")
    for part, content in (("unet", b"u" * 70_000), ("vae", b"v" * 50_000)):
        put(out, f"model/{part}/config.json", json.dumps({"_name_or_path": str(tmp_path / "sd")}))
        put(out, f"model/{part}/diffusion_pytorch_model.safetensors", content)
    put(out, "model/tokenizer/vocab.json", '{"/a": 0}')
    put(out, "model/tokenizer/tokenizer_config.json", '{"name_or_path": "openai/clip"}')
    put(out, "model/scheduler/scheduler_config.json", "{}")
    put(out, "model/README.md", card(facts, "owner/base", LICENCE, {"": REPORT}, hub=True))
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that the library takes for the real one."""
    from huggingface_hub import constants

    with serving(TOKEN) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        connect_anew()
        yield found
        connect_anew()


def connect_anew() -> None:
    """Before 1.0, what is offline stays so until then."""
    with suppress(ImportError):
        from huggingface_hub.utils import reset_sessions

        reset_sessions()


def sent(
    run: Path, repo: str = REPO, *, unevaluated: bool = False, base: str | None = None, **how: bool
) -> str:
    return send(pack(open_run(run, unevaluated), repo, base=base, **how))


def refused(act: Callable[[], object]) -> str:
    """What a refusal says: one sentence, or two, on a line, and never the token."""
    with pytest.raises(UserError) as caught:
        act()
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".") and TOKEN not in said
    return said


def test_what_arrives_is_the_model_its_figures_and_its_recipe(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["push", str(run), REPO, "--yes"])
    said = capsys.readouterr()
    found = hub.repos[REPO]
    assert found.private and set(found.files) == SENT | {".gitattributes"}
    weights = [name for name in SENT if name.endswith(".safetensors")]
    for name in SENT - {"README.md", "recipe.toml", "unet/config.json", "vae/config.json"}:
        here = run / name if name.startswith("report") else run / "model" / name
        digests = [hashlib.sha256(data).digest() for data in (found.files[name], here.read_bytes())]
        assert digests[0] == digests[1], name
    assert found.large == set(weights) and len(hub.blobs) == len(weights) == 2
    # Where it lay here is nobody's business.
    assert json.loads(found.files["unet/config.json"]) == {"_name_or_path": "sd"}
    assert not any(str(tmp_path).encode() in data for data in found.files.values())
    put(tmp_path, "recipe.toml", found.files["recipe.toml"])
    made = load_recipe(str(tmp_path / "recipe.toml"))
    assert replace(made, name="esd-x-mini") == load_recipe("esd-x-mini")
    for name in SENT:
        assert f" {name}\n" in said.out
    assert re.search(rf"Sent 13 files, [\d.]+ kB: {hub.url}/{REPO}\n", said.out)
    assert TOKEN not in said.out + said.err


def test_what_never_leaves(run: Path, hub: Hub) -> None:
    parcel = pack(open_run(run), REPO)
    assert set(parcel.left) == {
        "mask.safetensors", "sample.png", "unet/.part.safetensors", "unet/sample.png"
    }  # fmt: skip
    assert "Left out of model/: mask.safetensors, sample.png" in told(parcel)
    send(parcel)
    everything = [*hub.repos[REPO].files.values(), *hub.blobs.values()]
    for name in KEPT:
        held = (run / name).read_bytes()
        assert not held or not any(held in data for data in everything), name


def test_the_card_is_the_hubs(run: Path, hub: Hub) -> None:
    sent(run)
    there = hub.repos[REPO].files["README.md"].decode()
    assert f'from_pretrained("{REPO}")' in there
    assert there.replace(REPO, "path/to/this/folder") == (run / "model/README.md").read_text()
    assert hub.cards[0].splitlines()[:3] == [
        "license: openrail", "base_model: owner/base", "base_model_relation: finetune"
    ]  # fmt: skip


def test_a_base_from_a_file_is_named_on_request(run: Path, hub: Hub) -> None:
    assert "names the base already, owner/base" in refused(lambda: sent(run, base="o/other"))
    facts = json.loads((run / "run.json").read_text())
    put(run, "model/README.md", card(facts, "base.safetensors", LICENCE, {"": REPORT}))
    assert "--base-model OWNER/NAME adds it" in told(pack(open_run(run), REPO))
    assert "not a valid model name" in refused(lambda: sent(run, base="base.safetensors"))
    assert "check --base-model" in refused(lambda: sent(run, base="owner/base"))
    hub.repos["owner/base"] = Repo(private=False, card={"license": "mit"})
    assert "base_model" not in told(pack(open_run(run), REPO, base="owner/base"))
    sent(run, base="owner/base")
    assert sorted(hub.cards[0].splitlines()[:3]) == [
        "base_model: owner/base", "base_model_relation: finetune", "license: openrail"
    ]  # fmt: skip
    assert hub.repos[REPO].files["README.md"].decode().count("\n---\n") == 1
    # A card without a licence has the base's.
    put(run, "model/README.md", card(facts, "base.safetensors", {}, {"": REPORT}))
    sent(run, base="owner/base", overwrite=True)
    assert hub.cards[-1].splitlines()[:2] == ["license: mit", "base_model: owner/base"]


def test_nothing_is_sent_before_the_user_agreed(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = command.parser().parse_args([str(run), REPO])
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "add --yes" in refused(lambda: command.run_push(chosen))
    for answer in ("", "\n", "n\n"):
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        command.run_push(chosen)
        shown = capsys.readouterr().out
        told = rf"Send 13 files, [\d.]+ kB, to {REPO} \(private\)\? \[y/N\] Nothing was sent\.\n$"
        assert re.search(told, shown)
    assert not hub.writes() and not hub.repos
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    command.run_push(chosen)
    assert set(hub.repos[REPO].files) == SENT | {".gitattributes"}


def test_a_broken_upload_is_repeated_without_harm(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library tries again, patiently
    unet, vae = (hashlib.sha256(c * n).hexdigest() for c, n in ((b"u", 70_000), (b"v", 50_000)))
    hub.cut = {unet}
    said = refused(lambda: sent(run))
    assert said.startswith("The upload broke off (") and "run the same command again" in said
    assert "signed" not in said and "?" not in said
    # Half a model is never seen.
    assert set(hub.repos[REPO].files) == {".gitattributes"} and set(hub.blobs) == {vae}
    hub.cut = set()
    sent(run)
    assert hub.repos[REPO].files["unet/diffusion_pytorch_model.safetensors"] == b"u" * 70_000
    assert hub.asked.count(("PUT", f"/upload/{vae}")) == 1
    before = len(hub.writes())
    assert not pack(open_run(run), REPO).files and len(hub.writes()) == before


def test_a_taken_name(run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = {"unet/old.safetensors": b"old", "concepts/radio/report.md": b"radio",
              "report.json": b"another's", "gallery.md": b"mine"}  # fmt: skip
    hub.repos[REPO] = Repo(True, {".gitattributes": b"", **theirs})
    assert "holds other files ('concepts/radio/report.md'" in refused(lambda: sent(run))
    sent(run, overwrite=True)
    # What told of another model is gone, what has nothing to do with it stays.
    assert set(hub.repos[REPO].files) == SENT | {".gitattributes", "gallery.md"}
    command.run_push(command.parser().parse_args([str(run), REPO]))
    assert "holds all of it already" in capsys.readouterr().out
    put(run, "report.md", "# Evaluated again\n")
    assert "holds other files ('gallery.md', 'report.md')" in refused(lambda: sent(run))
    parcel = pack(open_run(run), REPO, overwrite=True)
    assert [file.path for file in parcel.files] == ["report.md"] and parcel.held == 12


def test_a_pull_request(run: Path, hub: Hub) -> None:
    hub.repos["them/theirs"] = Repo(False, {"README.md": b"theirs"})
    assert sent(run, "them/theirs", proposes=True, public=True).endswith("/discussions/1")
    assert set(hub.repos["them/theirs"].proposed) == SENT
    assert hub.repos["them/theirs"].files == {"README.md": b"theirs"}
    assert "leave out --create-pr" in refused(lambda: sent(run, proposes=True))


def test_public_is_asked_for(run: Path, hub: Hub) -> None:
    sent(run, public=True)
    assert not hub.repos[REPO].private
    assert "is public: add --public" in refused(lambda: sent(run))
    hub.repos[REPO].private = True
    assert "is private: leave out --public" in refused(lambda: sent(run, public=True))


def test_without_figures_only_on_request(run: Path, hub: Hub) -> None:
    unmeasured = {**REPORT, "summary": {side: {"ua": None} for side in ("base", "erased")}}
    put(run, "report.json", json.dumps(unmeasured))
    assert "UA was not measured" in refused(lambda: sent(run))
    facts = json.loads((run / "run.json").read_text())
    del facts["stages"]["eval"]
    put(run, "run.json", json.dumps(facts))
    assert "was not evaluated" in refused(lambda: sent(run))
    sent(run, unevaluated=True)
    # A report that no finished evaluation vouches for stays here.
    assert set(hub.repos[REPO].files) == SENT - {"report.json", "report.md"} | {".gitattributes"}


def test_several_concepts_each_send_a_report(run: Path, hub: Hub) -> None:
    for name in ("church", "radio"):
        for end in ("json", "md", "html"):
            put(run, f"concepts/{name}/report.{end}", f"{name} {end}")
    sent(run)
    assert {name for name in hub.repos[REPO].files if name.startswith("concepts")} == {
        f"concepts/{name}/report.{end}" for name in ("church", "radio") for end in ("json", "md")
    }


def test_what_is_no_run_with_a_model_of_its_own(run: Path, tmp_path: Path) -> None:
    assert "is not a run folder" in refused(lambda: open_run(run / "model"))
    facts = json.loads((run / "run.json").read_text())
    put(run, "run.json", json.dumps({**facts, "recipe": as_dict(load_recipe("sld-mini"))}))
    assert "sld leaves the weights as they are" in refused(lambda: open_run(run))
    facts["stages"]["train"]["finished"] = False
    put(run, "run.json", json.dumps(facts))
    assert "has no finished model" in refused(lambda: open_run(run))


@pytest.mark.parametrize("repo", ["church", "a/b/c", "me/no church", "me/..", "../church", ""])
def test_names_that_no_model_has(run: Path, hub: Hub, repo: str) -> None:
    assert "give OWNER/NAME" in refused(lambda: pack(open_run(run), repo))
    assert not hub.asked


def test_what_the_hub_refuses(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not let you write to them/x" in refused(lambda: sent(run, "them/x"))
    hub.bad = "openrail"
    said = refused(lambda: sent(run))
    assert 'front matter ("openrail" is not allowed): fix model/README.md' in said
    assert not hub.blobs
    # One that the token may not see is found only when it is to be made.
    parcel = pack(open_run(run), "me/hidden")
    hub.repos["me/hidden"] = Repo(True)
    assert "is taken on the hub" in refused(lambda: send(parcel))
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "does not accept your token" in refused(lambda: pack(open_run(run), REPO))


def test_without_a_token_or_a_network(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\x01")
    assert "token is damaged" in refused(lambda: pack(open_run(run), REPO))
    monkeypatch.delenv("HF_TOKEN")
    assert "run 'hf auth login'" in refused(lambda: pack(open_run(run), REPO))
    assert not hub.asked
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = refused(lambda: pack(open_run(run), REPO))
    assert said.startswith("The hub can't be reached (") and "refused" in said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    connect_anew()
    with pytest.raises(SystemExit) as stop:
        main(["push", str(run), REPO, "--yes"])
    assert stop.value.code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("erase: ")]
    assert "HF_HUB_OFFLINE is set, so that nothing was sent" in line
