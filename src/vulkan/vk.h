/* vk.h - what the files of the Vulkan backend share.
 *
 *   loader.c     libvulkan, an instance, the physical devices
 *   details.c    what a driver says of a device, for reports
 *   device.c     one opened device, submitting and waiting, the backend's table
 *   memory.c     blocks of device memory, buffers in them, copies to and from the host
 *   variants.c   shaders for what some devices can do
 *   tune.c       which of them is the fastest here
 *   pipelines.c  shaders by name
 *   cache.c      compiled shaders from one start to the next
 *   lower.c      ops to dispatches
 *   program.c    dispatches to command buffers, and running them
 */
#ifndef MO_VULKAN_VK_H
#define MO_VULKAN_VK_H

#include "backend.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

/* ---- loader --------------------------------------------------------------------------------- */

/* Functions of the instance. */
typedef struct vk_instance_fns {
    PFN_vkDestroyInstance DestroyInstance;
    PFN_vkEnumeratePhysicalDevices EnumeratePhysicalDevices;
    PFN_vkGetPhysicalDeviceFeatures2 GetPhysicalDeviceFeatures2;
    PFN_vkGetPhysicalDeviceProperties2 GetPhysicalDeviceProperties2;
    PFN_vkGetPhysicalDeviceMemoryProperties2 GetPhysicalDeviceMemoryProperties2;
    PFN_vkGetPhysicalDeviceQueueFamilyProperties GetPhysicalDeviceQueueFamilyProperties;
    PFN_vkEnumerateDeviceExtensionProperties EnumerateDeviceExtensionProperties;
    PFN_vkCreateDevice CreateDevice;
    PFN_vkGetDeviceProcAddr GetDeviceProcAddr;
} vk_instance_fns;

enum { VK_MOST_DEVICES = 16 };

/* libvulkan with an instance. Devices in order: discrete, integrated, virtual, the rest, processors
 * last. */
typedef struct vk_lib {
    void *so;
    VkInstance instance;
    vk_instance_fns fns;
    VkPhysicalDevice devices[VK_MOST_DEVICES];
    VkPhysicalDeviceType types[VK_MOST_DEVICES];
    int n;
} vk_lib;

/* 0, or MOSHI_EDEVICE with the reason; then nothing is held. */
int mo_vk_lib_open(vk_lib *lib, moshi_error *err);
void mo_vk_lib_close(vk_lib *lib);
/* Facts of a device, and of its driver where that tells them: false if not. */
bool mo_vk_lib_properties(const vk_lib *lib, VkPhysicalDevice device,
                          VkPhysicalDeviceProperties *out,
                          VkPhysicalDeviceDriverProperties *driver);
void mo_vk_lib_describe(const vk_lib *lib, int nth, moshi_device_info *info);
/* mo_backend_ops.details */
void mo_vk_details(int nth, char *out, size_t cap);
bool mo_vk_lib_has_extension(const vk_lib *lib, VkPhysicalDevice device, const char *name);

/* ---- device --------------------------------------------------------------------------------- */

typedef struct vk_device_fns {
    PFN_vkDestroyDevice DestroyDevice;
    PFN_vkGetDeviceQueue GetDeviceQueue;
    PFN_vkDeviceWaitIdle DeviceWaitIdle;
    PFN_vkCreateCommandPool CreateCommandPool;
    PFN_vkDestroyCommandPool DestroyCommandPool;
    PFN_vkAllocateCommandBuffers AllocateCommandBuffers;
    PFN_vkFreeCommandBuffers FreeCommandBuffers;
    PFN_vkBeginCommandBuffer BeginCommandBuffer;
    PFN_vkEndCommandBuffer EndCommandBuffer;
    PFN_vkQueueSubmit QueueSubmit;
    PFN_vkCreateFence CreateFence;
    PFN_vkDestroyFence DestroyFence;
    PFN_vkResetFences ResetFences;
    PFN_vkWaitForFences WaitForFences;
    PFN_vkAllocateMemory AllocateMemory;
    PFN_vkFreeMemory FreeMemory;
    PFN_vkMapMemory MapMemory;
    PFN_vkCreateBuffer CreateBuffer;
    PFN_vkDestroyBuffer DestroyBuffer;
    PFN_vkGetBufferMemoryRequirements GetBufferMemoryRequirements;
    PFN_vkBindBufferMemory BindBufferMemory;
    PFN_vkCreateDescriptorSetLayout CreateDescriptorSetLayout;
    PFN_vkDestroyDescriptorSetLayout DestroyDescriptorSetLayout;
    PFN_vkCreatePipelineLayout CreatePipelineLayout;
    PFN_vkDestroyPipelineLayout DestroyPipelineLayout;
    PFN_vkCreatePipelineCache CreatePipelineCache;
    PFN_vkDestroyPipelineCache DestroyPipelineCache;
    PFN_vkGetPipelineCacheData GetPipelineCacheData;
    PFN_vkCreateShaderModule CreateShaderModule;
    PFN_vkDestroyShaderModule DestroyShaderModule;
    PFN_vkCreateComputePipelines CreateComputePipelines;
    PFN_vkDestroyPipeline DestroyPipeline;
    PFN_vkCreateDescriptorPool CreateDescriptorPool;
    PFN_vkDestroyDescriptorPool DestroyDescriptorPool;
    PFN_vkAllocateDescriptorSets AllocateDescriptorSets;
    PFN_vkUpdateDescriptorSets UpdateDescriptorSets;
    PFN_vkCmdBindPipeline CmdBindPipeline;
    PFN_vkCmdBindDescriptorSets CmdBindDescriptorSets;
    PFN_vkCmdPushConstants CmdPushConstants;
    PFN_vkCmdDispatch CmdDispatch;
    PFN_vkCmdPipelineBarrier CmdPipelineBarrier;
    PFN_vkCmdCopyBuffer CmdCopyBuffer;
    PFN_vkCmdFillBuffer CmdFillBuffer;
    PFN_vkCreateQueryPool CreateQueryPool;
    PFN_vkDestroyQueryPool DestroyQueryPool;
    PFN_vkGetQueryPoolResults GetQueryPoolResults;
    PFN_vkCmdResetQueryPool CmdResetQueryPool;
    PFN_vkCmdWriteTimestamp CmdWriteTimestamp;
} vk_device_fns;

enum {
    VK_BINDINGS = 7, /* storage buffers of a shader; 0 says which slots take part */
    VK_PUSH_BYTES = 128,
    VK_EXEC_BYTES = 256, /* from one slot's flag to the next */
    VK_PARTS = 4,    /* of a program that stay recorded: a frame is two, a trace asks for more */
    VK_TOGETHER = 8, /* parts in one submission: a frame is four */
    VK_MOST_PIPELINES = 96,
    VK_WIDTHS = 3, /* of workgroups that make products: 64, 128, 256 */
    VK_USUAL_WIDTH = 1
};

typedef struct vk_block vk_block;

/* Device memory in one VkBuffer. */
typedef struct vk_buffer {
    mo_buf base;
    VkBuffer buffer;
    vk_block *block;
    uint8_t *mapped; /* NULL: the host cannot see it */
} vk_buffer;

/* Of a driver and what it drives: compiled shaders are good for no other. */
typedef struct vk_identity {
    uint32_t vendor, device, driver, version; /* driver: VkDriverId, or 0 */
    uint8_t uuid[VK_UUID_SIZE];
} vk_identity;

/* What a device may offer beyond what shaders need. */
enum {
    VK_SUBGROUP = 1, /* sums over a subgroup: other bits than the plain shaders' sums */
    VK_DOT = 2,      /* four products of bytes at once: the same bits */
    VK_HALF = 4      /* half floats widened by the device: the same bits */
};

/* How a shader that makes products is used. `more`: its variant for what some devices can do. */
typedef struct vk_choice {
    uint8_t more, width, timed, used;
} vk_choice;

typedef struct vk_device {
    mo_backend base;
    vk_lib lib;
    vk_device_fns fns;
    VkPhysicalDevice physical;
    char title[160]; /* "vulkan:0 (name)", for messages */
    VkPhysicalDeviceLimits limits;
    vk_identity identity;
    VkPhysicalDeviceMemoryProperties memory;
    VkDeviceSize largest_allocation;
    bool unified;   /* all memory is the host's too */
    bool processor; /* it plays a graphics card: its heaps mean nothing */
    bool has_budget;
    unsigned offers, uses; /* of VK_SUBGROUP, ...; what is used is offered */
    unsigned usual;        /* of what is offered, what is used when nobody has timed it */
    bool named;            /* somebody said what to use: nothing is timed */
    char kernels[512];     /* what is used, in words */
    vk_choice choices[VK_MOST_PIPELINES]; /* by number of the plain shader */
    bool choices_fresh;                   /* something was timed since they were kept */
    VkDeviceSize tune_from;               /* matrices that come to less are not timed */
    double tuned_s;                       /* spent on timing */
    uint64_t tick_mask;                   /* bits of the queue's clock that count; 0: it has none */
    bool lost;                            /* nothing more is asked of it */
    bool stuck; /* it never answered: even closing it might wait for ever */
    VkDevice device;
    VkQueue queue;
    VkCommandPool pool;
    VkCommandBuffer copies; /* for copies between host and device */
    VkFence fence;
    vk_block *blocks;
    vk_buffer *staging; /* NULL until needed */
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    char *cache_path;   /* NULL: nowhere to keep it */
    char *choices_path; /* likewise */
    uint64_t cache_sum; /* of what the file holds; 0: nothing that was of use */
    bool cache_fresh;   /* something was compiled since */
    VkPipeline pipelines[VK_MOST_PIPELINES][VK_WIDTHS]; /* by number of the shader */
} vk_device;

static inline vk_device *vk_device_of(mo_backend *be) {
    return (vk_device *)be;
}

/* Submit; wait for what was submitted; both. False: the device is lost, now or before. */
bool mo_vk_start(vk_device *d, const VkCommandBuffer *commands, int n);
bool mo_vk_wait(vk_device *d);
bool mo_vk_submit(vk_device *d, const VkCommandBuffer *commands, int n);

/* ---- memory --------------------------------------------------------------------------------- */

/* Does the host write or read it often? VK_SEEN_IF_LOCAL: yes, but not so that the device may go to
 * the host's memory for it. */
typedef enum vk_sight { VK_UNSEEN, VK_SEEN_IF_LOCAL, VK_SEEN } vk_sight;

/* Zeroed. NULL when there is no room. */
vk_buffer *mo_vk_buffer_new(vk_device *d, size_t bytes, vk_sight sight);
void mo_vk_buffer_free(vk_device *d, vk_buffer *b);
void mo_vk_buffer_write(vk_device *d, vk_buffer *b, size_t offset, const void *src, size_t bytes);
void mo_vk_buffer_read(vk_device *d, const vk_buffer *b, size_t offset, void *dst, size_t bytes);
void mo_vk_buffer_zero(vk_device *d, vk_buffer *b, size_t offset, size_t bytes);
/* Of weights and states; UINT64_MAX: unknown. */
uint64_t mo_vk_room(mo_backend *be);
void mo_vk_memory_close(vk_device *d);

/* ---- variants ------------------------------------------------------------------------------- */

/* Extensions and, to be chained into VkDeviceCreateInfo, features of what is offered. */
typedef struct vk_wanted {
    const char *extensions[2];
    uint32_t n;
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot;
    VkPhysicalDeviceShaderFloat16Int8Features half;
    void *chain;
} vk_wanted;

/* Fill d->offers and *wanted, which must stay where it is until the device is made. */
void mo_vk_variants_ask(vk_device *d, vk_wanted *wanted);
/* Fill d->uses and d->kernels: `named` as in mo_backend_options.kernels. 0 or MOSHI_EDEVICE. */
int mo_vk_variants_choose(vk_device *d, const char *named, moshi_error *err);
/* Say in d->kernels what is used. */
void mo_vk_variants_describe(vk_device *d);
/* Number of the shader for a choice; -1: there is none such, or the device does not offer it. */
int mo_vk_choice_shader(const vk_device *d, int base, vk_choice c);
/* "norm" -> "norm_subgroup" where that is used and there is such a shader; -1 without "norm". */
int mo_vk_variant_of(const vk_device *d, const char *shader);

/* ---- pipelines ------------------------------------------------------------------------------ */

/* 0, or MOSHI_EDEVICE. `cache`: a directory, or NULL. */
int mo_vk_pipelines_open(vk_device *d, const char *cache, moshi_error *err);
void mo_vk_pipelines_close(vk_device *d);
/* Number of a shader; -1 for one there is none of. */
int mo_vk_shader_find(const char *name);
/* NULL past the last. */
const char *mo_vk_shader_name(int shader);
/* NULL when the driver does not take it. */
VkPipeline mo_vk_pipeline(vk_device *d, int shader, int width);

/* Sum of all shaders of this build. */
uint64_t mo_vk_shaders_sum(void);

/* ---- cache ---------------------------------------------------------------------------------- */

#define MO_VK_SUM UINT64_C(0xcbf29ce484222325) /* of nothing */

uint64_t mo_vk_sum(uint64_t sum, const void *data, size_t bytes);
/* Make d->cache, with what a file in `directory` (or NULL) holds if that is right in everything. */
bool mo_vk_cache_open(vk_device *d, const char *directory);
/* Write the file again if something was compiled since. */
void mo_vk_cache_save(vk_device *d);
void mo_vk_cache_close(vk_device *d);
/* Write d->choices if something was timed since. */
void mo_vk_choices_save(vk_device *d);

/* ---- programs ------------------------------------------------------------------------------- */

/* A range of a buffer as a shader sees it; buf NULL: nothing. */
typedef struct vk_range {
    const vk_buffer *buf;
    VkDeviceSize offset, bytes; /* 0: to the end */
    bool scratch;               /* the program's, not buf */
} vk_range;

/* Of a view: its first element as bound, and from one slot or row to the next. */
typedef struct span {
    uint32_t offset, slot, row;
} span;

/* Push constants of products: linear.glsl. */
typedef struct linear_push {
    span src, add, dst;
    uint32_t rows, units, cols, first, has_bias, has_scale, has_add;
    uint32_t stride, taps, run, tap_step;
    uint32_t blocks, group_blocks, strip_words;
} linear_push;

typedef struct vk_dispatch {
    int shader, width;
    int base; /* products: number of the plain shader; else -1 */
    vk_range bind[VK_BINDINGS];
    uint32_t push[VK_PUSH_BYTES / 4];
    uint32_t groups[3];
} vk_dispatch;

/* Ops first .. last - 1 as commands; first < 0: nothing yet. */
typedef struct vk_part {
    VkCommandBuffer commands;
    int first, last;
} vk_part;

struct mo_program {
    vk_device *device;
    int n, slots;
    int *starts; /* [n + 1] first dispatch of every op */
    vk_dispatch *dispatches;
    int n_dispatches, cap_dispatches;
    VkDescriptorSet *sets; /* of each dispatch */
    VkDescriptorPool descriptors;
    VkQueryPool times; /* when each part began and ended; NULL: the queue has no clock */
    vk_part parts[VK_PARTS];
    int next_part;      /* to be recorded over */
    vk_buffer *exec;    /* a flag for each slot, VK_EXEC_BYTES apart */
    vk_buffer *numbers; /* what ops point to in host memory */
    vk_buffer *scratch; /* of one op at a time: scores, quantised activations */
    uint64_t scratch_bytes;
    /* While ops are lowered: for which slots, and whether these are too many for a binding. */
    int first_slot, n_slots;
    bool too_large;
    const mo_weight *norm_of; /* the codebook whose longest entry was measured last */
    float norm;
};

/* Fill dispatches, starts, numbers and scratch; false when out of memory, or out of what shaders
 * can do. */
bool mo_vk_lower(mo_program *p, const mo_op *ops);

/* Make what commands are recorded with, once there are dispatches and buffers. */
bool mo_vk_program_prepare(mo_program *p);
/* Commands of ops first .. last - 1, recorded over others if they are not there; NULL: they cannot
 * be. */
const vk_part *mo_vk_program_part(mo_program *p, int first, int last);
/* Other shaders: nothing that was recorded is right any more. */
void mo_vk_program_forget(mo_program *p);
/* Choose among shaders, timing those that were not before. */
void mo_vk_tune(mo_program *p);

mo_program *mo_vk_record(mo_backend *be, const mo_op *ops, int n, int slots);
void mo_vk_program_free(mo_backend *be, mo_program *p);
int mo_vk_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec);
int mo_vk_run_parts(mo_backend *be, mo_run *parts, int n, void (*meanwhile)(void *user),
                    void *user);

#endif
