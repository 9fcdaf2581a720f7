/* forecast.h - from what was measured to how fast the published models would be here. */
#ifndef APP_FORECAST_H
#define APP_FORECAST_H

#include "json.h"
#include "moshi.h"

/* How the machine does what frames consist of. */
typedef struct forecast_basis {
    double read_bytes_s;                /* the limit, of what no cache holds */
    double flops;                       /* the limit */
    double temporal_share, depth_share; /* of the limit; 0: not measured */
    double encode_rate, decode_rate;    /* operations a second; 0: not measured */
} forecast_basis;

/* What the JSON tree of a run (bench_add_times()) tells, and nothing where it tells nothing: caches
 * are no limit. */
forecast_basis forecast_basis_of(const json_t *root);

/* [{"preset", "type", "frames_s", "real_time", "memory_bytes", "assumed"}] of every preset in the
 * usual types; `assumed`: something that was not measured here was taken from other machines.
 * Half a conversation's context is full. Empty without limits. */
json_t *forecast_all(const forecast_basis *basis);
/* The table that people read. */
void forecast_print(const json_t *all, double available_bytes);

#endif
