/* test_safetensors.c - weights files, good ones and every kind of bad one. */
#include "alloc_fail.h"
#include "check.h"
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A safetensors file from its header and `n` bytes of data. */
static uint8_t *make_file(const char *header, const void *data, size_t n, size_t *size) {
    size_t h = strlen(header);
    uint8_t *bytes = calloc(1, 8 + h + n + 1);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)h >> (8 * i));
    memcpy(bytes + 8, header, h);
    if (n && data) memcpy(bytes + 8 + h, data, n);
    *size = 8 + h + n;
    return bytes;
}

static int open_bytes(mo_checkpoint *ck, const void *bytes, size_t size, moshi_error *err) {
    mo_file file;
    int rc = mo_file_borrow(&file, bytes, size, "w.safetensors", err);
    return rc < 0 ? rc : mo_checkpoint_open(ck, &file, err);
}

static int open_header(mo_checkpoint *ck, const char *header, size_t data, moshi_error *err) {
    size_t size;
    uint8_t *bytes = make_file(header, NULL, data, &size);
    int rc = open_bytes(ck, bytes, size, err);
    free(bytes); /* good ones are closed by the caller, who must not look at the data */
    return rc;
}

static void test_good(void) {
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[1,25]},"
        "\"a.b\":{\"data_offsets\":[25,29],\"shape\":[2],\"dtype\":\"BF16\"},"
        "\"m\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[29,29]},"
        "\"h\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[29,31]},"
        "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[40,48]}}   ";
    uint8_t data[48] = {7};
    float f[6] = {0.5f, -1.25f, 3, 4, 5, 1e30f};
    memcpy(data + 1, f, sizeof f);
    memcpy(data + 25, "\x80\x3f\x00\xc0", 4); /* 1, -2 */
    memcpy(data + 29, "\x00\x3c", 2);         /* 1 */
    double d = 0.1;
    memcpy(data + 40, &d, sizeof d);
    size_t size;
    uint8_t *bytes = make_file(header, data, sizeof data, &size);
    mo_checkpoint ck;
    moshi_error err = {0};
    if (!CHECK(open_bytes(&ck, bytes, size, &err) == 0, "%s", err.text)) return;
    CHECK(ck.n_tensors == 6, "%zu tensors", ck.n_tensors);
    CHECK(strcmp(ck.tensors[0].name, "a.b") == 0 && strcmp(ck.tensors[5].name, "z") == 0, "sorted");
    const mo_tensor_view *z = mo_checkpoint_find(&ck, "z");
    if (CHECK(z && z->dtype == MO_F32 && z->ndim == 2 && z->shape[0] == 2 && z->shape[1] == 3, "z"))
        CHECK(z->count == 6 && z->bytes == 24 && (const uint8_t *)z->data == bytes + size - 47,
              "z");
    float out[6] = {0};
    mo_tensor_read(z, 1, 5, out); /* unaligned in the file */
    CHECK(memcmp(out, f + 1, 5 * sizeof *f) == 0 && mo_tensor_at(z, 5) == 1e30f, "values of z");
    const mo_tensor_view *ab = mo_checkpoint_find(&ck, "a.b");
    mo_tensor_read(ab, 0, 2, out);
    CHECK(out[0] == 1 && out[1] == -2 && mo_tensor_at(ab, 1) == -2, "bf16 values");
    CHECK(mo_tensor_at(mo_checkpoint_find(&ck, "h"), 0) == 1, "f16 value");
    CHECK(mo_tensor_at(mo_checkpoint_find(&ck, "d"), 0) == 0.1f, "f64 value");
    const mo_tensor_view *m = mo_checkpoint_find(&ck, "m");
    CHECK(m && m->ndim == 0 && m->count == 1 && !mo_dtype_is_float(m->dtype), "scalar");
    CHECK(mo_checkpoint_find(&ck, "empty")->count == 0, "empty tensor");
    CHECK(!mo_checkpoint_find(&ck, "nothing") && !mo_checkpoint_find(&ck, ""), "unknown names");
    mo_checkpoint_close(&ck);
    free(bytes);
    CHECK(open_header(&ck, "{}", 0, &err) == 0 && ck.n_tensors == 0, "no tensors: %s", err.text);
    mo_checkpoint_close(&ck);
}

static void test_dtypes(void) {
    static const size_t bytes[] = {4, 2, 2, 8, 1, 1, 2, 2, 4, 4, 8, 8, 1};
    for (int t = 0; t <= MO_BOOL; t++) {
        char header[128];
        snprintf(header, sizeof header,
                 "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                 mo_dtype_name((mo_dtype)t), 3 * bytes[t]);
        mo_checkpoint ck;
        moshi_error err = {0};
        if (!CHECK(open_header(&ck, header, 3 * bytes[t], &err) == 0, "%s", err.text)) continue;
        CHECK(ck.tensors[0].dtype == (mo_dtype)t && mo_dtype_bytes((mo_dtype)t) == bytes[t], "%s",
              header);
        mo_checkpoint_close(&ck);
    }
    CHECK(strcmp(mo_dtype_name(MO_DTYPE_COUNT), "?") == 0 && mo_dtype_bytes(MO_DTYPE_COUNT) == 0,
          "no such dtype");
}

/* Headers over 16 bytes of data. */
static const struct {
    const char *header, *wanted[3];
} bad_headers[] = {
    {"[1]", {"wanted '{' at byte 8, found 0x5b"}},
    {"{\"a\":5}", {"tensor \"a\"", "wanted an object", "found 5"}},
    {"{\"a\":{}}", {"tensor \"a\"", "dtype", "found nothing"}},
    {"{\"a\":{\"dtype\":1}}", {"tensor \"a\"", "dtype", "found 1"}},
    {"{\"a\":{\"dtype\":\"F8\",\"shape\":[],\"data_offsets\":[0,1]}}",
     {"dtype", "one of F32", "found \"F8\""}},
    {"{\"a\":{\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,0]}}",
     {"dtype", "one of F32", "found \"Q8_0\""}},
    {"{\"a\":{\"dtype\":\"F32\"}}", {"shape", "an array", "found nothing"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":4}}", {"shape", "found 4"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", {"data_offsets", "found nothing"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
     {"data_offsets", "an array of 1"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", {"an array of 3"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}",
     {"shape", "whole numbers", "found 1"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", {"shape", "found -1"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[true],\"data_offsets\":[0,4]}}",
     {"shape", "found true"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
     {"at most 5", "an array of 6"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
     {"a product below"}},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}",
     {"a product below"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}",
     {"data_offsets", "found -4"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}",
     {"data_offsets", "found 4"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}",
     {"data_offsets", "found 4"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551616]}}",
     {"data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
     {"tensor \"a\"", "wants 12 bytes", "gives 8"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}",
     {"an unknown field \"x\""}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"dtype\":\"F32\"}}", {"a second \"dtype\""}},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     {"tensor \"a\" is there twice"}},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
     {"\"a\" and \"b\" share bytes"}},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}",
     {"share bytes"}},
    {"{\"__metadata__\":[]}", {"__metadata__", "an object of strings"}},
    {"{\"__metadata__\":{\"a\":1}}", {"__metadata__", "an object of strings"}},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", {"__metadata__ is there twice"}},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[32],\"data_offsets\":[0,32]}}",
     {"truncated", "promises 95 bytes, it has 79", "83.2 %"}},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9223372036854775806,"
     "9223372036854775807]}}",
     {"truncated"}},
    {"{\"a\":", {"header: not valid JSON", "line 1, column 6"}},
    {"{\"a\\u0000\":1}", {"without a zero character"}},
    {"{}}", {"not valid JSON"}},
};

static void test_bad_headers(void) {
    for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
        mo_checkpoint ck;
        moshi_error err = {0};
        int rc = open_header(&ck, bad_headers[i].header, 16, &err);
        CHECK(rc == MOSHI_EMODEL && err.code == rc, "%s: %d", bad_headers[i].header, rc);
        CHECK(strncmp(err.text, "w.safetensors: ", 15) == 0, "names the file: %s", err.text);
        for (int k = 0; k < 3 && bad_headers[i].wanted[k]; k++)
            CHECK(strstr(err.text, bad_headers[i].wanted[k]) != NULL, "%s: wanted \"%s\" in: %s",
                  bad_headers[i].header, bad_headers[i].wanted[k], err.text);
        CHECK(ck.tensors == NULL && ck.n_tensors == 0 && ck.file.name == NULL, "nothing is left");
        if (rc == 0) mo_checkpoint_close(&ck);
    }
}

/* The file ends where its last tensor does. */
static void test_trailing_bytes(void) {
    static const char *const headers[] = {
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "{}"};
    for (size_t i = 0; i < 2; i++) {
        size_t data = i == 0 ? 4 : 0;
        mo_checkpoint ck;
        moshi_error err = {0};
        CHECK(open_header(&ck, headers[i], data + 3, &err) == MOSHI_EMODEL, "3 bytes too many");
        char wanted[64], found[64];
        size_t whole = 8 + strlen(headers[i]) + data;
        snprintf(wanted, sizeof wanted, "at %zu bytes", whole);
        snprintf(found, sizeof found, "found %zu bytes: 3 too many", whole + 3);
        CHECK(strstr(err.text, wanted) && strstr(err.text, found), "%s", err.text);
    }
}

/* Files that are something else, as their bytes. */
static void test_other_files(void) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *wanted;
    } cases[] = {
        {"", 0, "empty"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "unfinished download"},
        {"abc", 3, "only 3 bytes"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "Git LFS pointer"},
        {"<!DOCTYPE html><html>", 21, "web page"},
        {"<html><body>", 12, "web page"},
        {"<?xml version=\"1.0\"?>", 21, "XML"},
        {"fmgg\3\0\0\0\0\0\0\0\0\0\0\0", 16, "GGMF"},
        {"PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0", 16, "zip archive (a PyTorch"},
        {"\x80\2\x8a\nl\xfc\x9c\x46\xf9 j", 12, "pickle"},
        {"\x93NUMPY\1\0v\0{'descr'", 18, "NumPy"},
        {"{\"dim\": 128, \"n_q\": 8}", 22, "JSON"},
        {"RIFF\x24\0\0\0WAVEfmt ", 16, "WAV recording"},
        {"\x1f\x8b\x08\0\0\0\0\0\0\x03", 10, "gzip"},
        {"just some text that is long enough", 34, "this is text ('just some text"},
        {"\x01\0\0\0\0\0\0\0{}", 10, "header length of 1 bytes"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "header length of 18446744073709551615"},
        {"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\"", 21, "truncated inside its header of 64 bytes"},
        {"\x80\2\0\0\0\0\0\0{\"a\":", 13, "truncated inside its header of 640 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mo_checkpoint ck;
        moshi_error err = {0};
        int rc = open_bytes(&ck, cases[i].bytes, cases[i].n, &err);
        CHECK(rc == MOSHI_EMODEL && strstr(err.text, "w.safetensors") &&
                  strstr(err.text, cases[i].wanted),
              "wanted \"%s\" in: %d %s", cases[i].wanted, rc, err.text);
        if (rc == 0) mo_checkpoint_close(&ck);
    }
}

/* Every cut of a good file is refused, and none touches memory outside of it. */
static void test_truncation(void) {
    size_t size;
    uint8_t *bytes = make_file("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
                               "0123456789abcdef", 16, &size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* its own block, so that a sanitizer sees overreads */
        memcpy(cut, bytes, n);
        mo_checkpoint ck;
        moshi_error err = {0};
        CHECK(open_bytes(&ck, cut, n, &err) == MOSHI_EMODEL, "%zu of %zu bytes", n, size);
        free(cut);
    }
    free(bytes);
}

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (CHECK(f != NULL, "%s can be written", path)) {
        fwrite(bytes, 1, n, f);
        fclose(f);
    }
}

static void test_mapping(void) {
    char dir[] = "/tmp/moshi-test-XXXXXX", path[64];
    if (!CHECK(mkdtemp(dir) != NULL, "temporary directory")) return;
    snprintf(path, sizeof path, "%s/f", dir);
    mo_file f;
    moshi_error err = {0};
    CHECK(mo_file_map(&f, path, "F", &err) == MOSHI_EMODEL && strstr(err.text, "F: no such file"),
          "missing: %s", err.text);
    CHECK(mo_file_map(&f, dir, "D", &err) == MOSHI_EMODEL &&
              strstr(err.text, "D: wanted a file, found a directory"),
          "directory: %s", err.text);
    CHECK(mo_file_map(&f, "/dev/null", "N", &err) == MOSHI_EMODEL &&
              strstr(err.text, "device or pipe"),
          "device: %s", err.text);
    write_file(path, "hello", 5);
    if (CHECK(mo_file_map(&f, path, "F", &err) == 0, "%s", err.text)) {
        CHECK(f.size == 5 && memcmp(f.data, "hello", 5) == 0 && strcmp(f.name, "F") == 0,
              "content");
        mo_file_close(&f);
        mo_file_close(&f); /* closing twice does nothing */
    }
    if (geteuid() == 0) {
        SKIP("unreadable file: the superuser may read everything");
    } else {
        chmod(path, 0);
        CHECK(mo_file_map(&f, path, "F", &err) == MOSHI_EMODEL &&
                  strstr(err.text, "permission denied"),
              "unreadable: %s", err.text);
        chmod(path, 0600);
    }
    write_file(path, "", 0);
    mo_checkpoint ck;
    CHECK(mo_file_map(&f, path, "F", &err) == 0 && f.size == 0, "empty file: %s", err.text);
    CHECK(mo_checkpoint_open(&ck, &f, &err) == MOSHI_EMODEL &&
              strstr(err.text, "F: the file is empty"),
          "empty: %s", err.text);
    CHECK(mo_file_borrow(&f, NULL, 4, "B", &err) == MOSHI_EINVAL, "bytes at NULL");
    unlink(path);
    rmdir(dir);
}

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    size_t size;
    uint8_t *bytes = make_file("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
                               "0123456789abcdef", 16, &size);
    int rc = MOSHI_ENOMEM;
    long n = 1;
    for (; rc != 0 && n < 100; n++) {
        mo_checkpoint ck;
        moshi_error err = {0};
        alloc_fail_at(n, n % 2);
        rc = open_bytes(&ck, bytes, size, &err);
        alloc_fail_at(0, false);
        CHECK(rc == MOSHI_ENOMEM || rc == 0, "allocation %ld fails: %d %s", n, rc, err.text);
        if (rc == 0) {
            CHECK(mo_checkpoint_find(&ck, "a") != NULL, "complete");
            mo_checkpoint_close(&ck);
        } else {
            CHECK(strstr(err.text, "w.safetensors") != NULL, "names the file: %s", err.text);
        }
    }
    CHECK(rc == 0 && n > 4, "opens once nothing fails, after %ld", n);

    /* What is asked for does not follow from numbers in the file. */
    moshi_error err = {0};
    mo_checkpoint ck;
    alloc_fail_at(0, false);
    CHECK(open_header(&ck,
                      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1152921504606846975],"
                      "\"data_offsets\":[0,1152921504606846975]}}",
                      4, &err) == MOSHI_EMODEL,
          "a huge tensor: %s", err.text);
    CHECK(alloc_count() < 12, "%ld allocations", alloc_count());
    free(bytes);
}

int main(void) {
    test_good();
    test_dtypes();
    test_bad_headers();
    test_trailing_bytes();
    test_other_files();
    test_truncation();
    test_mapping();
    test_memory();
    return check_done("test_safetensors");
}
