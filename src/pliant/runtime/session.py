"""One configuration of a bundle's model, ready to run in ONNX Runtime."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.contract import Contract

MAX_THREADS = 256


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Immutable, and may be run from several threads."""

    session: Any
    """An onnxruntime.InferenceSession."""
    tier: str | None
    """The tier's name; None: a configuration that is no tier."""
    configuration: str
    """One letter per adaptive block."""
    threshold: float | None
    """Of the tier: accept iff score >= threshold."""
    input_name: str
    output_name: str
    num_classes: int

    @property
    def name(self) -> str:
        """The tier, or else the configuration."""
        return self.tier or self.configuration

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 (B, classes), of inputs (B, 3, size, size) as `to_input` makes them.

        Raises:
            UserError: if the inputs have another shape or type, or the model fails on them.
        """
        if not isinstance(inputs, np.ndarray):
            raise UserError(
                f"{self.name} runs on a float32 array (batch, 3, size, size), got "
                f"{type(inputs).__name__}"
            )
        try:
            logits = self.session.run([self.output_name], {self.input_name: inputs})[0]
        except Exception as error:  # ONNX Runtime raises classes of its own that have no parent
            raise UserError(
                f"{self.name} cannot run on {inputs.dtype} {inputs.shape}: {_first_line(error)}"
            ) from error
        if logits.shape != (len(inputs), self.num_classes):
            raise UserError(
                f"{self.name} gives {logits.shape} numbers for {len(inputs)} images and "
                f"{self.num_classes} classes: the model is damaged"
            )
        return logits

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax of the logits, (B, classes); NaN where a logit is not finite."""
        logits = self.run(inputs).astype(np.float64)
        logits[~np.isfinite(logits).all(axis=1)] = np.nan
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def create_session(model: bytes, contract: Contract, threads: int) -> Any:
    """A session on the CPU whose input and output are those of the contract.

    Args:
        model: The ONNX file with its selection written.
        contract: Names and shapes of input and output.
        threads: Used inside an operator.

    Raises:
        UserError: if ONNX Runtime refuses the model, or it has other inputs or outputs.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    # its own format, which it would recognise by a mark, holds an optimised graph unchecked
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises classes of its own that have no parent
        raise UserError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open the model: {_first_line(error)}"
        ) from error
    pre, classes = contract.preprocessing, len(contract.classes)
    for kind, name, shape, listed in (
        ("input", contract.input_name, [3, pre.size, pre.size], session.get_inputs),
        ("output", contract.output_name, [classes], session.get_outputs),
    ):
        found = _described(listed)
        if len(found) != 1 or not _fits(found[0], name, shape):
            wanted = ", ".join(map(str, ["batch", *shape]))
            raise UserError(
                f"the model's {kind} must be {name} tensor(float) [{wanted}], as bundle.json says, "
                f"it is {_printable(str(found))}"
            )
    return session


def _described(listed: Any) -> list[tuple[str, str, list[Any]]]:
    """(name, type, shape) of each input or output."""
    try:
        return [(one.name, one.type, one.shape) for one in listed()]
    except UnicodeDecodeError as error:
        raise UserError("the model has names that are no text: the bundle is damaged") from error


def _fits(found: tuple[str, str, list[Any]], name: str, shape: list[int]) -> bool:
    """Whether the batch is free, and all else as it should be."""
    batch, *rest = found[2] or [0]
    return (*found[:2], rest) == (name, "tensor(float)", shape) and not isinstance(batch, int)


def _first_line(error: Exception) -> str:
    return _printable((str(error).strip().splitlines() or ["no reason given"])[0])


def _printable(text: str) -> str:
    """Names inside a model could rewrite a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)[:200]
