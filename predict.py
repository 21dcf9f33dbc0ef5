"""Predict masks: ``python predict.py ckpt_path=FILE source=IMAGE|FOLDER|VOLUME``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig, OmegaConf

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="predict")
def main(config: DictConfig) -> None:
    """Predict, and say where everything is."""
    from liverseg.data.volumes import names_volumes
    from liverseg.experiment import predict
    from liverseg.runs import is_first_process, short_path

    with told_in_one_sentence():
        num_predicted, refused = predict(config)
        is_3d = names_volumes(OmegaConf.to_object(config)["source"])
    kinds = ["NAME_prediction.png"] + ["NAME_picture.png"] * config.pictures
    kinds += [f"NAME_probability.{config.probabilities}"] * (config.probabilities is not None)
    files = "NAME_prediction.nii.gz, and volumes.csv," if is_3d else " and ".join(kinds)
    if num_predicted and is_first_process():
        print(f"\n{num_predicted} x {files} in {short_path(config.output_dir)}")
    if refused:
        names = ", ".join(str(path) for path in refused)
        sys.exit(f"{len(refused)} not predicted, for the reasons above: {names}")


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "predict")
        main()
