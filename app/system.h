/* system.h - facts of the machine for bug reports, without names of users, hosts or serial numbers.
 */
#ifndef APP_SYSTEM_H
#define APP_SYSTEM_H

#include "json.h"

/* {"os", "kernel", "cpu": {...}, "memory": {...}, "gpus": [...], "audio": [...], "libraries":
 * {...}}; what cannot be found out is left out. */
json_t *system_facts(void);
/* Bytes a program may still take without others suffering; 0: unknown. */
uint64_t system_memory_available(void);
/* Most memory this process has had at once since the last reset; 0: unknown. */
uint64_t system_peak_memory(void);
/* From here on. Where the system cannot, the peak goes on counting from the beginning. */
void system_peak_memory_reset(void);
/* In place: the home directory becomes "~". */
void system_hide_home(char *text);

#endif
