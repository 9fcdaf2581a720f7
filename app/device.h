/* device.h - which device a verb computes on: the one that was asked for or none, else the best
 * that works. */
#ifndef APP_DEVICE_H
#define APP_DEVICE_H

#include "trial.h"

enum { MOST_DEVICES = 32 };

typedef struct device_choice {
    char name[MOSHI_DEVICE_NAME], description[128], driver[128];
    bool insisted;                        /* asked for by name: never replaced by another */
    moshi_device_info list[MOST_DEVICES]; /* best first; n == 0: not asked yet */
    int n, next;                          /* next: the first not yet considered */
} device_choice;

/* Choose by --device, MOSHI_USE_CPU, MOSHI_DEVICE or, without them or with "auto", the best device
 * that works. A device that was never seen to work with this build, driver and model goes through
 * the trial first, in a child process. Says on standard error which ones are passed over, and why.
 * Called again, it goes on with the next one. Zero `choice` first. */
int device_choose(device_choice *choice, const arguments *args, const trial *what, app_error *err);
/* The chosen one could not be opened: may the next be tried? Says so if it may. */
bool device_give_up(const device_choice *choice, int code, const char *why);
/* Where the drivers of a device may keep what they compile: $XDG_CACHE_HOME/moshi or
 * ~/.cache/moshi, made if need be. NULL for the CPU (or NULL), and where there is no such place. */
const char *device_cache(const char *device);
/* The device that `name` means, found out in a process of its own; EXIT_DEVICE. */
int device_find(moshi_device_info *out, const char *name, app_error *err);
/* All devices, best first, likewise; returns how many of the first `most` there are: the CPU at
 * least. */
int device_list(moshi_device_info *out, int most);
/* "cpu", or "cpu/" and a name of its kernels. */
bool device_is_cpu(const char *name);
/* What drives a device that one of these has seen; "". */
const char *device_driver(const char *name);
/* How many devices the machine has, those by request left out. Asked in a process of its own; 1,
 * the CPU, when that does not answer. */
int device_count(void);

/* What earlier runs died of on a device that is about to be used because it was asked for. Returns
 * whether there were any with this build. */
bool device_tell_crashes_of(const char *device);
/* What an earlier run died of, where nothing is to be decided about it. Told once. */
void device_tell_crashes(void);

#endif
