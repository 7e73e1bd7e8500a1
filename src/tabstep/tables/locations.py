"""File discovery: a path, directory, glob or ``s3://`` address becomes a list of files."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyarrow import ArrowException, fs

from tabstep.config.local_tables import near_path
from tabstep.errors import RetryError, UserError
from tabstep.system.exits import of_the_machine, of_the_storage

PARQUET_SUFFIXES: Final = (".parquet", ".parq", ".pq")
CSV_SUFFIXES: Final = tuple(f".{name}{packed}" for name in ("csv", "tsv", "txt") for packed in ("", ".gz", ".zst"))
_URI: Final = re.compile(r"^[a-z][a-z0-9+.-]+://")
_PARQUET: Final = b"PAR1"
_MAGIC: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What a file system says of a file without reading it; an object of a store has a size and a time alone."""

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    device: int = 0
    inode: int = 0

    @property
    def changed_ns(self) -> int:
        # a copy may keep the time of the original, but not that of the change of its own entry
        return max(self.mtime_ns, self.ctime_ns)

    def same_file(self, other: FileState) -> bool:
        """Whether nobody wrote to the file in between; a new name or permission, which ``ctime_ns`` tells, is none."""
        return replace(self, ctime_ns=0) == replace(other, ctime_ns=0)


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where files are: a file system, the directory they are named from, and their paths in sorted order."""

    filesystem: fs.FileSystem
    base: str
    paths: tuple[str, ...]

    def name(self, path: str) -> str:
        """Return ``path`` relative to ``base``."""
        return path[len(self.base) :].lstrip("/") if self.base and path.startswith(self.base) else path

    def state(self, path: str) -> FileState:
        if not isinstance(self.filesystem, fs.LocalFileSystem):
            info = self.filesystem.get_file_info(path)
            return FileState(size=info.size or 0, mtime_ns=info.mtime_ns or 0)
        stat = os.stat(path)
        return FileState(
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            ctime_ns=stat.st_ctime_ns,
            device=stat.st_dev,
            inode=stat.st_ino,
        )


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it."""
    if not _URI.match(location):
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))
    try:
        filesystem, path = fs.FileSystem.from_uri(location)
    except (ArrowException, OSError) as error:
        raise UserError(f"{location}: cannot be opened as an address: {first_line(error)}") from error
    return filesystem, path


def is_remote(location: str) -> bool:
    """Whether ``location`` is an address of something other than this machine's own files.

    >>> is_remote("s3://bucket/train"), is_remote("file:///data/train"), is_remote("data/train")
    (True, False, False)
    """
    return _URI.match(location) is not None and not location.startswith("file://")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its final full stop; S3 gives no reason in answers to HEAD.

    >>> first_line(OSError("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: None."))
    'AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: None (as for a token that has expired)'
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{line} (as for a token that has expired)" if "(HTTP status 400) during HeadObject" in line else line


def read_error(where: str, name: str, error: Exception, part: str = "") -> UserError | RetryError:
    """Return what a failed read of a file means; ``part`` says which part of damaged data it is."""
    cause = first_line(error)
    if of_the_machine(error):
        return RetryError(f"{where}: {name}: cannot be read: {cause}: run again when the storage is back")
    if of_the_storage(error):
        return UserError(f"{where}: {name}: cannot be read: {cause}: let this user read it")
    return UserError(f"{where}: {name}: {part}is damaged: {cause}: copy or write the file again")


def entries(location: str, *, where: str) -> dict[str, fs.FileInfo]:
    """Return what a directory holds directly, by name, without hidden entries.

    Raises:
        UserError: it is missing, a file, or cannot be listed. Messages begin with ``where``.
    """
    filesystem, path = open_filesystem(location)
    kind = _file_type(filesystem, path, where)
    if kind == fs.FileType.File:
        raise UserError(f"{where}: {location} is a file, a directory is due: set data.train to it instead")
    if kind == fs.FileType.NotFound:
        raise UserError(f"{where}: no such directory: {location}{near_path(path)}")
    infos = _list(filesystem, path, where, recursive=False)
    return {info.base_name: info for info in infos if not _hidden(info.base_name)}


def is_csv(location: str, *, where: str) -> bool:
    """Whether a location stands for CSV: a name that ends so, or a directory with CSV and no parquet in it."""
    filesystem, path = open_filesystem(location)
    if path.lower().endswith(CSV_SUFFIXES):
        return True
    if path.lower().endswith(PARQUET_SUFFIXES) or _file_type(filesystem, path, where) != fs.FileType.Directory:
        return False
    names = [info.path for info in _list(filesystem, path, where, recursive=True) if not _hidden(info.base_name)]
    # where there is parquet as well, it is the table
    return any(name.lower().endswith(CSV_SUFFIXES) for name in names) and not any(
        name.lower().endswith(PARQUET_SUFFIXES) for name in names
    )


def find_files(location: str, *, where: str, suffixes: tuple[str, ...] = PARQUET_SUFFIXES) -> Location:
    """Return the files of a file, a directory (and the directories below it) or a glob.

    In a directory names that end in one of ``suffixes`` count, in small or capital letters, and parquet files whose
    names have no ending, as ``part-00001``; hidden names (``.`` or ``_`` first) do not.

    Raises:
        UserError: nothing is there, it cannot be read, it holds no such file, or one twice by a link. Messages begin
            with ``where``.
        RetryError: the storage failed.
    """
    if not location.strip():
        raise UserError(f"{where}: is empty: name a parquet file, a directory of parquet files or a glob")
    filesystem, path = open_filesystem(location)
    kind = _file_type(filesystem, path, where)
    if kind == fs.FileType.File:
        return Location(filesystem=filesystem, base=os.path.dirname(path), paths=(path,))
    if kind == fs.FileType.Directory:
        return _in_directory(filesystem, path, location, where, suffixes)
    if _MAGIC.search(path):
        return _by_glob(filesystem, path, location, where)
    raise UserError(f"{where}: no such file or directory: {location}{near_path(path)}")


def is_directory(location: str, *, where: str) -> bool:
    """Whether ``location`` is a directory that exists."""
    filesystem, path = open_filesystem(location)
    return bool(_file_type(filesystem, path, where) == fs.FileType.Directory)


def _file_type(filesystem: fs.FileSystem, path: str, where: str) -> fs.FileType:
    try:
        return filesystem.get_file_info(path).type
    except (OSError, ArrowException) as error:
        raise _unreadable(f"{where}: {path} cannot be read", error) from error
    except UnicodeError as error:
        raise UserError(f"{where}: {path!r} is not UTF-8, as a file's name must be: rename it") from error


def _unreadable(what: str, error: Exception) -> UserError | RetryError:
    if of_the_machine(error):
        return RetryError(f"{what}: {first_line(error)}: run again when the storage is back")
    return UserError(f"{what}: {first_line(error)}")


def _list(filesystem: fs.FileSystem, path: str, where: str, *, recursive: bool) -> list[fs.FileInfo]:
    try:
        infos: list[fs.FileInfo] = filesystem.get_file_info(
            fs.FileSelector(path, recursive=recursive, allow_not_found=True)
        )
        for info in infos:
            info.path.encode()  # it is decoded only now
    except (OSError, ArrowException) as error:
        raise _unreadable(f"{where}: {path} cannot be listed", error) from error
    except UnicodeError as error:
        raise UserError(f"{where}: {path} holds a file whose name is not UTF-8: rename it") from error
    return infos


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/") if part)


def _in_directory(
    filesystem: fs.FileSystem, path: str, location: str, where: str, suffixes: tuple[str, ...]
) -> Location:
    base = path.rstrip("/")
    infos = _list(filesystem, base, where, recursive=True)
    if isinstance(filesystem, fs.LocalFileSystem):
        _check_files(infos, base, suffixes, where)
    files = [info.path for info in infos if info.type == fs.FileType.File]
    seen = [file for file in files if not _hidden(file[len(base) :])]
    # the order of files is that of the rows, and a listing's own order differs between file systems
    paths = sorted(file for file in seen if _belongs(filesystem, file, suffixes, f"{where}: {file[len(base) + 1 :]}"))
    if not paths:
        raise UserError(f"{where}: no parquet file in {location} ({_what_is_there(files, seen)})")
    return _without_links(Location(filesystem=filesystem, base=base, paths=tuple(paths)), where)


def _check_files(infos: Sequence[fs.FileInfo], base: str, suffixes: tuple[str, ...], where: str) -> None:
    """Refuse what is named as a file of the form and is none, such as a link to a file that was moved: rows would lack.

    A directory may be named so: Spark writes its tables as such. Arrow does not list a link that leads nowhere.
    """
    found = {info.path for info in infos if info.type in (fs.FileType.File, fs.FileType.Directory)}
    for directory, _, names in os.walk(base):
        for name in names:
            path = os.path.join(directory, name)
            if name.lower().endswith(suffixes) and path not in found and not _hidden(path[len(base) :]):
                shown = path[len(base) :].lstrip("/")
                raise UserError(f"{where}: {shown} is no file, nor a link to one: write it again or remove it")


def _belongs(filesystem: fs.FileSystem, path: str, suffixes: tuple[str, ...], what: str) -> bool:
    """Whether a name says that a file is of the form; parquet, also its first bytes where the name says nothing.

    Of a file that cannot be read nobody knows, and its rows may lack: it is refused, in a message that begins with
    ``what``.
    """
    name = os.path.basename(path).lower()
    if "." in name or suffixes != PARQUET_SUFFIXES:
        return name.endswith(suffixes)
    try:
        with filesystem.open_input_file(path) as file:
            return bool(file.read(len(_PARQUET)) == _PARQUET)
    except OSError as error:
        if of_the_machine(error):
            raise _unreadable(f"{what}: cannot be read", error) from error
        cause = f"{what}: cannot be read, and its name has no ending that would say what it is: {first_line(error)}"
        raise UserError(f"{cause}: let this user read it, or remove it") from error


def _without_links(location: Location, where: str) -> Location:
    """Refuse a table of which a link shows some files again, such as that of a directory to itself."""
    if not isinstance(location.filesystem, fs.LocalFileSystem):
        return location
    names: dict[str, str] = {}
    for path in location.paths:
        first = names.setdefault(os.path.realpath(path), path)
        if first != path:
            twice = " and ".join(sorted((location.name(first), location.name(path)), key=len))
            raise UserError(f"{where}: {twice} are one file, which a link shows twice: remove the link")
    return location


def _what_is_there(files: Sequence[str], seen: Sequence[str]) -> str:
    if not files:
        return "it is empty"
    if not seen:
        return f"only hidden files, such as {os.path.basename(files[0])}: names that begin with '.' or '_' are skipped"
    return f"found {os.path.basename(sorted(seen)[0])}: a file's name must end in .parquet"


def _by_glob(filesystem: fs.FileSystem, path: str, location: str, where: str) -> Location:
    base = path[: _MAGIC.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]  # the caller has matched
    if isinstance(filesystem, fs.LocalFileSystem):
        # as on a shell: the local file system is asked, and no listing of all that lies below
        matching = [file for file in glob.glob(path, recursive=True) if os.path.isfile(file)]
    else:
        infos = _list(filesystem, base, where, recursive=True)
        matching = [info.path for info in infos if info.type == fs.FileType.File and _matches(info.path, path)]
    paths = sorted(file for file in matching if not _hidden(file[len(base) :]))
    if not paths:
        raise UserError(f"{where}: no file matches {location}")
    return _without_links(Location(filesystem=filesystem, base=base, paths=tuple(paths)), where)


def _matches(path: str, pattern: str) -> bool:
    """Whether a path matches a glob as it would on a local disk: ``*`` stays within a name, ``**`` does not.

    >>> _matches("b/x/1.parquet", "b/*.parquet"), _matches("b/x/1.parquet", "b/**/*.parquet")
    (False, True)
    """
    parts, wanted = path.split("/"), pattern.split("/")
    if wanted[0] == "**":
        rest = "/".join(wanted[1:])
        return any(_matches("/".join(parts[skip:]), rest) for skip in range(len(parts)))
    if not fnmatch.fnmatchcase(parts[0], wanted[0]):
        return False
    if len(parts) == 1 or len(wanted) == 1:
        return len(parts) == len(wanted)
    return _matches("/".join(parts[1:]), "/".join(wanted[1:]))
