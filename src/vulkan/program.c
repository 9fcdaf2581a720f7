/* program.c - dispatches to command buffers: a part of the list is recorded when it is first asked
 * for and submitted again every frame. */
#include "vk.h"

#include <stdlib.h>
#include <string.h>

/* ---- descriptors ---------------------------------------------------------------------------- */

static bool make_sets(mo_program *p) {
    vk_device *d = p->device;
    uint32_t n = (uint32_t)p->n_dispatches;
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, (n + 1) * VK_BINDINGS};
    const VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                             .maxSets = n + 1,
                                             .poolSizeCount = 1,
                                             .pPoolSizes = &size};
    p->sets = mo_calloc((size_t)n + 1, sizeof *p->sets);
    if (!p->sets ||
        d->fns.CreateDescriptorPool(d->device, &pool, NULL, &p->descriptors) != VK_SUCCESS)
        return false;
    const VkDescriptorSetAllocateInfo one = {.sType =
                                                 VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                             .descriptorPool = p->descriptors,
                                             .descriptorSetCount = 1,
                                             .pSetLayouts = &d->set_layout};
    for (uint32_t i = 0; i < n; i++)
        if (d->fns.AllocateDescriptorSets(d->device, &one, &p->sets[i]) != VK_SUCCESS) return false;
    return true;
}

/* Every binding shows something: what a shader does not look at, the slots that take part. */
static void fill_set(const mo_program *p, int i) {
    VkDescriptorBufferInfo infos[VK_BINDINGS];
    for (int k = 0; k < VK_BINDINGS; k++) {
        const vk_range *r = &p->dispatches[i].bind[k];
        const vk_buffer *buf = r->scratch ? p->scratch : r->buf ? r->buf : p->exec;
        infos[k] =
            (VkDescriptorBufferInfo){buf->buffer, r->offset, r->bytes ? r->bytes : VK_WHOLE_SIZE};
    }
    const VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                        .dstSet = p->sets[i],
                                        .descriptorCount = VK_BINDINGS,
                                        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                        .pBufferInfo = infos};
    p->device->fns.UpdateDescriptorSets(p->device->device, 1, &write, 0, NULL);
}

/* ---- recording ------------------------------------------------------------------------------ */

/* Everything before is seen by everything after: ops depend on each other almost always. */
static void barrier(const vk_device *d, VkCommandBuffer c, VkPipelineStageFlags to,
                    VkAccessFlags reads) {
    const VkPipelineStageFlags from =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                 .srcAccessMask =
                                     VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                                 .dstAccessMask = reads};
    d->fns.CmdPipelineBarrier(c, from, to, 0, 1, &all, 0, NULL, 0, NULL);
}

/* When all that came before is done. */
static void stamp(const mo_program *p, VkCommandBuffer c, uint32_t query) {
    if (p->times)
        p->device->fns.CmdWriteTimestamp(c, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, p->times, query);
}

/* The times of part k are queries 2 k and 2 k + 1. */
static bool record_dispatches(const mo_program *p, VkCommandBuffer c, uint32_t k, int first,
                              int last) {
    vk_device *d = p->device;
    const VkAccessFlags shader = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkPipeline bound = NULL;
    if (d->fns.BeginCommandBuffer(c, &begin) != VK_SUCCESS) return false;
    if (p->times) d->fns.CmdResetQueryPool(c, p->times, 2 * k, 2);
    stamp(p, c, 2 * k);
    for (int i = first; i < last; i++) {
        const vk_dispatch *s = &p->dispatches[i];
        barrier(d, c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, shader);
        VkPipeline pipeline = mo_vk_pipeline(d, s->shader, s->width);
        if (!pipeline) return false;
        if (pipeline != bound) d->fns.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
        bound = pipeline;
        d->fns.CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, d->layout, 0, 1,
                                     &p->sets[i], 0, NULL);
        d->fns.CmdPushConstants(c, d->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, VK_PUSH_BYTES,
                                s->push);
        d->fns.CmdDispatch(c, s->groups[0], s->groups[1], s->groups[2]);
    }
    stamp(p, c, 2 * k + 1);
    barrier(d, c, VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                VK_ACCESS_TRANSFER_WRITE_BIT);
    return d->fns.EndCommandBuffer(c) == VK_SUCCESS;
}

static bool make_parts(mo_program *p) {
    vk_device *d = p->device;
    VkCommandBuffer all[VK_PARTS];
    const VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = d->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = VK_PARTS};
    if (d->fns.AllocateCommandBuffers(d->device, &commands, all) != VK_SUCCESS) return false;
    for (int i = 0; i < VK_PARTS; i++) p->parts[i] = (vk_part){all[i], -1, -1};
    for (int i = 0; i < p->n_dispatches; i++) fill_set(p, i);
    return true;
}

static bool make_times(mo_program *p) {
    const VkQueryPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                        .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                        .queryCount = 2 * VK_PARTS};
    vk_device *d = p->device;
    return !d->tick_mask || d->fns.CreateQueryPool(d->device, &pool, NULL, &p->times) == VK_SUCCESS;
}

bool mo_vk_program_prepare(mo_program *p) {
    return make_sets(p) && make_times(p) && make_parts(p);
}

void mo_vk_program_forget(mo_program *p) {
    for (int i = 0; i < VK_PARTS; i++) p->parts[i].first = -1;
}

static const vk_part *find_part(const mo_program *p, int first, int last) {
    for (int i = 0; i < VK_PARTS; i++)
        if (p->parts[i].first == first && p->parts[i].last == last) return &p->parts[i];
    return NULL;
}

const vk_part *mo_vk_program_part(mo_program *p, int first, int last) {
    const vk_part *known = find_part(p, first, last);
    if (known) return known;
    const int k = p->next_part;
    vk_part *part = &p->parts[k];
    p->next_part = (k + 1) % VK_PARTS;
    part->first = -1;
    if (!record_dispatches(p, part->commands, (uint32_t)k, p->starts[first], p->starts[last]))
        return NULL;
    part->first = first;
    part->last = last;
    return part;
}

void mo_vk_program_free(mo_backend *be, mo_program *p) {
    if (!p) return;
    vk_device *d = vk_device_of(be);
    if (!d->stuck) { /* else it may still be running */
        for (int i = 0; i < VK_PARTS; i++)
            if (p->parts[i].commands)
                d->fns.FreeCommandBuffers(d->device, d->pool, 1, &p->parts[i].commands);
        if (p->descriptors) d->fns.DestroyDescriptorPool(d->device, p->descriptors, NULL);
        if (p->times) d->fns.DestroyQueryPool(d->device, p->times, NULL);
        mo_vk_buffer_free(d, p->exec);
        mo_vk_buffer_free(d, p->numbers);
        mo_vk_buffer_free(d, p->scratch);
    }
    free(p->sets);
    free(p->dispatches);
    free(p->starts);
    free(p);
}

mo_program *mo_vk_record(mo_backend *be, const mo_op *ops, int n, int slots) {
    vk_device *d = vk_device_of(be);
    mo_program *p = mo_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->device = d;
    p->n = n;
    p->slots = slots;
    p->starts = mo_calloc((size_t)n + 1, sizeof *p->starts);
    p->exec = mo_vk_buffer_new(d, (size_t)slots * VK_EXEC_BYTES, VK_SEEN);
    /* The whole list is not what frames run, but compiles every shader they need. */
    bool ok = p->starts && p->exec && mo_vk_lower(p, ops) && mo_vk_program_prepare(p);
    if (ok) mo_vk_tune(p);
    if (ok && mo_vk_program_part(p, 0, n)) {
        mo_vk_cache_save(d);
        return p;
    }
    mo_vk_program_free(be, p);
    return NULL;
}

/* ---- running -------------------------------------------------------------------------------- */

/* What goes to the device as one submission. */
typedef struct batch {
    int n;
    mo_run *parts[VK_TOGETHER];
    const vk_part *recorded[VK_TOGETHER];
} batch;

/* Seconds between the two times of a part that has run; 0: unknown. */
static double part_seconds(const mo_program *p, const vk_part *part) {
    vk_device *d = p->device;
    const uint32_t first = 2 * (uint32_t)(part - p->parts);
    uint64_t at[2];
    if (!p->times || d->fns.GetQueryPoolResults(d->device, p->times, first, 2, sizeof at, at,
                                                sizeof at[0], VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
        return 0;
    const uint64_t ticks = (at[1] - at[0]) & d->tick_mask;
    return (double)ticks * (double)d->limits.timestampPeriod * 1e-9;
}

/* What the host does while the device works. */
typedef struct aside {
    void (*fn)(void *user);
    void *user;
} aside;

static bool submit(vk_device *d, batch *b, aside meanwhile) {
    VkCommandBuffer commands[VK_TOGETHER];
    for (int i = 0; i < b->n; i++) commands[i] = b->recorded[i]->commands;
    if (b->n > 0) {
        if (!mo_vk_start(d, commands, b->n)) return false;
        if (meanwhile.fn) meanwhile.fn(meanwhile.user);
        if (!mo_vk_wait(d)) return false;
    }
    for (int i = 0; i < b->n; i++)
        b->parts[i]->seconds = part_seconds(b->parts[i]->program, b->recorded[i]);
    b->n = 0;
    return true;
}

/* A program has one set of flags, commands run once in a submission, and what is recorded over must
 * not be waiting for one. */
static bool fits(const batch *b, const mo_run *part) {
    const mo_program *p = part->program;
    const vk_part *recorded = find_part(p, part->first, part->last);
    bool ok = b->n < VK_TOGETHER && recorded;
    for (int i = 0; i < b->n; i++)
        ok &=
            b->recorded[i] != recorded &&
            (b->parts[i]->program != p || !memcmp(b->parts[i]->exec, part->exec, (size_t)p->slots));
    return ok;
}

/* Flags of who takes part; is there anybody? */
static bool set_flags(const mo_run *part) {
    const mo_program *p = part->program;
    bool any = false;
    for (int slot = 0; slot < p->slots; slot++) {
        const uint32_t takes_part = part->exec[slot] != 0;
        mo_vk_buffer_write(p->device, p->exec, (size_t)slot * VK_EXEC_BYTES, &takes_part,
                           sizeof takes_part);
        any |= takes_part;
    }
    return any;
}

int mo_vk_run_parts(mo_backend *be, mo_run *parts, int n, void (*meanwhile)(void *user),
                    void *user) {
    vk_device *d = vk_device_of(be);
    batch b = {0};
    for (int i = 0; i < n; i++) {
        mo_run *part = &parts[i];
        part->seconds = 0;
        if (d->lost || part->first < 0 || part->first > part->last || part->last > part->program->n)
            return MOSHI_EDEVICE;
        if (!fits(&b, part) && !submit(d, &b, (aside){NULL, NULL})) return MOSHI_EDEVICE;
        if (!set_flags(part) || part->first == part->last) continue;
        b.parts[b.n] = part;
        b.recorded[b.n] = mo_vk_program_part(part->program, part->first, part->last);
        if (!b.recorded[b.n++]) return MOSHI_EDEVICE;
    }
    return submit(d, &b, (aside){meanwhile, user}) && !d->lost ? 0 : MOSHI_EDEVICE;
}

int mo_vk_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    return mo_vk_run_parts(be, &(mo_run){p, first, last, exec, 0}, 1, NULL, NULL);
}
