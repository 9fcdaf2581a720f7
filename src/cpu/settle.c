#include "settle.h"

/* Hardly longer; and so much longer that still fewer threads are not worth trying: a quarter of
 * them less makes what they compute all the time take a third longer. */
static const double NEAR = 1.03, FAR = 1.25;

static int fewer(int threads) {
    return threads > 4 ? threads * 3 / 4 : threads - 1;
}

int mo_settle(int most, mo_try_fn attempt, void *ctx) {
    int fewest = most;
    double best = attempt(ctx, most);
    for (int n = fewer(most); n > 0 && best > 0; n = fewer(n)) {
        const double seconds = attempt(ctx, n);
        if (seconds <= 0 || seconds > FAR * best) break;
        if (seconds < best) best = seconds;
        if (seconds <= NEAR * best) fewest = n;
    }
    return fewest;
}
