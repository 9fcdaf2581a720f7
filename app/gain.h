/* gain.h - the size of the terms that a codec's convolutions sum.
 *
 * A sum is rounded in proportion to its terms, not to what is left of them: of y = W x in floating
 * point, |error of y| <= gamma_n |W| |x| (Higham, Accuracy and Stability of Numerical Algorithms,
 * second edition, 2002, section 3.5). Where speech pauses, the terms of the last convolution
 * cancel: operands of 0.05 leave sound of 1e-5, with the rounding of the 0.05. What a device
 * computed holds x and no W; but a matrix is at least as large as what it does to one vector,
 * ||W|| >= ||W x|| / ||x||. So the codec hears speech that is known to be loud, and ||y|| / ||x||
 * where y is loudest stands for ||W||: less than the theorem allows, and from the model's own
 * weights. */
#ifndef APP_GAIN_H
#define APP_GAIN_H

#include "moshi.h"

#include "app.h"

/* One convolution, by the taps of its result and its operand. */
typedef struct gain {
    char tap[64], operand[64];
    double loudest; /* RMS of the loudest row of results */
    double ratio;   /* of that RMS to its operand's */
} gain;

typedef struct gains {
    gain *list;
    size_t n;
} gains;

/* Zero *g first, gains_free() it in any case. Both streams of the codec begin anew. */
int gains_measure(gains *g, moshi_codec *codec, app_error *err);
/* NULL: no result of a convolution. */
const gain *gains_find(const gains *g, const char *tap);
void gains_free(gains *g);

#endif
