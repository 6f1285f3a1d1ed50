"""What a device needs: open a bundle, find the face, judge it. numpy, OpenCV, onnxruntime."""

from importlib import import_module

_HOME = {
    "AuditLog": "audit",
    "BadImage": "images",
    "Bundle": "bundle",
    "Contract": "contract",
    "Face": "faces",
    "FaceFinder": "faces",
    "Footage": "video",
    "Loaded": "session",
    "Paced": "pace",
    "Pacer": "pace",
    "Prediction": "verdict",
    "Preprocessing": "crop",
    "QualityLimits": "quality",
    "SelfTest": "selftest",
    "Undecided": "faces",
    "choose_face": "faces",
    "crop_square": "crop",
    "decode_image": "images",
    "image_size": "images",
    "new_key": "signature",
    "read_image": "images",
    "sha256_file": "files",
    "sign": "signature",
    "to_input": "crop",
    "verify": "signature",
    "write_atomic": "files",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
