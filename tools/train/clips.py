"""Sets of recordings: one array of 16-bit samples and a list of facts about each clip.

A clip is a dict: q question, a answer, voice settings, off and n (where its samples are), and
ph [(sample, phoneme)], ws {word index: sample} as far as its maker knows them.
"""
import numpy as np

import espeak
from work import load_object, path, save_object


def save(name, items):
    """items: [(facts, float samples)]"""
    offset, waves, facts = 0, [], []
    for clip, samples in items:
        wave = np.clip(samples * 32767, -32768, 32767).astype(np.int16)
        facts.append(dict(clip, off=offset, n=len(wave)))
        waves.append(wave)
        offset += len(wave)
    np.save(path(f"clips/{name}.npy"), np.concatenate(waves))
    save_object(f"clips/{name}.pkl", facts)
    print(f"{name}: {len(facts)} clips, {offset / espeak.RATE:.0f} s", flush=True)


class Clips:
    def __init__(self, name):
        self.facts = load_object(f"clips/{name}.pkl")
        self._waves = np.load(path(f"clips/{name}.npy"), mmap_mode="r")

    def samples(self, clip):
        return self._waves[clip["off"]:clip["off"] + clip["n"]] / np.float32(32768.0)


def say(text, **voice):
    """espeak.speak() without the pause at the end, faded out over 20 ms."""
    samples, phonemes, words = espeak.speak(text, **voice)
    end = len(samples)
    if phonemes and phonemes[-1][1].startswith("_"):
        i = len(phonemes) - 1
        while i > 0 and phonemes[i - 1][1].startswith("_"):
            i -= 1
        end = min(end, phonemes[i][0] + 600)
    samples = samples[:end].copy()
    fade = min(480, end)
    samples[-fade:] *= np.linspace(1, 0, fade)
    return samples, [(at, name) for at, name in phonemes if at < end], words


def works(voice):
    """Some variants of espeak-ng give nothing, or silence."""
    try:
        samples, _, _ = espeak.speak("what is three", voice)
        return len(samples) > 12000 and np.abs(samples).max() > 0.05
    except ValueError:
        return False


def question(random, text, answer, variants):
    """One question in a random voice -> (facts, samples)."""
    accents = (["en-us"] * 12 + ["en"] * 3 + ["en-gb-x-rp"] * 2 + ["en-us-nyc"] * 2 +
               ["en-gb-scotland"])
    variant = random.choice(variants)
    voice = dict(voice=random.choice(accents) + ("+" + variant if variant else ""),
                 rate=random.randint(140, 200), pitch=random.randint(25, 75),
                 range_=random.randint(30, 70))
    samples, phonemes, _ = say(text, **voice)
    return dict(q=text, a=answer, voice=voice, ph=phonemes), samples
