"""Module `SampleData`: registered sources, loaded through their own downloader or from local files; no network."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import slicer


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


@dataclass
class SampleDataSource:
    """One sample data set."""

    sampleName: str | None = None
    uris: Any = None
    fileNames: Any = None
    nodeNames: Any = None
    checksums: Any = None
    loadFiles: Any = None
    customDownloader: Callable[[Any], Any] | None = None
    thumbnailFileName: str | None = None
    loadFileTypes: Any = None
    loadFileProperties: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what Slicer refuses: it takes one of each for a list, and None for nothing that has a length."""
        if self.uris is None:
            raise TypeError("object of type 'NoneType' has no len()")
        if not len(_listed(self.uris)) == len(_listed(self.fileNames)) == len(_listed(self.nodeNames)):
            raise ValueError("all fields of a sample data source must have the same length")


class SampleDataLogic:
    """Registration and download."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Callable[[Any], Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        """Add a source to a category; an equal one is not added twice."""
        if loadFileType is not None and loadFileTypes is not None:
            raise ValueError("loadFileType and loadFileTypes cannot both be given")
        source = SampleDataSource(
            sampleName,
            uris,
            fileNames,
            nodeNames,
            checksums,
            loadFiles,
            customDownloader,
            thumbnailFileName,
            loadFileTypes if loadFileTypes is not None else loadFileType,
            loadFileProperties or {},
        )
        known = SampleDataLogic.sampleDataSourcesByCategory().setdefault(category, [])
        if source not in known:
            known.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        """All categories, or the sources of one."""
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        every = slicer.modules.sampleDataSources
        return every if category is None else every.get(category, [])

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        """The source of this name."""
        for sources in self.sampleDataSourcesByCategory().values():
            for source in sources:
                if source.sampleName == sampleName:
                    return source
        return None

    def downloadFromSource(self, source: SampleDataSource, maximumAttemptsCount: int = 3) -> Any:
        """Load a source; what its own downloader returns is returned as it is."""
        if source.customDownloader is not None:
            return source.customDownloader(source)
        named = zip(_listed(source.uris), _listed(source.nodeNames), strict=True)
        return [self._load(uri, name) for uri, name in named]

    def downloadSample(self, sampleName: str) -> Any:
        """Load a sample and return its first node (or what a single custom downloader returned)."""
        source = self.sourceForSampleName(sampleName)
        if source is None:
            return None
        loaded = self.downloadFromSource(source)
        return loaded[0] if isinstance(loaded, list) and loaded else loaded

    @staticmethod
    def _load(uri: str, name: str) -> Any:
        parts = urlparse(uri)
        if parts.scheme not in ("file", ""):
            raise RuntimeError(f"the stand-in has no network: {uri}")
        node = slicer.util.loadVolume(str(Path(unquote(parts.path))))
        if name:
            node.SetName(name)
        return node


def build_module() -> types.ModuleType:
    """The module `SampleData`."""
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    module.SampleDataSource = SampleDataSource  # type: ignore[attr-defined]
    module.downloadSample = lambda name: SampleDataLogic().downloadSample(name)  # type: ignore[attr-defined]
    return module
