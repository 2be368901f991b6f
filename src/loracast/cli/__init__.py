"""The command line. A command's module is imported when it is called, and torch only by the work itself."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

import loracast
from loracast.errors import Interrupted, LoracastError

app = App(
    name="loracast",
    help="Fine-tune a causal language model with LoRA until it forecasts your dynamical system.",
    version=loracast.__version__,
    help_format="markdown",
    help_epilogue="To begin: loracast demo. What a command takes: loracast COMMAND --help",
    default_parameter=Parameter(negative=()),  # no --no-resume, no --empty-names
)
RESUMES = "Ctrl-C saves a checkpoint; the same command with --resume continues from it exactly."
app.command(
    "loracast.cli.demo:demo",
    help="Show the whole path in minutes: simulate, tune, forecast, compare.",
    help_epilogue="Example: loracast demo -o runs/demo",
)
app.command(
    "loracast.cli.simulate:simulate",
    help="Simulate series of a system into a file.",
    help_epilogue="Example: loracast simulate predator-prey -o data.h5 --n 100 --seed 0",
)
app.command(
    "loracast.cli.inspect:inspect",
    help="Show a model: its shape, its tokenizer's digits, an adapter's size.",
    help_epilogue="Example: loracast inspect Qwen/Qwen2.5-0.5B-Instruct --rank 8 --targets attention",
)
app.command(
    "loracast.cli.flops:flops",
    help="Tell what training, forecasts and a study will cost, before anything runs.",
    help_epilogue="Example: loracast flops Qwen/Qwen2.5-0.5B-Instruct --rank 8 --tokens 512 --budget 1e17",
)
app.command(
    "loracast.cli.finetune:finetune",
    help="Tune an adapter on a file of series.",
    help_epilogue=f"{RESUMES}\n\nExample: loracast finetune data.h5 -o runs/a --steps 150 --context 50 --horizon 50",
)
app.command(
    "loracast.cli.forecast:forecast",
    help="Draw sample paths of what follows each series of a file.",
    help_epilogue="Example: loracast forecast data.csv --horizon 20 --adapter runs/a -o forecast.parquet",
)
app.command(
    "loracast.cli.evaluate:evaluate",
    help="Score forecasts and naive baselines on windows of known series.",
    help_epilogue="Example: loracast evaluate data.h5 --context 50 --horizon 50 --adapter runs/a -o runs/a/eval",
)
app.command(
    "loracast.cli.finetune:merge",
    help="Write a model and its adapter as one Hugging Face directory.",
    help_epilogue="Example: loracast merge runs/a -o runs/merged",
)
app.command(
    "loracast.cli.push:push",
    help="Push an adapter with its card to the Hugging Face hub.",
    help_epilogue="Example: loracast push runs/a me/my-adapter",
)
app.command(
    "loracast.cli.explorer:app",
    help="Open a page to see and try forecasts.",
    help_epilogue="Example: loracast app",
)
app.command(
    "loracast.cli.serve:serve",
    help="Answer forecasts over HTTP, with many adapters on one base.",
    help_epilogue="Example: loracast serve adapters --port 8000",
)
app.command(
    "loracast.cli.pretrain:pretrain",
    help="Pretrain a small model from scratch on synthetic series.",
    help_epilogue=f"{RESUMES}\n\nExample: loracast pretrain -o runs/model --steps 3200",
)
app.command(
    "loracast.cli.study:study",
    help="Run a whole experiment under a FLOP budget, and report it.",
    help_epilogue="Example: loracast study data.h5 --model Qwen/Qwen2.5-0.5B-Instruct --budget 1e17 -o runs/study",
)
app.command(
    "loracast.cli.study:report",
    help="Build a study's report anew.",
    help_epilogue="Example: loracast report runs/study",
)


app.register_install_completion_command(help="Install completion of commands and options for your shell.")
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `main` says what became of the work


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="YAML file of options by name; the command line goes first.")] = None,
) -> None:
    from loracast.cli.config import refuse_fractions, yaml_options

    app.config = (yaml_options(config), refuse_fractions) if config else (refuse_fractions,)
    try:
        app(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()  # or a second call of `main` would look for them among the options here


def main() -> None:
    """Runs a command: status 0 for success, 2 for what the user can mend, 130 when stopped from the keyboard."""
    from loracast.cli.console import complain

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which tells where it keeps its fonts, and that it does
    try:
        app.meta(sys.argv[1:], exit_on_error=False, print_error=False)
    except Interrupted as stop:
        complain("stopped", stop)
        sys.exit(130)
    except KeyboardInterrupt:
        complain("stopped", "by Ctrl-C")
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (LoracastError, CycloptsError, OSError) as error:  # OSError: a file that nothing closer to it has named
        for problem in error.problems if isinstance(error, LoracastError) else [error]:
            complain("error", _explain(problem) if isinstance(problem, CycloptsError) else problem)
        sys.exit(2)


def _explain(error: CycloptsError) -> str:
    """What is wrong with a command line, and where its options are listed."""
    command = " ".join(("loracast", *(error.command_chain or ())))
    if isinstance(error, MissingArgumentError) and error.argument:
        unknown = [token for token in error.unused_tokens or () if token.startswith("--") and not error.keyword]
        problem = f"{error.keyword} needs a value" if error.keyword else f"{error.argument.name} is missing"
        problem += f", and {', '.join(unknown)} is unknown" if unknown else ""
    elif isinstance(error, UnusedCliTokensError):
        problem = (
            f"nothing takes the value {' '.join(error.unused_tokens or ())}; give the name of its option before it"
        )
    else:
        problem = str(error)
    return f"{problem.rstrip('.')} ({command} --help tells more)"
