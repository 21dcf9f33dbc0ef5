"""Divide a folder by patient: ``python split.py data.root=DIR [val=0.15] [test=0.15] [seed=0]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="split")
def main(config: DictConfig) -> None:
    """Write the table, and say what is in it."""
    from liverseg.checks import check_settings
    from liverseg.data import write_splits
    from liverseg.inference import plain_values
    from liverseg.runs import short_path

    with told_in_one_sentence():
        check_settings(config)
        plain_values(config)
        data = hydra.utils.instantiate(config.data, _convert_="all")
        shares = {"val": config.val, "test": config.test}
        file, told = write_splits(data, **shares, seed=config.seed, overwrite=config.overwrite)
    print("\n".join([*told, "", short_path(file)]))


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "split")
        main()
