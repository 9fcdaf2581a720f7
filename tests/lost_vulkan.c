/* lost_vulkan.c - stands in for libvulkan.so.1: hands everything on to the real library, whose path
 * is in LOST_VULKAN_REAL, and fails as LOST_VULKAN says:
 *
 *   lost:N    from the Nth frame of a process on the driver reports the device lost
 *   silent:N  from then on it gives no answer
 *   slow:N    to the Nth frame it gives none until it is asked again
 *   full:N    it has no more than N MB
 *
 * A frame is a submission of several command buffers. Never installed. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

static struct {
    PFN_vkGetInstanceProcAddr instance;
    PFN_vkGetDeviceProcAddr device;
    PFN_vkQueueSubmit submit;
    PFN_vkWaitForFences wait;
    PFN_vkAllocateMemory allocate;
    int frames, slept;
    VkDeviceSize bytes;
} real;

/* N of "KIND:N", or -1 when it is another kind. */
static long wanted(const char *kind) {
    const char *what = getenv("LOST_VULKAN");
    size_t n = strlen(kind);
    return what && !strncmp(what, kind, n) && what[n] == ':' ? atol(what + n + 1) : -1;
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos,
                                             VkFence fence) {
    const long lost = wanted("lost");
    real.frames += infos->commandBufferCount > 1;
    if (lost >= 0 && real.frames >= lost) return VK_ERROR_DEVICE_LOST;
    return real.submit(queue, n, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_for(VkDevice device, uint32_t n, const VkFence *fences,
                                               VkBool32 all, uint64_t timeout) {
    const long silent = wanted("silent");
    if (wanted("slow") == real.frames && !real.slept++) return VK_TIMEOUT;
    VkResult rc = real.wait(device, n, fences, all, timeout);
    return silent >= 0 && real.frames >= silent ? VK_TIMEOUT : rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                               const VkAllocationCallbacks *callbacks,
                                               VkDeviceMemory *out) {
    const long full = wanted("full");
    real.bytes += info->allocationSize;
    if (full >= 0 && real.bytes > (VkDeviceSize)full * 1000000)
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return real.allocate(device, info, callbacks, out);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL of_device(VkDevice device, const char *name) {
    PFN_vkVoidFunction f = real.device(device, name);
    if (!strcmp(name, "vkQueueSubmit")) {
        real.submit = (PFN_vkQueueSubmit)f;
        return (PFN_vkVoidFunction)submit;
    }
    if (!strcmp(name, "vkWaitForFences")) {
        real.wait = (PFN_vkWaitForFences)f;
        return (PFN_vkVoidFunction)wait_for;
    }
    if (!strcmp(name, "vkAllocateMemory")) {
        real.allocate = (PFN_vkAllocateMemory)f;
        return (PFN_vkVoidFunction)allocate;
    }
    return f;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance,
                                                               const char *name) {
    if (!real.instance) {
        const char *path = getenv("LOST_VULKAN_REAL");
        void *so = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        void *entry = so ? dlsym(so, "vkGetInstanceProcAddr") : NULL;
        if (!entry) return NULL;
        memcpy(&real.instance, &entry, sizeof entry);
    }
    PFN_vkVoidFunction f = real.instance(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0) return f;
    real.device = (PFN_vkGetDeviceProcAddr)f;
    return (PFN_vkVoidFunction)of_device;
}
