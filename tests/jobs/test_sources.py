"""What the words after the model stand for."""

from pathlib import Path

import pytest

from pliant.errors import UserError
from pliant.jobs import sources
from pliant.jobs.sources import Sources, find_sources


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a/z.PNG", "a/x.webp", ".hidden/c.jpg", "a/.d.jpg", "notes.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(b"\xff\xd8\xff")
    return tmp_path / "tree"


def test_all_images_beneath_a_folder_sorted(tree: Path):
    found = find_sources([tree, tree / "notes.txt"])
    names = [path.relative_to(tree).as_posix() for path in found.images]
    assert names == ["a/x.webp", "a/z.PNG", "b.jpg", "notes.txt"]


def test_a_circle_of_links_ends(tree: Path):
    (tree / "a" / "up").symlink_to(tree, target_is_directory=True)
    assert len(find_sources([tree]).images) == 3


def test_a_video_and_a_camera_stand_alone(tree: Path):
    film = tree / "film.jpg"  # by its bytes, not by its name
    film.write_bytes(b"\x00\x00\x00\x18ftypmp42")
    assert find_sources([film]) == Sources(video=film)
    assert find_sources([Path("camera")]) == Sources(camera=0)
    assert find_sources([Path("camera:12")]) == Sources(camera=12)
    with pytest.raises(UserError, match=r"film.jpg is a video; give it alone"):
        find_sources([tree / "b.jpg", film])
    with pytest.raises(UserError, match="camera:1 is a camera; give it alone"):
        find_sources([Path("camera:1"), film])


def test_a_folder_called_camera_is_a_folder(tree: Path, monkeypatch: pytest.MonkeyPatch):
    (tree / "a").rename(tree / "camera")
    monkeypatch.chdir(tree)
    assert len(find_sources([Path("camera")]).images) == 2


def test_refusals(tree: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="no images were given"):
        find_sources([])
    with pytest.raises(UserError, match=r"no such image, folder or video: x.jpg, camera:x \(a"):
        find_sources([tree, Path("x.jpg"), Path("camera:x")])
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no images"):
        find_sources([tree / "empty"])
    monkeypatch.setattr(sources, "MAX_IMAGES", 2)
    with pytest.raises(UserError, match="holds more than 2 images"):
        find_sources([tree])
    with pytest.raises(UserError, match="more than 2 images were given"):
        find_sources([tree / "b.jpg"] * 3)
