"""The home: closed to others, and no link of somebody else's is followed when it is cleared."""

import os
from pathlib import Path

import pytest

from actors import home
from actors.settings import Refused


def test_a_folder_that_was_open_to_all_is_closed(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    assert home.private_folder(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a link that is another user's")
def test_a_planted_link_is_refused_and_nothing_behind_it_is_deleted(tmp_path, monkeypatch):
    victim, link = tmp_path / "victim", tmp_path / "short"
    (victim / "ray").mkdir(parents=True)
    (victim / "ray" / "precious").touch()
    link.symlink_to(victim)
    os.lchown(link, 65534, 65534)
    monkeypatch.setattr(home, "short", lambda *_: link)
    home.forget(tmp_path / "home")
    assert (victim / "ray" / "precious").exists()
    with pytest.raises(Refused, match="belongs to another user"):
        home.private_folder(link)


@pytest.mark.parametrize("name", ["/etc/passwd", "/etc/passwd/x", "/proc/nope"])
def test_a_home_that_cannot_be_made_is_a_sentence(name):
    with pytest.raises(Refused, match="set VOLARIS_HOME to a folder of your own"):
        home.private_folder(Path(name))


@pytest.mark.parametrize(("path", "plain"), [("/a b/c", True), ("/q'uote", False), ("/ü", False)])
def test_ray_gets_a_plain_path(path, plain):
    assert (home.short(Path(path), 10) == Path(path)) is plain
