"""What a device needs: read an image safely, find and crop the face. numpy, OpenCV, onnxruntime."""

from importlib import import_module

_HOME = {
    "BadImage": "images",
    "Face": "faces",
    "FaceFinder": "faces",
    "Preprocessing": "crop",
    "Undecided": "faces",
    "choose_face": "faces",
    "crop_square": "crop",
    "image_size": "images",
    "read_image": "images",
    "sha256_file": "files",
    "to_input": "crop",
    "write_atomic": "files",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
