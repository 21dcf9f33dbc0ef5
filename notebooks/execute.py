"""Execute notebooks from top to bottom and keep what is worth committing.

    python notebooks/execute.py [FILE ...]

Without files, all of this folder, as many at once as there are cores. They are executed in the
current folder and written back where they were, if no cell fails. What would differ from run to run
though nothing has changed (times, versions, where a figure lies in memory) is dropped, and figures
are stored with 256 colours.
"""

import base64
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

LONGEST_CELL = 600  # seconds
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(file: Path) -> None:
    """Execute a notebook and write it back."""
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL,
        record_timing=False,
        coalesce_streams=True,
        # ipykernel warns that others on this computer could listen, as they can to any notebook.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": Path.cwd()}},
    )
    client.execute()
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = {}
                if "image/png" in output.data:
                    output.data = {"image/png": smaller(output.data["image/png"])}
    nbformat.validate(notebook)
    nbformat.write(notebook, file)


def smaller(png: str) -> str:
    """Return a PNG, base64 as in a notebook, with a palette and nothing but its pixels."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(256)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    files = list(map(Path, sys.argv[1:] or sorted(Path(__file__).parent.glob("*.ipynb"))))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each notebook has a process of its own
        for file, _ in zip(files, pool.map(execute, files), strict=True):
            print(file.name, flush=True)
