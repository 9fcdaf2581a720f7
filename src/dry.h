/* dry.h - a device that only counts: a model loads onto it and its programs are recorded as on the
 * device it stands for, through the same code, and no memory is taken for either. */
#ifndef MO_DRY_H
#define MO_DRY_H

#include "backend.h"

/* Stand for `device`, which is opened to ask what it supports. Numbers written to it are lost,
 * reading gives zeros, running a program is MOSHI_EDEVICE. */
int mo_dry_open(mo_backend **out, const mo_backend_ops *device, const mo_backend_options *options,
                moshi_error *err);

/* Stand for a device that is open already, and stays so. */
int mo_dry_over(mo_backend **out, mo_backend *device, moshi_error *err);

#endif
