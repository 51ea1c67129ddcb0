"""Registries: what is taken, what is refused, which version counts; and names and versions of models."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from SegWithUCore.models.model_name import folder_name, parse_name, version_key
from SegWithUCore.models.model_row import allows_commercial_use
from SegWithUCore.models.registry import (
    Registries,
    configured_places,
    parse_registry,
    read_registries,
    registry_address,
)
from SegWithUCore.util.errors import InputError, UsageError


def described(name: str = "liver", version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    files = [{"path": path, "size": 5, "sha256": "0" * 64} for path in ("bundle.json", "weights.safetensors")]
    entry = {"name": name, "version": version, "task": "Liver.", "licence_weights": "MIT", "licence_data": "CC-BY-4.0"}
    return {**entry, "commercial_use": True, "citation": "None.", "files": files, **changes}


def registry_of(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"format": "segwithu-models", "format_version": 1, "models": list(entries), **changes}


def known(*registries: dict[str, Any]) -> Registries:
    parsed = [parse_registry(data, f"registry {number}") for number, data in enumerate(registries)]
    return Registries(tuple(offer for offers in parsed for offer in offers))


BAD_PATHS = [
    "../x",
    "/etc/x",
    "a/../../x",
    "C:/x",
    "a\\b",
    ".hidden",
    "a//b",
    "con. ",
    "aux",
    "LPT1.txt",
    "a/",
    "ä",
    "",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_files_that_would_lie_elsewhere_are_refused(path: str) -> None:
    entry = described()
    entry["files"].append({"path": path, "size": 1, "sha256": "1" * 64})
    with pytest.raises(InputError, match=r"models\.json") as raised:
        parse_registry(registry_of(entry), "models.json")
    assert "\n" not in str(raised.value)
    folder = described(folder=path)
    with pytest.raises(InputError):
        parse_registry(registry_of(folder), "models.json")


def _set(*place: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        block: Any = data
        for step in place[:-1]:
            block = block[step]
        block[place[-1]] = to

    return change


FIRST = ("models", 0)
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "other format": (_set("format", to="something"), "segwithu-models"),
    "later version": (_set("format_version", to=2), "format_version"),
    "name": (_set(*FIRST, "name", to="../liver"), "models/0/name"),
    "version": (_set(*FIRST, "version", to="1/2"), "models/0/version"),
    "no licence": (_set(*FIRST, "licence_data", to=None), "licence_data"),
    "size": (_set(*FIRST, "files", 0, "size", to=0), "files/0/size"),
    "hash": (_set(*FIRST, "files", 0, "sha256", to="0" * 63), "sha256"),
    "address": (_set(*FIRST, "files", 0, "url", to="file:///etc/passwd"), "url"),
    "no weights": (_set(*FIRST, "files", 1, "path", to="w.bin"), "no weights.safetensors"),
    "one file twice": (_set(*FIRST, "files", 1, "path", to="Bundle.json"), "twice"),
    "file in a file": (_set(*FIRST, "files", 1, "path", to="bundle.json/x"), "twice"),
    "withdrawn": (_set(*FIRST, "withdrawn", to=True), "withdrawn"),
    "needs": (_set(*FIRST, "needs", to=[">=1"]), "needs"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_registries_are_refused_in_one_sentence(kind: str) -> None:
    damage, word = DAMAGES[kind]
    data = registry_of(described())
    damage(data)
    with pytest.raises(InputError) as raised:
        parse_registry(data, "models.json")
    assert word in str(raised.value)


def test_one_version_twice_is_refused_and_unknown_fields_are_passed_over() -> None:
    with pytest.raises(InputError, match=r"liver@1\.0\.0 twice"):
        parse_registry(registry_of(described(), described()), "models.json")
    data = registry_of(described(colour="red"), colour="blue")
    data["models"][0]["files"][0]["colour"] = "x"
    assert parse_registry(data, "models.json")[0].key == "liver@1.0.0"


def test_versions_are_ordered_as_people_number_them() -> None:
    ordered = ["old", "0.9", "1.0.0-rc1", "1.0", "1.0.1", "1.2", "1.9", "1.10", "2.0rc1", "2.0", "2024.1"]
    for earlier, later in itertools.pairwise(ordered):
        assert version_key(earlier) < version_key(later), (earlier, later)
    assert version_key("1.0") == version_key("1.0.0") < version_key("1.0.0+site") < version_key("1.0.0+site.2")
    assert version_key("1.0.0+site.9") < version_key("1.0.0+site.10") < version_key("1.0.1")


def test_the_newest_that_was_not_withdrawn_is_offered_unless_a_version_is_named() -> None:
    first = registry_of(described(version="1.9"), described(version="1.10"), described("spleen"))
    second = registry_of(described(version="2.0", withdrawn="Sides are swapped."), described(version="1.9", task="No."))
    both = known(first, second)
    assert both.find("liver", None).version == "1.10"
    assert both.find("liver", "2.0").entry["withdrawn"] == "Sides are swapped."
    assert both.find("liver", "1.9").entry["task"] == "Liver."  # the first registry counts
    assert both.withdrawn("liver", "2.0") == both.withdrawn("liver", "2.0+site") == "Sides are swapped."
    assert [offer.key for offer in both.offers()] == ["liver@2.0", "liver@1.10", "liver@1.9", "spleen@1.0.0"]
    with pytest.raises(UsageError, match=r"no version 3 of liver: choose one of 2\.0, 1\.10, 1\.9\."):
        both.find("liver", "3")
    with pytest.raises(UsageError, match=r"No registry has a model .heart. .known: liver, spleen"):
        both.find("heart", None)
    with pytest.raises(UsageError, match="unknown-model"):
        Registries(()).find("heart", None)


def test_what_one_registry_withdrew_is_withdrawn_whoever_offers_it() -> None:
    both = known(registry_of(described()), registry_of(described(withdrawn="Wrong spacing.")))
    assert both.withdrawn("liver", "1.0.0") == "Wrong spacing."


def test_place_of_a_file(tmp_path: Path) -> None:
    data = registry_of(described())
    data["models"][0]["files"][1]["url"] = "https://other.org/w"
    for base in ("https://host/models/", "https://huggingface.co/me/models/resolve/main/"):
        (offer,) = parse_registry(data, "x", base)
        assert [offer.place(file) for file in offer.files] == [f"{base}liver-1.0.0/bundle.json", "https://other.org/w"]
    (offer,) = parse_registry(data, "x", tmp_path)
    assert [offer.place(file) for file in offer.files] == [
        tmp_path / "liver-1.0.0" / "bundle.json",
        "https://other.org/w",
    ]


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("https://huggingface.co/me/models/resolve/main", "me/models/resolve/main/models.json"),
        ("https://huggingface.co/me/models", "me/models/resolve/main/models.json"),
        ("https://huggingface.co/me/models/", "me/models/resolve/main/models.json"),
        ("https://huggingface.co/me/models/tree/v2/some", "me/models/resolve/v2/some/models.json"),
        ("https://huggingface.co/me/models/blob/main/list.json", "me/models/resolve/main/list.json"),
        ("https://huggingface.co/datasets/me/models", "datasets/me/models/resolve/main/models.json"),
    ],
)
def test_a_page_at_hugging_face_is_the_address_of_its_files(place: str, address: str) -> None:
    assert registry_address(place) == f"https://huggingface.co/{address}"


def test_several_registries_are_configured_and_a_bad_one_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGWITHU_REGISTRY", raising=False)
    assert configured_places() == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "models.json").write_text(json.dumps(registry_of(described("a"))))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "models.json").write_text("{")
    places = ["https://localhost:1/models", str(tmp_path / "a"), (tmp_path / "b").as_uri()]
    monkeypatch.setenv("SEGWITHU_REGISTRY", "; ".join(places))
    for found, failed in ((read_registries(), 1), (read_registries(connect=True), 2)):
        assert [offer.name for offer in found.listed] == ["a"]
        assert len(found.problems) == failed
        assert str(tmp_path / "b" / "models.json") in found.problems[-1]
    assert registry_address("https://h/x/") == registry_address("https://h/x") == "https://h/x/models.json"
    assert registry_address("https://h/list.json?a=1") == "https://h/list.json?a=1"


def test_names_of_models() -> None:
    assert parse_name("liver@1.0") == ("liver", "1.0")
    assert parse_name("liver") == ("liver", None)
    for wrong in ("", "@1", "liver@", "../x", "a/b", "liver@1/2", "x" * 200):
        with pytest.raises(UsageError):
            parse_name(wrong)
    for name, version in (("../x", "1"), ("x", "1/2"), ("x", "1."), ("x", "")):
        with pytest.raises(InputError):
            folder_name(name, version)


def test_licences_that_forbid_commercial_use_are_known_by_name() -> None:
    assert allows_commercial_use(["Apache-2.0", "CC-BY-SA-4.0"])
    for licence in (
        "CC-BY-NC-SA-4.0",
        "cc-by-nc-4.0",
        "Free for non-commercial research",
        "PolyForm-Noncommercial-1.0.0",
    ):
        assert not allows_commercial_use(["MIT", licence])
