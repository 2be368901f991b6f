"""The settings of training, sampling and pretraining: one definition for Python, YAML and the command line.

Every class checks itself and raises all its problems at once. The text under a field is its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from loracast.bounds import LARGEST, SMALLEST, at_least, not_negative, positive, scaling, shares
from loracast.errors import ConfigError

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
TARGET_SETS = {"attention": ("q", "v"), "all-linear": PROJECTIONS}

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
ComputeKind = Literal["auto", "plain"]
Vocabulary = Literal["numeric", "full"]  # the rows of numbers alone, or all
Optimizer = Literal["adamw", "muon"]
TransformKind = Literal["none", "log", "root", "trend", "log-trend"]  # see `transforms`
TransformChoice = Literal["auto", TransformKind]

TEMPERATURES = 1e-6, 1e6  # logits divided by these are far from what float32 does not hold
MUON_RATE = 2e-3  # a third of that at which tunings of SmolLM2 became unstable
MOST_JITTER = 10.0  # a factor of 22,000 either way
MOST_VARIABLES = 8  # of the series that a model is pretrained on
MOST_NOISE = 100.0  # ten times what a last digit can be

# sample paths a forecast, by what they are drawn for
FORECAST_PATHS = 100  # events and the outer quantiles of a forecast are read from them
SCORE_PATHS = 20  # scores are means over many windows, so that each needs fewer
DEMO_PATHS = 16  # a picture, and scores to be had in minutes
CHOICE_PATHS = 10  # which of several forecasters is better, on the same windows


def resolve_targets(targets: str) -> tuple[str, ...]:
    """The projections that `attention`, `all-linear` or a list such as `q,k,v` names, in the order of `PROJECTIONS`."""
    names = TARGET_SETS.get(targets) or tuple(part.strip() for part in targets.split(","))
    unknown = [name for name in names if name not in PROJECTIONS]
    if unknown:
        known = ", ".join((*TARGET_SETS, *PROJECTIONS))
        raise ConfigError([f"targets: unknown {', '.join(map(repr, unknown))}; choose from {known}"])
    return tuple(name for name in PROJECTIONS if name in names)


@dataclass(frozen=True)
class LoraConfig:
    """A low-rank adapter: W + alpha / rank · B A (Hu et al. 2021, arXiv:2106.09685, equation 3).

    Examples:
        >>> loracast.LoraConfig(rank=8, alpha=16.0, targets=("q", "v")).scaling
        2.0
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = PROJECTIONS

    def __post_init__(self):
        problems = at_least(self, {"rank": 1}) + shares(self, ("dropout",))
        problems += scaling(self.alpha, self.rank)
        if problems:
            raise ConfigError(problems)

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class CommonTuning:
    """Settings of a tuning that `TuneConfig` and the protocol of a study share."""

    rank: int = 8
    """Rank of the adapter's matrices."""

    dropout: float = 0.0
    """Share of the adapter's inputs that is dropped in training."""

    targets: str = "all-linear"
    """Projections that get an adapter: all-linear, attention (q and v, as published), or a list such as q,k,v,o."""

    steps: int = 300
    """Optimiser steps. With --flops, the most steps."""

    batch: int = 8
    """Windows a step."""

    optimizer: Optimizer = "adamw"
    """How a gradient changes the adapter: adamw, or muon, which makes the change of each matrix nearly orthogonal
    (Jordan 2024; Liu et al. 2025, arXiv:2502.16982) and needs far fewer steps where a model has much to learn."""

    learning_rate: float | None = None
    """Peak learning rate. Unless given, with adamw 3e-3 for 64 windows a step at hidden size 192, and less for fewer
    windows (1e-3 for 8) and for wider models (3e-4 at 896); with muon 2e-3, whatever the model's width."""

    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""

    decay: float | None = None
    """Share of the steps, at the end, over which the learning rate falls to zero in a straight line. Unless given, a
    cosine lowers it to a tenth of its peak from the end of the warmup on."""

    weight_decay: float = 0.0
    """Decoupled weight decay of the adapter's matrices."""

    jitter: float = 0.3
    """How far the size of a window's numbers is varied, so that the same series is written with other digits each time:
    by factors between exp(-jitter) and exp(jitter), one a variable. Few series are then memorised much later."""

    noise: float = 0.0
    """Deviation, in units of the last digit, of noise on the numbers that are read in training and validation; those to
    be written have none. Paths that a forecast reads back are not exact either, and drift less if trusted less."""

    observation_noise: float = 0.3
    """Most observation noise that windows get, context and future alike, relative to the values (0.3 is 30%). Each has
    noise of a kind and size of its own, and a quarter has none, so that one adapter reads clean and noisy series. 0 for
    series that are all as clean as those to be forecast."""

    gaps: float = 0.1
    """Share of the windows in whose contexts 5 to 60% of the numbers are hidden, so that an adapter does not forget how
    to read series with missing values."""

    validate_every: int = 50
    """Steps between two measurements of the validation loss; the best adapter is kept."""

    patience: int | None = None
    """Measurements of the validation loss in a row without a better one that end training; none does unless given."""

    validation_windows: int = 32
    """Held-out windows in a measurement of the validation loss."""

    def problems(self) -> list[str]:
        """What is wrong with these settings; each text begins with a setting's name."""
        problems = []
        try:
            resolve_targets(self.targets)
        except ConfigError as error:
            problems += error.problems
        problems += at_least(self, dict.fromkeys(("rank", "steps", "batch", "validate_every", "validation_windows"), 1))
        problems += positive(self, ("learning_rate", "patience"))
        problems += shares(self, ("dropout", "warmup", "gaps"))
        if self.decay is not None:
            problems += shares(self, ("decay",))
        if self.optimizer not in get_args(Optimizer):
            problems.append(f"optimizer must be one of {', '.join(get_args(Optimizer))}, not {self.optimizer!r}")
        return problems + not_negative(
            self, {"weight_decay": LARGEST, "jitter": MOST_JITTER, "noise": MOST_NOISE, "observation_noise": 1.0}
        )


@dataclass(frozen=True)
class TuneConfig(CommonTuning):
    """How an adapter is tuned.

    Raises:
        ConfigError: for settings that cannot hold, all at once.

    Examples:
        >>> loracast.TuneConfig(steps=100, rank=16).lora.alpha
        32.0
        >>> loracast.TuneConfig(steps=0, gaps=2.0)
        Traceback (most recent call last):
        loracast.errors.ConfigError: steps must be at least 1, not 0; gaps must lie in 0 to 1 (1 excluded), not 2.0
    """

    alpha: float | None = None
    """Strength of the adapter: its product is multiplied by alpha / rank. Twice the rank unless given."""

    accumulate: int | None = None
    """Parts that a step's batch is split into to save memory; the gradient is the same. As few as fit unless given."""

    context: int = 50
    """Observed steps at the start of a window; the scale of its numbers is taken from them alone."""

    horizon: int = 50
    """Steps that follow the context in a window."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    validation_series: int = 24
    """Held-out windows that are forecast at the end, untouched and tuned, to say whether tuning helped and, from 20 on,
    how wide its intervals ought to be; 0 for none."""

    validation_samples: int = CHOICE_PATHS
    """Sample paths of each of those forecasts."""

    siblings: str | None = None
    """A system, such as predator-prey, that simulated siblings of the training series are made of: trajectories that
    move as they do, so that a short series is not learned by heart. Validation stays with the series themselves."""

    sibling_series: int = 200
    """How many siblings are made. Of the windows that are trained on, a quarter stay those of the series."""

    flops: float | None = None
    """FLOP budget of training and validation together (executed convention). Training ends before passing it."""

    seed: int = 0
    """Seed of the adapter's start, the windows with their sizes, noise and gaps, and dropout."""

    def __post_init__(self):
        if problems := self.problems():
            raise ConfigError(problems)

    def problems(self) -> list[str]:
        problems = super().problems()
        problems += at_least(self, dict.fromkeys(("context", "horizon", "validation_samples", "sibling_series"), 1))
        problems += at_least(self, {"validation_series": 0, "seed": 0})
        problems += positive(self, ("alpha", "clip", "accumulate"))
        if self.flops is not None and not 0 < self.flops < float("inf"):  # which no device computes with
            problems.append(f"flops must be positive, not {self.flops}")
        if self.alpha is not None and not any(problem.startswith(("alpha", "rank")) for problem in problems):
            problems += scaling(self.alpha, self.rank)
        if self.accumulate is not None and self.accumulate > 0 and self.batch % self.accumulate:
            problems.append(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate})")
        return problems

    @property
    def lora(self) -> LoraConfig:
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return LoraConfig(self.rank, alpha, self.dropout, resolve_targets(self.targets))

    def peak_learning_rate(self, hidden_size: int) -> float:
        """The given one, or by the square root of the batch (Malladi et al. 2022, arXiv:2205.10287) and by width.

        A change of Muon's is as large whatever the width, so that its rate was the same at hidden sizes 192 and 576.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if self.optimizer == "muon":
            return MUON_RATE
        return 3e-3 * (self.batch / 64) ** 0.5 * (192 / hidden_size) ** 1.5


@dataclass(frozen=True)
class SampleConfig:
    """How sample paths are drawn.

    Raises:
        ConfigError: for settings that cannot hold, all at once.

    Examples:
        >>> loracast.SampleConfig(samples=20, seed=1)
        SampleConfig(samples=20, temperature=1.0, top_p=1.0, transform='auto', seed=1)
    """

    samples: int = FORECAST_PATHS
    """Sample paths a series."""

    temperature: float = 1.0
    """Divides the logits: below 1 the paths keep closer together. At 1e-4, every digit is the likeliest one."""

    top_p: float = 1.0
    """Keep the likeliest symbols whose probabilities reach this sum (nucleus sampling)."""

    transform: TransformChoice = "auto"
    """Scale on which series are written: none (as they are), log, root, trend (without their straight line) or
    log-trend. With auto, an untouched model takes for each series the one by which it forecasts its end clearly best;
    an adapter takes none, as it was tuned."""

    seed: int = 0
    """Seed of the paths. A series' paths depend on it, the series' id and the sample's number alone."""

    def __post_init__(self):
        problems = at_least(self, {"samples": 1, "seed": 0})
        low, high = TEMPERATURES
        if not self.temperature > 0:
            problems.append(
                f"temperature must be positive, not {self.temperature}; 1e-4 always draws the likeliest digit"
            )
        elif not low <= self.temperature <= high:
            problems.append(
                f"temperature must lie between {low:g} and {high:g}, so that float32 holds the logits divided by it, "
                f"not at {self.temperature}; 1e-4 always draws the likeliest digit"
            )
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p must lie above 0 and at most at 1, not {self.top_p}")
        elif self.top_p < SMALLEST:
            problems.append(
                f"top_p must be at least {SMALLEST:.3g}, not {self.top_p}, which float32 does not hold; the likeliest "
                "symbol is always kept, so 1e-9 keeps that one alone"
            )
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe of a small model pretrained from scratch on synthetic series."""

    family: Literal["qwen2", "qwen3", "llama", "mistral"] = "qwen2"
    """Family of the model, by which transformers and others know how to compute it."""

    hidden: int = 192
    """Hidden size."""

    layers: int = 14
    """Number of layers."""

    heads: int = 6
    """Query heads."""

    kv_heads: int = 3
    """Key-value heads, shared by groups of query heads."""

    mlp: int = 480
    """Inner size of the MLP."""

    digits: int = 3
    """Digits of a number (layout fixed)."""

    variables: int = 3
    """Most variables of a series, 8 at most. A forecast of more reads them in groups."""

    tokens: int = 1024
    """Tokens of most windows: 1024 / (digits + 1) / D steps of D variables."""

    long_tokens: int = 4096
    """Tokens of the windows of one step in `long_every`, of which there are fewer, so that a step is as many tokens.
    It is also how many the model's positions hold; as many as `tokens` for no longer windows."""

    long_every: int = 6
    """Optimiser steps from one with long windows to the next."""

    pool: int = 790_000
    """Synthetic series for most windows, made before training starts; of those for longer windows, as many as are
    needed beside them."""

    steps: int = 7000
    """Optimiser steps."""

    batch: int = 128
    """Windows a step."""

    learning_rate: float = 3e-3
    """Peak learning rate, of Muon for matrices and of AdamW for all else."""

    warmup: float = 0.03
    """Share of the steps over which the learning rate rises."""

    decay: float = 0.4
    """Share of the steps, at the end, over which the learning rate falls towards zero."""

    weight_decay: float = 0.1
    """Decoupled weight decay of the matrices."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    score_limit: float = 30.0
    """Heads whose attention scores are larger are shrunk every tenth step, so that bfloat16 can compute the scores."""

    validate_every: int = 400
    """Steps between two measurements of the validation loss on series that are never trained on."""

    save_every: int = 1000
    """Steps between two checkpoints."""

    seed: int = 0
    """Seed of the weights, the series and the batches."""

    def window_tokens(self, step: int) -> int:
        """Tokens of the windows of an optimiser step, counted from 0."""
        return self.long_tokens if step % self.long_every == self.long_every - 1 else self.tokens

    def windows(self, step: int) -> int:
        """Windows of an optimiser step: of long ones, as many as hold no more tokens than the others."""
        return max(1, self.batch * self.tokens // self.window_tokens(step))

    def __post_init__(self):
        names = ("hidden", "layers", "heads", "kv_heads", "mlp", "digits", "variables", "long_every", "pool", "steps")
        names += ("batch", "long_tokens")
        problems = at_least(self, dict.fromkeys((*names, "validate_every", "save_every"), 1) | {"seed": 0})
        problems += positive(self, ("learning_rate", "clip", "score_limit"))
        problems += not_negative(self, {"weight_decay": LARGEST})
        problems += shares(self, ("warmup", "decay"))
        if self.heads > 0 and self.hidden % (2 * self.heads):
            problems.append(f"hidden ({self.hidden}) must be a multiple of twice the heads ({self.heads})")
        if self.kv_heads > 0 and self.heads % self.kv_heads:
            problems.append(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if not self.tokens >= 8 * self.variables * (self.digits + 1):
            problems.append(
                f"tokens ({self.tokens}) must hold 8 steps of {self.variables} variables of {self.digits} digits, "
                f"which take {8 * self.variables * (self.digits + 1)}"
            )
        if self.variables > MOST_VARIABLES:
            problems.append(
                f"variables must be at most {MOST_VARIABLES}, not {self.variables}; more are read in groups"
            )
        if self.long_tokens < self.tokens:
            problems.append(f"long_tokens ({self.long_tokens}) must be at least tokens ({self.tokens})")
        if problems:
            raise ConfigError(problems)
