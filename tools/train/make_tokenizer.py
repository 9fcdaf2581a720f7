"""Step 2: a SentencePiece model in which every word of an answer is one piece.

Smaller vocabularies are tried until a word falls apart; the smallest that holds is kept.
"""
import random
import subprocess

import sentencepiece

import domain
from work import path

MODEL = "out/tokenizer_spm_demo.model"
SIZES = (512, 448, 400, 384, 352, 320, 288, 256, 224, 192)


def train(text, size):
    prefix = path(MODEL)[:-len(".model")]
    done = subprocess.run(
        ["spm_train", f"--input={text}", f"--model_prefix={prefix}", f"--vocab_size={size}",
         "--model_type=bpe", "--unk_id=0", "--bos_id=1", "--eos_id=2", "--pad_id=3",
         "--character_coverage=1.0", "--normalization_rule_name=identity", "--split_digits=true",
         "--minloglevel=2"], capture_output=True, text=True)
    return done.returncode == 0


def main():
    words = sorted({word for answer in domain.answers() for word in answer.split()})
    lines = domain.answers() + domain.questions() + [word for word in words for _ in range(30)]
    random.Random(0).shuffle(lines)
    text = path("clips/text.txt")
    with open(text, "w") as file:
        file.write("\n".join(lines) + "\n")
    kept = None
    for size in SIZES:
        if not train(text, size):
            continue  # more pieces than the text can give
        pieces = sentencepiece.SentencePieceProcessor(path(MODEL))
        if any(len(pieces.encode(word)) != 1 for word in words):
            break
        kept = size
    train(text, kept)
    print(f"{kept} pieces; every one of {len(words)} answer words is one of them")


if __name__ == "__main__":
    main()
