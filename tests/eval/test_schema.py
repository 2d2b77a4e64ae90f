"""The published JSON schema of ``report.json``."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import erase.eval
from erase.eval.nudity import Config
from erase.eval.report import evaluate
from erase.eval.schema import json_schema
from erase.specs import Instruments
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run
from tests.eval.test_nudity_report import RedDetector

FILE = Path(str(erase.eval.__file__)).with_name("report.schema.json")


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
