/* memory.c - device memory: blocks that buffers share, and copies to and from the host.
 *
 * Buffers fill a block from its start and give nothing back before the last of them is gone: models
 * and sessions come once and stay. Memory of the device's own is preferred; what the host touches
 * every frame is mapped where such memory exists, everything else goes through a staging buffer. */
#include "vk.h"

#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 4 << 20 };
static const VkDeviceSize BLOCK_BYTES = 64 << 20, VISIBLE_BLOCK_BYTES = 1 << 20;

struct vk_block {
    VkDeviceMemory memory;
    uint32_t type;
    VkDeviceSize bytes, used;
    int buffers;
    uint8_t *mapped;
    vk_block *next;
};

/* ---- blocks --------------------------------------------------------------------------------- */

static const VkMemoryPropertyFlags MAPPABLE =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

/* How much of a heap may still be taken; without the extension that knows, all of it. */
static VkDeviceSize room(const vk_device *d, uint32_t heap) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    if (!d->has_budget) return d->memory.memoryHeaps[heap].size;
    d->lib.fns.GetPhysicalDeviceMemoryProperties2(d->physical, &m);
    VkDeviceSize has = budget.heapBudget[heap], used = budget.heapUsage[heap];
    return has > used ? has - used : 0;
}

uint64_t mo_vk_room(mo_backend *be) {
    const vk_device *d = vk_device_of(be);
    uint64_t sum = 0;
    if (d->processor && !d->has_budget) return UINT64_MAX;
    for (uint32_t i = 0; i < d->memory.memoryHeapCount; i++)
        if (d->unified || (d->memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
            sum += room(d, i);
    return sum;
}

static void block_free(vk_device *d, vk_block *b) {
    if (b->memory) d->fns.FreeMemory(d->device, b->memory, NULL);
    free(b);
}

static vk_block *block_new(vk_device *d, uint32_t type, VkDeviceSize bytes) {
    if (bytes > d->largest_allocation || bytes > room(d, d->memory.memoryTypes[type].heapIndex))
        return NULL;
    vk_block *b = mo_calloc(1, sizeof *b);
    if (!b) return NULL;
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .allocationSize = bytes,
                                       .memoryTypeIndex = type};
    b->type = type;
    b->bytes = bytes;
    bool mappable = (d->memory.memoryTypes[type].propertyFlags & MAPPABLE) == MAPPABLE;
    void *mapped = NULL;
    if (d->fns.AllocateMemory(d->device, &info, NULL, &b->memory) != VK_SUCCESS ||
        (mappable &&
         d->fns.MapMemory(d->device, b->memory, 0, VK_WHOLE_SIZE, 0, &mapped) != VK_SUCCESS)) {
        block_free(d, b);
        return NULL;
    }
    b->mapped = mapped;
    b->next = d->blocks;
    d->blocks = b;
    return b;
}

static VkDeviceSize round_up(VkDeviceSize n, VkDeviceSize to) {
    return (n + to - 1) / to * to;
}

/* A block of this type with room for `bytes` at *at. */
static vk_block *block_with(vk_device *d, uint32_t type, vk_sight sight,
                            const VkMemoryRequirements *need, VkDeviceSize *at) {
    for (vk_block *b = d->blocks; b; b = b->next) {
        *at = round_up(b->used, need->alignment);
        if (b->type == type && *at <= b->bytes && need->size <= b->bytes - *at) return b;
    }
    VkDeviceSize usual = sight == VK_SEEN ? VISIBLE_BLOCK_BYTES : BLOCK_BYTES;
    *at = 0;
    vk_block *b = need->size < usual / 4 ? block_new(d, type, usual) : NULL;
    return b ? b : block_new(d, type, need->size);
}

/* ---- buffers -------------------------------------------------------------------------------- */

/* Types from the one to be preferred down. What the host writes to must be mappable, also where the
 * device's own memory is not or has no room left. The rest is in the device's own memory: a card
 * that fetched weights from the host's would be slower than the host. */
static vk_block *place(vk_device *d, vk_sight sight, const VkMemoryRequirements *need,
                       VkDeviceSize *at) {
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags wants[] = {sight != VK_UNSEEN || d->unified ? local | MAPPABLE
                                                                            : local,
                                           sight == VK_SEEN ? MAPPABLE : local};
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++)
        for (uint32_t type = 0; type < d->memory.memoryTypeCount; type++) {
            VkMemoryPropertyFlags flags = d->memory.memoryTypes[type].propertyFlags;
            if (!(need->memoryTypeBits >> type & 1) || (flags & wants[i]) != wants[i]) continue;
            vk_block *b = block_with(d, type, sight, need, at);
            if (b) return b;
        }
    return NULL;
}

static void no_room(vk_device *d, VkDeviceSize bytes) {
    uint64_t free_bytes = mo_vk_room(&d->base);
    if (free_bytes == UINT64_MAX)
        mo_backend_problem(&d->base, "%s: wanted %.2f MB more, its driver gives none", d->title,
                           (double)bytes * 1e-6);
    else
        mo_backend_problem(&d->base, "%s: wanted %.2f MB more, found %.2f MB free", d->title,
                           (double)bytes * 1e-6, (double)free_bytes * 1e-6);
}

static vk_buffer *buffer_new(vk_device *d, size_t bytes, vk_sight sight) {
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .size = round_up(bytes ? bytes : 4, 4),
                                     .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VkMemoryRequirements need;
    VkDeviceSize at;
    vk_buffer *b = mo_calloc(1, sizeof *b);
    if (!b) return NULL;
    b->base.bytes = bytes;
    if (bytes > d->largest_allocation)
        mo_backend_problem(&d->base, "%.2f MB at once, the device gives %.2f MB at most",
                           (double)bytes * 1e-6, (double)d->largest_allocation * 1e-6);
    if (d->lost || bytes > d->largest_allocation ||
        d->fns.CreateBuffer(d->device, &info, NULL, &b->buffer) != VK_SUCCESS) {
        free(b);
        return NULL;
    }
    d->fns.GetBufferMemoryRequirements(d->device, b->buffer, &need);
    vk_block *block = place(d, sight, &need, &at);
    if (!block) no_room(d, need.size);
    if (!block || d->fns.BindBufferMemory(d->device, b->buffer, block->memory, at) != VK_SUCCESS) {
        mo_vk_buffer_free(d, b);
        return NULL;
    }
    b->block = block;
    b->mapped = block->mapped ? block->mapped + at : NULL;
    block->used = at + need.size;
    block->buffers++;
    return b;
}

vk_buffer *mo_vk_buffer_new(vk_device *d, size_t bytes, vk_sight sight) {
    vk_buffer *b = buffer_new(d, bytes, sight);
    if (b) mo_vk_buffer_zero(d, b, 0, bytes);
    return b;
}

/* A block of the usual size stays for the next model, also when nobody uses it any more: tests open
 * and close much. A larger one goes. */
void mo_vk_buffer_free(vk_device *d, vk_buffer *b) {
    if (!b) return;
    vk_block *block = b->block;
    d->fns.DestroyBuffer(d->device, b->buffer, NULL);
    free(b);
    if (!block || --block->buffers > 0) return;
    block->used = 0;
    if (block->bytes <= BLOCK_BYTES) return;
    for (vk_block **at = &d->blocks; *at; at = &(*at)->next) {
        if (*at != block) continue;
        *at = block->next;
        block_free(d, block);
        return;
    }
}

/* ---- copies --------------------------------------------------------------------------------- */

/* Record `fill` or `copy`, submit and wait. */
static bool copy_now(vk_device *d, VkBuffer from, VkDeviceSize from_at, VkBuffer to,
                     VkDeviceSize to_at, VkDeviceSize bytes) {
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    const VkMemoryBarrier after = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                   .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                                   .dstAccessMask =
                                       VK_ACCESS_HOST_READ_BIT | VK_ACCESS_SHADER_READ_BIT |
                                       VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
    const VkPipelineStageFlags next = VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT |
                                      VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    if (d->lost || d->fns.BeginCommandBuffer(d->copies, &begin) != VK_SUCCESS) return false;
    if (from) {
        const VkBufferCopy region = {from_at, to_at, bytes};
        d->fns.CmdCopyBuffer(d->copies, from, to, 1, &region);
    } else {
        d->fns.CmdFillBuffer(d->copies, to, to_at, bytes, 0);
    }
    d->fns.CmdPipelineBarrier(d->copies, VK_PIPELINE_STAGE_TRANSFER_BIT, next, 0, 1, &after, 0,
                              NULL, 0, NULL);
    return d->fns.EndCommandBuffer(d->copies) == VK_SUCCESS && mo_vk_submit(d, &d->copies, 1);
}

static bool have_staging(vk_device *d) {
    if (!d->staging) d->staging = buffer_new(d, STAGING_BYTES, VK_SEEN);
    if (d->staging && d->staging->mapped) return true;
    d->lost = true; /* there is no way left to reach its memory */
    return false;
}

/* Offsets and sizes of copies may be any: only fills must be whole words. */
void mo_vk_buffer_write(vk_device *d, vk_buffer *b, size_t offset, const void *src, size_t bytes) {
    const uint8_t *from = src;
    if (b->mapped && bytes) memcpy(b->mapped + offset, src, bytes);
    if (b->mapped) return;
    for (size_t n; bytes > 0 && !d->lost && have_staging(d); bytes -= n, offset += n, from += n) {
        n = bytes < STAGING_BYTES ? bytes : STAGING_BYTES;
        memcpy(d->staging->mapped, from, n);
        copy_now(d, d->staging->buffer, 0, b->buffer, offset, n);
    }
}

void mo_vk_buffer_read(vk_device *d, const vk_buffer *b, size_t offset, void *dst, size_t bytes) {
    uint8_t *to = dst;
    if (b->mapped && bytes) memcpy(dst, b->mapped + offset, bytes);
    if (b->mapped || bytes == 0) return;
    memset(dst, 0, bytes);
    for (size_t n; bytes > 0 && !d->lost && have_staging(d); bytes -= n, offset += n, to += n) {
        n = bytes < STAGING_BYTES ? bytes : STAGING_BYTES;
        if (copy_now(d, b->buffer, offset, d->staging->buffer, 0, n))
            memcpy(to, d->staging->mapped, n);
    }
}

void mo_vk_buffer_zero(vk_device *d, vk_buffer *b, size_t offset, size_t bytes) {
    if (b->mapped && bytes) memset(b->mapped + offset, 0, bytes);
    if (b->mapped || bytes == 0) return;
    static const uint8_t zeros[4];
    size_t head = (4 - offset % 4) % 4, tail;
    if (head > bytes) head = bytes;
    if (head) mo_vk_buffer_write(d, b, offset, zeros, head);
    tail = (bytes - head) % 4;
    if (bytes - head - tail) copy_now(d, NULL, 0, b->buffer, offset + head, bytes - head - tail);
    if (tail) mo_vk_buffer_write(d, b, offset + bytes - tail, zeros, tail);
}

void mo_vk_memory_close(vk_device *d) {
    mo_vk_buffer_free(d, d->staging);
    while (d->blocks) {
        vk_block *b = d->blocks;
        d->blocks = b->next;
        block_free(d, b);
    }
}
