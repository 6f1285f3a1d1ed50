"""Render clips in several processes, in order.

Threads do not help here: the arrays are small, so they would wait for the interpreter's lock.
Each worker is `python -m pliant.data.rig.workers`; it gets the settings as JSON, renders every
n-th clip and writes frames to its standard output: a line of JSON, then the bytes of the three
pictures. Unlike multiprocessing this needs neither pickle nor a guarded main module.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import IO

import cv2
import numpy as np

from pliant.data.rig.clips import Frame, decode, list_clips, render_clip
from pliant.data.rig.settings import RigSettings

SMALL = 60
"""Below so many frames the workers' start would cost more than it saves."""


def each_clip(settings: RigSettings, workers: int | None) -> Iterator[list[Frame]]:
    """The clips' frames in their order.

    Args:
        settings: What to render.
        workers: Processes; None for the number of cores, 1 to stay in this process.
    """
    clips = list_clips(settings)
    count = min(workers or os.cpu_count() or 1, len(clips))
    if workers is None and len(clips) * settings.frames < SMALL:
        count = 1
    if count <= 1 or not sys.executable:
        for clip in clips:
            yield list(render_clip(settings, clip))
        return
    crew = [Worker(settings, share, count) for share in range(count)]
    try:
        for place in range(len(clips)):
            yield crew[place % count].take()
    finally:
        for worker in crew:
            worker.stop()


class Worker:
    """One process and the thread that reads it a few clips ahead."""

    def __init__(self, settings: RigSettings, share: int, count: int) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pliant.data.rig.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdin is not None
        order = {"settings": settings.to_json(), "share": share, "count": count}
        with suppress(BrokenPipeError):  # it died already; `take` says so
            self.process.stdin.write(json.dumps(order).encode())
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.ready: Queue[list[Frame] | None] = Queue()
        self.thread = Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        """Read clips until the process ends; None marks the end."""
        assert self.process.stdout is not None
        try:
            while clip := receive(self.process.stdout):
                self.ready.put(clip)
        finally:
            self.ready.put(None)

    def take(self) -> list[Frame]:
        """The next clip's frames.

        Raises:
            RuntimeError: if the process died; the message holds the end of what it said.
        """
        clip = self.ready.get()
        if clip is None:
            self.process.wait()
            self.log.seek(0)
            said = self.log.read().decode(errors="replace")[-600:].strip()
            raise RuntimeError(f"a rendering process ended with {self.process.returncode}: {said}")
        return clip

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


def send(clip: list[Frame], pipe: IO[bytes]) -> None:
    """Write a clip: one line of JSON about its frames, then their pictures."""
    about = [
        {
            "subject": frame.subject,
            "species": frame.species,
            "clip": frame.clip,
            "index": frame.index,
            "session": frame.session,
            "split": frame.split,
            "box": frame.box,
            "landmarks": frame.landmarks.tolist(),
            "side": len(frame.colour),
            "jpeg": len(frame.jpeg),
        }
        for frame in clip
    ]
    pipe.write(json.dumps(about).encode() + b"\n")
    for frame in clip:
        pipe.write(frame.jpeg + frame.depth.tobytes() + frame.infrared.tobytes())
    pipe.flush()


def receive(pipe: IO[bytes]) -> list[Frame]:
    """Read a clip that `send` wrote; empty at the end."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return []
    clip = []
    for about in json.loads(line):
        side = about.pop("side")
        jpeg = pipe.read(about.pop("jpeg"))
        depth = np.frombuffer(pipe.read(2 * side * side), np.uint16).reshape(side, side)
        infrared = np.frombuffer(pipe.read(side * side), np.uint8).reshape(side, side)
        about |= {"box": tuple(about["box"]), "landmarks": np.array(about["landmarks"])}
        clip.append(Frame(**about, jpeg=jpeg, colour=decode(jpeg), depth=depth, infrared=infrared))
    return clip


def main() -> None:
    """A worker's life."""
    cv2.setNumThreads(1)
    order = json.load(sys.stdin)
    settings = RigSettings(**order["settings"])
    for clip in list_clips(settings)[order["share"] :: order["count"]]:
        send(list(render_clip(settings, clip)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
