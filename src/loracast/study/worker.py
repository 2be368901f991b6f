"""One more process of a study: `python -m loracast.study.worker REQUEST`, which `launch` starts.

REQUEST is a JSON object: `directory`, the folder of a study that is written down there; `until`, the last stage to do,
or null; `log`, a tracker's name or null; `device`, `precision` and `compute`. What the process says is for its log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from loracast.errors import Interrupted, LoracastError
from loracast.study.conduct import conduct, reopen
from loracast.study.progress import RunEvents, describe_result


def main(request: dict[str, Any]) -> int:
    """Works on a study until its stages have ended: status 0, 2 for what a user can mend, 130 when interrupted."""
    directory, until, log = (request.pop(name) for name in ("directory", "until", "log"))
    try:
        study = reopen(directory, directory, report=RunEvents(Path(directory), log, _say_result), **request)
        conduct(study, until, lambda stage, state: print(f"{stage}: {state}", flush=True))
    except (KeyboardInterrupt, Interrupted) as stop:
        print(f"stopped: {str(stop) or 'by Ctrl-C'}", flush=True)
        return 130
    except LoracastError as error:
        print(f"error: {error}", flush=True)
        return 2
    return 0


def _say_result(run: str, event: dict[str, Any]) -> None:
    if event["event"] == "result":
        print(f"  {run}: {describe_result(event)}", flush=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
