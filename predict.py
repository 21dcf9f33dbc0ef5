"""Predict masks: ``python predict.py ckpt_path=FILE source=IMAGE|FOLDER [output_dir=DIR]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="predict")
def main(config: DictConfig) -> None:
    """Predict, and say where everything is."""
    from liverseg.experiment import predict
    from liverseg.runs import short_path

    with told_in_one_sentence():
        num_predicted, refused = predict(config)
    print(
        f"\n{num_predicted} x NAME_prediction.png and NAME_picture.png in "
        f"{short_path(config.output_dir)}"
    )
    if refused:
        names = ", ".join(str(path) for path in refused)
        sys.exit(f"{len(refused)} not predicted, for the reasons above: {names}")


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "predict")
        main()
