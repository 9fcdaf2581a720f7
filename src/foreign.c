#include "foreign.h"

#include <stdio.h>
#include <string.h>

enum { LOOKED_AT = 512, SHOWN = 40 };

typedef struct foreign_row {
    const char *magic;
    size_t n, at;
    const char *is;
} foreign_row;

static const foreign_row rows[] = {
    {"version https://git-lfs", 23, 0,
     "a Git LFS pointer, not the weights themselves (`git lfs pull` fetches them)"},
    {"lmgg", 4, 0, "a GGML file, the old format without versions"},
    {"fmgg", 4, 0, "a GGMF file, an old format before GGUF"},
    {"tjgg", 4, 0, "a GGJT file, an old format before GGUF"},
    {"\x80\2", 2, 0, "a Python pickle (an old PyTorch .pt or .bin file)"},
    {"\x80\3", 2, 0, "a Python pickle"},
    {"\x80\4", 2, 0, "a Python pickle"},
    {"\x80\5", 2, 0, "a Python pickle"},
    {"\x93NUMPY", 6, 0, "a NumPy array"},
    {"\x89HDF", 4, 0, "an HDF5 file"},
    {"\x1f\x8b", 2, 0, "gzip-compressed (unpack it first)"},
    {"BZh", 3, 0, "bzip2-compressed (unpack it first)"},
    {"\xfd"
     "7zXZ",
     5, 0, "xz-compressed (unpack it first)"},
    {"\x28\xb5\x2f\xfd", 4, 0, "zstd-compressed (unpack it first)"},
    {"ustar", 5, 257, "a tar archive (unpack it first)"},
    {"WAVE", 4, 8, "a WAV recording"},
    {"RIFF", 4, 0, "a RIFF file (audio or video)"},
    {"fLaC", 4, 0, "a FLAC recording"},
    {"OggS", 4, 0, "an Ogg recording"},
    {"ID3", 3, 0, "an MP3 recording"},
    {"\x89PNG", 4, 0, "a PNG image"},
    {"\xff\xd8\xff", 3, 0, "a JPEG image"},
    {"GIF8", 4, 0, "a GIF image"},
    {"%PDF", 4, 0, "a PDF document"},
    {"\x7f"
     "ELF",
     4, 0, "a program"},
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
        is = "JSON (a configuration? Name the directory it is in)";
    if (is)
        snprintf(out, MO_FOREIGN_BYTES, "%s", is);
    else
        show_text(data, size, out);
}

void mo_foreign(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]) {
    const char *is = "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !*is; i++)
        if (size >= rows[i].at + rows[i].n && !memcmp(data + rows[i].at, rows[i].magic, rows[i].n))
            is = rows[i].is;
    if (!*is && size >= 4 && !memcmp(data, "PK\3\4", 4))
        is = holds(data, size, ".pkl") ? "a PyTorch file (.pt, .pth or .bin, a zip of pickles)"
                                       : "a zip archive (a PyTorch or NumPy .npz file?)";
    if (!*is && size > 0 && data[0] == 0x0a && holds(data, size, "<unk>"))
        is = "a SentencePiece text tokenizer";
    snprintf(out, MO_FOREIGN_BYTES, "%s", is);
    if (!*is && is_text(data, size)) tell_text(data, size, out);
}
