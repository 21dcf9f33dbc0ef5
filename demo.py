"""Open a page to try a model on this computer: ``python demo.py ckpt_path=FILE [port=8000]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="demo")
def main(config: DictConfig) -> None:
    """Serve the page, and say where it is."""
    from liverseg.sharing import page_server

    with told_in_one_sentence():
        server = page_server(config)
    print(f"\nopen http://{server.host}:{server.port}   Ctrl-C ends it", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "demo")
        main()
