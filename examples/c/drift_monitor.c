/* Monitors a classifier: the mean loss of each class, window by window, and the cost of decisions.
 *
 *   cc drift_monitor.c $(pkg-config --cflags --libs rwwce) -o drift_monitor
 *
 * A camera sorts castings into good, scratched and cracked ones. To sell a cracked one as good
 * costs far more than any other mistake. From batch 12 on, dirt on the lens hides the cracks. */
#include <rwwce.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLASSES = 3, ROWS = 64, BATCHES = 24, WINDOW = 4, DIRTY_FROM = 12 };

static const char *const names[CLASSES] = {"good", "scratched", "cracked"};
/* The cost of missing a class, whatever it is taken for. */
static const float miss_costs[CLASSES] = {1.0f, 1.0f, 4.0f};
/* The additional cost of naming class j (column) where y is true (row). */
static const float mislabel_costs[CLASSES * CLASSES] = {
  0.0f,  0.0f, 0.5f,
  0.0f,  0.0f, 0.5f,
  40.0f, 4.0f, 0.0f,
};

/* Pseudo-random numbers from 0 to 65535, the same on every machine. */
static uint32_t next(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 16;
}

/* Logits of some castings: half are good, a quarter of each other class. */
static void observe(int batch, uint32_t *state, float *logits, uint8_t *labels) {
  for (int row = 0; row < ROWS; row++) {
    const uint32_t kind = next(state) % 4;
    labels[row] = (uint8_t)(kind < 2 ? 0 : kind - 1);
    for (int c = 0; c < CLASSES; c++) {
      const float noise = (float)next(state) / 16384.0f;
      logits[row * CLASSES + c] = (c == labels[row] ? 3.5f : 0.0f) + noise;
    }
    if (batch >= DIRTY_FROM) logits[row * CLASSES + 2] -= 0.375f * (float)(batch - DIRTY_FROM + 1);
  }
}

static void check(rwwce_status status, const rwwce_error *error) {
  if (status != RWWCE_OK) {
    char message[200];
    rwwce_error_message(error, message, sizeof message);
    fprintf(stderr, "error: %s\n", message);
    exit(1);
  }
}

int main(void) {
  rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
  options.class_weights = miss_costs;
  options.class_weights_count = CLASSES;
  options.mislabel_costs = mislabel_costs;
  options.mislabel_costs_count = CLASSES * CLASSES;

  rwwce_error error;
  rwwce_total total = RWWCE_TOTAL_INIT;
  uint64_t confusion[CLASSES * CLASSES] = {0};
  double usual[CLASSES] = {0.0};
  uint32_t state = 1;

  printf("mean loss of a row\nbatches");
  for (int c = 0; c < CLASSES; c++) printf("  %12s", names[c]);
  printf("\n");
  for (int first = 0; first < BATCHES; first += WINDOW) {
    uint64_t counts[CLASSES] = {0};
    double weight_sums[CLASSES] = {0.0}, loss_sums[CLASSES] = {0.0};
    for (int batch = first; batch < first + WINDOW; batch++) {
      float logits[ROWS * CLASSES], row_losses[ROWS];
      uint8_t labels[ROWS];
      observe(batch, &state, logits, labels);

      rwwce_summary summary;
      check(rwwce_loss(&options, logits, ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_U8, row_losses,
                       ROWS, &summary, &error),
            &error);
      check(rwwce_total_merge(&total, &summary.total, &error), &error);
      check(rwwce_add_class_sums(&options, labels, ROWS, RWWCE_LABEL_U8, row_losses, ROWS, counts,
                                 CLASSES, weight_sums, CLASSES, loss_sums, CLASSES, &error),
            &error);
      check(rwwce_add_confusion(&options, logits, ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_U8,
                                confusion, CLASSES * CLASSES, NULL, &error),
            &error);
    }
    printf("%2d to %2d", first, first + WINDOW - 1);
    int drifts = 0;
    for (int c = 0; c < CLASSES; c++) {
      const double mean = loss_sums[c] / (double)counts[c];
      if (first == 0) usual[c] = mean;
      drifts |= mean > 2.0 * usual[c];
      printf("  %12.9g", mean);
    }
    printf("%s\n", drifts ? "  drifts" : "");
  }

  float loss;
  check(rwwce_total_reduce(&total, RWWCE_REDUCTION_MEAN_ROWS, RWWCE_ZERO_DENOMINATOR_ERROR, &loss,
                           &error),
        &error);
  double cost;
  check(rwwce_decision_cost(confusion, CLASSES * CLASSES, miss_costs, CLASSES, mislabel_costs,
                            CLASSES * CLASSES, &cost, &error),
        &error);
  printf("mean loss of all %d rows: %.9g\n", BATCHES * ROWS, loss);
  printf("cost of the decisions: %.9g\n", cost);
  return 0;
}
