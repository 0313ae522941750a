"""The web app: `python -m src.app` (docs/app.md)."""

import argparse
import os
import sys
import threading
from pathlib import Path

FOLDER = Path("outputs/app")


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    # Gradio reads these when it is imported. Uploads lie in the app's own folder, and nobody is told of them.
    os.environ["GRADIO_TEMP_DIR"] = str((given.folder / "uploads").resolve())
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from src.app.page import build, serve
    from src.app.safety import login
    from src.app.studio import Studio, checkpoints
    from src.files import UserError

    try:
        auth = login(given.host, given.share, given.password or os.environ.get("COLORIZE_PASSWORD"))
        studio = Studio(given.folder, checkpoints())
        if not studio.checkpoints:
            raise UserError("There is no model here: start the app in the project's folder.")
        address = serve(build(studio), studio, given.host, given.port, given.share, auth)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The app is at {address}   (stop it with Ctrl+C)", flush=True)
    # The page is there at once; whoever presses before the model is loaded waits for it.
    threading.Thread(target=studio.model, args=[next(iter(studio.checkpoints))], daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m src.app", description="The web app: colour a drawing, change it by words, compare.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 is for other machines, and needs a password")
    parser.add_argument("--port", type=int, help="the first free one from 7860 on, if none is given")
    parser.add_argument("--share", action="store_true", help="a public address by Gradio's servers; needs a password")
    parser.add_argument("--password", help="what a visitor has to know; better in the environment variable COLORIZE_PASSWORD")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where pictures and uploads lie ({FOLDER})")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
