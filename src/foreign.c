#include "foreign.h"

#include "gguf.h"

#include <stdio.h>
#include <string.h>

enum { LOOKED_AT = 512, SHOWN = 40 };

typedef struct foreign_row {
    const char *magic;
    size_t n, at;
    bool model;
    const char *is;
} foreign_row;

static const foreign_row rows[] = {
    {"version https://git-lfs", 23, 0, true,
     "a Git LFS pointer, not the weights themselves (`git lfs pull` fetches them)"},
    {"lmgg", 4, 0, true, "a GGML file, the old format without versions"},
    {"fmgg", 4, 0, true, "a GGMF file, an old format before GGUF"},
    {"tjgg", 4, 0, true, "a GGJT file, an old format before GGUF"},
    {"\x80\2", 2, 0, true, "a Python pickle (an old PyTorch .pt or .bin file)"},
    {"\x80\3", 2, 0, true, "a Python pickle"},
    {"\x80\4", 2, 0, true, "a Python pickle"},
    {"\x80\5", 2, 0, true, "a Python pickle"},
    {"\x93NUMPY", 6, 0, true, "a NumPy array"},
    {"\x89HDF", 4, 0, true, "an HDF5 file"},
    {"\x1f\x8b", 2, 0, false, "gzip-compressed (unpack it first)"},
    {"BZh", 3, 0, false, "bzip2-compressed (unpack it first)"},
    {"\xfd"
     "7zXZ",
     5, 0, false, "xz-compressed (unpack it first)"},
    {"\x28\xb5\x2f\xfd", 4, 0, false, "zstd-compressed (unpack it first)"},
    {"ustar", 5, 257, false, "a tar archive (unpack it first)"},
    {"WAVE", 4, 8, false, "a WAV recording"},
    {"RIFF", 4, 0, false, "a RIFF file (audio or video)"},
    {"fLaC", 4, 0, false, "a FLAC recording"},
    {"OggS", 4, 0, false, "an Ogg recording"},
    {"ID3", 3, 0, false, "an MP3 recording"},
    {"\x89PNG", 4, 0, false, "a PNG image"},
    {"\xff\xd8\xff", 3, 0, false, "a JPEG image"},
    {"GIF8", 4, 0, false, "a GIF image"},
    {"%PDF", 4, 0, false, "a PDF document"},
    {"\x7f"
     "ELF",
     4, 0, false, "a program"},
};

static bool holds(const uint8_t *data, size_t size, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= size && i + n <= LOOKED_AT; i++)
        if (!memcmp(data + i, text, n)) return true;
    return false;
}

/* Letters in any case, behind white space and a byte order mark. */
static bool begins_like(const uint8_t *data, size_t size, const char *text) {
    size_t i = size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0, n = strlen(text);
    while (i < size && i < LOOKED_AT && strchr(" \t\r\n", data[i]) && data[i]) i++;
    for (size_t k = 0; k < n; k++, i++) {
        char c = i < size ? (char)data[i] : 0;
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != text[k]) return false;
    }
    return true;
}

/* UTF-8 has no bytes from f8 on. Of a few bytes nobody can tell. */
static bool is_text(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size && i < LOOKED_AT; i++)
        if ((data[i] < 0x20 && !strchr("\t\r\n\f", data[i])) || data[i] == 0 || data[i] == 0x7f ||
            data[i] >= 0xf8)
            return false;
    return size > 8;
}

/* "text ('Entry not found')": its first line. */
static void show_text(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]) {
    char line[SHOWN + 1];
    size_t n = 0;
    while (n < size && n < SHOWN && data[n] >= 0x20 && data[n] < 0x7f) {
        line[n] = (char)data[n];
        n++;
    }
    line[n] = 0;
    snprintf(out, MO_FOREIGN_BYTES, "text ('%s%s'), perhaps an error message saved by a download",
             line, n < size ? "..." : "");
}

static void tell_text(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]) {
    const char *is = NULL;
    if (begins_like(data, size, "<!doctype html") || begins_like(data, size, "<html"))
        is = "a web page (perhaps an error page saved by a download)";
    else if (begins_like(data, size, "<"))
        is = "an XML document (perhaps an error saved by a download)";
    else if (begins_like(data, size, "{") && holds(data, size, "\"error"))
        is = "an error message in JSON (saved by a download)";
    else if (begins_like(data, size, "{") || begins_like(data, size, "["))
        is = "JSON";
    if (is)
        snprintf(out, MO_FOREIGN_BYTES, "%s", is);
    else
        show_text(data, size, out);
}

/* A protocol buffer that begins with a small version number and the producer's name, the domain or
 * the graph. */
static bool is_onnx(const uint8_t *data, size_t size) {
    return size > 8 && data[0] == 0x08 && data[1] > 0 && data[1] < 0x20 &&
           (data[2] == 0x12 || data[2] == 0x22 || data[2] == 0x3a);
}

bool mo_foreign(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]) {
    const char *is = "";
    bool model = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !*is; i++)
        if (size >= rows[i].at + rows[i].n &&
            !memcmp(data + rows[i].at, rows[i].magic, rows[i].n)) {
            is = rows[i].is;
            model = rows[i].model;
        }
    if (!*is && size >= 4 && !memcmp(data, "PK\3\4", 4))
        is = holds(data, size, ".pkl") ? "a PyTorch file (.pt, .pth or .bin, a zip of pickles)"
                                       : "a zip archive (a PyTorch or NumPy .npz file?)";
    if (!*is && is_onnx(data, size)) is = "an ONNX model";
    if (!*is) model = false;
    if (!*is && size > 0 && data[0] == 0x0a && holds(data, size, "<unk>"))
        is = "a SentencePiece text tokenizer";
    snprintf(out, MO_FOREIGN_BYTES, "%s", is);
    if (!*is && is_text(data, size)) tell_text(data, size, out);
    return model;
}

int mo_foreign_refuse(const mo_file *file, const char *wanted, moshi_error *err) {
    char is[MO_FOREIGN_BYTES];
    mo_foreign(file->data, file->size, is);
    if (!is[0]) return 0;
    return mo_fail(err, MOSHI_EMODEL, "%s: this is %s; wanted %s", file->name, is, wanted);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef struct kind_row {
    const char *tensors; /* globs */
    const char *is;
} kind_row;

/* The first that fits: parts of this family first, as other models have parts of such names. */
static const kind_row family[] = {
    {"encoder.model.0.conv.conv.weight_g", "a Mimi training checkpoint with unfolded weight norm"},
    {"depth_decoder.*", "Moshi in the transformers library's format; wanted the files that Kyutai "
                        "publishes"},
    {"encoder.layers.0.conv.weight",
     "Mimi in the transformers library's format (kyutai/mimi); use the tokenizer-*.safetensors "
     "file that comes with the model"},
    {"encoder.model.0.conv.conv.weight decoder.model.0.conv.conv.weight", "a Mimi codec file"},
    {"audio_embs.0.weight", "an MLX language model"},
    {"depformer.0.linear_in.weight", "a candle language model"},
    {"text_emb.weight", "a Moshi-family language model"},
    {"*.lora_A.weight *.lora_B.weight", "an adapter (LoRA), to be added to a model"},
};
static const kind_row others[] = {
    {"*encoder.conv1.weight", "Whisper, which recognises speech"},
    {"model.embed_tokens.weight token_embd.weight model.layers.0.self_attn.* transformer.h.0.*",
     "a text language model, not Moshi"},
};

static const char *find_kind(const mo_checkpoint *ck, const kind_row *kinds, size_t n) {
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < ck->n_tensors; i++)
            if (mo_glob(kinds[k].tensors, ck->tensors[i].name)) return kinds[k].is;
    return NULL;
}

void mo_foreign_checkpoint(const mo_checkpoint *ck, char out[MO_FOREIGN_BYTES]) {
    const char *is = find_kind(ck, family, sizeof family / sizeof *family);
    const mo_gguf_value *says = is ? NULL : mo_gguf_find(ck, "general.architecture");
    if (!is) is = find_kind(ck, others, sizeof others / sizeof *others);
    size_t n = 0;
    out[0] = 0;
    if (is) n = (size_t)snprintf(out, MO_FOREIGN_BYTES, "this looks like %s", is);
    if (says && says->type == MO_GGUF_STRING && says->count > 0 && says->count < SHOWN)
        snprintf(out + n, MO_FOREIGN_BYTES - n, "%sgeneral.architecture is '%.*s'", n ? "; " : "",
                 (int)says->count, (const char *)says->data);
}
