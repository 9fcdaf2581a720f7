"""Reading and writing safetensors files."""
import json
import struct

import torch


def save(path, tensors):
    """Everything as bfloat16."""
    header, offset, data = {}, 0, []
    for name in sorted(tensors):
        t = tensors[name].detach().contiguous()
        piece = t.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(t.shape),
                        "data_offsets": [offset, offset + len(piece)]}
        offset += len(piece)
        data.append(piece)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def load(path):
    """-> {name: float32 tensor}"""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        piece = bytearray(data[8 + size + begin:8 + size + end])
        if entry["dtype"] == "BF16":
            t = torch.frombuffer(piece, dtype=torch.int16).view(torch.bfloat16).float()
        else:
            t = torch.frombuffer(piece, dtype=torch.float32).clone()
        out[name] = t.view(entry["shape"])
    return out
