"""`loracast app`."""

from __future__ import annotations

from pathlib import Path

from loracast.cli.options import Model, ModelOptions


def app(
    adapters: Path | None = None,
    /,
    *,
    model: Model = ModelOptions(),
    port: int = 7860,
    no_browser: bool = False,
) -> None:
    """Open a page on this machine to see and try forecasts; it needs no network.

    Parameters
    ----------
    adapters
        Folder whose folders are adapters to choose from; what is tuned in the page is kept there, too. Without one, it
        is kept until the program ends.
    port
        Port of the page, at 127.0.0.1; 0 takes a free one.
    no_browser
        Only tell the page's address.
    """
    from loracast.cli.console import say
    from loracast.errors import check_installed

    check_installed("app", ("fastapi", "uvicorn", "plotly", "pydantic"))
    from loracast.explorer.forecasts import Question, beginning, draw
    from loracast.explorer.routes import create
    from loracast.explorer.work import Worker
    from loracast.forecaster import Forecaster
    from loracast.serve.run import address, bind, run
    from loracast.serve.shelf import Shelf
    from loracast.settings import SampleConfig
    from loracast.systems import lynx_hare

    bound = bind("127.0.0.1", port)
    worker = Worker()

    def load() -> Forecaster:
        base = Forecaster.from_pretrained(model.model, **model.where())
        question = Question(lynx_hare(), 71, 20, SampleConfig(20, transform="none"), {})
        beginning(question)  # the first forecast of a process takes longer, and that of each shape
        draw(base, "untouched", question, lambda event: None, lambda share: None)
        return base

    base = worker.run(load)
    if adapters:
        adapters.mkdir(parents=True, exist_ok=True)

    def ready() -> None:
        say(f"the page is at {address(bound)}; Ctrl-C ends")
        if not no_browser:
            import webbrowser

            webbrowser.open(address(bound))

    run(create(Shelf(base, adapters, 8), worker), bound, ready)
