/* The Vulkan backend on every device this machine has: known answers of every op, the formats that
 * moshi_device_check() leaves out, matrices larger than one binding, parts of programs and of
 * batches, whole models token for token against the CPU and against recordings, and what happens
 * when a device fails. On a processor that plays a graphics card this is slow but complete. */
#include "check.h"
#include "drive.h"
#include "make_model.h"
#include "ops.h"
#include "quant.h"
#include "sanitizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef MO_HAVE_VULKAN
#include "vulkan/vk.h"

/* ---- a device with the limits of another ---------------------------------------------------- */

/* "narrow:0" is "vulkan:0" with these limits, and only there where `exists`. */
static struct {
    bool exists, no_clock;
    uint32_t range;
    VkDeviceSize budget;  /* of memory */
    VkDeviceSize largest; /* allocation */
    vk_device *opened;    /* the last one */
} narrow;

static mo_backend_ops narrow_ops;

static VKAPI_ATTR void VKAPI_CALL small_budget(VkPhysicalDevice device,
                                               VkPhysicalDeviceMemoryProperties2 *m) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = m->pNext;
    (void)device;
    for (uint32_t i = 0; i < VK_MAX_MEMORY_HEAPS; i++) {
        budget->heapBudget[i] = narrow.budget + 1000;
        budget->heapUsage[i] = 1000;
    }
}

static int narrow_list(moshi_device_info *out, int most, moshi_error *why) {
    int n = narrow.exists ? mo_backend_vulkan.list(out, most, why) : 0;
    for (int i = 0; i < n; i++) snprintf(out[i].name, sizeof out[i].name, "narrow:%d", i);
    return n;
}

/* Writes while nothing was submitted that is not waited for, and while something was. */
static struct {
    bool works;
    int alone, beside;
} writes;

static void narrow_write(mo_backend *be, mo_buf *buf, size_t at, const void *src, size_t bytes) {
    ++*(writes.works ? &writes.beside : &writes.alone);
    mo_backend_vulkan.write(be, buf, at, src, bytes);
}

static int narrow_open(mo_backend **out, const mo_backend_options *options, moshi_error *err) {
    int rc = mo_backend_vulkan.open(out, options, err);
    if (rc < 0) return rc;
    narrow.opened = (vk_device *)*out;
    (*out)->ops = &narrow_ops;
    if (narrow.budget) {
        narrow.opened->lib.fns.GetPhysicalDeviceMemoryProperties2 = small_budget;
        narrow.opened->has_budget = true;
    }
    if (narrow.largest) narrow.opened->largest_allocation = narrow.largest;
    if (narrow.no_clock) narrow.opened->tick_mask = 0;
    if (narrow.range) narrow.opened->limits.maxStorageBufferRange = narrow.range;
    return 0;
}

/* Linked instead of src/devices.c. */
const mo_backend_ops *mo_backend_at(int i) {
    narrow_ops = mo_backend_vulkan;
    narrow_ops.name = "narrow";
    narrow_ops.list = narrow_list;
    narrow_ops.open = narrow_open;
    narrow_ops.write = narrow_write;
    const mo_backend_ops *const known[] = {&mo_backend_vulkan, &narrow_ops, &mo_backend_cpu};
    return i >= 0 && i < 3 ? known[i] : NULL;
}

/* ---- one op on the CPU and on the device ---------------------------------------------------- */

typedef struct bench {
    mo_backend *be;
    mo_arena arena;
    mo_graph graph;
    mo_weight w[4];
    int n_w;
} bench;

static void bench_open(bench *b, mo_backend *be, int slots) {
    *b = (bench){.be = be};
    mo_arena_open(&b->arena, be, slots);
    mo_graph_begin(&b->graph, &b->arena, NULL);
}

static void bench_close(bench *b) {
    mo_graph_free(&b->graph);
    for (int i = 0; i < b->n_w; i++) b->be->ops->weight_free(b->be, &b->w[i]);
    mo_arena_close(&b->arena);
}

static const mo_weight *bench_weight(bench *b, const mo_matrix *m, mo_layout layout) {
    mo_weight *w = &b->w[b->n_w++];
    if (b->be->ops->weight(b->be, m, layout, w) != 0) test_die("a matrix was not taken");
    return w;
}

static void put(bench *b, const mo_view *v, const void *data) {
    b->be->ops->write(b->be, v->buf, v->offset * 4, data,
                      (size_t)b->arena.slots * v->slot_stride * 4);
}

static float *get(bench *b, const mo_view *v) {
    size_t n = (size_t)b->arena.slots * v->slot_stride;
    float *out = test_alloc(n, sizeof *out);
    b->be->ops->read(b->be, v->buf, v->offset * 4, out, n * 4);
    return out;
}

/* A matrix of `dtype` from random numbers; free m->data, scales and biases. */
typedef struct number_format {
    const char *name;
    mo_dtype dtype;
    int bits, group;
    mo_dtype scales;
} number_format;

static const number_format formats[] = {
    {"f32", MO_F32, 0, 0, MO_F32},
    {"f16", MO_F16, 0, 0, MO_F32},
    {"bf16", MO_BF16, 0, 0, MO_F32},
    {"q8_0", MO_Q8_0, 0, 0, MO_F32},
    {"q4_0", MO_Q4_0, 0, 0, MO_F32},
    {"q4_K", MO_Q4_K, 0, 0, MO_F32},
    {"q5_K", MO_Q5_K, 0, 0, MO_F32},
    {"q6_K", MO_Q6_K, 0, 0, MO_F32},
    {"1 bit in 32", MO_U32, 1, 32, MO_BF16},
    {"2 bits in 64", MO_U32, 2, 64, MO_F32},
    {"4 bits in 64", MO_U32, 4, 64, MO_BF16},
    {"4 bits in 128", MO_U32, 4, 128, MO_F32},
    {"8 bits in 64", MO_U32, 8, 64, MO_BF16},
    {"8 bits in 32", MO_U32, 8, 32, MO_F32},
    {"int8 rows", MO_I8, 0, 0, MO_F32},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static uint16_t small_f16(test_rng *rng) {
    return mo_f32_to_f16(0.01f + 0.01f * rng_f32(rng));
}

/* Random bytes in blocks but for their scales, so that every pattern occurs. */
static void random_blocks(mo_dtype dtype, uint8_t *p, size_t n, test_rng *rng) {
    size_t block = mo_dtype_block(dtype), bytes = (size_t)mo_dtype_row_bytes(dtype, block);
    for (size_t b = 0; b < n / block; b++, p += bytes) {
        for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)rng_below(rng, 256);
        uint16_t d = small_f16(rng), m = small_f16(rng);
        memcpy(p + (dtype == MO_Q6_K ? bytes - 2 : 0), &d, 2);
        if (dtype == MO_Q4_K || dtype == MO_Q5_K) memcpy(p + 2, &m, 2);
    }
}

static mo_matrix random_matrix(const number_format *f, int rows, int cols, test_rng *rng) {
    size_t n = (size_t)rows * (size_t)cols, groups = 0;
    mo_matrix m = {.dtype = f->dtype,
                   .rows = rows,
                   .cols = cols,
                   .bits = f->bits,
                   .group = f->group,
                   .scales_dtype = f->scales};
    uint8_t *data = test_alloc(n * 4, 1);
    if (f->dtype == MO_U32 || f->dtype == MO_I8) {
        groups = f->dtype == MO_I8 ? (size_t)rows : n / (size_t)f->group;
        for (size_t i = 0; i < n; i++) data[i] = (uint8_t)rng_below(rng, 256);
    } else if (mo_dtype_is_float(f->dtype)) {
        float *x = test_alloc(n, sizeof *x);
        for (size_t i = 0; i < n; i++) x[i] = rng_f32(rng);
        mo_quant_of(f->dtype)->quantise(x, data, n);
        free(x);
    } else {
        random_blocks(f->dtype, data, n, rng);
    }
    float *scales = test_alloc(groups + 1, sizeof *scales);
    float *biases = test_alloc(groups + 1, sizeof *biases);
    for (size_t i = 0; i < groups; i++) {
        scales[i] = mo_bf16_to_f32(mo_f32_to_bf16(0.02f * rng_f32(rng)));
        biases[i] = mo_bf16_to_f32(mo_f32_to_bf16(rng_f32(rng)));
    }
    m.data = data;
    m.scales = scales;
    m.biases = biases;
    return m;
}

static void matrix_free(mo_matrix *m) {
    free((void *)(uintptr_t)m->data);
    free((void *)(uintptr_t)m->scales);
    free((void *)(uintptr_t)m->biases);
}

/* rows x cols inputs (or tokens) of both backends, op, outputs compared. */
static float *run_linear_on(mo_backend *be, const mo_matrix *m, int slots, int rows,
                            const float *x) {
    bench b;
    uint8_t exec[8];
    memset(exec, 1, sizeof exec);
    bench_open(&b, be, slots);
    mo_view in = mo_scratch(&b.graph, rows, (int)m->cols);
    mo_view out = mo_scratch(&b.graph, rows, (int)m->rows);
    mo_op_linear op = {.w = bench_weight(&b, m, MO_LAYOUT_STRIPS),
                       .in = in,
                       .out = out,
                       .taps = 1,
                       .stride = 1,
                       .dilation = 1};
    mo_linear(&b.graph, &op);
    if (mo_graph_finish(&b.graph) != 0) test_die("not recorded");
    put(&b, &in, x);
    if (mo_graph_run(&b.graph, exec, NULL, NULL) != 0) test_die("not run");
    float *result = get(&b, &out);
    bench_close(&b);
    return result;
}

static float *run_table_on(mo_backend *be, const mo_matrix *m, mo_layout layout, int rows,
                           const int32_t *tokens) {
    bench b;
    const uint8_t exec[1] = {1};
    bench_open(&b, be, 1);
    mo_view in = mo_scratch(&b.graph, rows, 2), out = mo_scratch(&b.graph, rows, (int)m->cols);
    const mo_weight *w = bench_weight(&b, m, layout), *tables[2] = {w, w};
    mo_embed_sum(&b.graph, tables, 2, in, out, false);
    if (mo_graph_finish(&b.graph) != 0) test_die("not recorded");
    put(&b, &in, tokens);
    if (mo_graph_run(&b.graph, exec, NULL, NULL) != 0) test_die("not run");
    float *result = get(&b, &out);
    bench_close(&b);
    return result;
}

static double largest(const float *x, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fabs((double)x[i]) > most ? fabs((double)x[i]) : most;
    return most;
}

/* Different by `roundings` half units in the last place of the largest number at most. */
static void same(const char *what, float *want, float *got, size_t n, int roundings) {
    double d = max_diff(want, got, n), bound = largest(want, n) * roundings * 0x1p-24;
    CHECK(d <= bound, "%s: differs by %g, allowed %g", what, d, bound);
    free(want);
    free(got);
}

static void test_formats(mo_backend *cpu, mo_backend *be) {
    test_rng rng = {7};
    for (int i = 0; i < N_FORMATS; i++) {
        for (int many = 0; many < 2; many++) {
            int rows = many ? 3 : 1, slots = many ? 2 : 1, n = many ? 70 : 33;
            const int cols = many ? 512 : 4096; /* of which strips of q8_0 are whole pages */
            mo_matrix m = random_matrix(&formats[i], n, cols, &rng);
            float *x = test_alloc((size_t)(6 * cols), sizeof *x);
            int32_t tokens[6];
            for (int k = 0; k < 6 * cols; k++) x[k] = rng_f32(&rng);
            for (int k = 0; k < 6; k++) tokens[k] = rng_below(&rng, n + 1) - 1;
            same(formats[i].name, run_linear_on(cpu, &m, slots, rows, x),
                 run_linear_on(be, &m, slots, rows, x), (size_t)(slots * rows * n), cols);
            same(formats[i].name, run_table_on(cpu, &m, MO_LAYOUT_ROWS, rows, tokens),
                 run_table_on(be, &m, MO_LAYOUT_ROWS, rows, tokens), (size_t)(rows * cols), 8);
            free(x);
            matrix_free(&m);
        }
    }
}

/* What the host would split into pieces for its own units comes whole to a device. */
static void test_pieces(mo_backend *cpu, mo_backend *be) {
    test_rng rng = {11};
    for (int pieces = 2; pieces <= 3; pieces++) {
        mo_matrix m = random_matrix(&formats[0], 33, 512, &rng);
        float x[512];
        for (int k = 0; k < 512; k++) x[k] = rng_f32(&rng);
        uint64_t bytes = be->ops->weight_bytes(be, &m, MO_LAYOUT_STRIPS, NULL);
        float *want = run_linear_on(cpu, &m, 1, 1, x);
        m.pieces = pieces;
        CHECK(be->ops->weight_bytes(be, &m, MO_LAYOUT_STRIPS, NULL) == bytes, "%d pieces: bytes",
              pieces);
        same("pieces", want, run_linear_on(be, &m, 1, 1, x), 33, 512);
        matrix_free(&m);
    }
}

/* Bindings of a few kilobytes: every matrix comes in parts. */
static void test_parts_of_weights(mo_backend *cpu, mo_backend *be) {
    VkPhysicalDeviceLimits *limits = &((vk_device *)be)->limits;
    const uint32_t whole = limits->maxStorageBufferRange;
    const int32_t tokens[6] = {-1, 0, 255, 256, 299, 511};
    test_rng rng = {8};
    limits->maxStorageBufferRange = 40 << 10;
    for (int i = 0; i < N_FORMATS; i++) {
        mo_matrix m = random_matrix(&formats[i], 600, 256, &rng);
        float x[2 * 256];
        if (formats[i].dtype == MO_F32) m.cols = 32; /* 256 rows must fit a binding */
        if (formats[i].dtype == MO_F16 || formats[i].dtype == MO_BF16) m.cols = 64;
        if (mo_dtype_block(formats[i].dtype) < 256 && m.cols == 256) m.cols = 128;
        for (int k = 0; k < 2 * 256; k++) x[k] = rng_f32(&rng);
        if (mo_dtype_block(formats[i].dtype) < 256)
            same(formats[i].name, run_table_on(cpu, &m, MO_LAYOUT_ROWS, 3, tokens),
                 run_table_on(be, &m, MO_LAYOUT_ROWS, 3, tokens), 3 * (size_t)m.cols, 8);
        same(formats[i].name, run_linear_on(cpu, &m, 2, 1, x), run_linear_on(be, &m, 2, 1, x),
             2 * 600, 512);
        matrix_free(&m);
    }
    limits->maxStorageBufferRange = whole;
}

/* ---- variants ------------------------------------------------------------------------------- */

static mo_backend *open_with(const char *name, const char *kernels) {
    char full[64];
    mo_device dev;
    mo_backend *be;
    moshi_error err = {0};
    snprintf(full, sizeof full, "%s/%s", name, kernels);
    if (mo_device_find(&dev, full, &err) != 0 || strcmp(dev.info.name, full) != 0 ||
        dev.ops->open(&be, &(mo_backend_options){.nth = dev.nth, .kernels = dev.kernels}, &err))
        test_die("%s: %s", full, err.text);
    return be;
}

/* Products of bytes, widened halves and workgroups of any width have the bits of the plain shaders,
 * in every format. */
static void test_same_bits(mo_backend *plain, mo_backend *be) {
    test_rng rng = {17};
    for (int i = 0; i < N_FORMATS; i++)
        for (int slots = 1; slots <= 2; slots++) {
            mo_matrix m = random_matrix(&formats[i], 40, 512, &rng);
            float x[2 * 512];
            for (int k = 0; k < 2 * 512; k++) x[k] = rng_f32(&rng);
            if (formats[i].dtype == MO_F16) /* the small ones, which a device may lose */
                for (uint16_t k = 0; k < 40 * 512; k++)
                    ((uint16_t *)(uintptr_t)m.data)[k] = (uint16_t)(k % 2048 + (k & 1) * 0x8000u);
            float *a = run_linear_on(plain, &m, slots, 1, x);
            float *b = run_linear_on(be, &m, slots, 1, x);
            CHECK(!memcmp(a, b, (size_t)slots * 40 * sizeof *a), "%s with %s: other bits",
                  formats[i].name, be->ops->kernels(be));
            free(a);
            free(b);
            matrix_free(&m);
        }
}

static int note(void *user, const moshi_op_check *c) {
    if (c->cases) CHECK(c->failed == 0, "%s: %s: %s", (const char *)user, c->op, c->problem);
    return 0;
}

/* What is named is used, alone; what a device lacks or nobody knows is refused. */
static void test_variants(const char *name) {
    static const char *const wrong[] = {"fast", "dot+", "+dot", "dot+plain", "plain+dot"};
    char full[64];
    moshi_error err = {0};
    mo_backend *plain = open_with(name, "plain");
    const unsigned offers = ((vk_device *)plain)->offers;
    CHECK(!strcmp(plain->ops->kernels(plain), "vulkan") && !((vk_device *)plain)->uses, "plain");
    snprintf(full, sizeof full, "%s/plain", name);
    CHECK(moshi_device_check(full, 0, NULL, note, full, &err) == 0, "%s: %s", full, err.text);
    const unsigned same = offers & (VK_DOT | VK_HALF);
    for (int pass = 0; pass < 2; pass++) {
        mo_backend *be = open_with(name, pass || !same     ? "plain"
                                         : same == VK_DOT  ? "dot"
                                         : same == VK_HALF ? "half"
                                                           : "dot+half");
        CHECK(((vk_device *)be)->uses == (pass ? 0 : same), "uses what is named");
        for (int i = 0; i < VK_MOST_PIPELINES; i++)
            ((vk_device *)be)->choices[i].width = pass ? 2 : 0;
        test_same_bits(plain, be);
        be->ops->close(be);
    }
    plain->ops->close(plain);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(full, sizeof full, "%s/%s", name, wrong[i]);
        CHECK(moshi_device_check(full, 0, NULL, note, full, &err) == MOSHI_EDEVICE &&
                  strstr(err.text, wrong[i]) && strstr(err.text, "wanted plain"),
              "%s: %s", full, err.text);
    }
    vk_device old = {.offers = VK_SUBGROUP};
    CHECK(mo_vk_variants_choose(&old, "subgroup+dot", &err) == MOSHI_EDEVICE &&
              strstr(err.text, "offers no 'dot'"),
          "%s", err.text);
    old.usual = old.offers;
    CHECK(mo_vk_variants_choose(&old, NULL, &err) == 0 && !strcmp(old.kernels, "vulkan+subgroup"),
          "%s", old.kernels);
    CHECK(mo_vk_variant_of(&old, "norm") == mo_vk_shader_find("norm_subgroup") &&
              mo_vk_variant_of(&old, "grid") == mo_vk_shader_find("grid") &&
              mo_vk_variant_of(&old, "none") < 0,
          "variants by name");
}

/* ---- files ---------------------------------------------------------------------------------- */

/* Bytes of a file, NULL when there is none. */
static uint8_t *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    *n = 0;
    if (!f) return NULL;
    uint8_t *data = test_alloc(1 << 24, 1);
    *n = fread(data, 1, 1 << 24, f);
    fclose(f);
    return data;
}

static void spill(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) test_die("%s: cannot be written", path);
}

/* ---- timing --------------------------------------------------------------------------------- */

/* Workgroups of 256 that do nothing: the fastest of all, and wrong. */
static struct {
    vk_device *device;
    PFN_vkCmdBindPipeline bind;
    PFN_vkCmdDispatch dispatch;
    bool lazy;
} cheat;

static VKAPI_ATTR void VKAPI_CALL cheat_bind(VkCommandBuffer c, VkPipelineBindPoint point,
                                             VkPipeline pipeline) {
    cheat.lazy = false;
    for (int i = 0; i < VK_MOST_PIPELINES; i++)
        cheat.lazy |= cheat.device->pipelines[i][2] == pipeline;
    cheat.bind(c, point, pipeline);
}

static VKAPI_ATTR void VKAPI_CALL cheat_dispatch(VkCommandBuffer c, uint32_t x, uint32_t y,
                                                 uint32_t z) {
    if (!cheat.lazy) cheat.dispatch(c, x, y, z);
}

/* Open with a cache, make a product, close; *choice: of the q8_0 shader, when opened and at last.
 * The result has the bits of the plain shader. */
static void tuned_run(const char *name, const char *directory, bool cheats, mo_backend *plain,
                      vk_choice *opened, vk_choice *closed) {
    mo_device dev;
    mo_backend *be;
    moshi_error err = {0};
    test_rng rng = {23};
    const int base = mo_vk_shader_find("qlinear_1_1");
    const mo_backend_options o = {.cache = directory};
    mo_matrix m = random_matrix(&formats[3], 64, 1024, &rng);
    float x[1024];
    if (mo_device_find(&dev, name, &err) != 0) test_die("%s", err.text);
    mo_backend_options own = o;
    own.nth = dev.nth;
    if (dev.ops->open(&be, &own, &err) != 0) test_die("%s", err.text);
    vk_device *d = (vk_device *)be;
    d->tune_from = 0;
    d->tuned_s = -3600; /* a busy machine may take its time */
    if (cheats) {
        cheat.device = d;
        cheat.bind = d->fns.CmdBindPipeline;
        cheat.dispatch = d->fns.CmdDispatch;
        d->fns.CmdBindPipeline = cheat_bind;
        d->fns.CmdDispatch = cheat_dispatch;
    }
    *opened = d->choices[base];
    for (int k = 0; k < 1024; k++) x[k] = rng_f32(&rng);
    float *a = run_linear_on(plain, &m, 1, 1, x), *b = run_linear_on(be, &m, 1, 1, x);
    CHECK(!memcmp(a, b, 64 * sizeof *a), "bits after timing");
    *closed = d->choices[base];
    CHECK(strstr(be->ops->kernels(be), "qlinear_1_1") != NULL, "%s", be->ops->kernels(be));
    free(a);
    free(b);
    matrix_free(&m);
    be->ops->close(be);
}

/* Timed once and kept; one that computes wrong is not taken; a file that is not right is not there.
 */
static void test_timing(const char *name) {
    char directory[] = "/tmp/moshi-vulkan-XXXXXX", path[600] = "";
    vk_choice opened, closed, again;
    size_t n;
    if (!mkdtemp(directory)) test_die("no temporary directory");
    mo_backend *plain = open_with(name, "plain");
    CHECK(!plain->ops->kernels(plain)[6], "named: %s", plain->ops->kernels(plain));
    tuned_run(name, directory, true, plain, &opened, &closed);
    CHECK(!opened.timed && closed.timed && closed.width != 2, "width %d is wrong", closed.width);
    tuned_run(name, directory, false, plain, &opened, &again);
    CHECK(opened.timed && opened.width == closed.width && opened.more == closed.more, "kept");
    CHECK(again.timed && again.width == closed.width && again.more == closed.more,
          "not timed again");
    const vk_identity *id = &((vk_device *)plain)->identity;
    snprintf(path, sizeof path, "%s/vulkan-%04x-%04x-%u.timed", directory, id->vendor, id->device,
             id->driver);
    uint8_t *file = slurp(path, &n);
    if (CHECK(file && n > 64, "%s: %zu bytes", path, n)) {
        file[n - 1] ^= 1;
        spill(path, file, n);
        tuned_run(name, directory, false, plain, &opened, &again);
        CHECK(!opened.timed && again.timed, "a wrong file was taken");
    }
    free(file);
    remove(path);
    snprintf(path, sizeof path, "%s/vulkan-%04x-%04x-%u.bin", directory, id->vendor, id->device,
             id->driver);
    remove(path);
    CHECK(remove(directory) == 0, "nothing else is left there");
    plain->ops->close(plain);
}

/* ---- programs ------------------------------------------------------------------------------- */

/* Two counters per slot: parts of a list, and parts of a batch. */
static void test_parts_of_programs(mo_backend *be) {
    enum { SLOTS = 3 };
    bench b;
    const uint8_t all[SLOTS] = {1, 1, 1}, some[SLOTS] = {1, 0, 1}, none[SLOTS] = {0};
    bench_open(&b, be, SLOTS);
    mo_view a = mo_state_view(&b.graph, 1, 1, 5), c = mo_state_view(&b.graph, 1, 1, 0);
    mo_advance(&b.graph, a, 1);
    mo_advance(&b.graph, c, 10);
    if (!CHECK(mo_graph_finish(&b.graph) == 0, "recorded")) return;
    mo_program *p = b.graph.program;
    const mo_backend_ops *ops = be->ops;
    CHECK(ops->run(be, p, 0, 2, all) == 0 && ops->run(be, p, 0, 2, some) == 0, "whole");
    CHECK(ops->run(be, p, 0, 1, some) == 0 && ops->run(be, p, 0, 1, all) == 0, "a part, twice");
    CHECK(ops->run(be, p, 1, 2, some) == 0 && ops->run(be, p, 0, 2, none) == 0, "another part");
    CHECK(ops->run(be, p, 1, 1, all) == 0, "no ops");
    CHECK(ops->run(be, p, 1, 3, all) == MOSHI_EDEVICE && ops->run(be, p, -1, 1, all) < 0,
          "ops there are none of");
    const int32_t want_a[SLOTS] = {9, 7, 9}, want_c[SLOTS] = {30, 10, 30};
    float *got_a = get(&b, &a), *got_c = get(&b, &c);
    CHECK(!memcmp(got_a, want_a, sizeof want_a) && !memcmp(got_c, want_c, sizeof want_c),
          "counters");
    free(got_a);
    free(got_c);
    bench_close(&b);
}

/* Counters of two programs and what one of them leaves for the other, in one piece of work: as if
 * one part had run after the other, however many submissions that takes. */
static void test_parts_at_once(mo_backend *be) {
    enum { SLOTS = 3 };
    bench a, b;
    const uint8_t all[SLOTS] = {1, 1, 1}, some[SLOTS] = {1, 0, 1}, none[SLOTS] = {0};
    bench_open(&a, be, SLOTS);
    bench_open(&b, be, SLOTS);
    mo_view n = mo_state_view(&a.graph, 1, 1, 0), m = mo_state_view(&b.graph, 1, 1, 0);
    mo_advance(&a.graph, n, 1);
    mo_advance(&a.graph, n, 10);
    mo_sift(&b.graph, n, 12);
    mo_advance(&b.graph, m, 100);
    mo_advance(&b.graph, n, 1000);
    if (!CHECK(mo_graph_finish(&a.graph) == 0 && mo_graph_finish(&b.graph) == 0, "recorded"))
        return;
    mo_program *p = a.graph.program, *q = b.graph.program;
    for (int pass = 0; pass < 2; pass++) { /* recorded now, and known */
        const int32_t want_n[2][SLOTS] = {{44, 1011, 44}, {88, 1022, 88}};
        const int32_t want_m[SLOTS] = {0, 100, 0};
        mo_run parts[] = {{p, 0, 1, some, 9}, {p, 1, 2, some, 9}, {p, 0, 2, all, 9},
                          {q, 0, 3, all, 9},  {p, 0, 2, none, 9}, {p, 0, 2, some, 9},
                          {q, 1, 1, all, 9},  {p, 0, 2, some, 9}};
        CHECK(be->ops->run_parts(be, parts, 8, NULL, NULL) == 0, "parts");
        CHECK(parts[4].seconds <= 0 && parts[6].seconds <= 0, "nothing takes no time");
        for (int i = 0; i < 8; i++) CHECK(parts[i].seconds >= 0 && parts[i].seconds < 9, "time");
        CHECK(!((vk_device *)be)->tick_mask || parts[2].seconds > 0, "no time");
        float *got_n = get(&a, &n), *got_m = get(&b, &m);
        CHECK(!memcmp(got_n, want_n[pass], sizeof want_n[pass]), "counters, pass %d", pass);
        CHECK(!memcmp(got_m, want_m, sizeof want_m), "who was sifted");
        free(got_n);
        free(got_m);
    }
    mo_run wrong[] = {{p, 0, 1, all, 0}, {p, 1, 3, all, 0}};
    CHECK(be->ops->run_parts(be, wrong, 2, NULL, NULL) == MOSHI_EDEVICE, "ops there are none of");
    bench_close(&a);
    bench_close(&b);
}

/* Copies of every size and offset, which mapped memory hides. */
static void test_copies(mo_backend *be, bool staged) {
    enum { N = 4096 };
    vk_device *d = (vk_device *)be;
    uint8_t want[N], got[N];
    test_rng rng = {9};
    vk_buffer *b = (vk_buffer *)be->ops->alloc(be, N);
    if (!CHECK(b != NULL, "a buffer")) return;
    uint8_t *mapped = b->mapped;
    if (staged) b->mapped = NULL;
    memset(want, 0, N);
    for (int i = 0; i < 20; i++) {
        size_t at = (size_t)rng_below(&rng, N), n = (size_t)rng_below(&rng, N + 1 - (int)at);
        uint8_t data[N];
        for (size_t k = 0; k < n; k++) want[at + k] = data[k] = (uint8_t)rng_below(&rng, 256);
        if (i % 4 == 3) memset(want + at, 0, n);
        if (i % 4 == 3)
            be->ops->zero(be, &b->base, at, n);
        else
            be->ops->write(be, &b->base, at, data, n);
    }
    be->ops->read(be, &b->base, 3, got + 3, N - 3);
    CHECK(!d->lost && !memcmp(want + 3, got + 3, N - 3), "copies%s", staged ? " by staging" : "");
    b->mapped = mapped;
    be->ops->free(be, &b->base);
}

/* A device that is lost says so from then on, and closes. */
static void test_failures(const char *name) {
    mo_device dev;
    mo_backend *be;
    moshi_error err = {0};
    bench b;
    const uint8_t exec[1] = {1};
    if (!CHECK(mo_device_find(&dev, name, &err) == 0, "%s", err.text)) return;
    int rc = dev.ops->open(&be, &(mo_backend_options){.nth = dev.nth}, &err);
    if (!CHECK(rc == 0, "%s", err.text)) return;
    CHECK(!be->ops->alloc(be, SIZE_MAX / 2) && !be->ops->alloc(be, (size_t)1 << 40), "no room");
    bench_open(&b, be, 1);
    mo_view v = mo_state_view(&b.graph, 1, 1, 0);
    mo_advance(&b.graph, v, 1);
    CHECK(mo_graph_finish(&b.graph) == 0 && mo_graph_run(&b.graph, exec, NULL, NULL) == 0, "runs");
    ((vk_device *)be)->lost = true;
    CHECK(mo_graph_run(&b.graph, exec, NULL, NULL) == MOSHI_EDEVICE, "lost");
    CHECK(mo_graph_run(&b.graph, exec, NULL, NULL) == MOSHI_EDEVICE, "still lost");
    CHECK(!be->ops->alloc(be, 4), "no memory of a lost device");
    bench_close(&b);
    be->ops->close(be);
    CHECK(dev.ops->open(&be, &(mo_backend_options){.nth = 99}, &err) == MOSHI_EDEVICE &&
              strstr(err.text, "no device 99"),
          "device 99: %s", err.text);
}

/* ---- models --------------------------------------------------------------------------------- */

/* A generated model on both: several sessions, one that comes late; the same tokens, near audio. */
static void test_made_model(const char *name, moshi_kv kv, int dtype, int context) {
    enum { FRAMES = 5, N = FRAMES * 1920, SESSIONS = 3 };
    model_spec spec;
    made_model m;
    spec_small(&spec);
    spec.lm_dtype = spec.mimi_dtype = dtype;
    spec.lm.context = context;
    model_make(&m, &spec);
    float *pcm = test_alloc(N, sizeof *pcm);
    test_signal(pcm, N, 5);
    event_log logs[2][SESSIONS];
    for (int d = 0; d < 2; d++) {
        moshi_engine *e = open_engine_with(&(moshi_engine_options){.blobs = m.blobs,
                                                                   .n_blobs = MADE_BLOBS,
                                                                   .device = d ? name : "cpu",
                                                                   .sessions = SESSIONS,
                                                                   .kv = kv});
        for (int s = 0; s < SESSIONS; s++) { /* the first greedy, the others by draws */
            moshi_session *session =
                open_session(e, &(moshi_session_options){.flags = s ? 0 : MOSHI_GREEDY, .seed = 3});
            event_log_init(&logs[d][s], e);
            run_pcm(e, session, pcm, s ? N / 2 : N, 0, &logs[d][s]);
        }
        moshi_engine_close(e);
    }
    for (int s = 0; s < SESSIONS; s++) {
        event_log *a = &logs[0][s], *b = &logs[1][s];
        size_t n = a->frames * a->channels;
        CHECK(a->frames > 0 && a->frames == b->frames && a->n_pcm == b->n_pcm, "frames");
        CHECK(first_diff(a->tokens, b->tokens, n) == n, "kv %d, session %d: token %zu of %zu", kv,
              s, first_diff(a->tokens, b->tokens, n), n);
        double off = max_diff(a->pcm, b->pcm, a->n_pcm);
        CHECK(off < 1e-5, "kv %d, session %d: audio differs by %g", kv, s, off);
        event_log_free(a);
        event_log_free(b);
    }
    free(pcm);
    model_free(&m);
}

/* Recorded runs of the reference implementation, given codes. */
static void test_recorded(const char *name, const char *dir, const char *file, int steps) {
    char path[128];
    tensors g = {0};
    snprintf(path, sizeof path, "%s/golden.%s.safetensors", dir,
             strstr(file, "f32") ? "f32" : "bf16w");
    const char *golden = golden_path(path), *model;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    model = golden_path(path);
    if (!golden || !model) {
        SKIP("%s: no recording", path);
        return;
    }
    if (!CHECK(tensors_load(&g, golden), "%s", path)) return;
    snprintf(path, sizeof path, "%s", model);
    *strrchr(path, '/') = 0;
    moshi_engine *e = open_engine_with(
        &(moshi_engine_options){.model = path, .device = name, .flags = MOSHI_NO_CODEC});
    moshi_engine_info info;
    moshi_engine_get_info(e, &info);
    moshi_session *session = open_session(e, &(moshi_session_options){.flags = MOSHI_GREEDY});
    size_t users = (size_t)info.user_codebooks, width = 1 + (size_t)info.dep_q;
    const tensor *codes = tensors_find(&g, "user_codes"), *out = tensors_find(&g, "out_tokens");
    size_t recorded = out->count / width;
    int32_t *rows = test_alloc((size_t)steps * users + 1, sizeof *rows);
    for (size_t c = 0; c < users; c++)
        for (size_t s = 0; s < (size_t)steps; s++) rows[s * users + c] = codes->i[c * recorded + s];
    event_log log;
    event_log_init(&log, e);
    run_codes(e, session, rows, NULL, (size_t)steps, &log);
    size_t delay = (size_t)info.max_delay, n = log.frames * width;
    CHECK(log.frames == (size_t)steps - delay, "%s: %zu frames", dir, log.frames);
    CHECK(first_diff(log.tokens, out->i + delay * width, n) == n, "%s: token %zu of %zu", dir,
          first_diff(log.tokens, out->i + delay * width, n), n);
    event_log_free(&log);
    free(rows);
    tensors_free(&g);
    moshi_engine_close(e);
}

/* ---- devices -------------------------------------------------------------------------------- */

static void test_device(const char *name) {
    moshi_error err = {0};
    mo_device d;
    mo_backend *be, *cpu;
    if (!CHECK(mo_device_find(&d, name, &err) == 0, "%s", err.text)) return;
    if (!CHECK(d.ops->open(&be, &(mo_backend_options){.nth = d.nth}, &err) == 0, "%s", err.text))
        return;
    if (mo_backend_cpu.open(&cpu, NULL, &err) != 0) test_die("%s", err.text);
    test_formats(cpu, be);
    test_pieces(cpu, be);
    test_parts_of_weights(cpu, be);
    test_parts_of_programs(be);
    test_parts_at_once(be);
    test_copies(be, false);
    test_copies(be, true);
    cpu->ops->close(cpu);
    be->ops->close(be);
    test_failures(name);
    test_made_model(name, MOSHI_KV_F32, MO_F32, 10);
    test_made_model(name, MOSHI_KV_Q8_0, MO_BF16, 10);
    test_recorded(name, "stt-tiny", "model.safetensors", 12);
    test_recorded(name, "moshi-tiny", "model.safetensors", 8);
    test_recorded(name, "hibiki-zero-tiny", "model.safetensors", 6);
}

/* Bindings so small that every large buffer comes in parts: by slots and, where even one slot's
 * cache is too large, by heads. 72 KB hold two slots of Mimi's widest activations; of the cache,
 * one head of two in float32, and two slots of three in bytes, at offsets that no binding may have.
 */
static void test_narrow_bindings(const char *name) {
    char alias[16];
    narrow.exists = true;
    narrow.range = 72 << 10;
    snprintf(alias, sizeof alias, "narrow:%s", strchr(name, ':') + 1);
    test_made_model(alias, MOSHI_KV_F32, MO_F32, 1101);
    test_made_model(alias, MOSHI_KV_Q8_0, MO_BF16, 701);
    narrow.exists = false;
    narrow.range = 0;
}

/* ---- compiled shaders on disk --------------------------------------------------------------- */

/* Open with a cache in `directory`; was what lay there taken? The device must compute either way.
 * *path: its file. */
static bool cache_taken(const char *name, const char *directory, char *path, size_t cap) {
    mo_device dev;
    mo_backend *be;
    moshi_error err = {0};
    bench b;
    const uint8_t exec[1] = {1};
    if (mo_device_find(&dev, name, &err) != 0) test_die("%s", err.text);
    const mo_backend_options o = {.nth = dev.nth, .cache = directory};
    if (dev.ops->open(&be, &o, &err) != 0) test_die("%s", err.text);
    snprintf(path, cap, "%s", ((vk_device *)be)->cache_path);
    bool taken = ((vk_device *)be)->cache_sum != 0;
    bench_open(&b, be, 1);
    mo_view v = mo_state_view(&b.graph, 1, 1, 0);
    mo_advance(&b.graph, v, 1);
    CHECK(mo_graph_finish(&b.graph) == 0 && mo_graph_run(&b.graph, exec, NULL, NULL) == 0, "runs");
    bench_close(&b);
    be->ops->close(be);
    return taken;
}

/* Every op's known answers; what was compiled for them is kept for models. */
static void test_known_answers(const char *name) {
    char directory[] = "/tmp/moshi-vulkan-XXXXXX", path[512], text[64];
    moshi_error err = {0};
    snprintf(text, sizeof text, "%s", name);
    if (!mkdtemp(directory)) test_die("no temporary directory");
    CHECK(moshi_device_check(name, 0, directory, note, text, &err) == 0, "%s: %s", name, err.text);
    CHECK(cache_taken(name, directory, path, sizeof path), "what a check compiled is not kept");
    CHECK(remove(path) == 0, "%s", path);
    snprintf(strrchr(path, '.'), 8, ".timed"); /* where something was worth timing */
    remove(path);
    CHECK(remove(directory) == 0, "nothing else is left there");
}

/* What a report says of a device, in lines of name and text. */
static void test_details(const char *name) {
    static const char *const wanted[] = {
        "vulkan: 1.",       "\nids: vendor 0x", "\nat most: ", " MiB in a binding",
        "\nsubgroups: of ", "\nheap 0: ",       "; type 0: ",  "\nextensions: "};
    char text[4096], cut[20];
    moshi_error err = {0};
    CHECK(moshi_device_details(name, text, sizeof text, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        CHECK(strstr(text, wanted[i]), "%s: no '%s' in %s", name, wanted[i], text);
    CHECK(strlen(text) + 1 < sizeof text && text[strlen(text) - 1] == '\n', "cut: %s", text);
    CHECK(moshi_device_details(name, cut, sizeof cut, &err) == 0 && strlen(cut) == sizeof cut - 1 &&
              !strncmp(cut, text, sizeof cut - 1),
          "cut to %zu bytes", strlen(cut));
    CHECK(moshi_device_details(NULL, cut, sizeof cut, &err) == 0 && !cut[0], "the CPU: %s", cut);
    CHECK(moshi_device_details("vulkan:99", cut, sizeof cut, &err) == MOSHI_EDEVICE &&
              moshi_device_details(name, cut, 0, &err) == MOSHI_EINVAL,
          "errors");
}

/* Found again; and whatever else lies in its place is passed over in silence and replaced. */
static void test_cache(const char *name) {
    char directory[] = "/tmp/moshi-vulkan-XXXXXX", path[512], nowhere[600];
    size_t n, after;
    if (!mkdtemp(directory)) test_die("no temporary directory");
    CHECK(!cache_taken(name, directory, path, sizeof path), "nothing there yet");
    uint8_t *good = slurp(path, &n);
    if (CHECK(good && n > 64 && n < 1 << 24, "%s: %zu bytes", path, n)) {
        CHECK(cache_taken(name, directory, path, sizeof path), "taken");
        /* Another sum, build, device, driver, UUID; cut short; too long; longer than it says;
         * empty. */
        static const struct {
            size_t flip, bytes;
            int add;
        } wrong[] = {{0, 0, 0},  {8, 0, 0},  {16, 0, 0}, {22, 0, 0}, {24, 0, 0}, {32, 0, 0},
                     {36, 0, 0}, {40, 0, 0}, {44, 0, 0}, {48, 0, 0}, {63, 0, 0}, {64, 0, 0},
                     {0, 1, 0},  {0, 63, 0}, {0, 65, 0}, {0, 0, 9}};
        uint8_t *bad = test_alloc(n + 9, 1);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            memcpy(bad, good, n);
            if (!wrong[i].bytes && !wrong[i].add) bad[wrong[i].flip] ^= 1;
            spill(path, bad, wrong[i].bytes ? wrong[i].bytes : n + (size_t)wrong[i].add);
            CHECK(!cache_taken(name, directory, path, sizeof path), "wrong file %zu taken", i);
            uint8_t *again = slurp(path, &after);
            CHECK(again && after == n && !memcmp(again, good, 64), "file %zu is right again", i);
            free(again);
        }
        free(bad);
        spill(path, good, 0);
        CHECK(!cache_taken(name, directory, path, sizeof path), "an empty file taken");
    }
    free(good);
    CHECK(remove(path) == 0 && remove(directory) == 0, "nothing else is left there");
    snprintf(nowhere, sizeof nowhere, "%s/none", directory);
    CHECK(!cache_taken(name, nowhere, path, sizeof path) && !slurp(path, &n), "no such directory");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* A card with memory of its own behind a bus, played by a device whose memory is all alike. */
static struct {
    PFN_vkAllocateMemory allocate;
    PFN_vkGetBufferMemoryRequirements requirements;
    uint32_t last;    /* type that memory was taken of */
    bool out_of_vram; /* the card gives nothing more, neither directly nor through the window */
} card;

enum { HOST_TYPE, CARD_TYPE, WINDOW_TYPE };

static VKAPI_ATTR VkResult VKAPI_CALL card_allocate(VkDevice device, const VkMemoryAllocateInfo *i,
                                                    const VkAllocationCallbacks *callbacks,
                                                    VkDeviceMemory *out) {
    VkMemoryAllocateInfo real = *i;
    card.last = i->memoryTypeIndex;
    if (card.out_of_vram && i->memoryTypeIndex != HOST_TYPE) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    real.memoryTypeIndex = 0;
    return card.allocate(device, &real, callbacks, out);
}

static VKAPI_ATTR void VKAPI_CALL card_requirements(VkDevice device, VkBuffer buffer,
                                                    VkMemoryRequirements *out) {
    card.requirements(device, buffer, out);
    out->memoryTypeBits = 7;
}

static void become_card(vk_device *d) {
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    card.allocate = d->fns.AllocateMemory;
    card.requirements = d->fns.GetBufferMemoryRequirements;
    d->fns.AllocateMemory = card_allocate;
    d->fns.GetBufferMemoryRequirements = card_requirements;
    d->unified = d->processor = d->has_budget = false;
    d->memory = (VkPhysicalDeviceMemoryProperties){
        .memoryTypeCount = 3,
        .memoryTypes = {{host, 0}, {local, 1}, {local | host, 2}},
        .memoryHeapCount = 3,
        .memoryHeaps = {{(VkDeviceSize)64 << 30, 0},
                        {(VkDeviceSize)8 << 30, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT},
                        {(VkDeviceSize)256 << 20, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}}};
}

/* Weights and large states go to the card's own memory and nowhere else; what the host touches
 * every frame to memory that both see. */
static void test_placement(const char *name) {
    enum { LARGE = 20 << 20 /* too large to share a block with others */ };
    mo_device dev;
    mo_backend *be;
    moshi_error err = {0};
    if (mo_device_find(&dev, name, &err) != 0 ||
        dev.ops->open(&be, &(mo_backend_options){.nth = dev.nth}, &err) != 0)
        test_die("%s", err.text);
    become_card((vk_device *)be);
    CHECK(be->ops->room(be) == ((uint64_t)8 << 30) + (256 << 20), "room");
    float *numbers = test_alloc(LARGE, 1);
    const mo_matrix m = {.dtype = MO_F32, .rows = LARGE / 1024, .cols = 256, .data = numbers};
    mo_weight w = {0}, other = {0};
    CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == 0, "a weight");
    vk_buffer *held = (vk_buffer *)w.buf;
    CHECK(held && !held->mapped, "the host sees the card's memory");
    mo_buf *large = be->ops->alloc(be, LARGE + 4), *small = be->ops->alloc(be, 4096);
    CHECK(large && small && card.last == WINDOW_TYPE, "small states in the window");
    CHECK(small && ((vk_buffer *)small)->mapped && !((vk_buffer *)large)->mapped, "mapped");
    mo_buf *sound = be->ops->alloc(be, 32 * 1920 * 4);
    CHECK(sound && ((vk_buffer *)sound)->mapped && card.last == WINDOW_TYPE,
          "sound of 32 sessions in the window");
    mo_buf *larger = be->ops->alloc(be, 2 * LARGE);
    CHECK(larger && card.last == CARD_TYPE, "large states in the card's own memory");
    card.out_of_vram = true;
    mo_buf *input = be->ops->alloc_input(be, LARGE);
    CHECK(input && ((vk_buffer *)input)->mapped && card.last == HOST_TYPE, "inputs are mapped");
    be->ops->free(be, input);
    CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &other) == MOSHI_ENOMEM &&
              strstr(be->problem, "wanted 20.97 MB more, found "),
          "no place but the host's memory: %s", be->problem);
    be->ops->free(be, large);
    be->ops->free(be, larger);
    be->ops->free(be, sound);
    be->ops->free(be, small);
    be->ops->weight_free(be, &w);
    be->ops->close(be);
    card.out_of_vram = false;
    free(numbers);
}

/* A model that does not fit is refused before anything is uploaded. */
static int count_progress(void *user, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    ++*(int *)user;
    return 0;
}

static void test_room(void) {
    model_spec spec;
    made_model m;
    moshi_engine *e;
    moshi_codec *c;
    moshi_engine_info info;
    moshi_error err = {0};
    int calls = 0;
    spec_small(&spec);
    model_make(&m, &spec);
    moshi_engine_options o = {.blobs = m.blobs,
                              .n_blobs = MADE_BLOBS,
                              .device = "narrow:0",
                              .sessions = 2,
                              .flags = MOSHI_DRY_RUN,
                              .progress = count_progress,
                              .progress_user = &calls};
    narrow.exists = true;
    if (moshi_engine_open(&e, &o, &err) < 0) test_die("%s", err.text);
    moshi_engine_get_info(e, &info);
    moshi_engine_close(e);
    calls = 0;
    o.flags = 0;
    narrow.budget = info.weight_bytes + info.state_bytes - 1;
    CHECK(moshi_engine_open(&e, &o, &err) == MOSHI_ENOMEM && calls == 0 && !e &&
              strstr(err.text, "for 2 sessions), ") && strstr(err.text, "GB are free"),
          "%s, %d calls", err.text, calls);
    /* Blocks are not filled to the last byte: room for the model and some. */
    narrow.budget = info.weight_bytes + info.state_bytes + (512 << 20);
    CHECK(moshi_engine_open(&e, &o, &err) == 0 && calls > 0, "%s", err.text);
    moshi_engine_close(e);
    narrow.budget = 1000;
    moshi_codec_options co = {.blobs = m.blobs, .n_blobs = MADE_BLOBS, .device = "narrow:0"};
    CHECK(moshi_codec_open(&c, &co, &err) == MOSHI_ENOMEM && strstr(err.text, "GB are free"), "%s",
          err.text);
    narrow.budget = 0;
    /* Enough memory, but not in one piece: a tensor, then what a session remembers. */
    calls = 0;
    narrow.largest = 4000;
    CHECK(moshi_engine_open(&e, &o, &err) == MOSHI_ENOMEM && calls == 0 &&
              strstr(err.text, ": tensor '") &&
              strstr(err.text, "MB at once, the device gives 0.00 MB at most"),
          "%s, %d calls", err.text, calls);
    narrow.largest = 0;
    narrow.exists = false;
    model_free(&m);
}

/* ---- a long conversation -------------------------------------------------------------------- */

/* What a frame must not do: take memory, map it, or record commands again; and how often it asks
 * the device for something and waits. */
static struct {
    PFN_vkQueueSubmit submit;
    PFN_vkWaitForFences wait;
    PFN_vkMapMemory map;
    PFN_vkAllocateMemory allocate;
    PFN_vkCreateBuffer create;
    PFN_vkBeginCommandBuffer begin;
    int allocated, created, begun, submitted, waited, mapped;
} calls;

static VKAPI_ATTR VkResult VKAPI_CALL count_submit(VkQueue queue, uint32_t n, const VkSubmitInfo *i,
                                                   VkFence fence) {
    calls.submitted++;
    writes.works = true;
    return calls.submit(queue, n, i, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL count_wait(VkDevice device, uint32_t n, const VkFence *fences,
                                                 VkBool32 all, uint64_t timeout) {
    calls.waited++;
    writes.works = false;
    return calls.wait(device, n, fences, all, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL count_map(VkDevice device, VkDeviceMemory memory,
                                                VkDeviceSize at, VkDeviceSize bytes,
                                                VkMemoryMapFlags flags, void **out) {
    calls.mapped++;
    return calls.map(device, memory, at, bytes, flags, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL count_allocate(VkDevice device, const VkMemoryAllocateInfo *i,
                                                     const VkAllocationCallbacks *callbacks,
                                                     VkDeviceMemory *out) {
    calls.allocated++;
    return calls.allocate(device, i, callbacks, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL count_create(VkDevice device, const VkBufferCreateInfo *i,
                                                   const VkAllocationCallbacks *callbacks,
                                                   VkBuffer *out) {
    calls.created++;
    return calls.create(device, i, callbacks, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL count_begin(VkCommandBuffer commands,
                                                  const VkCommandBufferBeginInfo *i) {
    calls.begun++;
    return calls.begin(commands, i);
}

static void count_calls(vk_device_fns *fns) {
    calls.allocate = fns->AllocateMemory;
    calls.create = fns->CreateBuffer;
    calls.begin = fns->BeginCommandBuffer;
    calls.submit = fns->QueueSubmit;
    calls.wait = fns->WaitForFences;
    calls.map = fns->MapMemory;
    calls.allocated = calls.created = calls.begun = 0;
    calls.submitted = calls.waited = calls.mapped = 0;
    writes.alone = writes.beside = 0;
    fns->QueueSubmit = count_submit;
    fns->WaitForFences = count_wait;
    fns->MapMemory = count_map;
    fns->AllocateMemory = count_allocate;
    fns->CreateBuffer = count_create;
    fns->BeginCommandBuffer = count_begin;
}

/* Of this process, in kilobytes; 0: unknown. */
static long resident_kb(void) {
    long pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &all, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Stages tell the device's own times; what they leave of `seconds` is the host's and what waiting
 * costs. */
static void check_stages(moshi_engine *e, uint64_t frames, double seconds) {
    const bool clock = narrow.opened->tick_mask != 0;
    moshi_stage_info info;
    double sum = 0;
    for (int i = 0; i < MOSHI_STAGES; i++) {
        moshi_engine_get_stage(e, (moshi_stage)i, &info);
        /* one step more for the first frame, sound only once there is some */
        const bool model = i == MOSHI_STAGE_TEMPORAL || i == MOSHI_STAGE_DEPTH;
        CHECK(info.runs <= frames + model && info.runs + 8 > frames, "stage %d: %d runs", i,
              (int)info.runs);
        CHECK(clock ? info.seconds > 0 : info.seconds <= 0, "stage %d: %g s", i, info.seconds);
        sum += info.seconds;
    }
    CHECK(sum <= seconds, "%g s of %g", sum, seconds);
}

/* TEST_FRAMES in the environment asks for more of them: then the second half takes no memory at
 * all. Within the first thousand drivers still come to their full size (lavapipe's queue thread
 * takes 2 to 5 MB, once). */
static void test_long_run(void) {
    enum { WARM = 40, GROWTH_KB = 4096, LONG = 2000, LONG_GROWTH_KB = 256 };
    const char *asked = getenv("TEST_FRAMES");
    const long frames = asked ? atol(asked) : 240, settled = frames < LONG ? WARM : frames / 2;
    const long most = frames < LONG ? GROWTH_KB : LONG_GROWTH_KB;
    long before = 0;
    model_spec spec;
    made_model m;
    moshi_event ev;
    moshi_engine_info info;
    spec_tiny(&spec);
    model_make(&m, &spec);
    narrow.exists = true;
    moshi_engine *e = open_engine_with(
        &(moshi_engine_options){.blobs = m.blobs, .n_blobs = MADE_BLOBS, .device = "narrow:0"});
    moshi_engine_get_info(e, &info);
    moshi_session *s = open_session(e, NULL);
    float *pcm = test_alloc((size_t)info.frame_samples, sizeof *pcm);
    test_signal(pcm, (size_t)info.frame_samples, 3);
    const double start = mo_now_s();
    moshi_push_pcm(s, pcm, (size_t)info.frame_samples); /* one frame waits while another runs */
    for (long i = 0; i < frames; i++) {
        if (i == settled) before = resident_kb();
        if (i == WARM) count_calls(&narrow.opened->fns);
        if (moshi_push_pcm(s, pcm, (size_t)info.frame_samples) <= 0 || moshi_step(e) != 1)
            test_die("frame %ld", i);
        while (moshi_pull(s, &ev) > 0) continue;
    }
    long growth = resident_kb() - before;
    CHECK(growth < most, "%ld frames took %ld KB more", frames - settled, growth);
    CHECK(calls.allocated == 0 && calls.created == 0, "%d allocations, %d buffers", calls.allocated,
          calls.created);
    CHECK(calls.begun == 0 && calls.mapped == 0, "recorded %d times again, mapped %d times",
          calls.begun, calls.mapped);
    /* Encoder, model and decoder together; what the host gives and takes is mapped. */
    CHECK(calls.submitted == frames - WARM && calls.waited == calls.submitted,
          "%d submissions and %d waits in %ld frames", calls.submitted, calls.waited,
          frames - WARM);
    CHECK(writes.alone == 0 && writes.beside == frames - WARM,
          "%d inputs written before a frame, %d while the one before ran", writes.alone,
          writes.beside);
    check_stages(e, (uint64_t)frames, mo_now_s() - start);
    if (asked) fprintf(stderr, "%ld frames: %ld KB more\n", frames - settled, growth);
    moshi_engine_close(e);
    narrow.exists = false;
    free(pcm);
    model_free(&m);
}

/* ---- failures in the middle of a conversation ----------------------------------------------- */

static VKAPI_ATTR VkResult VKAPI_CALL no_answer(VkDevice device, uint32_t n, const VkFence *fences,
                                                VkBool32 all, uint64_t timeout) {
    (void)device;
    (void)n;
    (void)fences;
    (void)all;
    (void)timeout;
    return VK_TIMEOUT;
}

static VKAPI_ATTR VkResult VKAPI_CALL lost_card(VkQueue queue, uint32_t n,
                                                const VkSubmitInfo *infos, VkFence fence) {
    (void)queue;
    (void)n;
    (void)infos;
    (void)fence;
    return VK_ERROR_DEVICE_LOST;
}

/* The frames before stay and can be taken; every call after says so at once; closing does not wait.
 * `stuck`: the card never answers; else its driver reports it lost. */
static void test_lost(bool stuck) {
    enum { BEFORE = 4 };
    model_spec spec;
    made_model m;
    moshi_event ev;
    int frames = 0;
    spec_tiny(&spec);
    model_make(&m, &spec);
    narrow.exists = true;
    narrow.no_clock = stuck;
    moshi_engine *e = open_engine_with(
        &(moshi_engine_options){.blobs = m.blobs, .n_blobs = MADE_BLOBS, .device = "narrow:0"});
    moshi_engine_info info;
    moshi_engine_get_info(e, &info);
    moshi_session *s = open_session(e, NULL);
    float *pcm = test_alloc((size_t)info.frame_samples, sizeof *pcm);
    const double start = mo_now_s();
    for (int i = 0; i < BEFORE; i++)
        CHECK(moshi_push_pcm(s, pcm, (size_t)info.frame_samples) > 0 && moshi_step(e) == 1,
              "steps");
    CHECK(moshi_engine_problem(e)[0] == 0, "no problem yet");
    check_stages(e, BEFORE, mo_now_s() - start);
    if (stuck)
        narrow.opened->fns.WaitForFences = no_answer;
    else
        narrow.opened->fns.QueueSubmit = lost_card;
    moshi_push_pcm(s, pcm, (size_t)info.frame_samples);
    CHECK(moshi_step(e) == MOSHI_EDEVICE, "fails");
    CHECK(strstr(moshi_engine_problem(e), stuck ? "found none within 120 seconds" : "has lost"),
          "%s", moshi_engine_problem(e));
    moshi_push_pcm(s, pcm, (size_t)info.frame_samples);
    CHECK(moshi_step(e) == MOSHI_EDEVICE, "still fails");
    while (moshi_pull(s, &ev) > 0) frames += ev.type == MOSHI_EVENT_TOKENS;
    CHECK(frames == BEFORE, "%d of %d frames can still be taken", frames, BEFORE);
    moshi_session_close(s);
    moshi_engine_close(e);
    narrow.exists = narrow.no_clock = false;
    free(pcm);
    model_free(&m);
}

/* What names mean, with these devices. */
static void test_names(const moshi_device_info *first) {
    moshi_device_info info;
    moshi_error err = {0};
    char name[200];
    snprintf(name, sizeof name, "vulkan:%.6s", first->description);
    CHECK(moshi_device_find(name, &info, &err) == 0 && !strcmp(info.name, first->name), "%s: %s",
          name, err.text);
    int rc = moshi_device_find("vulkan", &info, &err);
    if (first->on_request)
        CHECK(rc == MOSHI_EDEVICE && strstr(err.text, "by this name only"), "vulkan: %s", err.text);
    else
        CHECK(rc == 0 && !strcmp(info.name, "vulkan:0"), "vulkan: %s", info.name);
    static const char *const wrong[] = {"vulkan:", "vulkan:99", "vulkan:no such card", "vulkanize"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(moshi_device_find(wrong[i], &info, &err) == MOSHI_EDEVICE &&
                  strstr(err.text, wrong[i]),
              "%s: %s", wrong[i], err.text);
}

int main(void) {
    moshi_device_info all[8];
    int n = moshi_device_list(all, 8), tested = 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(all[i].kind, "vulkan") != 0) continue;
        fprintf(stderr, "%s: %s, %s\n", all[i].name, all[i].description, all[i].driver);
        if (tested++ == 0) test_names(&all[i]);
        test_known_answers(all[i].name);
        test_details(all[i].name);
        test_device(all[i].name);
        test_variants(all[i].name);
        test_narrow_bindings(all[i].name);
        test_timing(all[i].name);
        test_cache(all[i].name);
        test_placement(all[i].name);
        if (tested > 1) continue;
        test_room();
        test_long_run();
        test_lost(false);
        test_lost(true);
    }
    if (tested == 0) SKIP("no driver for Vulkan has a device (Debian: mesa-vulkan-drivers)");
    return check_done("test_vulkan");
}
#else
int main(void) {
    moshi_device_info info;
    moshi_error err = {0};
    CHECK(moshi_device_find("vulkan:0", &info, &err) == MOSHI_EDEVICE &&
              strstr(err.text, "this build has no Vulkan"),
          "without Vulkan: %s", err.text);
    SKIP("this build has no Vulkan");
    return check_done("test_vulkan");
}
#endif
