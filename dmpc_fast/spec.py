"""Every size and setting of a model: frozen dataclasses and their JSON form.

This is the only vocabulary of sizes. The JSON under the key ``dmpc`` of a model file's metadata is
exactly :meth:`ModelSpec.to_json`; the C++ reader has structs with the same field names and the same
limits. Unknown or missing fields are errors in both.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dmpc_fast import strict_json
from dmpc_fast.strict_json import shown

FORMAT_VERSION = 1
STAGES = ("proposal", "dynamics", "objective")
#: Number of frequencies in the Fourier features of a noise angle; a feature vector has twice as many.
ANGLE_FREQUENCIES = 16
#: Frequencies grow geometrically from 1 to this value (radians per radian of noise angle).
ANGLE_MAX_FREQUENCY = 64.0
LAYER_NORM_EPSILON = 1e-5
#: Outputs of the objective at each step: reward, logit of going on, value of the state reached.
OBJECTIVE_OUTPUTS = 3

MAX_DIMENSION = 65536
MAX_HORIZON = 4096
MAX_HISTORY = 1024
MAX_LAYERS = 128
MAX_MEMBERS = 16
MAX_SAMPLER_STEPS = 255  # the random stream has 8 bits for a step, and 0 is the initial noise
MAX_SAMPLES = 65536
MAX_ELITES = 256
MAX_PARAMETERS = 1 << 31
#: Of the JSON text of a model's description, in UTF-8. A file's header holds the tensors' too.
MAX_HEADER_BYTES = 1 << 20
MAX_TEXT = 65536  # bytes in UTF-8
#: Action bounds must be float32 numbers.
MAX_BOUND = (2.0 - 2.0**-23) * 2.0**127
DTYPES = ("float32", "bf16", "int8")


class ModelFileError(ValueError):
    """A model's description or file is not what it must be; the message names the key or tensor."""


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ModelFileError(f"{name} must be an integer from {low} to {high}, got {shown(value)}")
    return value


def _number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        raise ModelFileError(
            f"{name} must be a finite number from {low} to {high}, got {shown(value)}"
        )
    return number


def _fields(name: str, data: Any, cls: type, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """`data` checked to be a JSON object with exactly the fields of `cls`, or without `optional`."""
    if not isinstance(data, dict):
        raise ModelFileError(f"{name} must be an object, got {type(data).__name__}")
    names = [f.name for f in dataclasses.fields(cls)]
    for key in data:
        if key not in names:
            raise ModelFileError(f"{name} has the unknown key {shown(key)}; known keys: {names}")
    for key in names:
        if key not in data and key not in optional:
            raise ModelFileError(f"{name} lacks the key {key!r}")
    return dict(data)


@dataclass(frozen=True)
class SamplerSpec:
    """How a stage is sampled: a rule and the angles at which the network is evaluated.

    rule: ``ddim`` (deterministic rotation from each angle to the next, the last one to 0) or
        ``consistency`` (jump to 0, then fresh noise up to the next angle).
    angles: noise angles in radians, strictly falling, each in (0, pi/2]; one network evaluation each.
    """

    rule: Literal["ddim", "consistency"]
    angles: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.rule not in ("ddim", "consistency"):
            raise ModelFileError(
                f"sampler.rule must be 'ddim' or 'consistency', got {shown(self.rule)}"
            )
        if not 1 <= len(self.angles) <= MAX_SAMPLER_STEPS:
            raise ModelFileError(
                f"sampler.angles must hold 1 to {MAX_SAMPLER_STEPS} angles, got {len(self.angles)}"
            )
        previous = math.inf
        for angle in self.angles:
            # The file keeps decimal digits: allow the last one of pi/2 to be rounded up.
            _number("sampler.angles", angle, 0.0, math.pi / 2 + 1e-9)
            if not 0.0 < angle < previous:
                raise ModelFileError(
                    f"sampler.angles must fall strictly and stay above 0, got {shown(self.angles)}"
                )
            previous = angle

    @property
    def steps(self) -> int:
        return len(self.angles)

    @classmethod
    def uniform(cls, steps: int, rule: Literal["ddim", "consistency"] = "ddim") -> SamplerSpec:
        """`steps` equal steps of the angle from pure noise (pi/2) to 0."""
        _integer("sampler steps", steps, 1, MAX_SAMPLER_STEPS)
        return cls(rule, tuple(math.pi / 2 * (1 - i / steps) for i in range(steps)))

    @classmethod
    def from_json(cls, data: Any) -> SamplerSpec:
        values = _fields("sampler", data, cls)
        if not isinstance(values["angles"], list):
            raise ModelFileError(f"sampler.angles must be a list, got {shown(values['angles'])}")
        angles = tuple(_number("sampler.angles", angle) for angle in values["angles"])
        return cls(values["rule"], angles)


@dataclass(frozen=True)
class StageSpec:
    """Dimensions of one stage's trajectory transformer (DiT-style; Peebles & Xie 2023).

    patch: consecutive time steps per token; the horizon is a multiple of it.
    heads x head_size need not equal width. positions: ``learned`` or ``fourier`` (a frozen table;
    stored either way). history_tokens: whether the condition is also added to every token.
    members: networks in the ensemble (1 for proposal and dynamics).
    sampler: None for the objective, which is evaluated once on clean input.
    """

    layers: int
    width: int
    heads: int
    head_size: int
    mlp: int
    patch: int = 1
    positions: Literal["learned", "fourier"] = "learned"
    history_tokens: bool = False
    members: int = 1
    sampler: SamplerSpec | None = None

    def __post_init__(self) -> None:
        _integer("layers", self.layers, 1, MAX_LAYERS)
        for name in ("width", "heads", "head_size", "mlp"):
            _integer(name, getattr(self, name), 1, MAX_DIMENSION)
        if self.heads * self.head_size > MAX_DIMENSION:
            raise ModelFileError(f"heads x head_size must be at most {MAX_DIMENSION}")
        _integer("patch", self.patch, 1, MAX_HORIZON)
        _integer("members", self.members, 1, MAX_MEMBERS)
        if self.positions not in ("learned", "fourier"):
            raise ModelFileError(
                f"positions must be 'learned' or 'fourier', got {shown(self.positions)}"
            )
        if not isinstance(self.history_tokens, bool):
            raise ModelFileError(
                f"history_tokens must be true or false, got {shown(self.history_tokens)}"
            )

    @classmethod
    def from_json(cls, name: str, data: Any) -> StageSpec:
        values = _fields(f"stages.{name}", data, cls)
        if values["sampler"] is not None:
            values["sampler"] = SamplerSpec.from_json(values["sampler"])
        try:
            return cls(**values)
        except ModelFileError as error:
            raise ModelFileError(f"stages.{name}: {error}") from None


@dataclass(frozen=True)
class PolicySpec:
    """Dimensions of the reactive policy (D-MPC section 4.5): a multilayer perceptron.

    `layers` hidden layers of `width`, each a linear map and GELU (tanh form), from the condition
    to the next action, both normalised; the action is then clipped to its bounds.
    """

    layers: int
    width: int

    def __post_init__(self) -> None:
        _integer("layers", self.layers, 1, MAX_LAYERS)
        _integer("width", self.width, 1, MAX_DIMENSION)

    @classmethod
    def from_json(cls, data: Any) -> PolicySpec:
        values = _fields("policy", data, cls)
        try:
            return cls(**values)
        except ModelFileError as error:
            raise ModelFileError(f"policy.{error}") from None


@dataclass(frozen=True)
class EnvironmentSpec:
    """The robot a model is for.

    id: Gymnasium id, or None. observation_keys: keys by which a dictionary observation is flattened,
    in order, or None for plain arrays. action_low/action_high: A bounds in environment units, None
    where there is none. control_period_s: seconds between actions.
    """

    id: str | None
    observation_keys: tuple[str, ...] | None
    action_low: tuple[float | None, ...]
    action_high: tuple[float | None, ...]
    control_period_s: float

    def __post_init__(self) -> None:
        if self.id is not None and not _is_text(self.id):
            raise ModelFileError(
                f"environment.id must be null or text of at most {MAX_TEXT} bytes, "
                f"got {shown(self.id)}"
            )
        keys = self.observation_keys
        if keys is not None and not all(isinstance(key, str) for key in keys):
            raise ModelFileError(f"environment.observation_keys must be texts, got {shown(keys)}")
        if len(self.action_low) != len(self.action_high):
            raise ModelFileError("environment.action_low and action_high must have one length")
        for i, (low, high) in enumerate(zip(self.action_low, self.action_high, strict=True)):
            if low is not None:
                _number(f"environment.action_low[{i}]", low, -MAX_BOUND, MAX_BOUND)
            if high is not None:
                _number(f"environment.action_high[{i}]", high, -MAX_BOUND, MAX_BOUND)
            if low is not None and high is not None and not low < high:
                raise ModelFileError(
                    f"environment: action bound {i} must have low < high, got {low} and {high}"
                )
        _number("environment.control_period_s", self.control_period_s, 0.0, 1e6)
        if self.control_period_s <= 0:
            raise ModelFileError(
                f"environment.control_period_s must be positive, got {self.control_period_s}"
            )

    @classmethod
    def from_json(cls, data: Any) -> EnvironmentSpec:
        values = _fields("environment", data, cls)
        for name in ("observation_keys", "action_low", "action_high"):
            value = values[name]
            if value is None and name == "observation_keys":
                continue
            if not isinstance(value, list):
                raise ModelFileError(f"environment.{name} must be a list, got {shown(value)}")
            if name != "observation_keys":
                value = [None if x is None else _number(f"environment.{name}", x) for x in value]
            values[name] = tuple(value)
        values["control_period_s"] = _number(
            "environment.control_period_s", values["control_period_s"]
        )
        return cls(**values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= MAX_TEXT


@dataclass(frozen=True)
class ModelSpec:
    """All that a loader must know of a model, in the notation of the documentation (S, A, F, H).

    discount and termination_penalty define the objective J; recommended holds planner options that
    the model was measured with (keys: num_samples, action_chunk, num_elites, dtype, all optional);
    provenance is free text; policy is None where the model has none (the file then lacks the key).
    """

    state_size: int
    action_size: int
    horizon: int
    history: int
    context: int
    discount: float
    termination_penalty: float
    stages: dict[str, StageSpec]
    environment: EnvironmentSpec
    recommended: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    policy: PolicySpec | None = None

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        _integer("state_size", self.state_size, 1, MAX_DIMENSION)
        _integer("action_size", self.action_size, 1, MAX_DIMENSION)
        _integer("horizon", self.horizon, 1, MAX_HORIZON)
        _integer("history", self.history, 1, MAX_HISTORY)
        _integer("context", self.context, 0, MAX_DIMENSION)
        _integer("condition size", self.condition_size, 1, 16 * MAX_DIMENSION)
        discount = _number("discount", self.discount, 0.0, 1.0)
        if discount == 0.0:
            raise ModelFileError("discount must lie in (0, 1], got 0")
        _number("termination_penalty", self.termination_penalty, 0.0, 1e12)
        for name in STAGES:
            if name not in self.stages:
                raise ModelFileError(f"stages lacks {name!r}")
        for name, stage in self.stages.items():
            if name not in STAGES:
                raise ModelFileError(f"stages has the unknown key {name!r}; known keys: {STAGES}")
            if self.horizon % stage.patch:
                raise ModelFileError(
                    f"stages.{name}: horizon {self.horizon} is not a multiple of patch {stage.patch}"
                )
            if (stage.sampler is None) != (name == "objective"):
                raise ModelFileError(
                    f"stages.{name}: a sampler belongs to proposal and dynamics only"
                )
            if stage.members != 1 and name != "objective":
                raise ModelFileError(f"stages.{name}: members must be 1, got {stage.members}")
        if len(self.environment.action_low) != self.action_size:
            raise ModelFileError(
                f"environment.action_low must have {self.action_size} entries, "
                f"got {len(self.environment.action_low)}"
            )
        for name in ("recommended", "provenance"):
            if not isinstance(getattr(self, name), dict):
                raise ModelFileError(f"{name} must be an object")
        self._check_recommended()

    def _check_recommended(self) -> None:
        for key, value in self.recommended.items():
            if key == "num_samples":
                _integer("recommended.num_samples", value, 1, MAX_SAMPLES)
            elif key == "action_chunk":
                _integer("recommended.action_chunk", value, 1, self.horizon)
            elif key == "num_elites":
                _integer("recommended.num_elites", value, 1, MAX_ELITES)
            elif key == "dtype":
                if value not in DTYPES:
                    raise ModelFileError(
                        f"recommended.dtype must be one of {DTYPES}, got {shown(value)}"
                    )
            else:
                raise ModelFileError(
                    f"recommended has the unknown key {shown(key)}; "
                    f"known keys: ['num_samples', 'action_chunk', 'num_elites', 'dtype']"
                )

    @property
    def condition_size(self) -> int:
        """Length of the condition: H states, H-1 actions, H-1 mask entries, context."""
        h = self.history
        return h * self.state_size + (h - 1) * (self.action_size + 1) + self.context

    def noisy_size(self, stage: str) -> int:
        """Per-step features that are denoised: A, S or none."""
        return {"proposal": self.action_size, "dynamics": self.state_size, "objective": 0}[stage]

    def clean_size(self, stage: str) -> int:
        """Per-step features given as they are: none, A, or S + A (states first)."""
        both = self.state_size + self.action_size
        return {"proposal": 0, "dynamics": self.action_size, "objective": both}[stage]

    def output_size(self, stage: str) -> int:
        return OBJECTIVE_OUTPUTS if stage == "objective" else self.noisy_size(stage)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that a file of this model holds; no other is legal."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, size in (
            ("state", self.state_size),
            ("action", self.action_size),
            ("reward", 1),
            ("value", 1),
        ):
            shapes[f"normalizer.{name}.mean"] = (size,)
            shapes[f"normalizer.{name}.scale"] = (size,)
        for name in STAGES:
            for member in range(self.stages[name].members):
                for key, shape in self.network_shapes(name).items():
                    shapes[f"{name}.{member}.{key}"] = shape
        for key, shape in self.policy_shapes().items():
            shapes[f"policy.{key}"] = shape
        return shapes

    def policy_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the policy's tensors, none without a policy."""
        if self.policy is None:
            return {}
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = self.condition_size
        for i in range(self.policy.layers):
            shapes[f"hidden.{i}.weight"] = (self.policy.width, inputs)
            shapes[f"hidden.{i}.bias"] = (self.policy.width,)
            inputs = self.policy.width
        shapes["out.weight"] = (self.action_size, inputs)
        shapes["out.bias"] = (self.action_size,)
        return shapes

    def network_shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Name and shape of the tensors of one network; linear weights are (outputs, inputs)."""
        stage = self.stages[name]
        width, inner = stage.width, stage.heads * stage.head_size
        features = stage.patch * (self.noisy_size(name) + self.clean_size(name))

        shapes: dict[str, tuple[int, ...]] = {}

        def linear(key: str, outputs: int, inputs: int) -> None:
            shapes[f"{key}.weight"] = (outputs, inputs)
            shapes[f"{key}.bias"] = (outputs,)

        linear("token", width, features)
        shapes["positions"] = (self.horizon // stage.patch, width)
        if stage.history_tokens:
            shapes["history.weight"] = (width, self.condition_size)
        linear("condition.history", width, self.condition_size)
        if self.noisy_size(name):
            shapes["condition.angle.weight"] = (width, 2 * ANGLE_FREQUENCIES)
            shapes["condition.target.weight"] = (width, 2 * ANGLE_FREQUENCIES)
        linear("condition.out", width, width)
        for i in range(stage.layers):
            linear(f"blocks.{i}.modulation", 6 * width, width)
            linear(f"blocks.{i}.qkv", 3 * inner, width)
            linear(f"blocks.{i}.projection", width, inner)
            linear(f"blocks.{i}.mlp_in", stage.mlp, width)
            linear(f"blocks.{i}.mlp_out", width, stage.mlp)
        linear("final.modulation", 2 * width, width)
        linear("final.out", stage.patch * self.output_size(name), width)
        return shapes

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        if self.policy is None:
            del values["policy"]
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse and validate; raises `ModelFileError` naming the offending key."""
        if len(text) > MAX_HEADER_BYTES or len(text.encode("utf-8", "replace")) > MAX_HEADER_BYTES:
            raise ModelFileError(f"metadata 'dmpc' must be at most {MAX_HEADER_BYTES} bytes long")
        try:
            data = strict_json.parse(text)
        except ValueError as error:
            raise ModelFileError(f"metadata 'dmpc' is not valid JSON: {error}") from None
        if isinstance(data, dict) and "format_version" in data:
            # Before anything else, so that a newer file is not called a wrong one.
            _check_version(data["format_version"])
        values = _fields("model", data, cls, optional=("policy",))
        if not isinstance(values["stages"], dict):
            raise ModelFileError("stages must be an object")
        stages = values["stages"]
        for name in stages:
            if name not in STAGES:
                raise ModelFileError(
                    f"stages has the unknown key {shown(name)}; known keys: {STAGES}"
                )
        values["stages"] = {
            name: StageSpec.from_json(name, stage) for name, stage in stages.items()
        }
        values["environment"] = EnvironmentSpec.from_json(values["environment"])
        if "policy" in values:
            values["policy"] = PolicySpec.from_json(values["policy"])
        for name in ("discount", "termination_penalty"):
            values[name] = _number(name, values[name])
        return cls(**values)


def _check_version(version: Any) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version != FORMAT_VERSION:
        raise ModelFileError(
            f"format_version {shown(version)} is not supported: this package reads "
            f"version {FORMAT_VERSION}"
        )


_PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"layers": 2, "width": 64, "heads": 4, "head_size": 16, "mlp": 128},
    "small": {"layers": 3, "width": 128, "heads": 4, "head_size": 32, "mlp": 256},
    "paper": {"layers": 5, "width": 256, "heads": 8, "head_size": 128, "mlp": 2048},
}
PRESETS = tuple(_PRESETS)


def preset_stages(
    preset: str,
    *,
    proposal_steps: int = 5,
    dynamics_steps: int = 3,
    **overrides: Any,
) -> dict[str, StageSpec]:
    """The three stages of a preset.

    overrides: fields of `StageSpec` to replace in all of them, or under a stage's name a dictionary
    of those to replace in it alone.
    """
    if preset not in _PRESETS:
        raise ValueError(f"preset must be one of {PRESETS}, got {preset!r}")
    samplers = {
        "proposal": SamplerSpec.uniform(proposal_steps),
        "dynamics": SamplerSpec.uniform(dynamics_steps),
        "objective": None,
    }
    own = {stage: overrides.pop(stage, {}) for stage in STAGES}
    return {
        stage: StageSpec(**{**_PRESETS[preset], **overrides, **own[stage]}, sampler=samplers[stage])
        for stage in STAGES
    }
