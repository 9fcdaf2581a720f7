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

static bool record_dispatches(const mo_program *p, VkCommandBuffer c, int first, int last) {
    vk_device *d = p->device;
    const VkAccessFlags shader = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkPipeline bound = NULL;
    if (d->fns.BeginCommandBuffer(c, &begin) != VK_SUCCESS) return false;
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
    barrier(d, c, VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_HOST_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
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

bool mo_vk_program_prepare(mo_program *p) {
    return make_sets(p) && make_parts(p);
}

void mo_vk_program_forget(mo_program *p) {
    for (int i = 0; i < VK_PARTS; i++) p->parts[i].first = -1;
}

VkCommandBuffer mo_vk_program_part(mo_program *p, int first, int last) {
    for (int i = 0; i < VK_PARTS; i++)
        if (p->parts[i].first == first && p->parts[i].last == last) return p->parts[i].commands;
    vk_part *part = &p->parts[p->next_part];
    p->next_part = (p->next_part + 1) % VK_PARTS;
    part->first = -1;
    if (!record_dispatches(p, part->commands, p->starts[first], p->starts[last])) return NULL;
    part->first = first;
    part->last = last;
    return part->commands;
}

void mo_vk_program_free(mo_backend *be, mo_program *p) {
    if (!p) return;
    vk_device *d = vk_device_of(be);
    if (!d->stuck) { /* else it may still be running */
        for (int i = 0; i < VK_PARTS; i++)
            if (p->parts[i].commands)
                d->fns.FreeCommandBuffers(d->device, d->pool, 1, &p->parts[i].commands);
        if (p->descriptors) d->fns.DestroyDescriptorPool(d->device, p->descriptors, NULL);
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
    p->exec = mo_vk_buffer_new(d, (size_t)slots * VK_EXEC_BYTES, true);
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

int mo_vk_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    vk_device *d = vk_device_of(be);
    bool any = false;
    if (d->lost || first < 0 || first > last || last > p->n) return MOSHI_EDEVICE;
    for (int slot = 0; slot < p->slots; slot++) {
        const uint32_t takes_part = exec[slot] != 0;
        mo_vk_buffer_write(d, p->exec, (size_t)slot * VK_EXEC_BYTES, &takes_part,
                           sizeof takes_part);
        any |= exec[slot] != 0;
    }
    if (!any || first == last) return d->lost ? MOSHI_EDEVICE : 0;
    VkCommandBuffer commands = mo_vk_program_part(p, first, last);
    return commands && mo_vk_submit(d, commands) ? 0 : MOSHI_EDEVICE;
}
