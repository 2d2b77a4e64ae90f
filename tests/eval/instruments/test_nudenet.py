from __future__ import annotations

import json
from copy import copy
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from erase.eval.instruments.nudenet import (
    CLASSES,
    FLOOR,
    PRESETS,
    SIDE,
    THRESHOLD,
    Config,
    Detections,
    NudeNetDetector,
    load_nudenet,
    to_rgb,
)
from erase.eval.metrics.nudity import counted, facts, flagged, measure, score
from erase.eval.pictures import Picture
from erase.runtime.errors import UserError
from erase.runtime.files import sha256

Pixels = NDArray[np.uint8]
FACES = Config(("FACE_FEMALE", "FACE_MALE"))


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    """A face, a cat, a cup of coffee; the face upright, lying, cut at three edges, four times."""
    data = pytest.importorskip("skimage.data")
    face = data.astronaut()
    cut = [face[:, 100:320], face[:250], face[:, 215:500], face[125:400], face[:, :235]]
    tiles = np.tile(face[50:230, 120:320], (2, 2, 1))
    return [face, data.chelsea(), data.coffee(), *map(np.ascontiguousarray, cut), tiles]


@pytest.fixture(scope="module")
def upstream() -> Any:
    return pytest.importorskip("nudenet").NudeDetector()


@pytest.fixture(scope="module")
def detector() -> NudeNetDetector:
    return load_nudenet()


@pytest.fixture(scope="module")
def swapped() -> NudeNetDetector:
    return load_nudenet("swapped")


def above(found: Detections, threshold: float = THRESHOLD) -> list[dict[str, Any]]:
    return [row for row in found.to_json() if row["score"] > threshold]


def test_detections_are_those_of_the_detector_called_by_hand(
    photos: list[Pixels], upstream: Any, detector: NudeNetDetector
) -> None:
    by_hand = [upstream.detect(photo) for photo in photos]
    assert [above(found) for found in detector.detect(photos)] == by_hand
    assert [len(found) for found in by_hand] == [1, 0, 1, 1, 1, 1, 1, 1, 4]
    [face] = by_hand[0]
    assert face["class"] == "FACE_FEMALE"
    assert face["score"] == pytest.approx(0.8105, abs=0.002)


def test_swapped_channels_are_those_of_the_detector_given_a_file(
    photos: list[Pixels], upstream: Any, swapped: NudeNetDetector, tmp_path: Path
) -> None:
    by_hand = [upstream.detect(np.ascontiguousarray(photo[..., ::-1])) for photo in photos]
    assert [above(found) for found in swapped.detect(photos)] == by_hand
    file = tmp_path / "face.png"
    Image.fromarray(photos[0]).save(file)
    assert upstream.detect(str(file)) == upstream.detect(file.read_bytes()) == by_hand[0]
    [face] = by_hand[0]
    assert face["class"] == "FACE_FEMALE"
    assert face["score"] == pytest.approx(0.7203, abs=0.002)


@dataclass
class FakeSession:
    """A network with this output (1, 4 + classes, places), whatever the image."""

    output: NDArray[np.float32]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images")]

    def run(self, names: None, feed: dict[str, Any]) -> list[NDArray[np.float32]]:
        return [self.output]


@pytest.mark.parametrize("shape", [(320, 320, 3), (480, 201, 3), (90, 640, 3)])
def test_boxes_over_the_edge_and_over_each_other_are_treated_alike(
    shape: tuple[int, ...], upstream: Any, detector: NudeNetDetector
) -> None:
    rng = np.random.default_rng(0)
    output = np.zeros((1, 4 + len(CLASSES), 300), np.float32)
    output[0, :4] = rng.uniform([[-40], [-40], [1], [1]], [[360], [360], [200], [200]], (4, 300))
    output[0, 4:] = rng.uniform(0, 0.4, (len(CLASSES), 300))
    image = np.zeros(shape, np.uint8)
    by_hand = copy(upstream)
    by_hand.onnx_session = session = FakeSession(output)
    [found] = replace(detector, session=session).detect([image])
    assert above(found) == by_hand.detect(image)
    assert 20 < len(above(found)) < 300


def test_more_is_kept_than_the_detector_itself_returns(
    photos: list[Pixels], upstream: Any, detector: NudeNetDetector
) -> None:
    cat = photos[1]
    assert upstream.detect(cat) == []
    [found] = detector.detect([cat])
    assert found.found[0].label == "FACE_FEMALE"
    assert found.found[0].score == pytest.approx(0.141, abs=0.005)
    scores = [d.score for d in found.found]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > FLOOR


def test_a_harmless_picture_can_count(photos: list[Pixels], detector: NudeNetDetector) -> None:
    [coffee] = detector.detect([photos[2]])
    assert [d.label for d in counted(coffee, Config("esd9"))] == ["BUTTOCKS_EXPOSED"]
    assert counted(coffee, Config("esd9", threshold=0.5)) == ()


def test_files_pillow_images_and_arrays_agree(
    photos: list[Pixels], detector: NudeNetDetector, tmp_path: Path
) -> None:
    file = tmp_path / "face.png"
    Image.fromarray(photos[0]).save(file)
    same = detector.detect([photos[0], Image.fromarray(photos[0]), file, str(file)])
    assert same[0].found
    assert same.count(same[0]) == 4


def test_results_do_not_depend_on_the_batch_or_the_threads(
    photos: list[Pixels], detector: NudeNetDetector
) -> None:
    together = detector.detect(photos)
    assert replace(detector, batch=1).detect(photos) == together
    assert replace(detector, batch=3).detect(photos) == together
    alone = load_nudenet(threads=1)
    assert alone.session.get_session_options().intra_op_num_threads == 1
    assert alone.detect(photos) == together
    assert detector.detect([]) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "CMYK", "1"])
def test_pillow_modes_agree_with_their_files(mode: str, tmp_path: Path) -> None:
    colours = np.arange(3 * 16 * 16).reshape(16, 16, 3).astype(np.uint8)
    image = Image.fromarray(colours).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(colours[..., 0]))
    file = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(file)
    found = to_rgb(image)
    assert found.shape == (16, 16, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, to_rgb(file))


def test_a_pillow_image_is_turned_as_its_file_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90°
    file = tmp_path / "turned.png"
    image.save(file, exif=exif)
    with Image.open(file) as opened:
        assert to_rgb(opened).shape == to_rgb(file).shape == (3, 2, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(array: Any, detector: NudeNetDetector) -> None:
    with pytest.raises(UserError, match=r"array of uint8 \(height, width, 3\)"):
        detector.detect([array])


def test_unreadable_images_are_refused(detector: NudeNetDetector, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone.png can't be read"):
        detector.detect([tmp_path / "gone.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="text.png can't be read"):
        detector.detect([str(tmp_path / "text.png")])
    with pytest.raises(UserError, match="mode F"):
        detector.detect([Image.new("F", (4, 4))])


def test_what_cannot_be_opened_is_refused() -> None:
    with pytest.raises(UserError, match="Did you mean 'swapped'"):
        load_nudenet("swaped")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="0 threads"):
        load_nudenet(threads=0)


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erase.eval.instruments.nudenet.CLASSES", CLASSES[::-1])
    with pytest.raises(UserError, match="other classes"):
        load_nudenet()


def test_facts_say_what_a_figure_depends_on(
    upstream: Any, detector: NudeNetDetector, swapped: NudeNetDetector
) -> None:
    found = facts(detector, Config("core5", threshold=0.6))
    file = Path(pytest.importorskip("nudenet").__file__).with_name("320n.onnx")
    assert found["sha256"] == sha256(file)
    assert (found["detector"], found["version"][:2]) == ("nudenet", "3.")
    assert found["input"] == SIDE == upstream.input_width
    assert found["classes"] == list(CLASSES)
    assert (found["preset"], found["counted"]) == ("core5", list(PRESETS["core5"]))
    assert (found["threshold"], found["channels"]) == (0.6, "right")
    assert facts(swapped, FACES)["channels"] == "swapped"
    assert facts(swapped, FACES)["preset"] is None
    assert json.loads(json.dumps(found)) == found


def test_faces_are_a_positive_control_on_files(
    photos: list[Pixels], detector: NudeNetDetector, tmp_path: Path
) -> None:
    pictures = []
    for i, photo in enumerate(photos[:3]):
        file = tmp_path / f"{i}.png"
        Image.fromarray(photo).save(file)
        pictures.append(Picture(file, sha256(file), "s", i, 0, "p", i, "forget", {}))
    rows = measure(pictures, detector, tmp_path / "store")
    assert rows == detector.detect(photos[:3])
    # From the store, exactly.
    assert measure(pictures, detector, tmp_path / "store") == rows
    found = score(rows, FACES)
    assert astuple(found)[:3] == (3, 1, 1)
    assert flagged(rows, FACES) == [True, False, False]
    # At 0.1 the cat is a face too.
    assert flagged(rows, replace(FACES, threshold=0.1)) == [True, True, False]


def test_classes_are_those_of_the_package() -> None:
    package = pytest.importorskip("nudenet.nudenet")
    assert tuple(vars(package)["__labels"]) == CLASSES
