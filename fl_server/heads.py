"""What of a job's storage is kept in a store of objects: a head names every file, and the parts that it is made of.

Heads are numbered and never overwritten, and the highest number is the truth. What is read here may have been written
by others, so no name in it leads out of the folder.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fl_core.errors import StorageError, UnusableError
from fl_core.plan import canonical
from fl_server.fence import Owner

HEADS: Final = "heads"
OBJECTS: Final = "objects"
STEP: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
OUT: Final = ("claims/", "spool/")
"""What of the folder is this machine's alone."""
HOLDERS: Final = 16
"""Pods that are remembered, so that one that was replaced knows itself."""

Name = Annotated[str, Field(pattern=rf"^{STEP}(/{STEP})*$", max_length=512)]


class Part(BaseModel):
    """An object, and what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object: Annotated[str, Field(pattern=rf"^{OBJECTS}/\d{{10}}/\d{{10}}$")]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Parts = tuple[Part, ...]


class Head(BaseModel):
    """What is kept: by which server of which job, and the parts of each file, which follow one another.

    `server` is drawn by each server, and tells its own heads from another's; `holders` are the pods that have claimed
    the store, the last one last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["fljob storage 1"] = "fljob storage 1"
    epoch: Annotated[int, Field(ge=1, lt=10**10)]
    server: str
    owner: Owner
    holders: tuple[str, ...] = ()
    files: dict[Name, Parts] = Field(default_factory=dict)

    @field_validator("files")
    @classmethod
    def _others(cls, files: dict[str, Parts]) -> dict[str, Parts]:
        if any(path.startswith(OUT) for path in files):
            raise ValueError(f"{' and '.join(OUT)} are never kept")
        return files

    def encoded(self) -> bytes:
        """Its object's content."""
        return canonical(self.model_dump()).encode()

    def naming(self, files: dict[str, Parts]) -> Head:
        """The head after it, of these files; StorageError where one has a name that could not be read again."""
        try:
            return Head.model_validate({**dict(self), "files": files})
        except ValidationError as error:
            first = error.errors()[0]
            raise StorageError(
                f"{first['input']} cannot be kept: {first['msg']}; move it out of the storage's folder"
            ) from error

    @property
    def objects(self) -> frozenset[str]:
        """The objects that it names."""
        return frozenset(part.object for parts in self.files.values() for part in parts)


def head_name(number: int) -> str:
    """What the head of this number is called."""
    return f"{HEADS}/{number:010d}.json"


def head_number(name: str) -> int:
    """The number of the head that is called so; 0 for what is none."""
    digits = name.removeprefix(f"{HEADS}/").removesuffix(".json")
    return int(digits) if digits.isdecimal() and head_name(int(digits)) == name else 0


def object_name(epoch: int, number: int) -> str:
    """The name of a server's object, which no other server gives: only one has the epoch."""
    return f"{OBJECTS}/{epoch:010d}/{number:010d}"


def decoded(content: bytes, where: str) -> Head:
    """The head that is kept there; UnusableError where it is none."""
    try:
        return Head.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UnusableError(
            f"{where} is damaged, or of another version of FLJob: {first['msg']} at {place or 'its beginning'}; "
            "put a copy back, or remove it to go on with what was kept before it: `fl-submit run --resume`, or on a "
            "cluster another job by fl-submit fork"
        ) from error
