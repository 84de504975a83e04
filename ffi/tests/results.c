/* Results of the functions for good arguments, against the header's formulas in double
 * precision. */
#include "arguments.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The logits of a row after temperature and bias, in double precision. */
static void row_of(const rwwce_options *o, const float *logits, size_t row, double *x) {
  const size_t stride = o->row_stride != 0 ? o->row_stride : C * D;
  for (size_t c = 0; c < C; c++) {
    x[c] = logits[row / D * stride + c * D + row % D] / o->temperature;
    if (o->class_bias != NULL) x[c] += o->class_bias[c];
  }
}

static double textbook_log_sum_exp(const double *x, int classes) {
  double sum = 0.0;
  for (int c = 0; c < classes; c++) sum += exp(x[c]);
  return log(sum);
}

/* The loss of a row by the formulas of the header, for a label, or for target probabilities q. */
static double textbook(const rwwce_options *o, const double *x, size_t row, int64_t y,
                       const double *q) {
  const double lse = textbook_log_sum_exp(x, C), eps = o->label_smoothing;
  double sum = 0.0, whole_weight = 0.0;
  if (q == NULL && o->has_ignore_index && y == o->ignore_index) return 0.0;
  for (int c = 0; c < C; c++) {
    const double w = o->class_weights != NULL ? o->class_weights[c] : 1.0, minus_log_p = lse - x[c];
    const double own = (1.0 - eps) * (q != NULL ? q[c] : c == y) * w;
    sum += own * minus_log_p * (o->focal > 0.0f ? pow(1.0 - exp(-minus_log_p), o->focal) : 1.0);
    sum += eps / C * w * minus_log_p;
    whole_weight += own + eps / C * w;
    if (o->mislabel_costs != NULL && c != y) {
      sum -= o->mislabel_costs[y * C + c] * log(1.0 - exp(-minus_log_p));
    }
  }
  sum += o->z_loss * whole_weight * lse * lse;
  return sum * (o->sample_weights != NULL ? o->sample_weights[row] : 1.0);
}

static int64_t label_of(size_t row) { return ((int32_t *)(void *)place_of(A(LABELS))->at)[row]; }

/* Removes an array of the options. */
static void leave_out(rwwce_argument argument) {
  Place *const place = place_of(argument);
  place->at = NULL;
  place->count = 0;
}

enum {
  PLAIN, CLASS_WEIGHTS, SAMPLE_WEIGHTS, MISLABEL_COSTS, CLASS_BIAS, ROW_UPSTREAM, IGNORE_INDEX,
  SMOOTHING, FOCAL, Z_LOSS, TEMPERATURE, UPSTREAM, ROW_STRIDE, REDUCTION, LAST = REDUCTION + 5,
  EVERYTHING
};

/* Sets one option, or everything. */
static void set_one(int which, int is_soft) {
  static const struct { int which; rwwce_argument argument; } arrays[] = {
    {CLASS_WEIGHTS, A(CLASS_WEIGHTS)}, {SAMPLE_WEIGHTS, A(SAMPLE_WEIGHTS)},
    {CLASS_BIAS, A(CLASS_BIAS)}, {MISLABEL_COSTS, A(MISLABEL_COSTS)}, {ROW_UPSTREAM, A(UPSTREAM)}};
  rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  const int all = which == EVERYTHING;
  const int reduction = which >= REDUCTION && which <= LAST;
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
    const int has_weight = reduction && i < 2;
    if (which != arrays[i].which && !all && !has_weight) leave_out(arrays[i].argument);
  }
  if ((which == IGNORE_INDEX || all) && !is_soft) {
    o->has_ignore_index = 1;
    o->ignore_index = -100;
    set_label(2, -100);
  }
  if (which == SMOOTHING || all) o->label_smoothing = 0.125f;
  if ((which == FOCAL || all) && !is_soft) o->focal = 1.5f;
  if (which == Z_LOSS || all) o->z_loss = 0.25f;
  if (which == TEMPERATURE || all) o->temperature = 2.0f;
  if (which == UPSTREAM) o->upstream = 3.0f;
  if (reduction) o->reduction = (rwwce_reduction)(which - REDUCTION);
  if (which == ROW_STRIDE || all) {
    o->row_stride = C * D + 2;
    const rwwce_argument shaped[] = {A(LOGITS), A(TARGETS), A(GRADIENT)};
    for (int i = 0; i < 3; i++) {
      if (use_of(now, shaped[i]) != NULL) place_of(shaped[i])->count = N * (C * D + 2);
    }
  }
}

/* The denominator of the mean. */
static double denominator_of(const rwwce_options *o, const rwwce_total *total, int is_soft) {
  const int by_rows = is_soft || o->mislabel_costs != NULL;
  switch (o->reduction) {
    case RWWCE_REDUCTION_DEFAULT: return by_rows ? (double)total->rows : total->weight_sum;
    case RWWCE_REDUCTION_SUM: return 1.0;
    case RWWCE_REDUCTION_MEAN_WEIGHT_SUM: return total->weight_sum;
    case RWWCE_REDUCTION_MEAN_ROWS: return (double)total->rows;
    case RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM: return total->sample_weight_sum;
    default: return (double)total->rows_times_classes;
  }
}

/* Row losses, summary and gradient, for labels or for target probabilities. */
static void losses(int which, int is_soft) {
  rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  prepare_named(is_soft ? "rwwce_soft_loss" : "rwwce_loss");
  set_one(which, is_soft);
  snprintf(context, sizeof context, "%s, option %d", now->name, which);
  CALL();
  const rwwce_summary summary = *HOME(rwwce_summary, RESULT);
  float row_losses[ROWS];
  memcpy(row_losses, home_of(A(ROW_LOSSES)), sizeof row_losses);

  rwwce_total total = RWWCE_TOTAL_INIT;
  double x[C], q[C];
  const size_t stride = o->row_stride != 0 ? o->row_stride : C * D;
  for (size_t row = 0; row < ROWS; row++) {
    row_of(o, AT(float, LOGITS), row, x);
    const int64_t y = is_soft ? -1 : label_of(row);
    double weight = 0.0;
    for (size_t c = 0; c < C; c++) {
      if (is_soft) q[c] = AT(float, TARGETS)[row / D * stride + c * D + row % D];
      const double share = is_soft ? q[c] : (int64_t)c == y;
      weight += share * (o->class_weights != NULL ? o->class_weights[c] : 1.0);
    }
    const double row_loss = textbook(o, x, row, y, is_soft ? q : NULL);
    const double sample = o->sample_weights != NULL ? o->sample_weights[row] : 1.0;
    CHECK_CLOSE(row_losses[row], row_loss);
    total.sum += row_loss;
    if (!is_soft && o->has_ignore_index && y == o->ignore_index) continue;
    total.weight_sum += weight * sample;
    total.sample_weight_sum += sample;
    total.rows++;
    total.rows_times_classes += C;
  }
  const double denominator = denominator_of(o, &total, is_soft);
  CHECK_CLOSE(summary.sum, total.sum);
  CHECK_CLOSE(summary.denominator, denominator);
  CHECK_CLOSE(summary.loss, total.sum / denominator);
  CHECK(summary.rows == total.rows && summary.non_finite == 0);
  CHECK_CLOSE(summary.total.sum, total.sum);
  CHECK_CLOSE(summary.total.weight_sum, total.weight_sum);
  CHECK_CLOSE(summary.total.sample_weight_sum, total.sample_weight_sum);
  CHECK(summary.total.rows == total.rows && summary.total.non_finite == 0);
  CHECK(summary.total.rows_times_classes == total.rows_times_classes);

  /* The gradient, by differences. */
  prepare_named(is_soft ? "rwwce_soft_gradient" : "rwwce_loss_gradient");
  set_one(which, is_soft);
  snprintf(context, sizeof context, "%s, option %d", now->name, which);
  CALL();
  CHECK(memcmp(HOME(rwwce_summary, RESULT), &summary, sizeof summary) == 0);
  const float *const gradient = HOME(float, GRADIENT);
  for (size_t row = 0; row < ROWS; row++) {
    const int64_t y = is_soft ? -1 : label_of(row);
    const float *const upstream = o->row_upstream;
    const double factor = upstream != NULL ? upstream[row] : o->upstream / denominator;
    for (size_t c = 0; c < C; c++) {
      const size_t first = row / D * stride + row % D;
      if (is_soft) {
        for (size_t k = 0; k < C; k++) q[k] = AT(float, TARGETS)[first + k * D];
      }
      row_of(o, AT(float, LOGITS), row, x);
      x[c] += 1e-4;
      const double above = textbook(o, x, row, y, is_soft ? q : NULL);
      x[c] -= 2e-4;
      const double below = textbook(o, x, row, y, is_soft ? q : NULL);
      CHECK_CLOSE(gradient[first + c * D], factor * (above - below) / 2e-4 / o->temperature);
    }
  }
  if (stride > C * D) CHECK(gradient[C * D] == -7.0f && gradient[stride + C * D] == -7.0f);
}

static void all_losses(void) {
  for (int which = PLAIN; which <= EVERYTHING; which++) {
    losses(which, 0);
    if (which != MISLABEL_COSTS) losses(which, 1);
  }
}

static void logs_of_probabilities(void) {
  const rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  for (size_t row = 0; row < ROWS; row++) {
    double x[C];
    prepare_named("rwwce_log_probabilities");
    CALL();
    row_of(o, HOME(float, LOGITS), row, x);
    const double lse = textbook_log_sum_exp(x, C);
    for (size_t c = 0; c < C; c++) {
      CHECK_CLOSE(HOME(float, LOG_PROBABILITIES)[row / D * C * D + c * D + row % D], x[c] - lse);
    }
    prepare_named("rwwce_log_sum_exps");
    CALL();
    CHECK_CLOSE(HOME(float, LOG_SUM_EXPS)[row], lse);
    prepare_named("rwwce_loss_from_probabilities");
    CALL();
    const float *const p = HOME(float, PROBABILITIES), *const w = HOME(float, CLASS_WEIGHTS);
    const size_t y = (size_t)label_of(row);
    double sum = 0.0;
    for (size_t c = 0; c < C; c++) {
      const double p_c = p[row / D * C * D + c * D + row % D];
      const double fp = IN(MISLABEL_COSTS, y * C + c);
      sum -= c == y ? w[c] * log(p_c + number) : fp * log(1.0 - p_c + number);
    }
    CHECK_CLOSE(HOME(float, ROW_LOSSES)[row], sum * IN(SAMPLE_WEIGHTS, row));
  }
}

static void given_log_probabilities(void) {
  for (size_t row = 0; row < ROWS; row++) {
    prepare_named("rwwce_loss_from_log_probabilities");
    CALL();
    const size_t y = (size_t)label_of(row), own = row / D * C * D + y * D + row % D;
    const double weight = IN(CLASS_WEIGHTS, y) * IN(SAMPLE_WEIGHTS, row);
    CHECK_CLOSE(IN(ROW_LOSSES, row), -weight * IN(LOG_PROBABILITIES, own));
    const double denominator = HOME(rwwce_summary, RESULT)->denominator;
    prepare_named("rwwce_gradient_from_log_probabilities");
    CALL();
    CHECK_CLOSE(IN(GRADIENT, own), -weight * IN(UPSTREAM, row));
    prepare_named("rwwce_gradient_from_log_probabilities");
    leave_out(A(UPSTREAM));
    CALL();
    for (size_t c = 0; c < C; c++) {
      const size_t element = row / D * C * D + c * D + row % D;
      CHECK_CLOSE(IN(GRADIENT, element), c == y ? -weight / denominator : 0.0);
    }
  }
}

static void binary_losses(void) {
  prepare_named("rwwce_binary_loss");
  CALL();
  const rwwce_summary summary = *HOME(rwwce_summary, RESULT);
  float row_losses[ELEMENTS];
  memcpy(row_losses, home_of(A(ROW_LOSSES)), sizeof row_losses);
  prepare_named("rwwce_binary_gradient");
  leave_out(A(UPSTREAM));
  HOME(rwwce_binary_options, OPTIONS)->upstream = 2.0f;
  CALL();
  double sum = 0.0;
  for (size_t i = 0; i < ELEMENTS; i++) {
    const double t = IN(TARGETS, i), sigma = 1.0 / (1.0 + exp(-IN(LOGITS, i)));
    const double fn = IN(MISS_COSTS, i % C), fp = IN(FALSE_ALARM_COSTS, i % C);
    const double s = IN(SAMPLE_WEIGHTS, i), slope = (1.0 - t) * fp * sigma - t * fn * (1.0 - sigma);
    const double row_loss = s * (-fn * t * log(sigma) - fp * (1.0 - t) * log(1.0 - sigma));
    CHECK_CLOSE(row_losses[i], row_loss);
    CHECK_CLOSE(IN(GRADIENT, i), 2.0 / ELEMENTS * s * slope);
    sum += row_loss;
  }
  CHECK_CLOSE(summary.loss, sum / ELEMENTS);
  CHECK(summary.denominator == ELEMENTS && summary.rows == ELEMENTS);
  CHECK(memcmp(HOME(rwwce_summary, RESULT), &summary, sizeof summary) == 0);
  prepare_named("rwwce_binary_gradient");
  CALL();
  const double sigma = 1.0 / (1.0 + exp(-IN(LOGITS, 1))), t = IN(TARGETS, 1);
  const double fn = IN(MISS_COSTS, 1), fp = IN(FALSE_ALARM_COSTS, 1);
  const double slope = (1.0 - t) * fp * sigma - t * fn * (1.0 - sigma);
  CHECK_CLOSE(IN(GRADIENT, 1), IN(UPSTREAM, 1) * IN(SAMPLE_WEIGHTS, 1) * slope);
}

static void in_place(void) {
  static const char *const pairs[3][2] = {
    {"rwwce_loss_gradient", "rwwce_loss_gradient_in_place"},
    {"rwwce_soft_gradient", "rwwce_soft_gradient_in_place"},
    {"rwwce_binary_gradient", "rwwce_binary_gradient_in_place"}};
  for (int i = 0; i < 3; i++) {
    float gradient[ELEMENTS];
    prepare_named(pairs[i][0]);
    CALL();
    const rwwce_summary summary = *HOME(rwwce_summary, RESULT);
    memcpy(gradient, home_of(A(GRADIENT)), sizeof gradient);
    prepare_named(pairs[i][1]);
    CALL();
    CHECK(memcmp(gradient, home_of(A(LOGITS)), sizeof gradient) == 0);
    CHECK(memcmp(&summary, home_of(A(RESULT)), sizeof summary) == 0);
  }
}

static void weights_of_classes(void) {
  prepare_named("rwwce_count_labels");
  *HOME(int64_t, IGNORE_INDEX) = 3;
  CALL();
  /* The labels are 0 3 2 1 0 3. */
  const uint64_t wanted[C] = {2, 1, 1, 0};
  CHECK(memcmp(home_of(A(COUNTS)), wanted, sizeof wanted) == 0);
  CHECK(*HOME(uint64_t, RESULT) == 4);

  /* The counts are 1 2 5 10, together 18, their median 3.5. */
  static const double first_and_last[6][2] = {
    {0.0, 0.0}, {18.0, 1.8}, {4.5, 0.45}, {1.0, 0.500488758553275},
    {4.242640687119285, 1.3416407864998738}, {3.5, 0.35}};
  rwwce_class_weights_options *const options = HOME(rwwce_class_weights_options, OPTIONS);
  for (rwwce_scheme scheme = 1; scheme < 6; scheme++) {
    for (rwwce_normalisation scaled = 0; scaled < 3; scaled++) {
      prepare_named("rwwce_class_weights");
      options->scheme = scheme;
      options->normalisation = scaled;
      options->beta = 0.5;
      CALL();
      const float *const w = HOME(float, CLASS_WEIGHTS);
      const double sum = (double)w[0] + w[1] + w[2] + w[3];
      CHECK_CLOSE(w[0] / w[3], first_and_last[scheme][0] / first_and_last[scheme][1]);
      if (scaled == RWWCE_NORMALISATION_NONE) CHECK_CLOSE(w[3], first_and_last[scheme][1]);
      if (scaled == RWWCE_NORMALISATION_SUM) CHECK_CLOSE(sum, 1.0);
      if (scaled == RWWCE_NORMALISATION_MEAN) CHECK_CLOSE(sum, 4.0);
    }
  }
  prepare_named("rwwce_class_weights");
  HOME(uint64_t, COUNTS)[1] = 0;
  options->empty_class = RWWCE_EMPTY_CLASS_WEIGHT;
  options->empty_class_weight = -2.5f;
  CALL();
  CHECK(IN(CLASS_WEIGHTS, 1) == -2.5f);
  CHECK_CLOSE(IN(CLASS_WEIGHTS, 0), 4.0);
}

static void totals_and_parts(void) {
  prepare_named("rwwce_total_merge");
  CALL();
  const rwwce_total merged = {18.0, 9.0, 6.0, 4, 20, 1};
  CHECK(memcmp(home_of(A(PARTIAL)), &merged, sizeof merged) == 0);
  /* Default, sum, and the means over 8, 3, 4 and 16. */
  static const float reduced[] = {1.5f, 12.0f, 1.5f, 4.0f, 3.0f, 0.75f};
  for (size_t i = 0; i < 6; i++) {
    prepare_named("rwwce_total_reduce");
    how = (rwwce_reduction)i;
    CALL();
    CHECK(*HOME(float, RESULT) == reduced[i]);
  }

  static const double denominators[] = {8.0, 1.0, 8.0, 3.0, 4.0, 16.0};
  for (size_t i = 0; i < 6; i++) {
    prepare_named("rwwce_total_denominator");
    how = (rwwce_reduction)i;
    CALL();
    CHECK(*HOME(double, RESULT) == denominators[i]);
  }

  /* A row as a whole, and in two parts. */
  prepare_named("rwwce_row_partial_of");
  CALL();
  const rwwce_row_partial whole = *HOME(rwwce_row_partial, PARTIAL);
  float logits[ELEMENTS], gradient[ELEMENTS], found, lse;
  memcpy(logits, home_of(A(LOGITS)), sizeof logits);
  CHECK(whole.largest == 1.5f && whole.label_logit == logits[5] && whole.classes == ELEMENTS);
  rwwce_row_partial part, other;
  CHECK(rwwce_row_partial_of(logits, 10, 5, NULL, &part, NULL) == RWWCE_OK && part.labels == 1);
  CHECK(rwwce_row_partial_of(logits + 10, 14, RWWCE_NO_LABEL, NULL, &other, NULL) == RWWCE_OK);
  CHECK(other.labels == 0 && other.label_logit == 0.0f && other.classes == 14);
  CHECK(rwwce_row_partial_merge(&part, &other, NULL) == RWWCE_OK);
  CHECK(part.largest == whole.largest && part.classes == ELEMENTS && part.labels == 1);
  CHECK_CLOSE(part.excluded_sum, whole.excluded_sum);
  double x[ELEMENTS];
  for (size_t i = 0; i < ELEMENTS; i++) x[i] = logits[i];
  const double log_sum = textbook_log_sum_exp(x, ELEMENTS);
  CHECK(rwwce_row_partial_loss(&part, 3.0f, &found, NULL) == RWWCE_OK);
  CHECK_CLOSE(found, 3.0 * (log_sum - x[5]));
  CHECK(rwwce_row_partial_log_sum_exp(&part, &lse, NULL) == RWWCE_OK);
  CHECK_CLOSE(lse, log_sum);
  CHECK(rwwce_log_sum_exp(logits, ELEMENTS, NULL, &lse, NULL) == RWWCE_OK);
  CHECK_CLOSE(lse, log_sum);
  CHECK(rwwce_row_partial_gradient(&part, logits, 10, 5, 2.0f, gradient, 10, NULL) == RWWCE_OK);
  CHECK(rwwce_row_partial_gradient(&part, logits + 10, 14, RWWCE_NO_LABEL, 2.0f, gradient + 10, 14,
                                   NULL) == RWWCE_OK);
  for (size_t i = 0; i < ELEMENTS; i++) {
    CHECK_CLOSE(gradient[i], 2.0 * (exp(x[i] - log_sum) - (i == 5)));
  }
}

/* The row losses alone have the bits of the loss with D = 1. */
static void rows_alone(void) {
  for (int weighted = 0; weighted < 2; weighted++) {
    float row_losses[ROWS];
    prepare_named("rwwce_loss");
    set_one(weighted ? CLASS_WEIGHTS : PLAIN, 0);
    HOME(rwwce_options, OPTIONS)->positions = 1;
    CALL();
    memcpy(row_losses, home_of(A(ROW_LOSSES)), sizeof row_losses);
    prepare_named("rwwce_weighted_row_losses");
    if (!weighted) leave_out(A(CLASS_WEIGHTS));
    CALL();
    CHECK(memcmp(home_of(A(ROW_LOSSES)), row_losses, sizeof row_losses) == 0);
  }
}

/* (-1)^s * 2^(e - 15) * (1 + m/1024), and m * 2^-24 for e = 0. */
static double binary16(unsigned bits) {
  const int exponent = (int)(bits >> 10 & 31), mantissa = (int)(bits & 1023);
  double magnitude = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) magnitude = mantissa == 0 ? INFINITY : NAN;
  return bits >> 15 ? -magnitude : magnitude;
}

/* Every logit of every type that has fewer than 32 bits. */
static void widened(void) {
  enum { HALVES = 65536, BYTES = 256 };
  static uint16_t halves[HALVES];
  static float numbers[HALVES], expected[HALVES];
  uint8_t bytes[BYTES];
  for (unsigned i = 0; i < HALVES; i++) halves[i] = (uint16_t)i;
  for (unsigned i = 0; i < BYTES; i++) bytes[i] = (uint8_t)i;

  snprintf(context, sizeof context, "rwwce_widen");
  for (rwwce_logit_type type = RWWCE_LOGIT_F16; type <= RWWCE_LOGIT_BF16; type++) {
    int wrong = 0;
    for (unsigned i = 0; i < HALVES; i++) {
      const uint32_t bits = (uint32_t)i << 16;
      memcpy(&expected[i], &bits, sizeof bits);
      if (type == RWWCE_LOGIT_F16) expected[i] = (float)binary16(i);
    }
    CHECK(rwwce_widen(halves, HALVES, type, 0.0f, 0, numbers, HALVES, NULL) == RWWCE_OK);
    for (unsigned i = 0; i < HALVES; i++) {
      const int both_nan = numbers[i] != numbers[i] && expected[i] != expected[i];
      wrong += !both_nan && memcmp(&numbers[i], &expected[i], sizeof numbers[i]) != 0;
    }
    CHECK(wrong == 0);
  }
  static const float scales[] = {0.1f, 1.0f / 3.0f, 1e-45f, 3e38f};
  for (int32_t zero = -128; zero < 256; zero++) {
    const float its_scale = scales[(zero + 128) % 4];
    int wrong = 0;
    if (zero < 128) {
      CHECK(rwwce_widen(bytes, BYTES, RWWCE_LOGIT_I8, its_scale, zero, numbers, BYTES, NULL) ==
            RWWCE_OK);
      for (int i = 0; i < BYTES; i++) {
        wrong += numbers[i] != its_scale * (float)((i < 128 ? i : i - 256) - zero);
      }
    }
    if (zero >= 0) {
      CHECK(rwwce_widen(bytes, BYTES, RWWCE_LOGIT_U8, its_scale, zero, numbers, BYTES, NULL) ==
            RWWCE_OK);
      for (int i = 0; i < BYTES; i++) wrong += numbers[i] != its_scale * (float)(i - zero);
    }
    CHECK(wrong == 0);
  }
}

/* A long row of bytes, whole and in parts that are widened one by one. */
static void rows_of_bytes(void) {
  enum { CLASSES = 5000, PART = 300, LABEL = 4321 };
  static int8_t logits[CLASSES];
  static float floats[CLASSES], gradient[CLASSES], of_floats[CLASSES];
  snprintf(context, sizeof context, "rows of bytes");
  const float its_scale = 0.07f;
  const int32_t zero = -11;
  const uint16_t row_label = LABEL;
  for (size_t i = 0; i < CLASSES; i++) {
    logits[i] = (int8_t)((int)(i * 2654435761u % 251) - 128);
    floats[i] = its_scale * (float)(logits[i] - zero);
  }
  rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
  rwwce_summary whole, of_float_row;
  CHECK(rwwce_loss_gradient(&options, floats, CLASSES, &row_label, 1, RWWCE_LABEL_U16, of_floats,
                            CLASSES, &of_float_row, NULL) == RWWCE_OK);
  options.logit_type = RWWCE_LOGIT_I8;
  options.logit_scale = its_scale;
  options.logit_zero_point = zero;
  CHECK(rwwce_loss_gradient(&options, logits, CLASSES, &row_label, 1, RWWCE_LABEL_U16, gradient,
                            CLASSES, &whole, NULL) == RWWCE_OK);
  CHECK(whole.loss == of_float_row.loss && whole.sum == of_float_row.sum);
  CHECK(memcmp(gradient, of_floats, sizeof gradient) == 0);

  rwwce_row_partial row = RWWCE_ROW_PARTIAL_INIT, part;
  float numbers[PART], found;
  for (size_t first = 0; first < CLASSES; first += PART) {
    const size_t rest = CLASSES - first, count = rest < PART ? rest : (size_t)PART;
    const size_t own = LABEL >= first && LABEL < first + count ? LABEL - first : RWWCE_NO_LABEL;
    CHECK(rwwce_widen(logits + first, count, RWWCE_LOGIT_I8, its_scale, zero, numbers, count,
                      NULL) == RWWCE_OK);
    CHECK(rwwce_row_partial_of(numbers, count, own, NULL, &part, NULL) == RWWCE_OK);
    CHECK(rwwce_row_partial_merge(&row, &part, NULL) == RWWCE_OK);
  }
  CHECK(rwwce_row_partial_loss(&row, 1.0f, &found, NULL) == RWWCE_OK);
  CHECK_CLOSE(found, whole.loss);
}

static void row_with_nan(void) {
  prepare_named("rwwce_loss");
  IN(LOGITS, 1) = NAN;
  CALL();
  const rwwce_summary *const summary = HOME(rwwce_summary, RESULT);
  CHECK(summary->loss != summary->loss && IN(ROW_LOSSES, 1) != IN(ROW_LOSSES, 1));
  CHECK(IN(ROW_LOSSES, 0) == IN(ROW_LOSSES, 0) && IN(ROW_LOSSES, 2) == IN(ROW_LOSSES, 2));
  CHECK(summary->rows == ROWS && summary->non_finite == 1 && summary->total.non_finite == 1);
}

static void monitoring(void) {
  prepare_named("rwwce_add_class_sums");
  uint64_t rows[C];
  double weights[C], sums[C];
  memcpy(rows, home_of(A(COUNTS)), sizeof rows);
  memcpy(weights, home_of(A(WEIGHT_SUMS)), sizeof weights);
  memcpy(sums, home_of(A(LOSS_SUMS)), sizeof sums);
  CALL();
  for (size_t row = 0; row < ROWS; row++) {
    const int64_t y = label_of(row);
    rows[y]++;
    weights[y] += IN(CLASS_WEIGHTS, y) * IN(SAMPLE_WEIGHTS, row);
    sums[y] += IN(ROW_LOSSES, row);
  }
  for (size_t c = 0; c < C; c++) {
    CHECK(HOME(uint64_t, COUNTS)[c] == rows[c]);
    CHECK_CLOSE(HOME(double, WEIGHT_SUMS)[c], weights[c]);
    CHECK_CLOSE(HOME(double, LOSS_SUMS)[c], sums[c]);
  }

  prepare_named("rwwce_add_confusion");
  uint64_t cells[C * C];
  memcpy(cells, home_of(A(CONFUSION)), sizeof cells);
  /* Row 1 has a NaN. */
  IN(LOGITS, 1) = NAN;
  CALL();
  const rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  for (size_t row = 0; row < ROWS; row++) {
    double x[C];
    row_of(o, HOME(float, LOGITS), row, x);
    size_t best = 0;
    for (size_t c = 1; c < C; c++) {
      if (x[c] > x[best]) best = c;
    }
    if (row != 1) cells[(size_t)label_of(row) * C + best]++;
  }
  CHECK(memcmp(cells, home_of(A(CONFUSION)), sizeof cells) == 0);
  CHECK(*HOME(size_t, RESULT) == 1);

  prepare_named("rwwce_decision_cost");
  CALL();
  double cost = 0.0;
  for (size_t i = 0; i < C * C; i++) {
    const uint64_t n = HOME(uint64_t, CONFUSION)[i];
    if (i / C != i % C) cost += (double)n * (IN(MISS_COSTS, i / C) + IN(MISLABEL_COSTS, i));
  }
  CHECK_CLOSE(*HOME(double, RESULT), cost);
}

/* Σ_{y≠j} p_y·(fn[y] + fp[y,j]) */
static double expected_cost(const double *p, size_t named) {
  const rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  double cost = 0.0;
  for (size_t y = 0; y < C; y++) {
    const double fn = o->class_weights != NULL ? o->class_weights[y] : 1.0;
    const double fp = o->mislabel_costs != NULL ? o->mislabel_costs[y * C + named] : 0.0;
    if (y != named) cost += p[y] * (fn + fp);
  }
  return cost;
}

/* Checks the decisions of a call, from logits or from probabilities; row 1 has none. */
static void check_decisions(int by_probabilities) {
  const uint32_t *const decisions = HOME(uint32_t, DECISIONS);
  const float *const costs = (const float *)(void *)place_of(A(EXPECTED_COSTS))->at;
  CHECK(*HOME(size_t, RESULT) == 1 && decisions[1] == RWWCE_NO_DECISION);
  CHECK(costs == NULL || isnan(costs[1]));
  for (size_t row = 0; row < ROWS; row++) {
    double x[C], p[C];
    if (row == 1) continue;
    if (by_probabilities) {
      for (size_t c = 0; c < C; c++) p[c] = IN(PROBABILITIES, row / D * C * D + c * D + row % D);
    } else {
      row_of(HOME(rwwce_options, OPTIONS), HOME(float, LOGITS), row, x);
      for (size_t c = 0; c < C; c++) p[c] = exp(x[c] - textbook_log_sum_exp(x, C));
    }
    if (!CHECK(decisions[row] < C)) continue;
    const double cost = expected_cost(p, decisions[row]);
    if (costs != NULL) CHECK_CLOSE(costs[row], cost);
    for (size_t c = 0; c < C; c++) CHECK(cost <= expected_cost(p, c) * (1.0 + 1e-6));
  }
}

static void decisions(void) {
  for (int which = 0; which < 8; which++) {
    prepare_named("rwwce_decide");
    if (which & 1) leave_out(A(MISLABEL_COSTS));
    if (which & 2) leave_out(A(CLASS_WEIGHTS));
    if (which & 4) leave_out(A(EXPECTED_COSTS));
    IN(LOGITS, 1) = NAN;
    HOME(rwwce_options, OPTIONS)->temperature = 2.0f;
    CALL();
    check_decisions(0);
    prepare_named("rwwce_decide_from_probabilities");
    if (which & 1) leave_out(A(MISLABEL_COSTS));
    if (which & 2) leave_out(A(CLASS_WEIGHTS));
    if (which & 4) leave_out(A(EXPECTED_COSTS));
    IN(PROBABILITIES, 1) = -0.5f;
    CALL();
    check_decisions(1);
  }
}

/* The totals without a loss are those with one, and a given denominator divides. */
static void weighed(void) {
  static const char *const losses[] = {"rwwce_loss", "rwwce_soft_loss", "rwwce_binary_loss"};
  static const char *const alone[] = {"rwwce_weigh", "rwwce_weigh_soft", "rwwce_binary_weigh"};
  const double eighth = 8.0;
  for (int i = 0; i < 3; i++) {
    prepare_named(losses[i]);
    CALL();
    const rwwce_summary whole = *HOME(rwwce_summary, RESULT);
    prepare_named(losses[i]);
    if (i < 2) HOME(rwwce_options, OPTIONS)->denominator = &eighth;
    else HOME(rwwce_binary_options, OPTIONS)->denominator = &eighth;
    CALL();
    CHECK(HOME(rwwce_summary, RESULT)->denominator == eighth);
    CHECK(HOME(rwwce_summary, RESULT)->loss == (float)(whole.sum / eighth));
    prepare_named(alone[i]);
    CALL();
    rwwce_total total = whole.total;
    total.sum = 0.0;
    CHECK(memcmp(home_of(A(RESULT)), &total, sizeof total) == 0);
  }
  /* Chunks are whole samples, at most 32,768 logits or one sample. */
  CHECK(rwwce_chunk_rows(2, 1) == 16384 && rwwce_chunk_rows(10, 3) == 3072);
  CHECK(rwwce_chunk_rows(100000, 1) == 1);
}

/* The curvatures of all rows are W*s*p*(1 - p) times the factor of the row, and the bound twice that. */
static void check_curvatures(int is_soft, double times) {
  for (size_t row = 0; row < ROWS; row++) {
    double x[C], weight = IN(CLASS_WEIGHTS, row * 3 % C);
    row_of(HOME(rwwce_options, OPTIONS), HOME(float, LOGITS), row, x);
    const size_t first = row / D * C * D + row % D;
    if (is_soft) {
      weight = 0.0;
      for (size_t c = 0; c < C; c++) weight += (double)IN(CLASS_WEIGHTS, c) * IN(TARGETS, first + c * D);
    }
    weight *= times * IN(SAMPLE_WEIGHTS, row) * IN(UPSTREAM, row);
    for (size_t c = 0; c < C; c++) {
      const double p = exp(x[c] - textbook_log_sum_exp(x, C));
      CHECK_CLOSE(IN(CURVATURE, first + c * D), weight * p * (1.0 - p));
    }
  }
}

static void curvatures(void) {
  for (int bound = 0; bound < 2; bound++) {
    prepare_named("rwwce_curvature");
    leave_out(A(MISLABEL_COSTS));
    which_curvature = bound ? RWWCE_CURVATURE_BOUND : RWWCE_CURVATURE_DIAGONAL;
    CALL();
    check_curvatures(0, bound ? 2.0 : 1.0);
    prepare_named("rwwce_soft_curvature");
    which_curvature = bound ? RWWCE_CURVATURE_BOUND : RWWCE_CURVATURE_DIAGONAL;
    CALL();
    check_curvatures(1, bound ? 2.0 : 1.0);
  }
  prepare_named("rwwce_binary_curvature");
  CALL();
  for (size_t i = 0; i < ELEMENTS; i++) {
    const double z = HOME(float, LOGITS)[i], t = IN(TARGETS, i), s = IN(SAMPLE_WEIGHTS, i);
    const double weight = IN(MISS_COSTS, i % C) * t + IN(FALSE_ALARM_COSTS, i % C) * (1.0 - t);
    const double slope = 1.0 / ((1.0 + exp(z)) * (1.0 + exp(-z)));
    CHECK_CLOSE(IN(CURVATURE, i), weight * s * slope * IN(UPSTREAM, i));
  }
}

/* A call that is large enough to be split over threads has the bits of one thread. */
static void threads(void) {
  enum { LARGE = 30000, CLASSES = 10 };
  float *const logits = (float *)malloc(LARGE * CLASSES * sizeof(float));
  float *const gradients[2] = {(float *)malloc(LARGE * CLASSES * sizeof(float)),
                               (float *)malloc(LARGE * CLASSES * sizeof(float))};
  uint8_t *const labels = (uint8_t *)malloc(LARGE);
  if (!CHECK(logits != NULL && gradients[0] != NULL && gradients[1] != NULL && labels != NULL)) return;
  for (size_t i = 0; i < LARGE * CLASSES; i++) logits[i] = (float)(i * 7 % 101) / 8.0f;
  for (size_t i = 0; i < LARGE; i++) labels[i] = (uint8_t)(i % CLASSES);
  rwwce_summary summaries[2];
  for (size_t several = 0; several < 2; several++) {
    rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
    options.threads = several && ONE_LANE ? 3 : 1;
    CHECK(rwwce_loss_gradient(&options, logits, LARGE * CLASSES, labels, LARGE, RWWCE_LABEL_U8,
                              gradients[several], LARGE * CLASSES, &summaries[several], NULL) == RWWCE_OK);
  }
  CHECK(summaries[0].sum == summaries[1].sum && summaries[0].rows == LARGE);
  CHECK(memcmp(gradients[0], gradients[1], LARGE * CLASSES * sizeof(float)) == 0);
  free(logits);
  free(gradients[0]);
  free(gradients[1]);
  free(labels);
}

void results(void) {
  threads();
  weighed();
  curvatures();
  all_losses();
  logs_of_probabilities();
  given_log_probabilities();
  binary_losses();
  in_place();
  weights_of_classes();
  totals_and_parts();
  rows_alone();
  widened();
  rows_of_bytes();
  row_with_nan();
  decisions();
  monitoring();
}
