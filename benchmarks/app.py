"""The app on the demo model: start, first picture, heatmap, twenty clients, one that hangs up: `python -m benchmarks.app`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from src.data.images import from_bytes

SKETCH, REFERENCE = (Path(f"src/app/examples/elf.{kind}.png") for kind in ("sketch", "reference"))
PORT = 7899
ADDRESS = f"http://127.0.0.1:{PORT}"


def started(folder: str) -> tuple[subprocess.Popen, float]:
    """The app, and the seconds until it answered with its page."""
    began = time.perf_counter()
    app = subprocess.Popen([sys.executable, "-m", "src.app", "--port", str(PORT), "--folder", folder], stdout=subprocess.DEVNULL)
    while app.poll() is None:
        try:
            urllib.request.urlopen(ADDRESS).read()
            return app, time.perf_counter() - began
        except OSError:
            time.sleep(0.05)
    raise SystemExit("The app did not start.")


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def heatmap_seconds() -> list[float]:
    """Of a map whose reference is known: what moving a threshold takes in the app itself."""
    from src.app.maps import map_of
    from src.app.studio import Studio, checkpoints

    studio, reference, took = Studio(Path("outputs/app"), checkpoints()), from_bytes(REFERENCE.read_bytes()), []
    for step in range(21):
        began = time.perf_counter()
        map_of(studio, "noisy", reference, [{"control": "red hair", "thresholds": [0.1, 0.2, 0.3, 0.4 + step / 100]}])
        took.append(time.perf_counter() - began)
    return took[1:]


def main() -> None:
    from gradio_client import Client, handle_file

    print(f"load average of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        app, took = started(folder)
        try:
            print(f"start to the page:       {took:6.2f} s")
            pair = (handle_file(str(SKETCH)), handle_file(str(REFERENCE)))
            first = Client(ADDRESS, verbose=False, download_files=folder)
            began = time.perf_counter()
            first.predict(*pair, api_name="/colorize")
            print(f"first picture:           {time.perf_counter() - began:6.2f} s")

            clients = [Client(ADDRESS, verbose=False, download_files=folder) for _ in range(20)]
            for wave in range(2):
                before, began, finished = megabytes(app.pid), time.perf_counter(), []
                jobs = []
                for number, client in enumerate(clients):
                    job = client.submit(*pair, steps=4, size=64, seed=number, api_name="/colorize")
                    job.add_done_callback(lambda _, number=number, finished=finished: finished.append(number))
                    jobs.append(job)
                    while not job.status().code.name.startswith(("IN_QUEUE", "PROC", "ITER", "FIN")):
                        time.sleep(0.01)
                answered = sum(Path(job.result()[0]).is_file() for job in jobs)
                took, order = time.perf_counter() - began, "in order" if finished == sorted(finished) else f"order {finished}"
                print(
                    f"twenty clients, wave {wave + 1}:  {took:6.2f} s, {answered} answered, {order}, "
                    f"memory {before:.0f} to {megabytes(app.pid):.0f} MB"
                )

            long = subprocess.Popen([sys.executable, "-c", HANGS_UP, ADDRESS, str(SKETCH), str(REFERENCE)])
            long.wait()  # it has left while 8 pictures of 100 steps are under way
            began = time.perf_counter()
            first.predict(*pair, steps=4, size=64, api_name="/colorize")
            print(f"after one that hung up:  {time.perf_counter() - began:6.2f} s")
        finally:
            app.terminate()
            app.wait()
    took = heatmap_seconds()
    print(f"heatmap, in the app:     {statistics.median(took) * 1000:6.0f} ms, slowest of {len(took)} {max(took) * 1000:.0f} ms")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


HANGS_UP = """
import os, sys, time
from gradio_client import Client, handle_file
address, sketch, reference = sys.argv[1:]
job = Client(address, verbose=False).submit(
    handle_file(sketch), handle_file(reference), steps=100, variants=8, api_name="/colorize"
)
while job.status().code.name not in ("ITERATING", "PROCESSING"):
    time.sleep(0.05)
time.sleep(1)
os._exit(0)
"""


if __name__ == "__main__":
    main()
