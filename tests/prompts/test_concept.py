from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from erase.mini import world
from erase.prompts.concept import (
    KINDS,
    Concept,
    articles,
    belongs,
    full_name,
    list_concepts,
    load_concept,
    members,
    own_name,
    pairs,
)
from erase.prompts.held_out import evaluation_rows, retain_rows
from erase.prompts.prompt_set import list_sets, load_set
from erase.runtime.errors import UserError

IMAGENETTE = [
    "tench", "English springer", "cassette player", "chain saw", "church",
    "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
]  # fmt: skip


def file_with(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("name", list_concepts())
def test_every_concept_of_the_package_is_sound(name: str) -> None:
    concept = load_concept(name)
    assert concept.name == name
    assert concept.kind in KINDS
    assert concept.evaluation in list_sets()
    assert concept.anchor is not None
    anchor = load_concept(concept.anchor, concept.family)
    assert not anchor.tuning
    assert "/" not in concept.anchor or anchor.family == concept.family
    assert all(c != a for c, a in pairs(concept, anchor))
    assert len(set(concept.prompts())) == len(concept.templates)
    forget, retain = evaluation_rows(concept)
    assert {r.labels[str(concept.axis)] for r in forget} == {concept.label}
    assert concept.label not in {r.labels[str(concept.axis)] for r in retain}
    trained = {r.prompt for r in retain_rows(concept)}
    assert trained.isdisjoint(concept.prompts())


def test_the_concepts_of_the_world_are_what_the_world_says() -> None:
    objects = {f"mini/{o.label}": o for o in world.OBJECTS}
    styles = {f"mini/{s.label}": s for s in world.STYLES}
    assert set(list_concepts("mini")) == {*objects, *styles}
    for name, obj in objects.items():
        concept = load_concept(name)
        assert (concept.axis, concept.label, concept.word) == ("object", obj.label, obj.word)
        assert concept.tuning == obj.tuning
        grid = itertools.product(world.TEMPLATES, world.STYLE_LABELS)
        assert Counter(concept.prompts()) == Counter(
            world.caption(t, obj.label, s) for t, s in grid
        )
    for name, style in styles.items():
        concept = load_concept(name)
        assert (concept.axis, concept.label, concept.word) == ("style", style.label, style.label)
        kept = [o.label for o in world.OBJECTS if not o.tuning]
        grid = itertools.product(world.TEMPLATES, kept)
        assert Counter(concept.prompts()) == Counter(
            world.caption(t, o, style.label) for t, o in grid
        )


def test_the_members_of_the_world_leave_out_those_for_tuning() -> None:
    names = [c.name for c in members("mini")]
    assert len(names) == 14
    assert not {"mini/owl", "mini/locomotive"} & set(names)
    kinds = [c.kind for c in members("mini")]
    assert kinds == ["object"] * 10 + ["style"] * 4


def test_imagenette_is_remapped_to_the_next_class_with_the_published_prompt() -> None:
    for word, following in zip(IMAGENETTE, IMAGENETTE[1:] + IMAGENETTE[:1], strict=True):
        concept = load_concept("imagenette/" + word.lower().replace(" ", "-"))
        anchor = load_concept(str(concept.anchor))
        found = articles(f"an image of a {word}"), articles(f"an image of a {following}")
        assert pairs(concept, anchor) == (found,)
        forget, retain = evaluation_rows(concept)
        assert [r.prompt for r in forget] == [f"Image of {word}"]
        assert len(retain) == len(retain_rows(concept)) == 9


def test_nudity_has_the_published_prompts() -> None:
    nudity = load_concept("nudity")
    clothed = "a photo of a person wearing clothes"
    assert nudity.family is None
    assert pairs(nudity, load_concept(str(nudity.anchor))) == (
        ("a photo of a nude person", clothed),
    )
    assert [r.prompt for r in retain_rows(nudity)] == [clothed]


def test_short_names() -> None:
    assert load_concept("church", "mini").name == "mini/church"
    assert load_concept("church", "imagenette").name == "imagenette/church"
    assert load_concept("nudity", "mini").name == load_concept("nudity").name == "nudity"
    for name, phrase in (("church", "a church"), ("english-springer", "an English springer")):
        with pytest.raises(UserError, match=f'write imagenette/{name} .*"a photo of {phrase}"'):
            load_concept(name)


def test_the_bundled_world_is_not_what_other_models_know() -> None:
    assert load_concept("trumpet") == Concept(name="trumpet", kind="text", word="trumpet")


@pytest.mark.parametrize("text", ["a photo of {x} 100%", "Van Gogh", "unicorn", "", "a  an apple"])
def test_free_text_is_the_prompt_verbatim(text: str) -> None:
    concept = load_concept(text, "mini")
    assert concept == Concept(name=text, kind="text", word=text)
    assert concept.prompts() == (text,)
    assert concept.family is None


def test_brackets_mark_the_concepts_own_words() -> None:
    concept = load_concept("a photo of a [golden retriever], 4k")
    assert (concept.name, concept.word) == (
        "a photo of a golden retriever, 4k",
        "golden retriever",
    )
    assert concept.prompts() == (concept.name,)
    assert concept.fill("cat") == ("a photo of a cat, 4k",)
    # By its words, not by the whole prompt, a retained prompt is told to be the concept's.
    assert belongs("two golden retriever puppies", {}, concept)
    assert not belongs("two golden retriever puppies", {}, load_concept(concept.name))
    assert pairs(concept, load_concept("a [cat] asleep")) == ((concept.name, "a cat asleep"),)
    for text in ("a [cat] and a [dog]", "a []", "a [ ]", "a cat]", "[a [cat]]", "{} [cat]"):
        with pytest.raises(UserError, match="one pair of brackets"):
            load_concept(text)


def test_a_name_of_another_family_is_free_text() -> None:
    # A user's own model knows nothing of the miniature world's truck.
    assert load_concept("truck", "imagenette").kind == "text"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("chruch", "church"), ("Church", "church"), ("mini/chruch", "mini/church"), ("inks", "ink")],
)
def test_a_slip_of_the_pen_is_no_free_text(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"no concept '{name}'. Did you mean '{nearest}'"):
        load_concept(name, "mini")


def test_without_a_family_the_full_name_is_proposed() -> None:
    with pytest.raises(UserError, match="no concept 'chruch'. Did you mean 'imagenette/church'"):
        load_concept("chruch")


def test_unknown_names_and_families() -> None:
    with pytest.raises(UserError, match="no concept 'mine/zzz'"):
        load_concept("mine/zzz")
    assert load_concept("black/white photos").kind == "text"
    with pytest.raises(UserError, match="no concept family 'mni'. Did you mean 'mini'"):
        members("mni")


def test_pairs_by_kind_of_anchor() -> None:
    church, ink = load_concept("mini/church"), load_concept("mini/ink")
    truck = pairs(church, load_concept("mini/truck"))
    assert len(truck) == 72
    assert truck[0] == ("a noto drawing of a church", "a noto drawing of a truck")
    owl = dict(pairs(church, load_concept("mini/owl")))
    assert owl["an ink picture of a church"] == "an ink picture of an owl"
    # Free text, the empty prompt and a concept of another kind: one prompt for all.
    assert {a for _, a in pairs(church, load_concept("a garden"))} == {"a garden"}
    assert {a for _, a in pairs(church, load_concept(""))} == {""}
    assert {a for _, a in pairs(church, ink)} == {ink.prompts()[0]}
    assert [c for c, _ in pairs(church, ink)] == list(church.prompts())
    text = load_concept("my dog Rex")
    assert pairs(text, load_concept("a dog")) == (("my dog Rex", "a dog"),)
    assert pairs(text, church) == (("my dog Rex", church.prompts()[0]),)


@pytest.mark.parametrize("name", ["mini/church", "a red car"])
def test_a_concept_is_not_its_own_anchor(name: str) -> None:
    with pytest.raises(UserError, match="equals its anchor"):
        pairs(load_concept(name), load_concept(name))


def test_rows_of_the_world() -> None:
    church, ink, owl = (load_concept(f"mini/{n}") for n in ("church", "ink", "owl"))
    # 18 training templates and 5 held-out ones; 10 objects without those for tuning; 4 styles.
    assert len(retain_rows(church)) == 18 * 9 * 4
    assert len(retain_rows(ink)) == 18 * 10 * 3
    assert len(retain_rows(owl)) == 18 * 10 * 4
    assert [len(rows) for rows in evaluation_rows(church)] == [5 * 4, 5 * 9 * 4]
    assert [len(rows) for rows in evaluation_rows(ink)] == [5 * 10, 5 * 10 * 3]
    forget, retain = evaluation_rows(owl)
    assert [len(forget), len(retain)] == [5 * 4, 5 * 10 * 4]
    assert {r.labels["tuning"] for r in retain} == {"0"}


def test_retained_prompts_of_free_text_do_not_name_it() -> None:
    def left(name: str) -> set[str]:
        """Trained on or judged."""
        concept = load_concept(name, "mini")
        return {r.prompt for r in (*retain_rows(concept), *evaluation_rows(concept)[1])}

    gone = {r.prompt for r in load_set("everyday").rows} - left("black cat")
    assert gone == {"a black cat asleep on a windowsill"}
    # Whole words only: "cat" is in no "location", and nothing is in every prompt.
    assert len(left("hamm ock")) == len(left("")) == 200


def test_own_retained_prompts(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("prompt,object,tuning\na,church,0\nb,truck,0\nc,owl,1\n")
    assert [r.prompt for r in retain_rows(load_concept("mini/church"), str(own))] == ["b"]
    own.write_text('prompt\n"a church, from afar"\na truck\n')
    assert [r.prompt for r in retain_rows(load_concept("mini/church"), str(own))] == ["a truck"]
    own.write_text("prompt\na church\n")
    with pytest.raises(UserError, match="belongs to the concept 'mini/church'"):
        retain_rows(load_concept("mini/church"), str(own))


def test_free_text_is_evaluated_with_other_seeds_and_captions_than_it_is_trained_with() -> None:
    concept = load_concept("my dog Rex")
    forget, retain = evaluation_rows(concept)
    assert [r.prompt for r in forget] == ["my dog Rex"]
    trained = retain_rows(concept)
    assert len(retain) == len(trained) == 100
    assert {r.prompt for r in retain}.isdisjoint({r.prompt for r in trained})
    assert {r.seed for r in retain}.isdisjoint({r.seed for r in trained})


def test_a_concept_of_the_user(tmp_path: Path) -> None:
    name = file_with(
        tmp_path,
        'kind = "person"\nword = "Ada"\ntemplates = ["{look} of {}", "{}"]\n'
        'slot = { look = ["a photo", "a drawing"] }\nretain = ["a photo of a person"]\n',
    )
    concept = load_concept(name)
    assert concept.name == "mine"
    # The fillings take turns from template to template.
    assert concept.prompts() == ("a photo of Ada", "Ada", "a drawing of Ada", "Ada")
    assert [r.prompt for r in retain_rows(concept)] == ["a photo of a person"]


SOUND = {"kind": '"object"', "word": '"cat"', "templates": '["a {}"]'}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tempaltes": "[]"}, "unknown key 'tempaltes'. Did you mean 'templates'"),
        ({"name": '"x"'}, "unknown key 'name'"),
        ({"word": '""'}, "has no 'word'"),
        ({"word": "3"}, "'word' that is not text"),
        ({"kind": '"thing"'}, "kind 'thing': choose from object"),
        ({"templates": '["a cat"]'}, "one {} each"),
        ({"templates": '["{} {}"]'}, "one {} each"),
        ({"templates": '["a {style} {}"]'}, "named {slot}"),
        ({"templates": '["a {s} {}"]', "slot": "{ s = [] }"}, "named {slot}"),
        ({"templates": '["a {s} {}"]', "slot": '{ s = ["x"], t = ["y"] }'}, "named {slot}"),
        ({"templates": '"a {}"'}, "list of texts as 'templates'"),
        ({"retain": "[1]"}, "list as 'retain'"),
        ({"classes": '["a"]'}, "unknown key 'classes'"),
        ({"tuning": "1"}, "other than true or false"),
        ({"axis": '"object"'}, "all of 'axis', 'label' and 'evaluation'"),
        ({"kind": "object"}, "is not valid TOML"),
    ],
)
def test_bad_concept_files_are_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    lines = [f"{key} = {value}" for key, value in (SOUND | changes).items()]
    with pytest.raises(UserError, match=message):
        load_concept(file_with(tmp_path, "\n".join(lines)))


def test_what_a_family_shares_is_a_table(tmp_path: Path) -> None:
    file = file_with(tmp_path, "\n".join(f"{key} = {value}" for key, value in SOUND.items()))
    (Path(file).parent / "_family.toml").write_text('object = "x"\n')
    with pytest.raises(UserError, match=r"_family.toml has a 'object' that is no table"):
        load_concept(file)


def test_sound_file_and_missing_file(tmp_path: Path) -> None:
    lines = [f"{key} = {value}" for key, value in SOUND.items()]
    assert load_concept(file_with(tmp_path, "\n".join(lines))).retain == "everyday"
    with pytest.raises(UserError, match="can't be read: No such file"):
        load_concept(str(tmp_path / "none.toml"))


def test_a_label_that_the_evaluation_set_lacks_is_refused() -> None:
    concept = Concept("x", "object", "cat", ("a {}",), "object", "cat", "mini")
    with pytest.raises(UserError, match="'mini' has no rows with object = 'cat'"):
        evaluation_rows(concept)


def test_articles() -> None:
    assert articles("a owl and an truck in a English garden") == (
        "an owl and a truck in an English garden"
    )
    for right in ("a unicorn", "a European city", "a one-eyed cat", "a user", "an umbrella"):
        noun = right.split(" ", 1)[1]
        assert articles(f"a {noun}") == articles(f"an {noun}") == right
    for right in ("an hour", "an heirloom", "an honest man", "a house", "an unidentified sound"):
        noun = right.split(" ", 1)[1]
        assert articles(f"a {noun}") == articles(f"an {noun}") == right
    # Letter by letter or as a word: only who wrote it knows.
    for as_written in ("a UFO", "an FBI agent", "a LEGO house"):
        assert articles(as_written) == as_written


def test_retained_prompts_leave_the_concept_out_in_every_form(tmp_path: Path) -> None:
    own = tmp_path / "retain.csv"
    own.write_text(
        "case_number,prompt,evaluation_seed,artist\n"
        "0,a bridge over a pond in Monet's late manner,101,\n"
        "1,Monet’s garden at dusk,102,\n"
        "2,three MONETS on a wall,103,\n"
        "3,a Monet-like cathedral,104,\n"
        "4,a monetary fund,105,\n"
        "5,a harbour by Turner,106,\n",
        encoding="utf-8",
    )
    concept = load_concept("a painting by [Monet]")
    assert [r.case_number for r in retain_rows(concept, str(own))] == [4, 5]


def test_a_label_decides_in_whatever_spelling() -> None:
    concept = Concept("x", "style", "Van Gogh", axis="style", label="Van_Gogh", evaluation="mini")
    for label, found in (("van-gogh", True), ("VAN GOGH", True), ("Sketch", False)):
        assert belongs("a dog in Van Gogh style", {"style": label}, concept) is found
    # No label at all: the words decide.
    assert belongs("a dog in Van Gogh’s style", {"style": ""}, concept)
    assert not belongs("a dog", {"style": ""}, concept)


def test_a_concept_file_as_windows_saves_it(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    text = 'kind = "object"\r\nword = "dog"\r\ntemplates = ["a {}"]\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_concept(str(file)).prompts() == ("a dog",)


def test_where_images_alone_are_known_a_short_name_is_any_familys() -> None:
    assert full_name("owl") == "mini/owl" and full_name("tench") == "imagenette/tench"
    assert full_name("mini/church") == "mini/church" and full_name("a cat") == "a cat"
    with pytest.raises(UserError, match="'church' could be imagenette/church or mini/church"):
        full_name("church")


def test_a_name_without_its_family() -> None:
    named = ("mini/church", "class:church", "class:T-shirt/top", "a castle")
    assert [own_name(name) for name in named] == ["church", "church", "T-shirt/top", "a castle"]
