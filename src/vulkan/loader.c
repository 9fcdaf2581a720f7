/* loader.c - libvulkan by dlopen, an instance, and the devices it knows, best first. */
#include "vk.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *open_library(void) {
    static const char *const names[] = {
#ifdef __APPLE__
        "libvulkan.dylib",
        "libvulkan.1.dylib",
        "/usr/local/lib/libvulkan.dylib",
        "/opt/homebrew/lib/libvulkan.dylib",
        "libMoltenVK.dylib",
        "/opt/homebrew/lib/libMoltenVK.dylib"
#else
        "libvulkan.so.1", "libvulkan.so"
#endif
    };
    void *so = NULL;
    for (size_t i = 0; !so && i < sizeof names / sizeof names[0]; i++)
        so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return so;
}

/* POSIX lets objects and functions share a representation; C does not let them be assigned. */
static PFN_vkGetInstanceProcAddr entry_of(void *so) {
    PFN_vkGetInstanceProcAddr entry = NULL;
    void *symbol = dlsym(so, "vkGetInstanceProcAddr");
    memcpy(&entry, &symbol, sizeof entry);
    return entry;
}

static bool has_instance_extension(PFN_vkGetInstanceProcAddr entry, const char *name) {
    PFN_vkEnumerateInstanceExtensionProperties list =
        (PFN_vkEnumerateInstanceExtensionProperties)entry(NULL,
                                                          "vkEnumerateInstanceExtensionProperties");
    uint32_t n = 0;
    if (!list || list(NULL, &n, NULL) != VK_SUCCESS) return false;
    VkExtensionProperties *all = mo_calloc((size_t)n + 1, sizeof *all);
    bool found = false;
    if (all && list(NULL, &n, all) >= 0)
        for (uint32_t i = 0; i < n; i++) found |= !strcmp(all[i].extensionName, name);
    free(all);
    return found;
}

static VkResult create_instance(PFN_vkGetInstanceProcAddr entry, VkInstance *out) {
    PFN_vkEnumerateInstanceVersion version_of =
        (PFN_vkEnumerateInstanceVersion)entry(NULL, "vkEnumerateInstanceVersion");
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)entry(NULL, "vkCreateInstance");
    uint32_t version = 0;
    if (!version_of || !create || version_of(&version) != VK_SUCCESS ||
        version < VK_API_VERSION_1_1)
        return VK_ERROR_INCOMPATIBLE_DRIVER;
    /* Drivers that are not wholly Vulkan, such as those on top of Metal, show up on request only.
     */
    const char *portability = "VK_KHR_portability_enumeration"; /* headers since 1.3.208 name it */
    enum { ENUMERATE_PORTABILITY = 1 };
    bool portable = has_instance_extension(entry, portability);
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "moshi",
                                   .apiVersion = VK_API_VERSION_1_1};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .flags = portable ? ENUMERATE_PORTABILITY : 0,
                                       .pApplicationInfo = &app,
                                       .enabledExtensionCount = portable,
                                       .ppEnabledExtensionNames = &portability};
    return create(&info, NULL, out);
}

static bool load_functions(vk_lib *lib, PFN_vkGetInstanceProcAddr entry) {
#define ENTRY(name) \
    { "vk" #name, offsetof(vk_instance_fns, name) }
    static const struct {
        const char *name;
        size_t at;
    } table[] = {
        ENTRY(DestroyInstance),
        ENTRY(EnumeratePhysicalDevices),
        ENTRY(GetPhysicalDeviceFeatures2),
        ENTRY(GetPhysicalDeviceProperties2),
        ENTRY(GetPhysicalDeviceMemoryProperties2),
        ENTRY(GetPhysicalDeviceQueueFamilyProperties),
        ENTRY(EnumerateDeviceExtensionProperties),
        ENTRY(CreateDevice),
        ENTRY(GetDeviceProcAddr),
    };
#undef ENTRY
    bool all = true;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        PFN_vkVoidFunction f = entry(lib->instance, table[i].name);
        memcpy((char *)&lib->fns + table[i].at, &f, sizeof f);
        all = all && f;
    }
    return all;
}

static int rank(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 4;
    default:
        return 3;
    }
}

/* Devices below Vulkan 1.1 are left out. */
static void list_devices(vk_lib *lib) {
    VkPhysicalDevice found[VK_MOST_DEVICES];
    uint32_t n = VK_MOST_DEVICES;
    VkResult rc = lib->fns.EnumeratePhysicalDevices(lib->instance, &n, found);
    if (rc != VK_SUCCESS && rc != VK_INCOMPLETE) return;
    for (int want = 0; want <= 4; want++)
        for (uint32_t i = 0; i < n; i++) {
            VkPhysicalDeviceProperties2 p = {.sType =
                                                 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
            lib->fns.GetPhysicalDeviceProperties2(found[i], &p);
            VkPhysicalDeviceType type = p.properties.deviceType;
            if (rank(type) != want || p.properties.apiVersion < VK_API_VERSION_1_1) continue;
            lib->types[lib->n] = type;
            lib->devices[lib->n++] = found[i];
        }
}

int mo_vk_lib_open(vk_lib *lib, moshi_error *err) {
    memset(lib, 0, sizeof *lib);
    lib->so = open_library();
    if (!lib->so) return mo_fail(err, MOSHI_EDEVICE, "vulkan: libvulkan is not installed");
    PFN_vkGetInstanceProcAddr entry = entry_of(lib->so);
    VkResult rc = entry ? create_instance(entry, &lib->instance) : VK_ERROR_INCOMPATIBLE_DRIVER;
    if (rc != VK_SUCCESS) lib->instance = VK_NULL_HANDLE;
    if (rc != VK_SUCCESS || !load_functions(lib, entry)) {
        mo_vk_lib_close(lib);
        return mo_fail(err, MOSHI_EDEVICE, "vulkan: no driver for Vulkan 1.1 was found (error %d)",
                       (int)rc);
    }
    list_devices(lib);
    return 0;
}

void mo_vk_lib_close(vk_lib *lib) {
    if (lib->instance && lib->fns.DestroyInstance) lib->fns.DestroyInstance(lib->instance, NULL);
    if (lib->so) dlclose(lib->so);
    memset(lib, 0, sizeof *lib);
}

bool mo_vk_lib_has_extension(const vk_lib *lib, VkPhysicalDevice device, const char *name) {
    uint32_t n = 0;
    if (lib->fns.EnumerateDeviceExtensionProperties(device, NULL, &n, NULL) != VK_SUCCESS)
        return false;
    VkExtensionProperties *all = mo_calloc((size_t)n + 1, sizeof *all);
    bool found = false;
    if (all && lib->fns.EnumerateDeviceExtensionProperties(device, NULL, &n, all) >= 0)
        for (uint32_t i = 0; i < n; i++) found |= !strcmp(all[i].extensionName, name);
    free(all);
    return found;
}

/* Largest heap of the device's own. */
static uint64_t device_memory(const vk_lib *lib, VkPhysicalDevice device) {
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    uint64_t most = 0;
    lib->fns.GetPhysicalDeviceMemoryProperties2(device, &m);
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &m.memoryProperties.memoryHeaps[i];
        if ((heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && heap->size > most) most = heap->size;
    }
    return most;
}

bool mo_vk_lib_properties(const vk_lib *lib, VkPhysicalDevice device,
                          VkPhysicalDeviceProperties *out,
                          VkPhysicalDeviceDriverProperties *driver) {
    bool named = mo_vk_lib_has_extension(lib, device, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = named ? driver : NULL};
    *driver = (VkPhysicalDeviceDriverProperties){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    lib->fns.GetPhysicalDeviceProperties2(device, &p);
    *out = p.properties;
    return named;
}

void mo_vk_lib_describe(const vk_lib *lib, int nth, moshi_device_info *info) {
    VkPhysicalDevice device = lib->devices[nth];
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceProperties p;
    bool named = mo_vk_lib_properties(lib, device, &p, &driver);
    info->kind = "vulkan";
    snprintf(info->name, sizeof info->name, "vulkan:%d", nth);
    snprintf(info->description, sizeof info->description, "%.127s", p.deviceName);
    if (named)
        snprintf(info->driver, sizeof info->driver, "%.50s %.70s", driver.driverName,
                 driver.driverInfo);
    else
        snprintf(info->driver, sizeof info->driver, "driver %u", p.driverVersion);
    info->memory_bytes = device_memory(lib, device);
    info->on_request = lib->types[nth] == VK_PHYSICAL_DEVICE_TYPE_CPU;
}
