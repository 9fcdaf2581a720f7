/* cache.c - compiled shaders, and which of them were found to be fast, from one start to the next:
 * the driver's own blob and our choices, each in a file of the directory that the options name,
 * behind a header that says of which driver, device and shaders it is. Drivers are known to crash
 * on blobs that are not theirs or not whole, so that they see none whose header or sum is wrong.
 * Nothing here can fail: a file that is not right is not there. */
#include "vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As it lies in the file, in the machine's own order of bytes. */
typedef struct cache_head {
    char magic[8];
    uint64_t shaders, bytes, sum; /* of what follows */
    uint32_t vendor, device, driver, version;
    uint8_t uuid[VK_UUID_SIZE];
} cache_head;

enum { MOST_BYTES = 256 << 20 };
static const char COMPILED[8] = "mo-vk-1", TIMED[8] = "mo-vk-t";

static cache_head head_of(const vk_device *d, const char magic[8], const void *data, size_t bytes) {
    cache_head h = {.shaders = mo_vk_shaders_sum(),
                    .bytes = bytes,
                    .sum = mo_vk_sum(MO_VK_SUM, data, bytes),
                    .vendor = d->identity.vendor,
                    .device = d->identity.device,
                    .driver = d->identity.driver,
                    .version = d->identity.version};
    memcpy(h.magic, magic, sizeof h.magic);
    memcpy(h.uuid, d->identity.uuid, sizeof h.uuid);
    return h;
}

/* FNV-1a: Fowler, Noll, Vo. */
uint64_t mo_vk_sum(uint64_t sum, const void *data, size_t bytes) {
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* The blob of a file that is right in everything; NULL without one. Free it. */
static void *read_blob(const vk_device *d, const char *path, const char magic[8], size_t *bytes) {
    cache_head found, want;
    FILE *f = path ? fopen(path, "rbe") : NULL;
    if (!f) return NULL;
    void *blob = NULL;
    bool ok = fread(&found, sizeof found, 1, f) == 1 && found.bytes <= MOST_BYTES;
    if (ok) blob = mo_calloc(1, (size_t)found.bytes + 1);
    ok = blob && fread(blob, 1, (size_t)found.bytes + 1, f) == found.bytes;
    fclose(f);
    if (ok) {
        want = head_of(d, magic, blob, (size_t)found.bytes);
        ok = !memcmp(&found, &want, sizeof want);
    }
    if (!ok) {
        free(blob);
        return NULL;
    }
    *bytes = (size_t)found.bytes;
    return blob;
}

static char *path_of(const vk_device *d, const char *directory, const char *ending) {
    return directory ? mo_format("%s/vulkan-%04x-%04x-%u.%s", directory, d->identity.vendor,
                                 d->identity.device, d->identity.driver, ending)
                     : NULL;
}

/* As untimed, or as they were kept. */
static void open_choices(vk_device *d) {
    size_t bytes = 0;
    vk_choice *kept = d->named ? NULL : read_blob(d, d->choices_path, TIMED, &bytes);
    for (int i = 0; mo_vk_shader_name(i); i++) {
        vk_choice *c = &d->choices[i];
        *c = (vk_choice){.more = mo_vk_variant_of(d, mo_vk_shader_name(i)) != i,
                         .width = VK_USUAL_WIDTH};
        if (!kept || bytes != sizeof d->choices || !kept[i].timed || kept[i].width >= VK_WIDTHS ||
            mo_vk_choice_shader(d, i, kept[i]) < 0)
            continue;
        *c = kept[i];
        c->used = 0;
    }
    free(kept);
}

bool mo_vk_cache_open(vk_device *d, const char *directory) {
    size_t bytes = 0;
    d->cache_path = path_of(d, directory, "bin");
    d->choices_path = path_of(d, directory, "timed");
    open_choices(d);
    void *blob = read_blob(d, d->cache_path, COMPILED, &bytes);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = bytes,
                                      .pInitialData = blob};
    VkResult rc = d->fns.CreatePipelineCache(d->device, &info, NULL, &d->cache);
    if (rc == VK_SUCCESS && blob) d->cache_sum = mo_vk_sum(MO_VK_SUM, blob, bytes);
    if (rc != VK_SUCCESS && blob) {
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        rc = d->fns.CreatePipelineCache(d->device, &info, NULL, &d->cache);
    }
    free(blob);
    return rc == VK_SUCCESS;
}

/* Whoever reads meanwhile sees the old file or the new one. */
static void write_file(const char *path, const cache_head *head, const void *data) {
    char *temporary = mo_format("%s.XXXXXX", path);
    int fd = temporary ? mkstemp(temporary) : -1;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (fd >= 0 && !f) close(fd);
    bool ok = f && fwrite(head, sizeof *head, 1, f) == 1 &&
              fwrite(data, 1, (size_t)head->bytes, f) == head->bytes;
    if (f) ok &= fclose(f) == 0;
    if (fd >= 0 && (!ok || rename(temporary, path) != 0)) unlink(temporary);
    free(temporary);
}

void mo_vk_cache_save(vk_device *d) {
    size_t bytes = 0;
    if (!d->cache_path || !d->cache_fresh || d->lost) return;
    d->cache_fresh = false;
    if (d->fns.GetPipelineCacheData(d->device, d->cache, &bytes, NULL) != VK_SUCCESS) return;
    void *data = bytes && bytes <= MOST_BYTES ? mo_calloc(1, bytes) : NULL;
    if (data && d->fns.GetPipelineCacheData(d->device, d->cache, &bytes, data) == VK_SUCCESS) {
        const cache_head head = head_of(d, COMPILED, data, bytes);
        if (head.sum != d->cache_sum) write_file(d->cache_path, &head, data);
        d->cache_sum = head.sum;
    }
    free(data);
}

void mo_vk_choices_save(vk_device *d) {
    if (!d->choices_path || !d->choices_fresh || d->lost) return;
    d->choices_fresh = false;
    const cache_head head = head_of(d, TIMED, d->choices, sizeof d->choices);
    write_file(d->choices_path, &head, d->choices);
}

void mo_vk_cache_close(vk_device *d) {
    if (d->cache) d->fns.DestroyPipelineCache(d->device, d->cache, NULL);
    free(d->cache_path);
    free(d->choices_path);
    d->cache_path = d->choices_path = NULL;
}
