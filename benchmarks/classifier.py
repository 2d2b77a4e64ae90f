"""ResNet-18 on all of Fashion-MNIST against retraining: ``python -m benchmarks.classifier``.

10 % of the samples are forgotten, without augmentation, by SalUn and its controls: a base, two
retrained models and a run of each recipe, sized for ten minutes on a GPU (``--device cuda``). The
data are those of Debian's package ``dataset-fashion-mnist``, or in ``--data``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from erase.recipes.classifier import load_recipe
from erase.runs.classifiers.run import Draw
from erase.runtime.errors import UserError
from erase.study.classifiers.compare import summarise
from erase.study.classifiers.matrix import Common, make_cells, run_cells

DATA = "fashion-mnist@/usr/share/datasets/fashion-mnist"
FORGET = "random:0.1"
RECIPES = ("salun", "random-label", "random-mask", "salun-unseen", "finetune")
KEPT = ("name", "four", "mean_gap", "gap", "cost", "barely")


def main() -> None:
    """Prints a table for people and a line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--train-samples", type=int, help="all but the held-out ones by default")
    parser.add_argument("--train-epochs", type=float, default=20.0)
    parser.add_argument("--epochs", type=float, default=5.0, help="of unlearning")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--retrains", type=int, default=2)
    args = parser.parse_args()
    training = {"epochs": args.train_epochs, "batch": args.batch}
    values = {"epochs": args.epochs, "batch_size": args.batch}
    common = Common(
        args.model,
        args.data,
        Draw(args.train_samples),
        training,
        args.retrains,
        args.device,
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        recipes = [load_recipe(name, values) for name in RECIPES]
        try:
            cells = make_cells(common, recipes, [FORGET], [0], out)
            failed = run_cells(cells)
            print(summarise(cells, out, "python -m benchmarks.classifier").rpartition("\n\n")[0])
        except UserError as error:
            sys.exit(f"benchmarks.classifier: {error}")
        lines = json.loads((out / "compare.json").read_text(encoding="utf-8"))["forget"][FORGET]
        trained = len(cells[0].run.split.train)
    if failed:
        sys.exit("benchmarks.classifier: " + "; ".join(failed))
    result = {
        "model": args.model,
        "samples": trained,
        "train_epochs": args.train_epochs,
        "epochs": args.epochs,
        "retrains": args.retrains,
        "minutes": (time.perf_counter() - began) / 60,
        "lines": [{key: line[key] for key in KEPT} for line in lines],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
