"""Write docs/licences.md: the licence of each package that rgbflow asks for, and what PyAV's wheels bring along.

python docs/make_licences.py
"""

import re
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import av
import imageio_ffmpeg
from av._core import library_meta

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
GPL = {"x264": "GPL-2.0-or-later", "x265": "GPL-2.0-or-later"}  # of the libraries that FFmpeg is built with here
INTRODUCTION = """# Licences

rgbflow is under the Apache License 2.0. pip installs the packages below, each under its own licence; the first table
names what every installation has, the second what the extras add. `python docs/make_licences.py` writes this page from
the metadata of what is installed.
"""


def requirements() -> Iterator[tuple[str, str]]:
    """(extra, package) of all that pyproject.toml asks for; the extra is empty for what every installation has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra, lines in parts.items():
        for line in lines:
            name = re.split(r"[\[<>=~! ;]", line, maxsplit=1)[0]
            if name != project["name"]:
                yield extra, name


def licence_of(package: str) -> str:
    """As the package's metadata states it."""
    try:
        about = distribution(package).metadata
    except PackageNotFoundError:
        return "not installed where this page was made"
    stated = about.get("License-Expression") or about.get("License") or ""
    named = [line.rpartition(":: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License ::")]
    first = stated.strip().splitlines()[0] if stated.strip() not in ("", "UNKNOWN") else ""
    return (first if len(first) < 100 else "") or "; ".join(named) or "not stated in its metadata"


def bundled() -> list[str]:
    """The libraries that lie beside PyAV in its wheel."""
    folder = Path(av.__file__).parents[1] / "av.libs"
    return sorted({re.split(r"[-.]", path.name, maxsplit=1)[0].removeprefix("lib") for path in folder.glob("*.so*")})


def page() -> str:
    rows = {extra: sorted(name for one, name in requirements() if one == extra) for extra, _ in requirements()}
    lines = [INTRODUCTION, "| package | licence |", "|---|---|"]
    lines += [f"| {name} | {licence_of(name)} |" for name in rows.pop("")]
    lines += ["", "| extra | package | licence |", "|---|---|---|"]
    lines += [f"| {extra} | {name} | {licence_of(name)} |" for extra, names in rows.items() for name in names]
    return "\n".join([*lines, "", "## Wheels that hold FFmpeg", "", *_wheels()]) + "\n"


def _wheels() -> Iterator[str]:
    named = " and ".join(f"{name} ({licence})" for name, licence in GPL.items() if name in bundled())
    yield from _wrapped(
        f"A wheel of PyAV (here version {av.__version__}) holds FFmpeg, which calls its own build "
        f'"{library_meta["libavcodec"]["license"]}", and these libraries: {", ".join(bundled())}.'
    )
    yield ""
    yield from _wrapped(
        f"Among them are {named or 'none under the GPL'}. rgbflow uses x264 to write overlays and the demo's videos. "
        "rgbflow's own package holds none of these files: pip fetches the wheel. Whoever passes on an image, an "
        "installer or a machine that contains the wheel passes on these libraries too, under their licences. With a "
        "PyAV built against another FFmpeg (`pip install --no-binary av av`), rgbflow writes H.264 only if that "
        "FFmpeg does."
    )
    build = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True)
    yield ""
    yield from _wrapped(
        "The extra `test` installs imageio-ffmpeg, whose wheel holds an ffmpeg program. It was built "
        f"{'with' if '--enable-gpl' in build.stdout else 'without'} `--enable-gpl`. Only tests and benchmarks start it."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 119, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
