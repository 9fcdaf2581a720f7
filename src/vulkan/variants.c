/* variants.c - shaders for what some devices can do: which a device offers, and which are used.
 *
 * Sums over a subgroup come in another order than the plain shaders', so that their use follows
 * from the device alone and never from a timing: the same device gives the same bits at every
 * start. */
#include "vk.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned bit;
} known[] = {{"subgroup", VK_SUBGROUP}, {"dot", VK_DOT}, {"half", VK_HALF}};
enum { N_KNOWN = sizeof known / sizeof known[0] };

static const VkDeviceSize TUNE_FROM = 4 << 20; /* smaller models are fast anyway */

/* ---- what a device offers ------------------------------------------------------------------- */

static bool has_subgroups(const vk_device *d) {
    const VkSubgroupFeatureFlags need =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
    VkPhysicalDeviceSubgroupProperties s = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &s};
    d->lib.fns.GetPhysicalDeviceProperties2(d->physical, &p);
    return (s.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
           (s.supportedOperations & need) == need && s.subgroupSize > 1;
}

/* Some drivers play them. */
static bool has_fast_dots(const vk_device *d) {
    VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR s = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &s};
    d->lib.fns.GetPhysicalDeviceProperties2(d->physical, &p);
    return s.integerDotProduct4x8BitPackedSignedAccelerated;
}

static bool has(const vk_device *d, const char *extension) {
    return mo_vk_lib_has_extension(&d->lib, d->physical, extension);
}

void mo_vk_variants_ask(vk_device *d, vk_wanted *w) {
    *w = (vk_wanted){
        .dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR},
        .half = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES}};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    /* What translates to Metal is left alone: no translator that could be tried knows dots. */
    bool dot = has(d, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME) &&
               !has(d, "VK_KHR_portability_subset");
    bool half = has(d, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    w->dot.pNext = half ? &w->half : NULL;
    all.pNext = dot ? (void *)&w->dot : half ? (void *)&w->half : NULL;
    d->lib.fns.GetPhysicalDeviceFeatures2(d->physical, &all);
    d->offers = has_subgroups(d) ? VK_SUBGROUP : 0;
    w->half.shaderInt8 = VK_FALSE;
    w->dot.pNext = NULL;
    if (w->half.shaderFloat16) {
        w->extensions[w->n++] = VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;
        w->chain = &w->half;
        d->offers |= VK_HALF;
    }
    if (w->dot.shaderIntegerDotProduct) {
        w->extensions[w->n++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
        w->dot.pNext = w->chain;
        w->chain = &w->dot;
        d->offers |= VK_DOT;
    }
    d->usual = d->offers;
    if ((d->offers & VK_DOT) && !has_fast_dots(d)) d->usual &= ~(unsigned)VK_DOT;
}

/* ---- which are used ------------------------------------------------------------------------- */

static int parse(const char *named, unsigned *out, moshi_error *err) {
    *out = 0;
    if (!strcmp(named, "plain")) return 0;
    for (const char *at = named; *at;) {
        size_t n = strcspn(at, "+");
        unsigned bit = 0;
        for (int i = 0; i < N_KNOWN; i++)
            if (strlen(known[i].name) == n && !strncmp(known[i].name, at, n)) bit = known[i].bit;
        if (!bit || (at[n] && !at[n + 1]))
            return mo_fail(err, MOSHI_EDEVICE,
                           "vulkan: kernels '%s': wanted plain, or of subgroup, dot and half those "
                           "to use, joined by '+'",
                           named);
        *out |= bit;
        at += n + (at[n] == '+');
    }
    return 0;
}

static void say(vk_device *d, const char *fmt, ...) MO_PRINTF(2, 3);
static void say(vk_device *d, const char *fmt, ...) {
    size_t n = strlen(d->kernels);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->kernels + n, sizeof d->kernels - n, fmt, ap);
    va_end(ap);
}

void mo_vk_variants_describe(vk_device *d) {
    d->kernels[0] = 0;
    say(d, "vulkan");
    for (int i = 0; i < N_KNOWN; i++)
        if (d->uses & known[i].bit) say(d, "+%s", known[i].name);
    for (int i = 0; i < VK_MOST_PIPELINES; i++) {
        const vk_choice *c = &d->choices[i];
        if (!c->timed || !c->used) continue;
        say(d, " %s/%d", mo_vk_shader_name(mo_vk_choice_shader(d, i, *c)), 64 << c->width);
    }
}

int mo_vk_variants_choose(vk_device *d, const char *named, moshi_error *err) {
    d->uses = d->usual;
    d->tune_from = TUNE_FROM;
    d->named = named && named[0];
    if (d->named) {
        int rc = parse(named, &d->uses, err);
        if (rc < 0) return rc;
    }
    for (int i = 0; i < N_KNOWN; i++)
        if (d->uses & ~d->offers & known[i].bit)
            return mo_fail(err, MOSHI_EDEVICE, "vulkan: this device offers no '%s' kernels",
                           known[i].name);
    mo_vk_variants_describe(d);
    return 0;
}

/* "norm", VK_SUBGROUP -> "norm_subgroup"; -1: there is none for any of these bits. */
static int with_bits(const char *shader, unsigned bits) {
    char name[64];
    for (int i = 0; i < N_KNOWN; i++) {
        if (!(bits & known[i].bit)) continue;
        snprintf(name, sizeof name, "%s_%s", shader, known[i].name);
        int found = mo_vk_shader_find(name);
        if (found >= 0) return found;
    }
    return -1;
}

int mo_vk_variant_of(const vk_device *d, const char *shader) {
    int found = with_bits(shader, d->uses);
    return found >= 0 ? found : mo_vk_shader_find(shader);
}

int mo_vk_choice_shader(const vk_device *d, int base, vk_choice c) {
    return c.more ? with_bits(mo_vk_shader_name(base), d->offers) : base;
}
