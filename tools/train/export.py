"""Step 6: the files of a model directory, weights in bfloat16, into out/."""
import json

import codec
import lm
import tensors
from train_codec import trained
from train_lm import trained_lm
from work import path

MIMI, WEIGHTS = "tokenizer-mimi-demo.safetensors", "model.safetensors"


def write_json(name, thing):
    with open(path("out/" + name), "w") as file:
        json.dump(thing, file, indent=1)


def main():
    tensors.save(path("out/" + MIMI), trained().tensors())
    tensors.save(path("out/" + WEIGHTS), trained_lm().P)
    write_json("mimi_config.json", codec.CONFIG)
    write_json("config.json", dict(
        lm.CONFIG, moshi_name=WEIGHTS, mimi_name=MIMI, tokenizer_name="tokenizer_spm_demo.model",
        mimi_config_name="mimi_config.json", model_type="moshi",
        lm_gen_config={"temp": 0.3, "top_k": 50, "temp_text": 0.2, "top_k_text": 10}))


if __name__ == "__main__":
    main()
