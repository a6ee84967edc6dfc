"""DICOM: values become the greys that a monitor shows, bad files say why, and nothing of the patient is kept."""

import io
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom.data
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from helpers.__main__ import main
from helpers.data import dicom
from helpers.data.dicom import convert_folder, read_key

KEY = b"0123456789abcdef"
RAMP = np.arange(1000, 1000 + 16 * 20).reshape(16, 20)  # 12 bits, in a narrow range


def film(pixels: np.ndarray = RAMP, bits: int = 12, interpretation: str = "MONOCHROME2", **tags: object) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    depth, signed, colour = 8 if bits <= 8 else 16, int(pixels.min() < 0), pixels.ndim == 3
    values = {
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "PatientID": "P1",
        "Modality": "DX",
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": interpretation,
        "PixelRepresentation": signed,
        "PixelData": pixels.astype(f"{'' if signed else 'u'}int{depth}").tobytes(),
    }
    values |= {"Rows": pixels.shape[0], "Columns": pixels.shape[1]} | ({"PlanarConfiguration": 0} if colour else {})
    values |= {"BitsAllocated": depth, "BitsStored": bits, "HighBit": bits - 1}
    for name, value in (values | tags).items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def read(tmp_path: Path, dataset: FileDataset, **options: object) -> np.ndarray:
    """The picture of a folder with this one film."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    save(dataset, folder / "in" / "film.dcm")
    table, failures = convert_folder(folder / "in", folder / "out", KEY, workers=1, **options)
    assert failures.empty, failures["reason"].item()
    with Image.open(folder / "out" / "images" / table["image"].item()) as image:
        return np.asarray(image)


def stretched(values: np.ndarray) -> np.ndarray:
    return np.round(255 * (values - values.min()) / (values.max() - values.min())).astype(np.uint8)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (film(WindowCenter=1010, WindowWidth=4), RAMP),
        (film(interpretation="MONOCHROME1"), -RAMP),
        (film(RescaleSlope=-2, RescaleIntercept=100), -RAMP),
        (film(RAMP[:12] - 1000, 8), RAMP[:12]),
        (film(RAMP * 40, 16), RAMP),
        (film(RAMP - 1100, 12), RAMP),  # signed
        (film(RescaleSlope=None, RescaleIntercept=None, PixelPaddingValue=None, NumberOfFrames=None), RAMP),
    ],
)
def test_the_darkest_pixel_becomes_0_and_the_brightest_255_at_every_depth(tmp_path, dataset, expected):
    grey = read(tmp_path, dataset)
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, stretched(expected))


def test_padding_is_black_and_does_not_spoil_the_range(tmp_path):
    pixels = RAMP.copy()
    pixels[:, :3] = 4000
    grey = read(tmp_path, film(pixels, interpretation="MONOCHROME1", PixelPaddingValue=4000))
    assert (grey[:, :3] == 0).all()
    np.testing.assert_array_equal(grey[:, 3:], stretched(-RAMP[:, 3:]))


@pytest.mark.parametrize(("lowest", "padding", "as_written"), [(-1100, -2000, 63536), (0, 63536, -2000)])
def test_padding_that_is_written_with_the_other_sign_is_padding(tmp_path, lowest, padding, as_written):
    pixels = RAMP - 1000 + lowest
    pixels[:, :3] = padding
    dataset = film(pixels, 16)
    dataset.add_new("PixelPaddingValue", "US" if lowest < 0 else "SS", as_written)
    grey = read(tmp_path, dataset)
    assert (grey[:, :3] == 0).all()
    np.testing.assert_array_equal(grey[:, 3:], stretched(RAMP[:, 3:]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"VOILUTFunction": None}, np.clip((RAMP - 1099.5) / 99 + 0.5, 0, 1)),
        ({"WindowCenter": [1100, 7], "WindowWidth": [100, 7]}, np.clip((RAMP - 1099.5) / 99 + 0.5, 0, 1)),
        ({"VOILUTFunction": "LINEAR_EXACT"}, np.clip((RAMP - 1100) / 100 + 0.5, 0, 1)),
        ({"VOILUTFunction": "SIGMOID"}, 1 / (1 + np.exp(-4 * (RAMP - 1100) / 100))),
        ({"WindowWidth": None}, (RAMP - RAMP.min()) / (RAMP.max() - RAMP.min())),
    ],
)
def test_the_stored_window_is_applied_where_it_is_asked_for(tmp_path, tags, expected):
    dataset = film(**{"WindowCenter": 1100, "WindowWidth": 100} | tags)
    np.testing.assert_array_equal(read(tmp_path, dataset, window="stored"), np.round(255 * expected))


def view_code(**tags: str) -> FileDataset:
    item = Dataset()
    item.update(tags)
    return film(ViewPosition="", ViewCodeSequence=[item])


@pytest.mark.parametrize(
    ("dataset", "view"),
    [
        (film(ViewPosition="pa "), "PA"),
        (view_code(CodeValue="399348003", CodeMeaning="projection"), "AP"),
        (view_code(CodeValue="R-10214"), "PA"),
        (view_code(CodeMeaning="Left lateral"), "LL"),
        (view_code(CodeMeaning="oblique"), ""),
    ],
)
def test_the_view_is_read_from_its_position_or_else_its_code(dataset, view):
    assert dicom.view_of(dataset) == view


def test_a_file_without_preamble_is_read_and_one_without_header_is_none(tmp_path):
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        source = tmp_path / syntax.name / "in"
        source.mkdir(parents=True)
        bare = Dataset(film())
        bare.save_as(source / "bare", implicit_vr=syntax.is_implicit_VR, little_endian=True)
        (source / "text").write_text("a letter to a colleague, long enough for a header" * 9)
        os.mkfifo(source / "pipe")
        (source / "empty").touch()
        table, failures = convert_folder(source, source.parent / "out", KEY, workers=1)
        with Image.open(source.parent / "out/images" / table["image"].item()) as image:
            np.testing.assert_array_equal(np.asarray(image), stretched(RAMP))
        assert failures.set_index("path")["reason"].to_dict() == {
            "empty": "0 bytes",
            "pipe": "not a file but a pipe, socket or device",
            "text": "not a DICOM file",
        }


@pytest.mark.parametrize(
    ("issuers", "patients"), [(("", "A"), 1), (("A", "A"), 1), (("A", "B"), 2), (("A", "B", ""), 1), (("a ", "A"), 1)]
)
def test_a_patient_whose_files_name_an_issuer_only_in_part_is_one(tmp_path, issuers, patients):
    for i, issuer in enumerate(issuers):
        save(film(RAMP + i, IssuerOfPatientID=issuer), tmp_path / "in" / str(i))
    table, _ = convert_folder(tmp_path / "in", tmp_path / "out", KEY, workers=1)
    assert len(table) == len(issuers) and table["patient"].nunique() == patients


def test_every_file_that_pydicom_brings_has_a_row_and_none_stops_the_command(tmp_path, capsys):
    files = Path(pydicom.data.__file__).parent
    arguments = ["dicom", f"SOURCE={files}", f"TARGET={tmp_path / 'out'}", f"KEY={tmp_path / 'key'}"]
    assert main(arguments) == 0
    shown, left_out = capsys.readouterr()
    made = pd.read_csv(tmp_path / "out" / "images.csv", keep_default_na=False)
    present = [path for path in files.rglob("*") if path.is_file()]
    assert len(made) + left_out.count("left out: ") == len(present)
    assert not set(made["modality"]) & {"US", "SC", "OT"}
    assert f"{len(made)} pictures" in shown and f"{(made['modality'] == 'CR').sum()} of them radiographs" in shown
    assert "its NumberOfFrames is no number" in left_out


def test_colour_becomes_luma(tmp_path):
    rgb = np.zeros((16, 20, 3), int)
    rgb[..., 0], rgb[..., 1] = 200, 100
    np.testing.assert_array_equal(read(tmp_path, film(rgb * 257, 16, "RGB")), read(tmp_path, film(rgb, 8, "RGB")))
    grey = read(tmp_path, film(rgb, 8, "RGB"))
    assert set(np.unique(grey)) == {round(0.299 * 200 + 0.587 * 100)}


def encoded(pixels: np.ndarray, form: str, syntax: str, **options: object) -> FileDataset:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    dataset = film(pixels.astype(int), 8 if pixels.dtype == np.uint8 else 16)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def test_jpeg_jpeg_2000_and_run_lengths_are_decoded(tmp_path):
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    lossless = read(tmp_path, encoded(smooth, "JPEG2000", JPEG2000Lossless, irreversible=False, no_jp2=True))
    np.testing.assert_array_equal(lossless, smooth)
    assert np.abs(read(tmp_path, encoded(smooth, "JPEG", JPEGBaseline8Bit)).astype(int) - smooth).max() < 12
    packed = film()
    packed.compress(RLELossless)
    np.testing.assert_array_equal(read(tmp_path, packed), stretched(RAMP))


@pytest.mark.parametrize("date", ["", "2013", "yesterday", "20131399", ["20130101", "20140101"]])
@pytest.mark.parametrize("charset", ["ISO_IR 192", "no such", ""])
@pytest.mark.filterwarnings("ignore")
def test_bad_dates_character_sets_and_private_tags_lose_no_picture(tmp_path, date, charset):
    dataset = film()
    dataset.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "Halina")
    with pydicom.config.disable_value_validation():
        dataset.StudyDate, dataset.SpecificCharacterSet = date, charset
        np.testing.assert_array_equal(read(tmp_path, dataset), stretched(RAMP))
    assert read(tmp_path, film(Modality="OT", BurnedInAnnotation="YES"), burnt_in=True).any()


def with_hole() -> FileDataset:
    dataset = encoded(np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8), "JPEG", JPEGBaseline8Bit)
    dataset.PixelData = dataset.PixelData[:1500] + bytes(200) + dataset.PixelData[1700:]
    return dataset


def without_pixels() -> FileDataset:
    dataset = film()
    del dataset.PixelData
    return dataset


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (film(np.stack([RAMP] * 3).reshape(48, 20), NumberOfFrames=3, Rows=16), "3 frames"),
        (film(RAMP % 2, 8, BitsStored=1, HighBit=0), "1 bits a pixel"),
        (film(RAMP * 0 + 7), "blank"),
        (without_pixels(), "no pixels"),
        (film(PixelData=bytes(100)), "cannot be decoded"),
        (film(PatientID=""), "no patient id"),
        (film(BurnedInAnnotation="YES"), "writing burnt into its pixels"),
        *((film(Modality=word), "often has writing burnt") for word in ("US", "SC", "ot ")),
        (film(Modality="RG", ConversionType="DF"), "a secondary capture"),
        (film(SOPClassUID=SecondaryCaptureImageStorage), "a secondary capture"),
        (film(PhotometricInterpretation=""), "no photometric interpretation"),
        (film(DirectoryRecordSequence=[]), "a DICOMDIR"),
        (film(Rows=60_000, Columns=60_000), "60000 x 60000 pixels"),
        (with_hole(), "damaged: its compressed data"),
        (encoded(RAMP.astype(np.uint8), "JPEG", JPEGLosslessSV1), "JPEG Lossless.*no decoder is installed.*gdcmconv"),
    ],
)
def test_what_is_no_single_radiograph_of_a_patient_is_refused_with_the_reason(tmp_path, dataset, reason):
    with pytest.raises(AssertionError, match=reason):
        read(tmp_path, dataset)


SECRETS = {
    "PatientID": "MRN-7718253",
    "PatientName": "Grzegorzewska^Halina",
    "PatientBirthDate": "19410317",
    "ReferringPhysicianName": "Westphall^Donald",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111222333",
    "StudyDate": "20130429",
    "ImageComments": "Tochter anrufen",
    "ViewPosition": "AP GRZEGORZEWSKA",
}


def hospital(source: Path) -> Path:
    """Two patients, three studies, one file that stands twice, one cut short."""
    first = SECRETS | {"ViewPosition": "PA"}
    later = SECRETS | {"StudyDate": "20140101", "StudyInstanceUID": "1.2.3.9", "ViewPosition": "LL"}
    other = SECRETS | {"PatientID": "MRN-9999999", "PatientName": "Auschlander^Daniel", "StudyInstanceUID": "1.2.3.7"}
    save(film(RAMP, **later), source / "Grzegorzewska" / "later.dcm")
    save(film(RAMP + 5, **first), source / "Grzegorzewska" / "first.dcm")
    save(film(RAMP * 2, **other), source / "Auschlander" / "1")
    (source / "Auschlander" / "2").write_bytes((source / "Auschlander" / "1").read_bytes())
    save(film(PatientID="P2", PixelData=bytes(100)), source / "cut.dcm")
    return source


def test_a_folder_becomes_pictures_and_a_table(tmp_path):
    returned, failures = convert_folder(hospital(tmp_path / "in"), tmp_path / "out", KEY, workers=2)
    table = pd.read_csv(tmp_path / "out" / "images.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(table, returned, check_dtype=False)
    assert len(table) == 3 == len(list((tmp_path / "out" / "images").iterdir()))
    why = failures.set_index("path")["reason"]
    assert set(why.index) == {"Auschlander/2", "cut.dcm"} and "cannot be decoded" in why["cut.dcm"]
    assert why["Auschlander/2"] == "a copy: no byte of it differs from another file"
    assert table["patient"].nunique() == 2
    assert dict(zip(table["view"], table["study"], strict=True)) == {"PA": 1, "LL": 2, "": 1}
    pa = table[table["view"] == "PA"].iloc[0]
    assert table.loc[table["view"] == "LL", "patient"].item() == pa["patient"]
    with Image.open(tmp_path / "out" / "images" / pa["image"]) as image:
        assert image.size == (pa["columns"], pa["rows"]) and image.mode == "L" and not image.info
        np.testing.assert_array_equal(np.asarray(image), stretched(RAMP))


def test_nothing_that_identifies_the_patient_is_in_the_output(tmp_path):
    source, target = hospital(tmp_path / "in"), tmp_path / "out"
    convert_folder(source, target, KEY, workers=1)
    files = [path for path in target.rglob("*") if path.is_file()]
    written = b"\n".join(str(path.relative_to(target)).encode() + path.read_bytes() for path in files).upper()
    uids = [str(dcmread(path).SOPInstanceUID) for path in source.rglob("*") if path.is_file()]
    parts = [part for value in SECRETS.values() for part in re.split(r"[\^ ]", value) if len(part) > 2]
    for word in [*SECRETS.values(), *parts, *uids, "9999999", "7718253", "Auschlander", "later", "first"]:
        assert word.upper().encode() not in written, word
    assert len(written) > 500, "there is something that could have held them"


def test_pseudonyms_depend_on_the_key_and_not_on_the_run(tmp_path):
    source = hospital(tmp_path / "in")
    keys = {"a": KEY, "b": KEY, "c": KEY[::-1]}
    a, b, c = (convert_folder(source, tmp_path / name, key)[0] for name, key in keys.items())
    pd.testing.assert_frame_equal(a, b)
    assert not set(a["patient"]) & set(c["patient"]) and not set(a["image"]) & set(c["image"])


def test_a_second_run_makes_only_what_is_missing_and_the_same_table(tmp_path, monkeypatch):
    real, calls = dicom.picture_of, []
    monkeypatch.setattr(dicom, "picture_of", lambda *call: calls.append(1) or real(*call))
    where = hospital(tmp_path / "in"), tmp_path / "out", KEY
    first, _ = convert_folder(*where, workers=1)
    next((tmp_path / "out" / "images").glob("*.png")).unlink()
    pd.testing.assert_frame_equal(first, convert_folder(*where, workers=1)[0])
    assert len(calls) == 3 + 1 + 2  # the file that is cut short is tried each time


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    place = tmp_path / "keys" / "project.key"
    key = read_key(place)
    assert len(key) == 32 and read_key(place) == key and place.stat().st_mode & 0o077 == 0
    place.write_text("hello")
    with pytest.raises(ValueError, match="is no key"):
        read_key(place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": b"short"}, "can be guessed"),
        ({"target": "in/out"}, "lies inside"),
        ({"source": "nowhere"}, "no folder"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_written(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    call = {"source": hospital(Path("in")), "target": "out", "key": KEY} | change
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_folder(**call | {name: Path(call[name]) for name in ("source", "target")})
    assert not Path("out").exists() and not Path("in/out").exists()
