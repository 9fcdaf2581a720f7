/* devices.c - the backends of this build, and nothing else: tests link another list. */
#include "backend.h"

const mo_backend_ops *mo_backend_at(int i) {
    static const mo_backend_ops *const known[] = {
#ifdef MO_HAVE_VULKAN
        &mo_backend_vulkan,
#endif
        &mo_backend_cpu};
    return i >= 0 && i < (int)(sizeof known / sizeof known[0]) ? known[i] : NULL;
}
