/* The time of one call for one row of 10 classes through C: the counterpart of `small/<backend>/1x10` of the Rust
 * benchmark. `benches/c_call.sh` runs both. */
#define _POSIX_C_SOURCE 199309L
#include <rwwce.h>
#include <stdio.h>
#include <time.h>

enum { CLASSES = 10, CALLS = 200000, ROUNDS = 25 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(void) {
  float logits[CLASSES], weights[CLASSES];
  const int64_t label = 3;
  for (int i = 0; i < CLASSES; i++) {
    logits[i] = (float)((i * 7) % CLASSES) - 4.5f;
    weights[i] = 0.5f + 0.1f * (float)i;
  }
  rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
  options.class_weights = weights;
  options.class_weights_count = CLASSES;

  double best = 1e30;
  float sink = 0.0f;
  for (int round = 0; round < ROUNDS; round++) {
    const double begin = now();
    for (int i = 0; i < CALLS; i++) {
      rwwce_summary summary;
      if (rwwce_loss(&options, logits, CLASSES, &label, 1, RWWCE_LABEL_I64, NULL, 0, &summary, NULL) != RWWCE_OK) {
        return 1;
      }
      sink += summary.loss;
    }
    const double each = (now() - begin) / CALLS;
    best = each < best ? each : best;
  }
  printf("C, %s: %.0f ns a call (sum %g)\n", rwwce_backend_name(), best, (double)sink);
  return 0;
}
