"""Models of the Hugging Face Hub, by ORG/NAME, through `huggingface_hub` with its cache, token and endpoint.

Only `get` downloads. Everywhere else a model is read from the cache; if it is not there, the error says how to get it.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import read_json
from minilora.formats.huggingface import CONFIG, INDEX, WEIGHTS, shards_of
from minilora.models.registry import family_of
from minilora.show.grids import show_size
from minilora.train.catalog import CATALOG

TOKENIZER = "tokenizer.json"
SMALL = r"\w*config\.json|tokenizer\.json|special_tokens_map\.json|chat_template\.jinja"  # files besides the weights


def is_hub_name(source: str) -> bool:
    """Return True if `source` has the form ORG/NAME and is not a folder or file."""
    return re.fullmatch(r"\w[\w.-]{,95}/[\w.-]{1,96}", source) is not None and not Path(source).exists()


def cached(name: str) -> Path:
    """Return the folder of a model in the Hub's cache.

    Raises MiniloraError, which says how to get the model, if a file is missing.
    """
    with _library(name) as library:
        config = library.try_to_load_from_cache(name, CONFIG)
        if isinstance(config, str):
            folder = Path(config).parent
            files = {file.name for file in folder.iterdir() if file.exists()}
            if (weights := _weights(folder, files)) and {TOKENIZER, *weights} <= files:
                return folder
        ways = [f"no such folder, and no model of the Hub on this machine yet: minilora models get {name}"]
        ways += [f"--model {copy} is a copy of it in 4 bits" for copy, e in CATALOG.items() if e.hub_name == name]
        raise MiniloraError("; ".join(ways))


def get(name: str, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Download the files of a model that minilora reads, unless they are in the cache. Returns their folder.

    tell: called with a line about the size before the weights are downloaded. config.json comes first, so that a model
    of an unsupported family fails early. Raises MiniloraError, always one line.
    """
    with suppress(MiniloraError):
        return cached(name)
    with _library(name) as library:
        info = library.HfApi().model_info(name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if not {CONFIG, TOKENIZER} <= {*sizes} or not {WEIGHTS, INDEX} & {*sizes}:
            raise MiniloraError(f"it lacks one of {CONFIG}, {TOKENIZER} and {WEIGHTS}, which minilora needs")
        download = partial(library.hf_hub_download, name)
        folder = Path(download(CONFIG)).parent
        family_of(folder, "it").config_class.from_dict(read_json(folder / CONFIG))
        if WEIGHTS not in sizes:
            download(INDEX)
        files = [*(file for file in sizes if re.fullmatch(SMALL, file)), *_weights(folder, sizes)]
        wanted = [file for file in files if not (folder / file).exists()]
        tell(f"{name}: {show_size(sum(sizes.get(file, 0) for file in wanted))} to download")
        for file in wanted:  # one by one, so that Ctrl-C stops at once and keeps the complete files
            download(file)
    return folder


def _weights(folder: Path, names: Collection[str]) -> list[str]:
    """Return the weight files to read from a folder with these file names; none if it has no weights."""
    return [WEIGHTS] if WEIGHTS in names else list(shards_of(folder / INDEX)) if INDEX in names else []


@contextmanager
def _library(name: str) -> Iterator[Any]:
    """Yield `huggingface_hub`. Its errors, and those of the model, become one line that begins with `name`."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MiniloraError(f'{escape(name)}: no such folder; the Hub needs pip install "minilora[hub]"') from error
    meanings = {
        errors.GatedRepoError: "accept its terms on its page of the Hub, then log in: hf auth login",
        errors.RepositoryNotFoundError: "the Hub has no such model, or it is private: hf auth login",
        errors.HFValidationError: "a model of the Hub is called ORG/NAME",
    }
    try:
        yield huggingface_hub
    except (MiniloraError, OSError, errors.HTTPError, errors.HFValidationError) as error:
        words = "" if isinstance(error, MiniloraError) else "cannot be downloaded: "
        words += escape(" ".join(str(error).split()), 400)
        words = next((meaning for kind, meaning in meanings.items() if isinstance(error, kind)), words)
        raise MiniloraError(f"{escape(name)}: {words}") from error
