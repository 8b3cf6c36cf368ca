"""
Show the main job: pending changes are applied before a service answers its first request.

Starts the shop twice on a free port, with its databases in a temporary folder, and checks what
it shows. It ends by itself, with 0 if all was as expected.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
CHANGES = ["create-products", "add-price", "first-products", "publish-terms"]


def main() -> None:
    """Start the shop on an empty folder, then on what the first start has left."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SHOP_FOLDER": folder, "PYTHONIOENCODING": "utf-8"}

        heading("First start: four changes are pending")
        with shop(environment) as url:
            show_ready(url)
            report = get(url + "/report")
            print(report)
            expect(all(f"{change}: applied" in report for change in CHANGES), "all are applied")

            heading("What it serves: GET /products")
            products = json.loads(get(url + "/products"))
            for product in products:
                print(f"  {product['name']:<8}{product['priceInCents'] / 100:>8.2f}")

            expect([p["name"] for p in products] == ["Tea", "Cup", "Spoon"], "three products")

        heading("What was done and when: aflamingock audit list")
        listed = command(environment, "audit", "list")
        print(listed.expandtabs(22))
        expect(all(change in listed for change in CHANGES), "all are in the audit log")

        heading("Second start: nothing is pending")
        with shop(environment) as url:
            show_ready(url)
            report = get(url + "/report")
            print(report)
            expect(report.startswith("Nothing to do"), "nothing to do")

        heading("Done")


@contextmanager
def shop(environment: dict[str, str]) -> Iterator[str]:
    """Run the service under uvicorn; yield its URL when it is ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = [sys.executable, "-m", "uvicorn", "shop.main:app", "--port", str(port)]
    print("$ python", *server[1:], flush=True)
    process = subprocess.Popen([*server, "--log-level", "warning"], cwd=HERE, env=environment)
    try:
        wait_until_ready(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when the service answers, or end the demo if it does not."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        expect(process.poll() is None, "the service runs", quiet=True)
        try:
            get(url + "/readyz")
        except OSError:
            time.sleep(0.1)
            continue

        return

    expect(False, f"the service is ready within {PATIENCE:.0f} s")


def show_ready(url: str) -> None:
    """Show the route that an orchestrator asks."""
    print("GET /readyz:", get(url + "/readyz"))


def command(environment: dict[str, str], *arguments: str) -> str:
    """Run the command line, and return what it prints."""
    run = subprocess.run(
        [sys.executable, "-m", "aflamingock", "--app", "shop.main:flamingock", *arguments],
        cwd=HERE,
        env=environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
    )
    expect(run.returncode == 0, f"{' '.join(arguments)} exits with 0", quiet=True)
    return run.stdout.rstrip()


def get(url: str) -> str:
    """Return the body of a page."""
    with urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def heading(text: str) -> None:
    """Print the title of a part."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def expect(holds: bool, what: str, *, quiet: bool = False) -> None:
    """End the demo with an error unless something holds."""
    if not holds:
        sys.exit(f"NOT as expected: {what}.")

    if not quiet:
        print(f"[ok] {what}", flush=True)


if __name__ == "__main__":
    main()
