"""The published facts of `data/datasets.toml`, read and checked: where each data set is, how large, on which terms."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from helpers.run.paths import ROOT

DATASETS = ROOT / "data" / "datasets.toml"

RelativePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]


class DatasetError(ValueError):
    """A facts file that breaks the schema; the message names the data set and the key."""


class RemoteFile(BaseModel):
    """One file of a data set. Sizes in bytes; what is not known is left out, never guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    url: str = ""  # empty: no address that a program can use
    size: int | None = Field(None, gt=0)
    about: int | None = Field(None, gt=0)  # the size, where only a rounded one is known
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    unpacks_to: RelativePath | None = None  # below the data folder, named as the archive's top folder
    flat: bool = False  # the archive has no such top folder

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("an address must begin with https://")
        return url

    @property
    def expected(self) -> int:
        """Bytes, 0 where nothing is known."""
        return self.size or self.about or 0

    def place(self, data_dir: Path) -> Path:
        """What a loader reads: the unpacked folder, or the file itself."""
        return data_dir / (self.unpacks_to or self.name)


class Dataset(BaseModel):
    """A data set's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    page: str  # where a person reads about it and can download it by hand
    doi: str = ""
    licence: str
    cite: str = ""
    remarks: str = ""
    folder: RelativePath  # below the data folder: what a loader is given
    files: tuple[RemoteFile, ...] = ()


def read_datasets(path: Path = DATASETS) -> dict[str, Dataset]:
    """The data sets of a facts file, by name. Raises `DatasetError` for one that breaks the schema."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Dataset(name=name, **table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise DatasetError(f"{path}: {error}") from error
