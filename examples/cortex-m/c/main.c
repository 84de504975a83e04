/* A bearing monitor: a classifier tells healthy, worn and broken bearings apart by their vibration, and this program works
 * out what its mistakes cost, on the microcontroller beside the sensor or on a server. It prints the bits of each result,
 * which are the same on a server whose library has one lane too (the feature `scalar`) and is told to use it: "scalar-fma"
 * has the bits of processors with an FMA instruction, "scalar" those of the others.
 *
 *   arm-none-eabi-gcc -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -Os -I../../../ffi/include main.c startup.c \
 *     librwwce.a -nostartfiles -Wl,--gc-sections -z noexecstack -L.. -Tmps2.x -o main.elf
 *   cc -I../../../ffi/include main.c host.c librwwce.a -o main
 *
 * with the library of the one machine or the other; .ci/microcontrollers builds and compares both. */
#include <math.h>
#include <rwwce.h>
#include <string.h>

#include "print.h"

enum { CLASSES = 3, ROWS = 6 };

/* The classifier's logits. A sensor fault masks a class in row 4; row 5 is confident, and wrong. */
static const float logits[ROWS * CLASSES] = {
  2.0f,  -1.0f,     -3.5f,
  0.3f,  0.1f,      -0.7f,
  -1.0f, 1.5f,      1.25f,
  -2.0f, 0.5f,      4.0f,
  1.0f,  -INFINITY, 0.125f,
  12.5f, -8.0f,     -30.0f,
};
static const int32_t labels[ROWS] = {0, 0, 1, 2, 2, 2};
/* Broken bearings are rare, and missing one is dear. */
static const float class_weights[CLASSES] = {0.5f, 2.0f, 8.0f};
/* What it costs on top to name class j (column) where y is true (row). */
static const float mislabel_costs[CLASSES * CLASSES] = {
  0.0f,  0.25f, 1.0f,
  0.5f,  0.0f,  0.25f,
  40.0f, 4.0f,  0.0f,
};

static void print_bits(const void *number, size_t size) {
  uint64_t bits;
  if (size == sizeof bits) {
    memcpy(&bits, number, sizeof bits);
  } else {
    uint32_t half;
    memcpy(&half, number, sizeof half);
    bits = half;
  }
  char text[] = " ................";
  text[1 + 2 * size] = '\0';
  for (size_t i = 2 * size; i > 0; i--, bits >>= 4) text[i] = "0123456789abcdef"[bits & 15];
  print(text);
}

static void print_floats(const char *name, const float *numbers, size_t count) {
  print(name);
  for (size_t i = 0; i < count; i++) print_bits(&numbers[i], sizeof numbers[i]);
  print("\n");
}

static void print_summary(const char *name, const rwwce_summary *summary) {
  print_floats(name, &summary->loss, 1);
  print("  sum and denominator");
  print_bits(&summary->sum, sizeof summary->sum);
  print_bits(&summary->denominator, sizeof summary->denominator);
  print("\n");
}

static int failed(const rwwce_error *error) {
  char message[120];
  rwwce_error_message(error, message, sizeof message);
  print("error: ");
  print(message);
  print("\n");
  return 1;
}

/* The losses of the rows and of all of them, and the gradient. */
static rwwce_status report(const char *name, const rwwce_options *options, rwwce_error *error) {
  float row_losses[ROWS], gradient[ROWS * CLASSES];
  rwwce_summary summary;
  rwwce_status status = rwwce_loss(options, logits, ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_I32, row_losses, ROWS,
                                   &summary, error);
  if (status != RWWCE_OK) return status;
  print_summary(name, &summary);
  print_floats("  rows", row_losses, ROWS);

  status = rwwce_loss_gradient(options, logits, ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_I32, gradient, ROWS * CLASSES,
                               &summary, error);
  if (status != RWWCE_OK) return status;
  for (int row = 0; row < ROWS; row++) print_floats("  gradient", gradient + row * CLASSES, CLASSES);
  return RWWCE_OK;
}

/* The losses of the rows by the function that links the least, and computes with the best backend. Where another was asked
 * for, as on a server, by the function that has options. */
static rwwce_status report_rows_alone(const rwwce_options *options, rwwce_error *error) {
  float row_losses[ROWS];
  const int is_best = options->backend == NULL || strcmp(options->backend, rwwce_backend_name()) == 0;
  const rwwce_status status =
    is_best ? rwwce_weighted_row_losses(CLASSES, class_weights, CLASSES, logits, ROWS * CLASSES, labels, ROWS,
                                        row_losses, ROWS, error)
            : rwwce_loss(options, logits, ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_I32, row_losses, ROWS, NULL, error);
  if (status == RWWCE_OK) print_floats("weighted losses", row_losses, ROWS);
  return status;
}

/* The name of a backend may be given; there is none to give on a microcontroller. */
int main(int argc, char **argv) {
  rwwce_error error;
  rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
  options.backend = argc > 1 ? argv[1] : NULL;
  options.class_weights = class_weights;
  options.class_weights_count = CLASSES;
  print(rwwce_backend_is_fused(options.backend) == 1 ? "fused\n" : "unfused\n");
  if (report("weighted loss", &options, &error) != RWWCE_OK) return failed(&error);
  if (report_rows_alone(&options, &error) != RWWCE_OK) return failed(&error);

  options.mislabel_costs = mislabel_costs;
  options.mislabel_costs_count = CLASSES * CLASSES;
  if (report("real-world-weight loss", &options, &error) != RWWCE_OK) return failed(&error);

  /* A call that is refused says why in the same words everywhere. */
  const int32_t no_class[ROWS] = {0, 0, 1, 2, CLASSES, 2};
  if (rwwce_loss(&options, logits, ROWS * CLASSES, no_class, ROWS, RWWCE_LABEL_I32, NULL, 0, NULL, &error) == RWWCE_OK) {
    print("a label that is no class was accepted\n");
    return 1;
  }
  failed(&error);
  return 0;
}
