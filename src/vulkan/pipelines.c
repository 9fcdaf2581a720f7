/* pipelines.c - shaders by name, made into pipelines when a program first needs them. All share one
 * layout: VK_BINDINGS storage buffers and VK_PUSH_BYTES of push constants. */
#include "vk.h"

#include "shaders.h" /* made by the build: shaders/compile.sh */

#include <string.h>

enum { N_SHADERS = sizeof shaders / sizeof shaders[0] };
_Static_assert((int)N_SHADERS <= (int)VK_MOST_PIPELINES, "room for every shader");

int mo_vk_pipelines_open(vk_device *d, const char *cache, moshi_error *err) {
    VkDescriptorSetLayoutBinding bindings[VK_BINDINGS];
    for (uint32_t i = 0; i < VK_BINDINGS; i++)
        bindings[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = VK_BINDINGS,
        .pBindings = bindings};
    const VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, VK_PUSH_BYTES};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &d->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &push};
    if (d->fns.CreateDescriptorSetLayout(d->device, &set, NULL, &d->set_layout) != VK_SUCCESS ||
        d->fns.CreatePipelineLayout(d->device, &layout, NULL, &d->layout) != VK_SUCCESS ||
        !mo_vk_cache_open(d, cache))
        return mo_fail(err, MOSHI_EDEVICE, "vulkan: the driver gives no pipeline layout");
    return 0;
}

void mo_vk_pipelines_close(vk_device *d) {
    for (int i = 0; i < N_SHADERS; i++)
        for (int w = 0; w < VK_WIDTHS; w++)
            if (d->pipelines[i][w]) d->fns.DestroyPipeline(d->device, d->pipelines[i][w], NULL);
    mo_vk_cache_close(d);
    if (d->layout) d->fns.DestroyPipelineLayout(d->device, d->layout, NULL);
    if (d->set_layout) d->fns.DestroyDescriptorSetLayout(d->device, d->set_layout, NULL);
}

int mo_vk_shader_find(const char *name) {
    for (int i = 0; i < N_SHADERS; i++)
        if (!strcmp(shaders[i].name, name)) return i;
    return -1;
}

const char *mo_vk_shader_name(int shader) {
    return shader < N_SHADERS ? shaders[shader].name : NULL;
}

uint64_t mo_vk_shaders_sum(void) {
    uint64_t sum = MO_VK_SUM;
    for (int i = 0; i < N_SHADERS; i++) sum = mo_vk_sum(sum, shaders[i].words, shaders[i].bytes);
    return sum;
}

/* Where a shader leaves it open, constant 0 is how many threads a workgroup has. */
VkPipeline mo_vk_pipeline(vk_device *d, int shader, int width) {
    VkPipeline made = d->pipelines[shader][width];
    if (made) return made;
    const uint32_t threads = 64u << width;
    const VkSpecializationMapEntry entry = {0, 0, sizeof threads};
    const VkSpecializationInfo constants = {1, &entry, sizeof threads, &threads};
    const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = shaders[shader].bytes,
                                           .pCode = shaders[shader].words};
    VkShaderModule module;
    if (d->fns.CreateShaderModule(d->device, &code, NULL, &module) != VK_SUCCESS) return NULL;
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = d->layout};
    VkResult rc = d->fns.CreateComputePipelines(d->device, d->cache, 1, &info, NULL, &made);
    d->fns.DestroyShaderModule(d->device, module, NULL);
    d->cache_fresh = true;
    d->pipelines[shader][width] = rc == VK_SUCCESS ? made : NULL;
    return d->pipelines[shader][width];
}
