/* details.c - what a driver says of a device, for reports of people whose machine nobody else has.
 */
#include "vk.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- text ----------------------------------------------------------------------------------- */

typedef struct page {
    char *out;
    size_t at, cap;
} page;

static void put(page *p, const char *fmt, ...) MO_PRINTF(2, 3);
static void put(page *p, const char *fmt, ...) {
    va_list ap;
    if (p->at + 1 >= p->cap) return;
    va_start(ap, fmt);
    int n = vsnprintf(p->out + p->at, p->cap - p->at, fmt, ap);
    va_end(ap);
    if (n > 0) p->at += (size_t)n;
    if (p->at >= p->cap) p->at = p->cap - 1;
}

typedef struct bit_name {
    uint32_t bit;
    const char *name;
} bit_name;

static void put_bits(page *p, uint32_t bits, const bit_name *names, size_t n) {
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (bits & names[i].bit) put(p, "%s%s", any ? ", " : "", names[i].name);
        any |= (bits & names[i].bit) != 0;
    }
    if (!any) put(p, "none");
}

#define PUT_BITS(p, bits, names) put_bits(p, bits, names, sizeof(names) / sizeof(names)[0])

/* ---- facts ---------------------------------------------------------------------------------- */

static const char *kind_of(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "a card of its own";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "part of the processor";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "played by the processor";
    default:
        return "of no known kind";
    }
}

static void put_version(page *p, uint32_t v) {
    put(p, "%u.%u.%u", VK_VERSION_MAJOR(v), VK_VERSION_MINOR(v), VK_VERSION_PATCH(v));
}

static void put_driver(page *p, const vk_lib *lib, VkPhysicalDevice device) {
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceProperties q;
    bool named = mo_vk_lib_properties(lib, device, &q, &driver);
    put(p, "vulkan: ");
    put_version(p, q.apiVersion);
    if (named)
        put(p, ", driver %d passes the tests of %u.%u.%u.%u", (int)driver.driverID,
            driver.conformanceVersion.major, driver.conformanceVersion.minor,
            driver.conformanceVersion.subminor, driver.conformanceVersion.patch);
    put(p, "\nids: vendor 0x%04x, device 0x%04x, driver version 0x%08x; %s\n", q.vendorID,
        q.deviceID, q.driverVersion, kind_of(q.deviceType));
}

static void put_limits(page *p, const vk_lib *lib, VkPhysicalDevice device) {
    static const bit_name operations[] = {{VK_SUBGROUP_FEATURE_BASIC_BIT, "basic"},
                                          {VK_SUBGROUP_FEATURE_VOTE_BIT, "vote"},
                                          {VK_SUBGROUP_FEATURE_ARITHMETIC_BIT, "arithmetic"},
                                          {VK_SUBGROUP_FEATURE_BALLOT_BIT, "ballot"},
                                          {VK_SUBGROUP_FEATURE_SHUFFLE_BIT, "shuffle"},
                                          {VK_SUBGROUP_FEATURE_CLUSTERED_BIT, "clustered"}};
    VkPhysicalDeviceMaintenance3Properties most = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceSubgroupProperties groups = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &most};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &groups};
    lib->fns.GetPhysicalDeviceProperties2(device, &all);
    const VkPhysicalDeviceLimits *l = &all.properties.limits;
    bool compute = groups.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
    put(p,
        "at most: %.0f MiB in a binding, %.2f GiB in an allocation, %u allocations, workgroups of "
        "%u, %u KiB shared in one, %u storage buffers and %u bytes of constants in a shader\n",
        (double)l->maxStorageBufferRange / 0x1p20, (double)most.maxMemoryAllocationSize / 0x1p30,
        l->maxMemoryAllocationCount, l->maxComputeWorkGroupInvocations,
        l->maxComputeSharedMemorySize >> 10, l->maxPerStageDescriptorStorageBuffers,
        l->maxPushConstantsSize);
    put(p, "subgroups: of %u%s; ", groups.subgroupSize, compute ? "" : ", not when computing");
    PUT_BITS(p, groups.supportedOperations, operations);
    put(p, "\n");
}

static void put_memory(page *p, const vk_lib *lib, VkPhysicalDevice device) {
    static const bit_name flags[] = {{VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, "the device's own"},
                                     {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT, "seen by the host"},
                                     {VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, "coherent"},
                                     {VK_MEMORY_PROPERTY_HOST_CACHED_BIT, "cached"},
                                     {VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT, "lazy"}};
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    bool known = mo_vk_lib_has_extension(lib, device, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = known ? &budget : NULL};
    lib->fns.GetPhysicalDeviceMemoryProperties2(device, &m);
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &m.memoryProperties.memoryHeaps[i];
        put(p, "heap %u: %.2f GB, %s", i, (double)heap->size * 1e-9,
            heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT ? "the device's own" : "the host's");
        if (known)
            put(p, ", %.2f GB for this program, %.2f in use", (double)budget.heapBudget[i] * 1e-9,
                (double)budget.heapUsage[i] * 1e-9);
        for (uint32_t k = 0; k < m.memoryProperties.memoryTypeCount; k++) {
            const VkMemoryType *type = &m.memoryProperties.memoryTypes[k];
            if (type->heapIndex != i) continue;
            put(p, "; type %u: ", k);
            PUT_BITS(p, type->propertyFlags, flags);
        }
        put(p, "\n");
    }
}

/* Of those that matter here; more are too many for a page. */
static void put_extensions(page *p, const vk_lib *lib, VkPhysicalDevice device) {
    static const char *const wanted[] = {"VK_KHR_portability_subset",
                                         "VK_EXT_memory_budget",
                                         "VK_KHR_shader_float16_int8",
                                         "VK_KHR_16bit_storage",
                                         "VK_KHR_8bit_storage",
                                         "VK_KHR_shader_integer_dot_product",
                                         "VK_KHR_cooperative_matrix",
                                         "VK_NV_cooperative_matrix",
                                         "VK_EXT_subgroup_size_control",
                                         "VK_KHR_vulkan_memory_model",
                                         "VK_EXT_external_memory_host",
                                         "VK_KHR_timeline_semaphore",
                                         "VK_KHR_pipeline_executable_properties"};
    bool any = false;
    put(p, "extensions: ");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (!mo_vk_lib_has_extension(lib, device, wanted[i])) continue;
        put(p, "%s%s", any ? ", " : "", wanted[i] + sizeof "VK_" - 1);
        any = true;
    }
    put(p, "%s\n", any ? "" : "none of those asked for");
}

void mo_vk_details(int nth, char *out, size_t cap) {
    page p = {.out = out, .cap = cap};
    vk_lib lib;
    if (cap == 0) return;
    out[0] = 0;
    if (mo_vk_lib_open(&lib, NULL) < 0) return;
    if (nth >= 0 && nth < lib.n) {
        put_driver(&p, &lib, lib.devices[nth]);
        put_limits(&p, &lib, lib.devices[nth]);
        put_memory(&p, &lib, lib.devices[nth]);
        put_extensions(&p, &lib, lib.devices[nth]);
    }
    mo_vk_lib_close(&lib);
}
