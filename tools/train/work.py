"""The directory that everything is made in: $WORK, or build/train."""
import os
import pickle

WORK = os.environ.get("WORK", "build/train")
FRAME = 1920  # samples


def path(name):
    """Where `name` lies; its directory is made."""
    full = os.path.join(WORK, name)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def frames(samples):
    return -(-samples // FRAME)


def save_object(name, thing):
    with open(path(name), "wb") as file:
        pickle.dump(thing, file)


def load_object(name):
    with open(path(name), "rb") as file:
        return pickle.load(file)
