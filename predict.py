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
        count = predict(config)
    print(
        f"\n{count} x NAME_prediction.png and NAME_picture.png in {short_path(config.output_dir)}"
    )


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "predict")
        main()
