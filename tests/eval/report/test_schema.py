"""The published JSON schema of ``report.json``."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.eval.report import schema
from erase.eval.report.evaluate import evaluate
from erase.eval.report.schema import json_schema
from tests.eval.report.test_nudity import RedDetector
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run

FILE = Path(str(schema.__file__)).with_name("report.schema.json")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert FILE.read_text(encoding="utf-8") == json_schema()


@pytest.mark.parametrize("nudity", [None, Config()])
def test_a_report_fits_and_a_broken_one_does_not(nudity: Config | None, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    report = evaluate(
        run,
        CHURCH,
        TRUCK,
        judges=judges(),
        extractor=ColourFeatures(),
        instruments=Instruments(nudity=nudity),
        detector=RedDetector() if nudity else None,
    )
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    report["summary"]["erased"]["ua"]["value"] = "all"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, schema)
