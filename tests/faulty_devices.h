/* faulty_devices.h - what tests may ask of the devices of faulty_devices.c. */
#ifndef MO_TESTS_FAULTY_DEVICES_H
#define MO_TESTS_FAULTY_DEVICES_H

#include "backend.h"

/* Bit k is set once an op of kind k was recorded. */
extern unsigned faulty_kinds_seen;

#endif
