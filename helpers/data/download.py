"""Getting the published data sets: `make data PROFILE=paper`.

What is known of each (address, size, digest, licence) is a fact of `data/datasets.toml`. An archive lands in the data
folder under its own name, is checked, and unpacks beside itself, as its authors laid it out; the loaders read that.
Where a folder or an archive is there already, put there by hand say, it is used, and nothing is fetched.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from helpers.data import archives
from helpers.data.datasets import DATASETS, Dataset, RemoteFile, read_datasets
from helpers.data.transfer import DownloadError, Goal, Part, Patience, WrongFileError, fetch
from helpers.run.profile import Profile, nearest

logger = logging.getLogger(__name__)

UNPACKED_SHARE = 1.2  # of the archive's size: what images take once unpacked, with room for the disk's blocks
SIZE_SLACK = 1.25  # how far a file may exceed a size that is only known roughly


def ensure(
    dataset_name: str,
    data_dir: Path,
    *,
    catalogue_file: Path = DATASETS,
    progress: bool = True,
    full_check: bool = False,
    patience: Patience | None = None,
) -> Path:
    """The data set's folder below `data_dir`, downloaded, checked and unpacked where it is not there yet.

    A second call does nothing. `full_check` hashes the archives again, where they are still there, and counts what
    they unpacked to. Several processes may call this at once: one works, the others wait.

    Raises `DownloadError`, with what to do by hand, for an unknown name, too small a disk, a server or a file that is
    not as it should be, and an archive that is broken or not safe.
    """
    datasets = read_datasets(catalogue_file)
    if dataset_name not in datasets:
        raise DownloadError(f"there is no data set '{dataset_name}'{nearest(dataset_name, datasets)}")
    dataset, data_dir = datasets[dataset_name], Path(data_dir)
    _refuse_hopeless(dataset, data_dir)
    # Without the lock, so that a finished data set may lie in a folder that cannot be written to.
    if full_check or not all(_present(file, data_dir) for file in dataset.files):
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{dataset_name}.lock"):
            _require_space(dataset, data_dir)
            job = _Job(dataset, data_dir, progress, full_check, patience or Patience())
            for file in dataset.files:
                job.bring(file)
    return data_dir / dataset.folder


def fetch_for(
    profile: Profile, *, catalogue_file: Path = DATASETS, progress: bool = True, full_check: bool = False
) -> list[Path]:
    """The folders of all data sets that the profile reads, fetched where missing; empty for one that makes its own.

    Kermany's images are taken as version 2 of the record, unless version 3 is there already.
    """
    names = wanted(profile)
    if not names:
        logger.info("profile %s makes its own images: nothing to download", profile.name)
    if profile.octid_source == "octid" and "octid" not in names:
        warnings.warn("OCTID is not there, and can only be fetched by hand: see data/README.md", stacklevel=2)
    options = {"catalogue_file": catalogue_file, "progress": progress, "full_check": full_check}
    return [ensure(name, profile.data_dir, **options) for name in names]


def wanted(profile: Profile) -> list[str]:
    """The data sets of `DATASETS` that a profile reads; of views the one asked for, or the one that is there; OCTID,
    which no program can fetch, where an archive or the folder is there."""
    there = {name: (profile.data_dir / name).is_dir() for name in ("OCT2017", "CellData", "chest_xray")}
    names = []
    if profile.oct_source == "kermany_oct":
        names.append("kermany-v3" if there["CellData"] and not there["OCT2017"] else "kermany-v2-oct")
    if profile.xray_source == "kermany_xray":
        names.append("kermany-v3" if there["CellData"] and not there["chest_xray"] else "kermany-v2-xray")
    if profile.view_source != "phantom_chest":
        cohen = profile.view_source == "cohen" or (profile.data_dir / "covid-chestxray-dataset").is_dir()
        names.append("cohen-covid" if cohen and profile.view_source != "openi" else "open-i")
    zips = ("octid", *(file.name for file in read_datasets()["octid"].files))
    if profile.octid_source == "octid" and any((profile.data_dir / name).exists() for name in zips):
        names.append("octid")
    return list(dict.fromkeys(names))


def _refuse_hopeless(dataset: Dataset, data_dir: Path) -> None:
    """Raise where no download can help: no address, or a data folder named one level too deep."""
    top = Path(dataset.folder).parts[0]
    if (data_dir / top).exists():
        return
    if not dataset.files:
        raise DownloadError(f"{dataset.name} has no address that a program can use.{_by_hand(dataset, data_dir)}")
    if data_dir.name == top and data_dir.is_dir():
        raise DownloadError(f"the data folder is the one that holds {top}: give {data_dir.parent}, not {data_dir}")


def _by_hand(dataset: Dataset, data_dir: Path) -> str:
    names = " and ".join(file.name for file in dataset.files)
    what = f"put {names} into {data_dir}" if names else f"lay it out in {data_dir / dataset.folder} ({dataset.remarks})"
    return f"\nBy hand: open {dataset.page} in a browser, {what}, and run the same command again."


def _present(file: RemoteFile, data_dir: Path) -> bool:
    """Whether nothing is left to do for this file, judged without reading it."""
    place = file.place(data_dir)
    if file.unpacks_to is None:
        return place.is_file() and _record(place).is_file() and file.size in (None, place.stat().st_size)
    if not place.is_dir():
        return False
    marker = archives.read_marker(place)
    if marker is None:
        warnings.warn(f"{place} was not unpacked by this program: used as found, unchecked", stacklevel=4)
    elif file.sha256 and marker.get("sha256") != file.sha256:
        raise DownloadError(f"{place} came from another archive ({marker.get('sha256')}): move it away")
    return True


def _require_space(dataset: Dataset, data_dir: Path) -> None:
    """Raise before anything starts where the disk cannot take the archives and what they unpack to."""
    need = 0.0
    for file in dataset.files:
        if not file.place(data_dir).exists():
            held = [data_dir / file.name, _part(data_dir / file.name)]
            need += max(0, file.expected - sum(path.stat().st_size for path in held if path.is_file()))
            need += UNPACKED_SHARE * file.expected if file.unpacks_to else 0
    free = shutil.disk_usage(data_dir).free
    if need > free:
        raise DownloadError(
            f"{dataset.name} needs about {need / 1e9:,.1f} GB more in {data_dir}, and {free / 1e9:,.1f} GB are free; "
            "choose another disk with DATA_DIR="
        )


@dataclass(frozen=True)
class _Job:
    """Bringing one data set's files in: where to, and how."""

    dataset: Dataset
    data_dir: Path
    progress: bool
    full_check: bool
    patience: Patience

    def bring(self, file: RemoteFile) -> None:
        """Download, check and unpack what of that is not yet done."""
        archive, place = self.data_dir / file.name, file.place(self.data_dir)
        unpacked = file.unpacks_to is not None and place.is_dir()
        if unpacked and not self.full_check and _present(file, self.data_dir):
            return
        digest = None
        if archive.is_file():
            digest = self._accept(file, archive)
        elif not unpacked:  # an archive may be deleted once it is unpacked
            digest = self._download(file, archive)
        if unpacked:
            _recount(place)
        elif file.unpacks_to is not None:
            self._unpack(file, archive, place, digest)

    def _accept(self, file: RemoteFile, archive: Path) -> str:
        """The SHA-256 of an archive that is there: ours, or one put there by hand, which is never deleted."""
        try:
            return _check(file, archive, archive, self.full_check)
        except WrongFileError as error:
            raise WrongFileError(f"{error}. Move it away and run again.") from error

    def _download(self, file: RemoteFile, archive: Path) -> str:
        """Fetch to a partial file, check it, and only then give it its name. Returns the SHA-256."""
        part, by_hand = _part(archive), _by_hand(self.dataset, self.data_dir)
        free = shutil.disk_usage(self.data_dir).free
        limit = file.size or int(SIZE_SLACK * (file.about or 0)) or int(free / (1 + UNPACKED_SHARE))
        try:
            if not file.url:
                raise DownloadError(f"{file.name} has no address that a program can use")
            goal = Goal(file.name, file.size, limit)
            fetch(file.url, part, goal, patience=self.patience, progress=self.progress)
            digest = _check(file, part, archive, full_check=True)
        except WrongFileError as error:
            Part(part, file.url).discard()
            raise WrongFileError(f"{error}. Nothing of it was kept.{by_hand}") from error
        except DownloadError as error:
            raise DownloadError(f"{error}.{by_hand}") from error
        part.replace(archive)
        Part(part, file.url).discard()
        return digest

    def _unpack(self, file: RemoteFile, archive: Path, place: Path, digest: str | None) -> None:
        note = {"archive": file.name, "sha256": digest, "url": file.url}
        try:
            archives.unpack(archive, place, flat=file.flat, note=note, progress=self.progress)
        except archives.ArchiveError as error:
            raise DownloadError(f"{archive} {error}. Delete it and its .sha256, and run again.") from error


def _check(file: RemoteFile, path: Path, archive: Path, full_check: bool) -> str:
    """The SHA-256 of `path`, which is or becomes `archive`; raises `WrongFileError` where size or digest are wrong.

    The digest stands beside the archive, as sha256sum writes it. It is believed while it is younger than the archive,
    unless `full_check`. Without a published digest, the first one seen is what later ones are held against.
    """
    size, record = path.stat().st_size, _record(archive)
    if file.size not in (None, size):
        raise WrongFileError(f"{path.name}: expected {file.size:,} bytes, got {size:,}")
    seen = next(iter(record.read_text(encoding="ascii").split()), None) if record.is_file() else None
    expected = file.sha256 or seen
    trusted = seen and not full_check and record.stat().st_mtime >= path.stat().st_mtime
    digest = seen if trusted else _sha256(path)
    if expected is None:
        warnings.warn(
            f"{file.name}: no checksum is published for it. Its SHA-256 {digest} is taken on trust, and recorded in "
            f"{record.name} for later checks",
            stacklevel=2,
        )
    elif digest != expected:
        source = "published" if file.sha256 else f"in {record.name}, seen before"
        raise WrongFileError(f"{path.name}: expected SHA-256 {expected} ({source}), got {digest}")
    if not trusted:
        record.write_text(f"{digest}  {file.name}\n", encoding="ascii")
    return digest


def _recount(place: Path) -> None:
    """Compare an unpacked folder with what was written then."""
    marker = archives.read_marker(place)
    if marker is None:
        return
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file() and path.name != archives.MARKER]
    if (len(sizes), sum(sizes)) != (marker["files"], marker["bytes"]):
        raise DownloadError(
            f"{place} holds {len(sizes):,} files of {sum(sizes):,} bytes, and {marker['files']:,} of "
            f"{marker['bytes']:,} were unpacked. Move it away and run again."
        )


def _part(archive: Path) -> Path:
    return archive.with_name(archive.name + ".part")


def _record(archive: Path) -> Path:
    return archive.with_name(archive.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
