"""The words after ``python train.py``, checked before anything heavy is imported.

Hydra judges: the command is composed once, as Hydra will do again. Only where that fails, this
module looks for the word that is wrong and says so in one sentence; what it cannot explain is left
to Hydra's own message.
"""

import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from inspect import signature
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, OverrideType, RangeSweep
from hydra.errors import OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from liverseg.settings.mistakes import wants_traceback
from liverseg.settings.paths import as_hydra_reads_it, read_too, what_blocks
from liverseg.settings.words import all_keys, nearest, nearest_key, remedy, walk

# Options that only show something, or that take other files than ours.
_OPTIONS = (
    *("help", "hydra_help", "version", "cfg", "info", "shell_completion"),
    *("config_path", "experimental_rerun"),
)
_FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
_LISTS = ("allow", "augment", "ckpt_path", "freeze", "logger", "runs", "scores", "spacing")
_PACKAGES = {  # by a choice: the module that it needs, and what brings it
    "hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "'liverseg[slurm]'"),
    "model=smp_unet": ("segmentation_models_pytorch", "'liverseg[networks]'"),
    "model=monai_dynunet": ("monai", "'liverseg[networks]'"),
    "search=optuna": ("optuna", "'liverseg[search]'"),
}

ENVIRONMENT = {  # of each command, where nothing else is said; read as torch is imported
    # Threads that wait for one another keep their cores busy; beside another process, that costs
    # most of each step: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
    "GOMP_SPINCOUNT": "10000",
    "THP_MEM_ALLOC_ENABLE": "1",  # tensors lie in large pages
}


def refuse_bad_overrides(script: str, config_name: str) -> None:
    """Print one sentence and end with status 2 where the command line of a script is wrong.

    With ``HYDRA_FULL_ERROR=1`` in the environment nothing is refused, and Hydra shows tracebacks.
    """
    try:
        folder = Path(script).resolve().parent / "configs"
        sys.argv += check_overrides(folder, config_name, sys.argv[1:])
    except ValueError as error:
        if wants_traceback():
            return
        print(error, file=sys.stderr)  # noqa: T201  # a command speaks; no logger is set up yet
        sys.exit(2)


def prepare_command() -> None:
    """Let options stand anywhere, paths hold any character, Ctrl-C end without a traceback.

    Hydra's parser stops at ``-m``, or ``--config-dir DIR``, in the middle of the overrides. Called
    before torch is imported.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(200_000, 50, 50)  # what is imported stays; looking for garbage takes a while
    show = sys.excepthook
    sys.excepthook = lambda kind, error, trace: (
        None if issubclass(kind, KeyboardInterrupt) else show(kind, error, trace)
    )
    flags, rest, words = [], [], iter(sys.argv[1:])
    for word in words:
        if word in ("-m", "--multirun") or word.startswith(tuple(f"{one}=" for one in _FOLDERS)):
            flags.append(word)
        elif word in _FOLDERS:
            flags += [word, *islice(words, 1)]
        else:
            rest.append(as_hydra_reads_it(word))
    sys.argv[1:] = flags + rest


def check_overrides(folder: Path, config_name: str, arguments: list[str]) -> list[str]:
    """Compose what a command line asks for, and explain it where that cannot be done.

    Returns what is to be added to the command line: Hydra makes the folder of a run itself, and
    reads no ``~`` in a file.

    Raises:
        ValueError: If an override cannot be read, if it names an unknown key, group or choice, or
            if the folder of the run cannot be written. The message is one sentence.
    """
    parser = get_args_parser()
    for word in parser.parse_known_args(arguments)[1]:
        if word.startswith("-"):
            raise ValueError(f"{word} is no option; settings have no dashes: {word.lstrip('-')}")
    options = parser.parse_args(arguments)
    if options.multirun and options.cfg:
        raise ValueError("--cfg shows the config of one run; leave out -m")
    if any(getattr(options, name, None) for name in _OPTIONS):
        return []
    if any(re.fullmatch(r"resume=(?!null$).+", one) for one in options.overrides):
        return []  # the rest is held against the config of that run, not against ours
    overrides = [parse_override(one) for one in options.overrides]
    for one in overrides:
        _refuse_number_of_runs(one, is_sweep=options.multirun)
    with initialize_config_dir(str(folder), version_base="1.3"):
        loader, name = _loader(options.config_dir), options.config_name or config_name
        composed = None
        for job, changed in _jobs(overrides, loader):
            try:
                composed = _compose(loader, name, job)
            except ValueError as error:
                if changed in str(error):
                    raise
                raise ValueError(f"{error} (in the run with {changed})") from None
        if composed is None:
            return []
        _refuse_unread(overrides, composed, loader, name)
    return _folder_of(composed, options.multirun, overrides)


def _loader(config_dir: str | None) -> ConfigLoader:
    """Return what knows the config groups, those of ``--config-dir`` among them."""
    running = GlobalHydra.instance().hydra
    assert running is not None
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ValueError(f"--config-dir {config_dir} is no folder; name one of config files")
        search_path = running.config_loader.get_search_path()
        where = f"file://{Path(config_dir).absolute()}"
        search_path.prepend("command-line", where, SearchPathQuery(provider="schema"))
        running.config_loader = ConfigLoaderImpl(config_search_path=search_path)
    return running.config_loader


def what_is_lacking(choice: str) -> str:
    """Return a sentence where a choice, GROUP=NAME, needs a package that is not installed."""
    module, package = _PACKAGES.get(choice, ("", ""))
    if not module or find_spec(module):
        return ""
    return f"{choice} needs a package that is not installed; pip install {package}"


def parse_override(argument: str) -> Override:
    """Read an argument as Hydra does.

    Raises:
        ValueError: If it cannot be read, with the remedy.
    """
    key, equals, value = argument.partition("=")
    if not key.strip("+~"):
        raise ValueError(f"{argument} names no key; write KEY=VALUE")
    if not equals and not argument.startswith("~"):
        raise ValueError(f"{argument} has no = in it; {_what_was_meant(argument)}")
    with suppress(OverrideParseException):
        return OverridesParser.create().parse_overrides([argument])[0]
    text = value.replace('"', '\\"')
    raise ValueError(
        f"{argument} cannot be read; close its brackets and quotes, or make its value a text: "
        f"'{key}=\"{text}\"'"
    )


def _what_was_meant(argument: str) -> str:
    """Return the remedy for an argument that is no KEY=VALUE."""
    if argument in ("help", "version", "multirun", "cfg", "info"):
        return f"write --{argument}"
    if "," in argument:
        return "write a list without spaces, such as seed=1,2"
    if Path(argument).exists():
        return (
            f"write KEY={argument}, with a key such as data.root, ckpt_path, source, resume, or "
            "runs for several in brackets"
        )
    return f"write {argument}=VALUE, and quote the whole where a value holds spaces"


def _refuse_number_of_runs(override: Override, *, is_sweep: bool) -> None:
    """Refuse several values for one run, and for a sweep a folder that no job has."""
    line = override.input_line or ""
    if not is_sweep and override.is_sweep_override():
        key, _, value = line.partition("=")
        can_be_list = "." in key or key.lstrip("+") in _LISTS
        is_list = can_be_list and override.is_choice_sweep() and not value.startswith("choice(")
        advice = f", or write {key}=[{value}] for a list" if is_list else ""
        raise ValueError(f"{line} stands for several runs; add -m to run them{advice}")
    if is_sweep and override.key_or_group in ("output_dir", "hydra.run.dir", "hydra.sweep.subdir"):
        raise ValueError(
            f"{line} has no effect on a sweep, where each job has its own folder; name the folder "
            "of the sweep: sweep_name=NAME, or hydra.sweep.dir=FOLDER"
        )


def _jobs(overrides: list[Override], loader: ConfigLoader) -> Iterator[tuple[list[Override], str]]:
    """Yield the overrides of single runs such that each choice of a sweep is in one of them.

    Beside them stands the choice that differs from the first run.
    """
    values = [several for one in overrides if (several := _values(one))]
    first = [several[0] for several in values]
    yield first, ""
    for place, several in enumerate(values):
        if loader.get_group_options(several[0].key_or_group):
            for other in several[1:]:
                yield [*first[:place], other, *first[place + 1 :]], other.input_line or ""


def _values(override: Override) -> list[Override]:
    """Return one override per value of a sweep, or the first alone of a range."""
    if not override.is_sweep_override():
        return [override]
    key, sweep = override.get_key_element(), override.value()
    if isinstance(sweep, Glob):  # takes what exists
        return []
    if isinstance(sweep, RangeSweep | IntervalSweep):
        return [parse_override(f"{key}={sweep.start}")]
    return [parse_override(f"{key}={value}") for value in override.sweep_string_iterator()]


def _compose(loader: ConfigLoader, name: str, overrides: list[Override]) -> DictConfig | None:
    """Compose, or raise the sentence that says why not; None where no sentence fits."""
    lines = [one.input_line or "" for one in overrides]
    if lacking := next(filter(None, map(what_is_lacking, lines)), ""):
        raise ValueError(lacking)
    if (composed := _composed(name, lines)) is not None:
        return composed
    choices = [one for one in overrides if loader.get_group_options(one.key_or_group)]
    if (shipped := _composed(name, [])) is None:
        return None
    for one in choices:
        _refuse_choice(one, loader, shipped)
    plain = [one.input_line or "" for one in choices if one.type == OverrideType.CHANGE]
    if (config := _composed(name, plain) if plain else shipped) is None:
        return None
    for one in overrides:
        if one not in choices and one.package is None:
            _refuse_key(one, config)
        elif one.type == OverrideType.ADD and one.key_or_group in config:
            raise ValueError(
                f"{one.input_line} adds a second {one.key_or_group}; leave out the + to choose "
                "another one"
            )
    return None


def _composed(name: str, lines: list[str]) -> DictConfig | None:
    with suppress(Exception):  # whatever it is, Hydra meets it again
        return compose(name, lines, return_hydra_config=True)
    return None


def _groups(config: DictConfig) -> set[str]:
    return {one.partition("@")[0] for one in config.hydra.runtime.choices}


def _refuse_choice(override: Override, loader: ConfigLoader, shipped: DictConfig) -> None:
    """Refuse a choice that is not in its group, or of a group that a command does not have."""
    group, value = override.key_or_group, override.value()
    if not override.is_add() and override.package is None and group not in _groups(shipped):
        section = OmegaConf.select(shipped, group)
        keys = [f"{group}.{key}" for key in section or () if not key.startswith("_")]
        end = f"set single keys, such as {keys[0]}" if keys else "leave it out"
        raise ValueError(f"{override.input_line} is nothing to choose in this command; {end}")
    if override.type == OverrideType.DEL:
        return
    choices = loader.get_group_options(group)
    for one in value if isinstance(value, list) else [value]:
        name = "null" if one is None else str(one)
        if name not in choices:
            meant, told = nearest(name, choices), override.input_line
            if isinstance(value, list):
                told = f"{name} in {told}"
                meant = meant and f"[{','.join(meant if it == one else str(it) for it in value)}]"
            end = f"the nearest is {group}={meant}, " if meant else ""
            raise ValueError(f"{told} is not a choice; {end}all choices are {', '.join(choices)}")


def _refuse_key(override: Override, config: DictConfig) -> None:
    """Refuse a key that does not exist, or that exists where it is to be added."""
    line, key = override.input_line or "", override.key_or_group
    unresolved = OmegaConf.to_container(config, resolve=False)
    exists = key in dict(walk(unresolved))
    if override.type == OverrideType.ADD and exists:
        raise ValueError(f"{line} adds a key that is there already; leave out the +")
    if exists or override.type in (OverrideType.ADD, OverrideType.FORCE_ADD):
        return
    known = {*all_keys(unresolved), *_groups(config)}
    section, _, last = key.rpartition(".")
    target, parameters = _parameters(config, section)
    if override.type == OverrideType.CHANGE and last in parameters:
        raise ValueError(
            f"{line} is not in the config, but {target} takes it; add a + in front: +{line}"
        )
    added = {f"{section}.{name}" for name in parameters}
    closest = nearest_key(key, known | added)
    if closest and closest not in known and override.type == OverrideType.CHANGE:
        closest = f"+{closest}"
    raise ValueError(f"{line} names no known key{remedy(closest, '--cfg job shows all of them')}")


def _refuse_unread(
    overrides: list[Override], config: DictConfig, loader: ConfigLoader, name: str
) -> None:
    """Refuse a key added beside the sections that nothing refers to, and to leave out one there."""
    for one in overrides:
        key = one.key_or_group
        if "." in key or loader.get_group_options(key):
            continue
        if one.is_delete():
            raise ValueError(f"{key} is missing from the config; leave out ~{key}, or set it")
        if not (one.is_add() or one.is_force_add()) or one.package is not None:
            continue
        known = [*all_keys(OmegaConf.to_container(compose(name), resolve=False))]
        text = str(OmegaConf.to_container(config, resolve=False))
        if key not in known and not re.search(rf"\$\{{{re.escape(key)}[}}.\[]", text):
            end = remedy(nearest_key(key, known), "leave it out")
            raise ValueError(f"{one.input_line} adds a key that nothing reads{end}")


def _parameters(config: DictConfig, section: str) -> tuple[str, set[str]]:
    """Return the class below a section and what it takes; nothing where there is none."""
    with suppress(Exception):  # a class that cannot be imported is told of later
        target = OmegaConf.select(config, f"{section}._target_")
        return target.rpartition(".")[2], set(signature(get_object(target)).parameters)
    return "", set()


def _folder_of(config: DictConfig, multirun: bool, overrides: list[Override]) -> list[str]:
    """Refuse the folder of the run, or of the sweep, where Hydra cannot make it; expand ``~``."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    output_dir = plain.get("output_dir", "")
    if output_dir == "???":
        raise ValueError("output_dir is not set; add output_dir=FOLDER to the command")
    if not isinstance(output_dir, str):
        shown = "null" if output_dir is None else output_dir
        raise ValueError(f"output_dir={shown} must be a folder")
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    try:
        typed = made = OmegaConf.select(config, key)
    except OmegaConfBaseException:  # refers to what only a running job knows
        return []
    name = config.get("sweep_name", "none is needed")
    if multirun and (name in ("", None) or OmegaConf.is_config(name)):
        raise ValueError(f"sweep_name={name} must be a name")
    if {one.key_or_group for one in overrides} & {"output_dir", key} == {"output_dir"}:
        key, typed = "output_dir", config.output_dir
    if not typed:
        raise ValueError(f"{key}= must be a folder; leave it out")
    folder = os.path.expanduser(str(typed))
    if reason := what_blocks(Path(folder)):
        raise ValueError(f"{key}={folder} cannot be written, {reason}; name another folder")
    if not multirun and (other := read_too(Path(folder), plain)):
        raise ValueError(
            f"{key}={folder} is the folder of {other} too, and what is written would lie among "
            "what is read; name another folder"
        )
    changed = {key: typed, "hydra.run.dir": made} if key == "output_dir" else {key: typed}
    return [as_hydra_reads_it(f"{one}={folder}") for one, was in changed.items() if was != folder]
