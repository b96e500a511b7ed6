"""A folder of a store that is written to: whole files, one request each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruneviz.errors import PrunevizError
from pruneviz.stores.listing import RemoteFile, content_of, files_below, tag_of
from pruneviz.stores.urls import file_system, parts_of_url, store_errors


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of a store.

    Attributes:
        url: Its URL.
    """

    url: str

    def files(self) -> dict[str, RemoteFile]:
        """Its files, by their paths in it."""
        return files_below(self.url)

    def content(self, name: str, most: int) -> bytes | None:
        """The content of a small file; None if there is none."""
        return content_of(f"{self.url}/{name}", most)

    def put(self, name: str, file: Path) -> None:
        """Upload a file of this disk; an older one is replaced.

        Raises:
            FileNotFoundError: If the file of this disk is gone.
            LogError: If the store cannot be written to.
        """
        with file.open("rb"):  # its absence is no failure of the store
            self._call(name, lambda fs, remote: fs.put_file(str(file), remote))

    def write(self, name: str, content: bytes, *, new: bool = False) -> bool:
        """Write a small file.

        Args:
            name: Its path in the folder.
            content: Its bytes.
            new: Write it only if there is none yet, which some stores can tell for certain.

        Returns:
            Whether it was written.
        """

        def create(fs: Any, remote: str) -> bool:
            try:
                fs.pipe_file(remote, content, mode="create" if new else "overwrite")
            except FileExistsError:
                return False
            return True

        return bool(self._call(name, create))

    def version(self, name: str) -> RemoteFile:
        """Size and version of a file."""
        facts = self._call(name, lambda fs, remote: fs.info(remote, refresh=True))
        return RemoteFile(int(facts.get("size") or 0), tag_of(facts))

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone is no error."""

        def gone(fs: Any, remote: str) -> None:
            try:
                fs.rm_file(remote)
            except FileNotFoundError:
                return

        self._call(name, gone)

    def renew(self) -> None:
        """Open the store anew from now on, so that renewed credentials are read."""
        with suppress(PrunevizError):
            type(file_system(self.url)).clear_instance_cache()

    def _call(self, name: str, call: Callable[[Any, str], Any]) -> Any:
        url = f"{self.url}/{name}"
        with store_errors(f"{url} cannot be written"):
            return call(file_system(url), parts_of_url(url)[1])
