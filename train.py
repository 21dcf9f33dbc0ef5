"""Train a network: ``python train.py [group=choice] [key=value] [-m]``."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(config: DictConfig) -> float:
    """Train, score, and say where everything is."""
    from liverseg.experiment import summary, train

    scores = train(config)
    print(summary(scores))
    return scores[config.monitor]


if __name__ == "__main__":
    main()
