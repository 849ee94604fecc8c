"""Install the system packages that some tests and demonstrations use, or say which are missing.

As root on a Debian system they are installed; anywhere else their names are printed and the tests
that need them are skipped by name. Nothing is installed that is there already.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {"swtpm": "swtpm", "swtpm_setup": "swtpm-tools", "nginx": "nginx-light"}
"""Programs, and the Debian packages that hold them."""


def missing() -> list[str]:
    """Return the packages whose programs are not there; some live where only root looks."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))
    return [name for program, name in PACKAGES.items() if shutil.which(program, path=path) is None]


def main() -> int:
    """Install what is missing, or say so. Always ends well: everything here is optional."""
    wanted = missing()
    if not wanted:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *wanted],
        ):
            subprocess.run(command, check=False, env=environment, **quiet)
        wanted = missing()
    if wanted:
        sys.stderr.write(
            f"not installed: {' '.join(wanted)} (on Debian and Ubuntu: apt-get install "
            f"{' '.join(wanted)}); what needs them is skipped by name\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
