"""Volumes to pairs: ``python convert.py source=VOLUMES labels=LABELS output_dir=DIR``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="convert")
def main(config: DictConfig) -> None:
    """Convert, and say where everything is."""
    from liverseg.experiment import convert
    from liverseg.runs import short_path

    with told_in_one_sentence():
        done = convert(config)
    volumes = f"{done.num_cases} volume{'' if done.num_cases == 1 else 's'}"
    volumes += f" of {done.num_patients} patient{'' if done.num_patients == 1 else 's'}"
    print(f"\n{done.num_pairs} pairs of {volumes} in {short_path(config.output_dir)}")
    if done.refused:
        sys.exit(
            f"{len(done.refused)} not converted, for the reasons above: {', '.join(done.refused)}"
        )


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "convert")
        main()
