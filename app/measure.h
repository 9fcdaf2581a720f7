/* measure.h - how long a frame takes on an open engine or codec. */
#ifndef APP_MEASURE_H
#define APP_MEASURE_H

#include "app.h"
#include "moshi.h"

/* Medians over the frames measured; 0 for parts that the model does not have. */
typedef struct frame_times {
    int frames;
    double encode_s, step_s, decode_s;
    double frame_s;   /* all of it */
    double real_time; /* seconds of sound per second of work */
} frame_times;

/* Up to `frames` frames of each part, but not beyond `budget_s` for each; at least two. The engine
 * needs a free slot. Contexts are nearly empty: a long conversation costs a little more. */
int measure_engine(moshi_engine *engine, int frames, double budget_s, frame_times *out,
                   app_error *err);
int measure_codec(moshi_codec *codec, int frames, double budget_s, frame_times *out,
                  app_error *err);

#endif
