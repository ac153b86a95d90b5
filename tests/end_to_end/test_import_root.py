"""What lies in a user's working folder is never taken for a module of this program."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.end_to_end.machine import Machine

ROOT = Path(__file__).parents[2]
TRAP = 'raise SystemExit("a file of the user was run")\n'
TRAPS = ("storage.py", "defsurvey.py", "yaml.py", "jobs/__init__.py", "reports/__init__.py", "workers/__init__.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # setuptools packs what an earlier build left there
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", str(folder / "dist"), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    (built,) = (folder / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(built)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "venv" / "lib" / version / "site-packages" / "shared.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages")) or sysconfig.get_path("purelib")
    )
    return folder / "venv" / "bin" / "defsurvey"


def test_a_folder_full_of_traps_changes_nothing(installed: Path, tmp_path: Path) -> None:
    """From the wheel, in a folder with files named like our rooms and like a library: the daemons start and finish."""
    machine = Machine(tmp_path / "machine")
    for trap in TRAPS:
        path = machine.folder / trap
        path.parent.mkdir(exist_ok=True)
        path.write_text(TRAP)
    ran = subprocess.run(
        [installed, "run", "study.yaml"],
        cwd=machine.folder,
        env=machine.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, "a file of the user" in ran.stdout + ran.stderr) == (0, False), ran.stderr
    assert (machine.home / "reports" / "small" / "report.html").is_file()
