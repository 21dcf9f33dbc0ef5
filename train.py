"""Train a network: ``python train.py [group=choice] [key=value] [-m]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.runs import agreed_arguments, resume_or
from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


def run(config: DictConfig) -> float:
    """Train, score, and say where everything is; return the score that is monitored."""
    from liverseg.launch import train_and_tell

    return train_and_tell(config)


main = hydra.main(version_base="1.3", config_path="configs", config_name="train")(run)

if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        sys.argv[1:] = agreed_arguments(sys.argv[1:])  # processes of one run share its folder
        refuse_bad_overrides(__file__, "train")
        resume_or(main, run)
