"""The worker processes of a program, from the list of processes of Linux."""

from __future__ import annotations

from pathlib import Path


def children(process: int) -> set[int]:
    """Those that work, so not the one that Python keeps for cleaning up."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if int(words[1]) == process and words[0] != "Z" and b"spawn_main" in command:
            found.add(int(folder.name))
    return found
