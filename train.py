"""Train a network: ``python train.py [group=choice] [key=value] [-m]``."""

import hydra
from omegaconf import DictConfig

from liverseg.commandline import refuse_bad_overrides
from liverseg.resume import resume_or


def run(config: DictConfig) -> float:
    """Train, score, and say where everything is; return the score that a sweep compares."""
    from liverseg.experiment import short_path, summary
    from liverseg.launch import train_on_all_devices
    from liverseg.mistakes import told_in_one_sentence

    with told_in_one_sentence():
        scores = train_on_all_devices(config)
    folder = short_path(config.output_dir)
    print(f"\n{summary(scores)}\n\nrun        {folder}\npictures   {folder}/pictures")
    print("dashboard  tensorboard --logdir logs")
    return scores[config.monitor]


main = hydra.main(version_base="1.3", config_path="configs", config_name="train")(run)

if __name__ == "__main__":
    refuse_bad_overrides(__file__, "train")
    resume_or(main, run)
