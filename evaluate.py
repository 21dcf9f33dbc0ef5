"""Score a checkpoint: ``python evaluate.py ckpt_path=FILE [split=val|test] [data.root=DIR]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Score, and say where everything is."""
    from liverseg.experiment import evaluate
    from liverseg.runs import is_first_process, short_path
    from liverseg.scores import summary

    refused: dict[str, str] = {}
    with told_in_one_sentence():
        scores = evaluate(config, refused)
    if is_first_process():
        print(f"\n{summary(scores)}\n\nfolder  {short_path(config.output_dir)}")
    if refused:
        sys.exit(f"{len(refused)} not scored, for the reasons above: {', '.join(refused)}")


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "evaluate")
        main()
