"""Write a checkpoint as one file for other programs: ``python export.py ckpt_path=FILE``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="export")
def main(config: DictConfig) -> None:
    """Export, and say where everything is and what it was compared on."""
    from liverseg.runs import short_path
    from liverseg.sharing import export

    with told_in_one_sentence():
        done = export(config)
    print(f"\nmodel    {short_path(done.file)}\ncard     {short_path(done.card)}")
    print(f"checked  {done.parity.sentence()}")


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "export")
        main()
