"""YuNet: a small face detector with five landmarks, run by ONNX Runtime.

Wu, Peng, Yu. "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20,
2023. Weights: libfacedetection.train (dynamic size) or OpenCV's model zoo (fixed size).

OpenCV 4.14's own `FaceDetectorYN` cannot open the file of dynamic size ("dynamic shapes are not
supported"), so the outputs are decoded here: anchor-free, one prediction per cell of three grids of
stride s = 8, 16, 32 px; centre = (cell + offset) s, side = exp(log side) s, score = sqrt(class x
object).
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError

STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{kind}_{s}" for kind in ("cls", "obj", "bbox", "kps") for s in STRIDES)
MIN_SCORE = 0.7
"""Detections below it are dropped."""
MAX_OVERLAP = 0.3
"""Of two boxes whose intersection over union is larger, the weaker is dropped."""
MAX_BYTES = 50_000_000


class YuNet:
    """A loaded detector; may be called from several threads.

    Args:
        path: The ONNX file.

    Raises:
        UserError: if the file is missing or is no YuNet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"no such face detector: {path}; give a YuNet .onnx file")
        if self.path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 10**6} MB; YuNet is not")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # callers spread images over threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                self.path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            source = self.session.get_inputs()[0]
            names = {output.name for output in self.session.get_outputs()}
        except Exception as error:
            raise UserError(f"{path} is not an ONNX model that can be opened") from error
        if not set(OUTPUTS) <= names or len(source.shape) != 4:
            raise UserError(f"{path} is not a YuNet face detector (outputs: {sorted(names)[:6]})")
        self.input_name = source.name
        height, width = source.shape[2:]
        self.fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One row per face: x, y, width, height, five landmarks as x, y, score; (N, 15), pixels."""
        height, width = bgr.shape[:2]
        scale = 1.0
        if self.fixed:
            rows, columns = self.fixed
            scale = min(rows / height, columns / width)
            size = (max(1, int(width * scale)), max(1, int(height * scale)))
            bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        else:
            rows, columns = (-(-n // 32) * 32 for n in (height, width))
        canvas = np.zeros((rows, columns, 3), np.float32)
        canvas[: bgr.shape[0], : bgr.shape[1]] = bgr
        found = self.session.run(OUTPUTS, {self.input_name: canvas.transpose(2, 0, 1)[None]})
        outputs = dict(zip(OUTPUTS, (np.asarray(a)[0] for a in found), strict=True))
        faces = decode(outputs, columns)
        faces[:, :14] /= scale
        return faces

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])


def decode(outputs: dict[str, NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    """The faces in the network's outputs, strongest first; (N, 15) as `YuNet` returns them.

    Args:
        outputs: cls_8 ... kps_32 with one row per cell, row by row.
        width: Of the network's input in pixels, a multiple of 32.
    """
    parts = []
    for stride in STRIDES:
        class_score, object_score = (
            np.clip(outputs[f"{kind}_{stride}"][:, 0], 0, 1) for kind in ("cls", "obj")
        )
        score = np.sqrt(class_score * object_score)
        strong = np.flatnonzero(score >= MIN_SCORE)
        columns = width // stride
        cell = np.stack([strong % columns, strong // columns], axis=1).astype(np.float32)
        box = outputs[f"bbox_{stride}"][strong]
        side = np.exp(np.clip(box[:, 2:], -10, 10)) * stride
        corner = (cell + box[:, :2]) * stride - side / 2
        points = outputs[f"kps_{stride}"][strong].reshape(-1, 5, 2) + cell[:, None]
        flat = points.reshape(-1, 10) * stride
        parts.append(np.concatenate([corner, side, flat, score[strong, None]], axis=1))
    faces = np.concatenate(parts).astype(np.float32)
    faces = faces[np.isfinite(faces).all(axis=1)]
    boxes, scores = faces[:, :4].tolist(), faces[:, 14].tolist()
    kept = cv2.dnn.NMSBoxes(boxes, scores, MIN_SCORE, MAX_OVERLAP)
    return faces[np.asarray(kept, dtype=int).reshape(-1)]
