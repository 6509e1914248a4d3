"""python write.py RECIPES.json FOLDER: writes a file of each recipe, and its tensors by name beside it."""

import json
import pickle
import sys

import dill
import numpy as np
import torch
from dnnlib.util import EasyDict
from networks.generator import build
from pg_modules.discriminator import ProjectedDiscriminator


def content_of(recipe):
    """The top level of a snapshot."""
    content = dict.fromkeys(("G", "D", "G_ema"))
    if recipe["D"] is not None:
        content["D"] = ProjectedDiscriminator(recipe["D"]).eval().requires_grad_(False)
    for name in ("G", "G_ema"):
        if recipe[name] is not None:
            content[name] = build(recipe[name]).eval().requires_grad_(False)
    content["augment_pipe"] = None
    path = "/home/somebody/data/pets16.zip"
    content["training_set_kwargs"] = EasyDict(class_name="training.dataset.ImageFolderDataset", path=path)
    if recipe["progress"] is not None:
        stored = {name: torch.LongTensor([value]) for name, value in recipe["progress"].items()}
        content["progress"] = {**stored, "best_fid": 2.5, "pl_mean": torch.tensor(0.75), "augment_p": None}
    return content


def main(recipes, folder):
    torch.manual_seed(5)
    with open(recipes) as file:
        listed = json.load(file)
    for recipe in listed:
        content, path = content_of(recipe), f"{folder}/{recipe['name']}"
        library = {"dill": dill, "pickle": pickle}[recipe["library"]]
        with open(f"{path}.pkl", "wb") as file:
            library.dump(content, file, **recipe["options"])
        tensors = {
            f"{name}.{key}": value.numpy()
            for name in ("G", "D", "G_ema")
            if content[name] is not None
            for key, value in content[name].state_dict().items()
        }
        np.savez(f"{path}.npz", **tensors)
    print(dill.__version__, torch.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
