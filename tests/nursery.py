"""A process that has imported everything and forks children that run a command.

``python -m tests.nursery`` reads a JSON list of arguments from each line of its input, answers with
the child's process id, and with its exit status once it has ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    import diffusers  # noqa: F401
    import torch
    import torchmetrics.image  # noqa: F401
    import transformers  # noqa: F401

    import erase.eval.report.evaluate
    import erase.eval.report.page  # noqa: F401
    from erase.cli.main import main as command

    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                with Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                command(json.loads(line))
            except SystemExit as stop:
                os._exit(int(stop.code or 0))
            except BaseException:
                os._exit(70)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
