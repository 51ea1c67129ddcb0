"""Time the review page: `run.py page-speed [--output FOLDER]`.

A whole brain of 182 x 218 x 182 voxels, assessed as a whole, and a volume of 512 x 512 x 300 voxels with a region of
interest of 308 x 308 x 180 are served by `segwithu web` and opened in headless Chromium without a GPU, 1366 x 768
pixels. Written are medians and the 90th percentile, with the load of the machine; the times of a draw are those of the
page's script and of the pixels that it has ordered (read back, so that nothing is put off).
"""

import argparse
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("SegWithUSlicer", "Testing", "Testing/helpers")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from page_browser import launched  # noqa: E402
from scipy.ndimage import label  # noqa: E402
from web_client import served  # noqa: E402
from written_case import _case_json, write_some_regions  # noqa: E402

from SegWithUCore.case.case_image import voxel_hash  # noqa: E402

SIZES = {"182 x 218 x 182": ((182, 218, 182), 1.0, 1.0), "512 x 512 x 300": ((512, 512, 300), 0.8, 0.6)}
"""Voxels, their edge in mm, and the part of each edge of the volume that was assessed."""
REPEATS = 40

MEASURE = """
async ({ kind, repeats }) => {
  const slider = document.getElementById("threshold");
  const list = document.querySelector(".regions");
  const views = [...document.querySelectorAll("canvas.slice")].map((canvas) => canvas.getContext("2d"));
  const flush = () => views.forEach((context) => context.getImageData(0, 0, 1, 1));
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const times = [];
  for (let n = 0; n < repeats; n++) {
    await frame();
    flush();
    performance.clearMeasures("segwithu-draw");
    const began = performance.now();
    if (kind === "step") {
      slider.value = String(20 + ((n * 37) % 200));
      slider.dispatchEvent(new Event("input"));
    } else {
      const key = n % 16 < 8 ? "ArrowDown" : "ArrowUp";
      list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    }
    const handled = performance.now() - began;
    await frame();
    const drawn = performance.now();
    flush();
    const pixels = performance.now() - drawn;
    const draw = performance.getEntriesByName("segwithu-draw").reduce((sum, entry) => sum + entry.duration, 0);
    times.push(handled + draw + pixels);
  }
  return times;
}
"""


def main() -> None:
    """Measure both sizes and write page_speed.json and page_speed.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    output = parser.parse_args().output
    found = {}
    with TemporaryDirectory() as scratch, launched() as chromium:
        for title, (size, spacing, part) in SIZES.items():
            folder = Path(scratch) / title.replace(" ", "")
            make_case(folder / "case", size, spacing, part)
            found[title] = measured(chromium, folder)
    facts = {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), "sizes": found}
    (output / "page_speed.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (output / "page_speed.md").write_text(table(facts), encoding="utf-8")
    print(table(facts))


def make_case(folder: Path, size: tuple[int, int, int], spacing: float, part: float) -> None:
    """Write a case with two structures and three maps."""
    folder.mkdir(parents=True)
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size[::-1]), indexing="ij", sparse=True)
    first = [round(n * (1 - part) / 2) for n in size]
    assessed = np.zeros(size[::-1], bool)
    assessed[tuple(slice(at, n - at) for at, n in zip(first[::-1], size[::-1], strict=True))] = True
    radius = np.sqrt(grid[0] ** 2 + (grid[1] * 1.1) ** 2 + (grid[2] * 0.9) ** 2) / part
    wave = 0.04 * np.sin(25 * grid[0]) * np.sin(22 * grid[1]) * np.sin(28 * grid[2])
    labels = np.where(radius + wave < 0.45, 1, np.where(radius + wave < 0.75, 2, 0)).astype(np.uint8) * assessed
    edge = np.minimum(np.abs(radius + wave - 0.45), np.abs(radius + wave - 0.75))
    error = (0.5 * np.exp(-edge / 0.03)).astype(np.float32)
    rng = np.random.default_rng(1)
    grey = (1000 * (1 - radius) + rng.normal(0, 60, labels.shape).astype(np.float32)).astype(np.int16)

    def write(name: str, array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([spacing] * 3)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(folder / name), useCompression=True)
        return image

    image = write("image.nii.gz", grey)
    write("segmentation.nii.gz", labels)
    maps = {"calibration": 4 * error, "ranking": np.log(error + 1e-6), "error_probability": error}
    for name, values in maps.items():
        maps[name] = np.where(assessed, values, values[assessed].min() - 1 if name == "ranking" else -1)
        write(f"{name}.nii.gz", maps[name].astype(np.float32))
    case: dict[str, Any] = _case_json(image, labels, maps, [1, 2], assessed, "2026-11-27T09:00:00+00:00")
    sizes = [n - 2 * at for n, at in zip(size, first, strict=True)]
    case["assessed"] = {"index_ijk": first, "size_ijk": sizes}
    case["input"]["channels"][0] |= {"file": "image.nii.gz", "voxels_sha256": voxel_hash(image)}
    hashes = dict.fromkeys(("weights_sha256", "calibration_sha256"), "0" * 64)
    model = {"name": "phantom", "version": "1", "head": "context", "calibrated": True, "calibration_cases": 27}
    case["model"] = model | hashes
    case["regions"] = {"count": 0, "settings": {}, "expected_wrong_mm3": float(error[assessed].sum() * spacing**3)}
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
    write_some_regions(folder, labels, error, image, _regions(maps["error_probability"]))


def _regions(error: np.ndarray) -> np.ndarray:
    """Two dozen uncertain patches of usual size, spread over the volume."""
    ids = np.zeros(error.shape, np.uint16)
    number = 0
    for k, j, i in np.ndindex(6, 6, 6):
        at = [int(n * (part + 0.5) / 6) for n, part in zip(error.shape, (k, j, i), strict=True)]
        box = tuple(slice(max(0, middle - 10), middle + 10) for middle in at)
        parts, count = label(error[box] > 0.4)
        if count:
            number += 1
            ids[box][parts == 1 + np.bincount(parts[parts > 0]).argmax() - 1] = number
    return ids


def measured(chromium: Any, folder: Path) -> dict[str, Any]:
    """Open the case twice (the server prepares it at the first time), then step and jump."""
    found: dict[str, Any] = {}
    with served(folder) as server:
        for when in ("first", "again"):
            context = chromium.new_context(viewport={"width": 1366, "height": 768})
            page = context.new_page()
            page.set_default_timeout(120_000)
            began = time.process_time()
            page.goto(f"{server.gate.link}&case=1")
            page.wait_for_selector('html[data-state="case"], html[data-state="error"]')
            if page.locator(".loading").count():
                raise SystemExit(page.locator(".loading").inner_text())
            ready = page.evaluate("performance.getEntriesByName('segwithu-case')[0].startTime / 1000")
            found[f"ready_{when}_s"] = round(ready, 2)
            found.setdefault("server_cpu_s", round(time.process_time() - began, 2))
            if when == "again":
                found["load"] = round(os.getloadavg()[0], 1)
                for kind in ("step", "jump"):
                    times = sorted(page.evaluate(MEASURE, {"kind": kind, "repeats": REPEATS}))
                    found[f"{kind}_ms"] = [round(times[REPEATS // 2], 1), round(times[int(REPEATS * 0.9)], 1)]
                found["memory_mb"] = round(_renderer_mb())
            context.close()
    return found


def _renderer_mb() -> float:
    """Memory of the page's process that it shares with no other, MB."""
    most = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes() and _is_ours(process):
                text = (process / "smaps_rollup").read_text()
                kb = sum(int(n) for n in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", text))
                most = max(most, kb / 1024)
        except OSError:
            continue
    return most


def _is_ours(process: Path) -> bool:
    """Whether this program is one of a process's ancestors."""
    while process.name not in ("0", "1"):
        if process.name == str(os.getpid()):
            return True
        process = Path("/proc") / re.findall(r"PPid:\s+(\d+)", (process / "status").read_text())[0]
    return False


def _cpu() -> str:
    found = re.findall(r"model name\s+: (.*)", Path("/proc/cpuinfo").read_text())
    return found[0] if found else platform.processor()


def table(facts: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    sizes, limit_s = list(facts["sizes"].values()), ("1 s", "4 s")
    rows = [
        ("page ready, first (the server prepares the volumes)", [f"{s['ready_first_s']} s" for s in sizes], limit_s),
        ("processor time of the server for that", [f"{s['server_cpu_s']} s" for s in sizes], ("", "")),
        ("page ready, again", [f"{s['ready_again_s']} s" for s in sizes], limit_s),
        ("threshold step", [f"{s['step_ms'][0]} ms ({s['step_ms'][1]})" for s in sizes], ("16 ms", "50 ms")),
        ("jump to a region", [f"{s['jump_ms'][0]} ms ({s['jump_ms'][1]})" for s in sizes], ("50 ms", "50 ms")),
        ("memory of the page's process", [f"{s['memory_mb']} MB" for s in sizes], ("", "400 MB")),
        ("load of the machine", [str(s["load"]) for s in sizes], ("", "")),
    ]
    lines = [
        f"# Speed of the review page\n\n{facts['cpu']}, {facts['cores']} cores shared with other work, no GPU; "
        "median (90th percentile).\n"
    ]
    lines.append("| | " + " | ".join(facts["sizes"]) + " | meant to be below |\n|---|---|---|---|")
    for name, values, limits in rows:
        limit = " / ".join(dict.fromkeys(filter(None, limits)))
        lines.append(f"| {name} | {values[0]} | {values[1]} | {limit} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
