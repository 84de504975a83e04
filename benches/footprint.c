/* A program for a Cortex-M4F that calls one function, which benches/footprint.sh measures.
 *
 * CALL is the function: NOTHING, WEIGHTED, GRADIENT, TERMS, a gradient with all terms, or LOOP, the loss of WEIGHTED
 * written by hand. MEASURE is
 *   SIZE          nothing but the call: for the sizes of sections beyond those of the program that calls NOTHING.
 *   STACK         prints the most bytes of stack that the call writes, over all kinds of rows.
 *   INSTRUCTIONS  calls REPEATS times for ROWS rows of CLASSES classes, and prints the sum of their losses. */
#include <float.h>
#include <math.h>
#include <rwwce.h>

#include "../examples/cortex-m/c/print.h"

#define NOTHING 1
#define WEIGHTED 2
#define GRADIENT 3
#define LOOP 4
#define TERMS 5

#define SIZE 1
#define STACK 2
#define INSTRUCTIONS 3

enum { MOST_CLASSES = 1000, MOST_ROWS = 64, MOST_LOGITS = 4000, MOST_COSTLY = 33 };

/* The same static RAM for every CALL. One logit more, for a misaligned pointer into them. */
static float logits[MOST_LOGITS + 1], gradient[MOST_LOGITS], class_weights[MOST_CLASSES], row_losses[MOST_ROWS];
static float mislabel_costs[MOST_COSTLY * MOST_COSTLY];
static const float *logits_given = logits;
static int32_t labels[MOST_ROWS];
static size_t rows = 1, classes = 1;
static rwwce_options options = RWWCE_OPTIONS_INIT(1);
static rwwce_summary summary;
static rwwce_error error;

/* Hides the contents from the compiler, and keeps the linker from dropping the arrays. */
static void keep(void) {
  void *const all[] = {logits, gradient, class_weights, row_losses, mislabel_costs, &logits_given, labels,
                       &rows, &classes, &options, &summary, &error};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) __asm__ volatile("" ::"r"(all[i]) : "memory");
}

#if CALL == LOOP
static float row_loss(const float *row, int32_t label) {
  float largest = row[0];
  for (size_t i = 1; i < classes; i++) {
    if (row[i] > largest) largest = row[i];
  }
  float sum = 0.0f;
  for (size_t i = 0; i < classes; i++) sum += expf(row[i] - largest);
  return class_weights[label] * (logf(sum) - (row[label] - largest));
}
#endif

__attribute__((noinline)) static rwwce_status call(void) {
#if CALL == NOTHING
  return RWWCE_OK;
#elif CALL == LOOP
  for (size_t row = 0; row < rows; row++) row_losses[row] = row_loss(logits + row * classes, labels[row]);
  return RWWCE_OK;
#elif CALL == WEIGHTED
  return rwwce_weighted_row_losses(classes, class_weights, classes, logits_given, rows * classes, labels, rows, row_losses, rows,
                                   &error);
#else
  options.classes = classes;
  options.class_weights = class_weights;
  options.class_weights_count = classes;
#if CALL == TERMS
  const int is_costly = classes <= MOST_COSTLY;
  options.mislabel_costs = is_costly ? mislabel_costs : NULL;
  options.mislabel_costs_count = is_costly ? classes * classes : 0;
  options.label_smoothing = 0.1f;
  options.focal = 2.0f;
  options.z_loss = 0.001f;
#endif
  return rwwce_loss_gradient(&options, logits_given, rows * classes, labels, rows, RWWCE_LABEL_I32, gradient, rows * classes,
                             &summary, &error);
#endif
}

#if MEASURE != SIZE
static void print_number(uint64_t number) {
  char text[21] = "", *digit = text + sizeof text - 1;
  do {
    *--digit = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  print(digit);
}

/* 0 on the diagonal. */
static void fill_costs(void) {
  for (size_t i = 0; i < classes * classes && i < MOST_COSTLY * MOST_COSTLY; i++) {
    mislabel_costs[i] = i % (classes + 1) == 0 ? 0.0f : 1.25f;
  }
}
#endif

#if MEASURE == STACK
enum { DEPTH = 4096 };
static const uint32_t paint = 0xfeedbeef;
static size_t deepest;

/* Depth of the stack below this function's frame. */
__attribute__((noinline)) static void try(void) {
  volatile uint32_t *top;
  __asm__ volatile("mov %0, sp" : "=r"(top));
  for (volatile uint32_t *word = top - DEPTH; word < top; word++) *word = paint;
  call();
  const volatile uint32_t *word = top - DEPTH;
  while (word < top && *word == paint) word++;
  const size_t depth = (size_t)(top - word) * sizeof *word;
  if (depth > deepest) deepest = depth;
}

static void fill(float logit, float weight) {
  for (size_t i = 0; i < rows * classes; i++) logits[i] = logit;
  for (size_t i = 0; i < classes; i++) class_weights[i] = weight;
}

/* Every kind of row. The label is 0 in all of them. */
static void try_rows(void) {
  const float numbers[] = {0.0f,     1.5f,    -20.0f,  90.0f,  -104.0f, -200.0f, 65536.0f,
                           FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f, NAN,     INFINITY, -INFINITY};
  const float weights[] = {1.0f, 0.0f, -3.0f, FLT_MAX, FLT_MIN, NAN, INFINITY};
  enum { NUMBERS = sizeof numbers / sizeof *numbers, WEIGHTS = sizeof weights / sizeof *weights };
  for (int i = 0; i < NUMBERS; i++) {
    for (int j = 0; j < NUMBERS; j++) {
      fill(numbers[i], 1.25f);
      /* At the label, and far from it. */
      logits[0] = numbers[j];
      try();
      logits[0] = numbers[i];
      logits[rows * classes - 1] = numbers[j];
      try();
    }
    for (int j = 0; j < WEIGHTS; j++) {
      fill(numbers[i], weights[j]);
      try();
    }
  }
  fill(0.0f, 1.0f);
  uint32_t state = 1;
  for (size_t i = 0; i < rows * classes; i++) {
    state = state * 1664525u + 1013904223u;
    logits[i] = (float)(state >> 8) / 1048576.0f - 8.0f;
  }
  try();
}

int main(int argc, char **argv) {
  (void)argc, (void)argv;
  keep();
  const size_t counts[] = {1, 2, 3, 4, 10, 31, 32, 33, 100, 1000};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    for (rows = 1; rows <= 3; rows += 2) {
      classes = counts[i];
      fill_costs();
      try_rows();
#if CALL != LOOP
      /* A label out of range. */
      labels[rows - 1] = -1;
      try();
      labels[rows - 1] = 0;
      /* Pointers that are refused. */
      const float *const refused[] = {NULL, (const float *)((const char *)logits + 1), row_losses};
      for (size_t j = 0; j < sizeof refused / sizeof *refused; j++) {
        logits_given = refused[j];
        try();
      }
      logits_given = logits;
#endif
    }
  }
  print("stack ");
  print_number(deepest);
  print("\n");
  return 0;
}

#elif MEASURE == INSTRUCTIONS
/* The same data everywhere. Not inlined, since in `main` the compiler may spend an instruction more or less on each
 * element where there is one call more. */
__attribute__((noinline)) static void prepare(void) {
  uint32_t state = 1;
  for (size_t i = 0; i < rows * classes; i++) {
    state = state * 1664525u + 1013904223u;
    logits[i] = (float)(state >> 8) / 1048576.0f - 8.0f;
  }
  fill_costs();
  for (size_t i = 0; i < classes; i++) class_weights[i] = 0.5f + (float)(i % 8) / 4.0f;
  for (size_t row = 0; row < rows; row++) labels[row] = (int32_t)(row * 7 % classes);
}

int main(int argc, char **argv) {
  (void)argc, (void)argv;
  keep();
  rows = ROWS;
  classes = CLASSES;
  prepare();
  for (int i = 0; i < REPEATS; i++) {
    if (call() != RWWCE_OK) return 1;
  }
  double total = CALL == GRADIENT || CALL == TERMS ? summary.sum : 0.0;
  for (size_t row = 0; row < rows; row++) total += (double)row_losses[row];
  const uint64_t millionths = (uint64_t)(total * 1e6 + 0.5);
  print("loss ");
  print_number(millionths / 1000000);
  print(".");
  for (uint64_t rest = millionths % 1000000, digit = 100000; digit > 0; digit /= 10) print_number(rest / digit % 10);
  print("\n");
  return 0;
}

#else
int main(int argc, char **argv) {
  (void)argc, (void)argv;
  keep();
  return (int)call();
}
#endif
