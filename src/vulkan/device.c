/* device.c - one opened device: submitting and waiting, and the backend's table. */
#include "cpu/pack.h"
#include "quant.h"
#include "vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than the slowest frame on the slowest device that anybody would wait for. */
static const uint64_t TIMEOUT_NS = UINT64_C(120) * 1000000000;

/* ---- opening -------------------------------------------------------------------------------- */

static bool load_functions(vk_device *d) {
#define ENTRY(name) \
    { "vk" #name, offsetof(vk_device_fns, name) }
    static const struct {
        const char *name;
        size_t at;
    } table[] = {
        ENTRY(DestroyDevice),
        ENTRY(GetDeviceQueue),
        ENTRY(DeviceWaitIdle),
        ENTRY(CreateCommandPool),
        ENTRY(DestroyCommandPool),
        ENTRY(AllocateCommandBuffers),
        ENTRY(FreeCommandBuffers),
        ENTRY(BeginCommandBuffer),
        ENTRY(EndCommandBuffer),
        ENTRY(QueueSubmit),
        ENTRY(CreateFence),
        ENTRY(DestroyFence),
        ENTRY(ResetFences),
        ENTRY(WaitForFences),
        ENTRY(AllocateMemory),
        ENTRY(FreeMemory),
        ENTRY(MapMemory),
        ENTRY(CreateBuffer),
        ENTRY(DestroyBuffer),
        ENTRY(GetBufferMemoryRequirements),
        ENTRY(BindBufferMemory),
        ENTRY(CreateDescriptorSetLayout),
        ENTRY(DestroyDescriptorSetLayout),
        ENTRY(CreatePipelineLayout),
        ENTRY(DestroyPipelineLayout),
        ENTRY(CreatePipelineCache),
        ENTRY(DestroyPipelineCache),
        ENTRY(GetPipelineCacheData),
        ENTRY(CreateShaderModule),
        ENTRY(DestroyShaderModule),
        ENTRY(CreateComputePipelines),
        ENTRY(DestroyPipeline),
        ENTRY(CreateDescriptorPool),
        ENTRY(DestroyDescriptorPool),
        ENTRY(AllocateDescriptorSets),
        ENTRY(UpdateDescriptorSets),
        ENTRY(CmdBindPipeline),
        ENTRY(CmdBindDescriptorSets),
        ENTRY(CmdPushConstants),
        ENTRY(CmdDispatch),
        ENTRY(CmdPipelineBarrier),
        ENTRY(CmdCopyBuffer),
        ENTRY(CmdFillBuffer),
        ENTRY(CreateQueryPool),
        ENTRY(DestroyQueryPool),
        ENTRY(GetQueryPoolResults),
        ENTRY(CmdResetQueryPool),
        ENTRY(CmdWriteTimestamp),
    };
#undef ENTRY
    bool all = true;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        PFN_vkVoidFunction f = d->lib.fns.GetDeviceProcAddr(d->device, table[i].name);
        memcpy((char *)&d->fns + table[i].at, &f, sizeof f);
        all = all && f;
    }
    return all;
}

/* Limits and memory; false with *what the device lacks. */
static bool measure(vk_device *d, const char **what) {
    VkPhysicalDeviceMaintenance3Properties most = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &most};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    d->lib.fns.GetPhysicalDeviceProperties2(d->physical, &p);
    mo_vk_lib_properties(&d->lib, d->physical, &p.properties, &driver);
    d->lib.fns.GetPhysicalDeviceMemoryProperties2(d->physical, &m);
    d->limits = p.properties.limits;
    d->identity = (vk_identity){.vendor = p.properties.vendorID,
                                .device = p.properties.deviceID,
                                .driver = (uint32_t)driver.driverID,
                                .version = p.properties.driverVersion};
    memcpy(d->identity.uuid, p.properties.pipelineCacheUUID, VK_UUID_SIZE);
    d->memory = m.memoryProperties;
    d->largest_allocation = most.maxMemoryAllocationSize;
    VkPhysicalDeviceType type = p.properties.deviceType;
    d->unified =
        type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    d->processor = type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    *what = d->limits.maxPerStageDescriptorStorageBuffers < VK_BINDINGS
                ? "7 storage buffers in a shader"
            : d->limits.maxComputeWorkGroupInvocations < 256 ? "workgroups of 256"
                                                             : NULL;
    return !*what;
}

/* The first queue family that computes; -1: none. */
static int queue_family(vk_device *d) {
    VkQueueFamilyProperties families[16];
    uint32_t n = 16;
    d->lib.fns.GetPhysicalDeviceQueueFamilyProperties(d->physical, &n, families);
    for (uint32_t i = 0; i < n; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
        const uint32_t bits = families[i].timestampValidBits;
        d->tick_mask = bits == 0 ? 0 : UINT64_MAX >> (64 - bits);
        return (int)i;
    }
    return -1;
}

static bool create_device(vk_device *d, uint32_t family) {
    static const char *const wanted[] = {"VK_KHR_portability_subset",
                                         VK_EXT_MEMORY_BUDGET_EXTENSION_NAME};
    const char *names[4] = {NULL};
    uint32_t n = 0;
    vk_wanted more;
    for (size_t i = 0; i < 2; i++)
        if (mo_vk_lib_has_extension(&d->lib, d->physical, wanted[i])) names[n++] = wanted[i];
    d->has_budget = n && names[n - 1] == wanted[1];
    mo_vk_variants_ask(d, &more);
    for (uint32_t i = 0; i < more.n; i++) names[n++] = more.extensions[i];
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = more.chain,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = n,
                                     .ppEnabledExtensionNames = names};
    if (d->lib.fns.CreateDevice(d->physical, &info, NULL, &d->device) != VK_SUCCESS) {
        d->device = NULL;
        return false;
    }
    return load_functions(d);
}

static bool create_queue(vk_device *d, uint32_t family) {
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = family};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    d->fns.GetDeviceQueue(d->device, family, 0, &d->queue);
    if (d->fns.CreateCommandPool(d->device, &pool, NULL, &d->pool) != VK_SUCCESS ||
        d->fns.CreateFence(d->device, &fence, NULL, &d->fence) != VK_SUCCESS)
        return false;
    const VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = d->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1};
    return d->fns.AllocateCommandBuffers(d->device, &commands, &d->copies) == VK_SUCCESS;
}

static void close_device(mo_backend *be) {
    if (!be) return;
    vk_device *d = vk_device_of(be);
    if (d->stuck) { /* whatever frees would wait, and what is freed may still be written to */
        free(d->cache_path);
        free(d->choices_path);
        free(d);
        return;
    }
    if (d->device && d->fns.DestroyDevice) {
        if (d->fns.DeviceWaitIdle) d->fns.DeviceWaitIdle(d->device);
        mo_vk_memory_close(d);
        mo_vk_pipelines_close(d);
        if (d->fence) d->fns.DestroyFence(d->device, d->fence, NULL);
        if (d->pool) d->fns.DestroyCommandPool(d->device, d->pool, NULL);
        d->fns.DestroyDevice(d->device, NULL);
    }
    mo_vk_lib_close(&d->lib);
    free(d);
}

static int open_physical(vk_device *d, const mo_backend_options *options, moshi_error *err) {
    moshi_device_info info;
    const int nth = options->nth;
    const char *lacks;
    if (nth < 0 || nth >= d->lib.n)
        return mo_fail(err, MOSHI_EDEVICE, "vulkan: there is no device %d, only %d", nth, d->lib.n);
    memset(&info, 0, sizeof info);
    mo_vk_lib_describe(&d->lib, nth, &info);
    d->physical = d->lib.devices[nth];
    snprintf(d->title, sizeof d->title, "%s (%.90s)", info.name, info.description);
    if (!measure(d, &lacks))
        return mo_fail(err, MOSHI_EDEVICE, "%s: %s has no %s", info.name, info.description, lacks);
    int family = queue_family(d);
    if (family < 0)
        return mo_fail(err, MOSHI_EDEVICE, "%s: %s has no queue that computes", info.name,
                       info.description);
    if (!create_device(d, (uint32_t)family) || !create_queue(d, (uint32_t)family))
        return mo_fail(err, MOSHI_EDEVICE, "%s: the driver cannot open %s", info.name,
                       info.description);
    int rc = mo_vk_variants_choose(d, options->kernels, err);
    return rc < 0 ? rc : mo_vk_pipelines_open(d, options->cache, err);
}

static int open_device(mo_backend **out, const mo_backend_options *options, moshi_error *err) {
    *out = NULL;
    vk_device *d = mo_calloc(1, sizeof *d);
    if (!d) return mo_fail(err, MOSHI_ENOMEM, "vulkan: out of memory");
    d->base.ops = &mo_backend_vulkan;
    int rc = mo_vk_lib_open(&d->lib, err);
    const mo_backend_options none = {0};
    if (!options) options = &none;
    if (rc == 0) rc = open_physical(d, options, err);
    if (rc < 0) {
        close_device(&d->base);
        return rc;
    }
    *out = &d->base;
    return 0;
}

static int list(moshi_device_info *out, int most, moshi_error *why) {
    vk_lib lib;
    if (mo_vk_lib_open(&lib, why) < 0) return 0;
    int n = lib.n < most ? lib.n : most;
    for (int i = 0; i < n; i++) mo_vk_lib_describe(&lib, i, &out[i]);
    if (n == 0) mo_fail(why, MOSHI_EDEVICE, "vulkan: no driver has a device");
    mo_vk_lib_close(&lib);
    return n;
}

static uint64_t largest(mo_backend *be) {
    return vk_device_of(be)->largest_allocation;
}

static int threads(const mo_backend *be) {
    (void)be;
    return 1; /* of the host */
}

static const char *kernels(const mo_backend *be) {
    return ((const vk_device *)be)->kernels;
}

/* ---- submitting ----------------------------------------------------------------------------- */

/* Is the device still there after this answer? If not, note why. */
static bool goes_on(vk_device *d, VkResult rc) {
    d->lost = rc != VK_SUCCESS;
    if (d->stuck)
        mo_backend_problem(&d->base, "%s: wanted an answer, found none within %d seconds", d->title,
                           (int)(TIMEOUT_NS / 1000000000));
    else if (rc == VK_ERROR_DEVICE_LOST)
        mo_backend_problem(&d->base,
                           "%s: the driver has lost it; its log, or the system's, may say "
                           "why",
                           d->title);
    else if (d->lost)
        mo_backend_problem(&d->base, "%s: its driver failed (error %d)", d->title, (int)rc);
    return !d->lost;
}

bool mo_vk_start(vk_device *d, const VkCommandBuffer *commands, int n) {
    const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                               .commandBufferCount = (uint32_t)n,
                               .pCommandBuffers = commands};
    return !d->lost && goes_on(d, d->fns.QueueSubmit(d->queue, 1, &info, d->fence));
}

bool mo_vk_wait(vk_device *d) {
    VkResult rc = VK_TIMEOUT;
    /* In halves: while this process is stopped (Ctrl-Z, a debugger) its time runs out, too. */
    for (int half = 0; half < 2 && rc == VK_TIMEOUT; half++)
        rc = d->fns.WaitForFences(d->device, 1, &d->fence, VK_TRUE, TIMEOUT_NS / 2);
    d->stuck = rc == VK_TIMEOUT;
    if (rc == VK_SUCCESS) rc = d->fns.ResetFences(d->device, 1, &d->fence);
    return goes_on(d, rc);
}

bool mo_vk_submit(vk_device *d, const VkCommandBuffer *commands, int n) {
    return mo_vk_start(d, commands, n) && mo_vk_wait(d);
}

/* ---- memory and weights --------------------------------------------------------------------- */

/* What the host touches every frame is small: sound of one session is 8 KB. */
enum { VISIBLE_BYTES = 64 << 10, WINDOW_BYTES = 1 << 20 };

static mo_buf *alloc(mo_backend *be, size_t bytes) {
    vk_device *d = vk_device_of(be);
    const vk_sight sight = bytes <= VISIBLE_BYTES  ? VK_SEEN
                           : bytes <= WINDOW_BYTES ? VK_SEEN_IF_LOCAL
                                                   : VK_UNSEEN;
    vk_buffer *b = mo_vk_buffer_new(d, bytes, sight);
    return b ? &b->base : NULL;
}

static mo_buf *alloc_input(mo_backend *be, size_t bytes) {
    vk_buffer *b = mo_vk_buffer_new(vk_device_of(be), bytes, VK_SEEN);
    return b ? &b->base : NULL;
}

/* After a device that never answered nothing is touched any more. */
static void free_buf(mo_backend *be, mo_buf *buf) {
    vk_device *d = vk_device_of(be);
    if (!d->stuck) mo_vk_buffer_free(d, (vk_buffer *)buf);
}

static void write_buf(mo_backend *be, mo_buf *buf, size_t offset, const void *src, size_t bytes) {
    mo_vk_buffer_write(vk_device_of(be), (vk_buffer *)buf, offset, src, bytes);
}

static void read_buf(mo_backend *be, const mo_buf *buf, size_t offset, void *dst, size_t bytes) {
    mo_vk_buffer_read(vk_device_of(be), (const vk_buffer *)buf, offset, dst, bytes);
}

static void zero_buf(mo_backend *be, mo_buf *buf, size_t offset, size_t bytes) {
    mo_vk_buffer_zero(vk_device_of(be), (vk_buffer *)buf, offset, bytes);
}

/* The CPU's strips suit a graphics card: 16 neighbouring threads read 16 neighbouring words. Split
 * into pieces or digits they do not: no shader multiplies those. */
static mo_matrix unsplit(const mo_matrix *src) {
    mo_matrix m = *src;
    m.pieces = m.digits = 0;
    return m;
}

static uint64_t weight_bytes(const mo_backend *be, const mo_matrix *src, mo_layout layout,
                             mo_weight *out) {
    (void)be;
    mo_matrix m = unsplit(src);
    if (out) *out = mo_weight_of(NULL, &m, layout);
    return mo_pack_bytes(&m, layout);
}

static int weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    vk_device *d = vk_device_of(be);
    memset(out, 0, sizeof *out);
    const mo_matrix m = unsplit(src);
    size_t bytes = mo_pack_bytes(&m, layout);
    if (bytes == 0) return MOSHI_EINVAL;
    vk_buffer *b = mo_vk_buffer_new(d, bytes, VK_UNSEEN);
    void *packed = b ? mo_aligned_calloc(bytes) : NULL;
    mo_pool *pool = packed ? mo_pool_open(1) : NULL;
    if (pool) {
        mo_pack(pool, &m, layout, packed);
        mo_vk_buffer_write(d, b, 0, packed, bytes);
        *out = mo_weight_of(&b->base, &m, layout);
    }
    mo_pool_close(pool);
    mo_aligned_free(packed);
    if (!pool) mo_vk_buffer_free(d, b);
    if (!pool) return MOSHI_ENOMEM;
    return d->lost ? MOSHI_EDEVICE : 0;
}

static void weight_free(mo_backend *be, mo_weight *w) {
    free_buf(be, w->buf);
    w->buf = NULL;
}

static bool supports(mo_backend *be, mo_op_kind kind, mo_dtype dtype) {
    (void)be;
    if ((int)kind < 0 || kind >= MO_OP_COUNT) return false;
    if (kind == MO_OP_LINEAR || kind == MO_OP_EMBED_SUM)
        return dtype == MO_U32 || dtype == MO_I8 || mo_quant_of(dtype);
    if (kind == MO_OP_ROPE_KV || kind == MO_OP_ATTEND)
        return dtype == MO_F32 || dtype == MO_BF16 || dtype == MO_I8;
    return dtype == MO_F32;
}

/* ---- the table ------------------------------------------------------------------------------ */

const mo_backend_ops mo_backend_vulkan = {.name = "vulkan",
                                          .list = list,
                                          .open = open_device,
                                          .close = close_device,
                                          .alloc = alloc,
                                          .alloc_input = alloc_input,
                                          .free = free_buf,
                                          .write = write_buf,
                                          .read = read_buf,
                                          .zero = zero_buf,
                                          .weight_bytes = weight_bytes,
                                          .weight = weight,
                                          .weight_free = weight_free,
                                          .supports = supports,
                                          .record = mo_vk_record,
                                          .program_free = mo_vk_program_free,
                                          .run = mo_vk_run,
                                          .run_parts = mo_vk_run_parts,
                                          .room = mo_vk_room,
                                          .largest = largest,
                                          .threads = threads,
                                          .kernels = kernels,
                                          .details = mo_vk_details};
