/* See arguments.h. */
#include "arguments.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks -------------------------------------------------------------------------------------- */

long checks, failures;
char context[200];

int check(int holds, const char *what, const char *file, int line) {
  checks++;
  if (!holds) {
    failures++;
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, context, what);
  }
  return holds;
}

int is_close(double found, double wanted) {
  return fabs(found - wanted) <= 1e-6 + 1e-5 * fabs(wanted);
}

/* Where the arguments are --------------------------------------------------------------------- */

unsigned char *arena, *before, *reference;
static unsigned char *expected;
static Place places[BLOCKS];
const Function *now;
rwwce_label_type label_type = RWWCE_LABEL_I32;
rwwce_logit_type logit_type = RWWCE_LOGIT_F32;
float number, scale;
int32_t zero_point;
size_t classes, label;
/* The type that the call is given. */
static rwwce_logit_type given_type;
const char *backend;
rwwce_reduction how;
rwwce_zero_denominator if_zero;
rwwce_curvature_kind which_curvature;

void set_up(void) {
  unsigned char **const arenas[] = {&arena, &before, &reference, &expected};
  for (int i = 0; i < 4; i++) {
    *arenas[i] = (unsigned char *)malloc(ARENA);
    if (*arenas[i] == NULL) abort();
  }
}

void tear_down(void) {
  free(arena);
  free(before);
  free(reference);
  free(expected);
}

static size_t block_of(rwwce_argument argument) {
  return argument < RWWCE_ARGUMENT_OPTIONS ? argument : argument - GAP;
}
Place *place_of(rwwce_argument argument) { return &places[block_of(argument)]; }
/* Each has room before and behind it. */
unsigned char *home_of(rwwce_argument argument) {
  return arena + block_of(argument) * BLOCK + BLOCK / 4;
}

#define FLOATS(name) AT(float, name), COUNT(name)
#define DOUBLES(name) AT(double, name), COUNT(name)
#define INTEGERS(name) AT(uint64_t, name), COUNT(name)
#define THE_LOGITS AT(void, LOGITS), COUNT(LOGITS)
#define THE_LABELS AT(void, LABELS), COUNT(LABELS), label_type
#define OPTS AT(rwwce_options, OPTIONS)
#define BINARY AT(rwwce_binary_options, OPTIONS)
#define SUMMARY AT(rwwce_summary, RESULT)

/* The functions ------------------------------------------------------------------------------- */

typedef rwwce_error E;
static rwwce_status loss(E *e) {
  return rwwce_loss(OPTS, THE_LOGITS, THE_LABELS, FLOATS(ROW_LOSSES), SUMMARY, e);
}
static rwwce_status loss_gradient(E *e) {
  return rwwce_loss_gradient(OPTS, THE_LOGITS, THE_LABELS, FLOATS(GRADIENT), SUMMARY, e);
}
static rwwce_status loss_gradient_in_place(E *e) {
  return rwwce_loss_gradient_in_place(OPTS, FLOATS(LOGITS), THE_LABELS, SUMMARY, e);
}
static rwwce_status soft_loss(E *e) {
  return rwwce_soft_loss(OPTS, THE_LOGITS, FLOATS(TARGETS), FLOATS(ROW_LOSSES), SUMMARY, e);
}
static rwwce_status soft_gradient(E *e) {
  return rwwce_soft_gradient(OPTS, THE_LOGITS, FLOATS(TARGETS), FLOATS(GRADIENT), SUMMARY, e);
}
static rwwce_status soft_gradient_in_place(E *e) {
  return rwwce_soft_gradient_in_place(OPTS, FLOATS(LOGITS), FLOATS(TARGETS), SUMMARY, e);
}
static rwwce_status loss_from_probabilities(E *e) {
  return rwwce_loss_from_probabilities(OPTS, FLOATS(PROBABILITIES), THE_LABELS, number,
                                       FLOATS(ROW_LOSSES), SUMMARY, e);
}
static rwwce_status loss_from_log_probabilities(E *e) {
  return rwwce_loss_from_log_probabilities(OPTS, FLOATS(LOG_PROBABILITIES), THE_LABELS,
                                           FLOATS(ROW_LOSSES), SUMMARY, e);
}
static rwwce_status gradient_from_log_probabilities(E *e) {
  return rwwce_gradient_from_log_probabilities(OPTS, THE_LABELS, FLOATS(GRADIENT), e);
}
static rwwce_status log_probabilities(E *e) {
  return rwwce_log_probabilities(OPTS, THE_LOGITS, FLOATS(LOG_PROBABILITIES), e);
}
static rwwce_status log_sum_exps(E *e) {
  return rwwce_log_sum_exps(OPTS, THE_LOGITS, FLOATS(LOG_SUM_EXPS), e);
}
static rwwce_status weighted_row_losses(E *e) {
  return rwwce_weighted_row_losses(classes, FLOATS(CLASS_WEIGHTS), FLOATS(LOGITS),
                                   AT(int32_t, LABELS), COUNT(LABELS), FLOATS(ROW_LOSSES), e);
}
static rwwce_status widen(E *e) {
  return rwwce_widen(THE_LOGITS, given_type, scale, zero_point, FLOATS(NUMBERS), e);
}
static rwwce_status log_sum_exp(E *e) {
  return rwwce_log_sum_exp(FLOATS(LOGITS), backend, AT(float, RESULT), e);
}
static rwwce_status binary_loss(E *e) {
  return rwwce_binary_loss(BINARY, THE_LOGITS, FLOATS(TARGETS), FLOATS(ROW_LOSSES), SUMMARY, e);
}
static rwwce_status binary_gradient(E *e) {
  return rwwce_binary_gradient(BINARY, THE_LOGITS, FLOATS(TARGETS), FLOATS(GRADIENT), SUMMARY,
                               e);
}
static rwwce_status binary_gradient_in_place(E *e) {
  return rwwce_binary_gradient_in_place(BINARY, FLOATS(LOGITS), FLOATS(TARGETS), SUMMARY, e);
}
static rwwce_status count_labels(E *e) {
  return rwwce_count_labels(THE_LABELS, AT(int64_t, IGNORE_INDEX), INTEGERS(COUNTS),
                            AT(uint64_t, RESULT), e);
}
static rwwce_status class_weights(E *e) {
  return rwwce_class_weights(AT(rwwce_class_weights_options, OPTIONS), INTEGERS(COUNTS),
                             FLOATS(CLASS_WEIGHTS), e);
}
static rwwce_status total_merge(E *e) {
  rwwce_total *const other = (rwwce_total *)(void *)place_of(OTHER)->at;
  return rwwce_total_merge(AT(rwwce_total, PARTIAL), other, e);
}
static rwwce_status total_reduce(E *e) {
  return rwwce_total_reduce(AT(rwwce_total, PARTIAL), how, if_zero, AT(float, RESULT), e);
}
static rwwce_status total_denominator(E *e) {
  return rwwce_total_denominator(AT(rwwce_total, PARTIAL), how, AT(double, RESULT), e);
}
static rwwce_status weigh(E *e) {
  return rwwce_weigh(OPTS, THE_LABELS, AT(rwwce_total, RESULT), e);
}
static rwwce_status weigh_soft(E *e) {
  return rwwce_weigh_soft(OPTS, FLOATS(TARGETS), AT(rwwce_total, RESULT), e);
}
static rwwce_status binary_weigh(E *e) {
  return rwwce_binary_weigh(BINARY, FLOATS(TARGETS), AT(rwwce_total, RESULT), e);
}
static rwwce_status curvature(E *e) {
  return rwwce_curvature(OPTS, THE_LOGITS, THE_LABELS, which_curvature, FLOATS(CURVATURE), e);
}
static rwwce_status soft_curvature(E *e) {
  return rwwce_soft_curvature(OPTS, THE_LOGITS, FLOATS(TARGETS), which_curvature,
                              FLOATS(CURVATURE), e);
}
static rwwce_status binary_curvature(E *e) {
  return rwwce_binary_curvature(BINARY, THE_LOGITS, FLOATS(TARGETS), FLOATS(CURVATURE), e);
}
static rwwce_status row_partial_of(E *e) {
  return rwwce_row_partial_of(FLOATS(LOGITS), label, backend, AT(rwwce_row_partial, PARTIAL), e);
}
static rwwce_status row_partial_merge(E *e) {
  rwwce_row_partial *const other = (rwwce_row_partial *)(void *)place_of(OTHER)->at;
  return rwwce_row_partial_merge(AT(rwwce_row_partial, PARTIAL), other, e);
}
static rwwce_status row_partial_loss(E *e) {
  return rwwce_row_partial_loss(AT(rwwce_row_partial, PARTIAL), number, AT(float, RESULT), e);
}
static rwwce_status row_partial_log_sum_exp(E *e) {
  return rwwce_row_partial_log_sum_exp(AT(rwwce_row_partial, PARTIAL), AT(float, RESULT), e);
}
static rwwce_status row_partial_gradient(E *e) {
  return rwwce_row_partial_gradient(AT(rwwce_row_partial, PARTIAL), FLOATS(LOGITS), label, number,
                                    FLOATS(GRADIENT), e);
}
static rwwce_status decide(E *e) {
  return rwwce_decide(OPTS, THE_LOGITS, AT(uint32_t, DECISIONS), COUNT(DECISIONS),
                      FLOATS(EXPECTED_COSTS), AT(size_t, RESULT), e);
}
static rwwce_status decide_from_probabilities(E *e) {
  return rwwce_decide_from_probabilities(OPTS, FLOATS(PROBABILITIES), AT(uint32_t, DECISIONS),
                                         COUNT(DECISIONS), FLOATS(EXPECTED_COSTS),
                                         AT(size_t, RESULT), e);
}
static rwwce_status add_class_sums(E *e) {
  return rwwce_add_class_sums(OPTS, THE_LABELS, FLOATS(ROW_LOSSES), INTEGERS(COUNTS),
                              DOUBLES(WEIGHT_SUMS), DOUBLES(LOSS_SUMS), e);
}
static rwwce_status add_confusion(E *e) {
  return rwwce_add_confusion(OPTS, THE_LOGITS, THE_LABELS, INTEGERS(CONFUSION),
                             AT(size_t, RESULT), e);
}
static rwwce_status decision_cost(E *e) {
  return rwwce_decision_cost(INTEGERS(CONFUSION), FLOATS(MISS_COSTS), FLOATS(MISLABEL_COSTS),
                             AT(double, RESULT), e);
}

#define SIZES_OF_LOSS sizeof(rwwce_options), sizeof(rwwce_summary), 0
#define SIZES_OF_BINARY sizeof(rwwce_binary_options), sizeof(rwwce_summary), 0
#define SIZES_OF_TOTAL 0, sizeof(float), sizeof(rwwce_total)
#define SIZES_OF_PARTIAL 0, sizeof(float), sizeof(rwwce_row_partial)
#define READ(name) {A(name), ARRAY}
#define READ_ANY(name) {A(name), ARRAY | ANY_LENGTH}
#define READ_LOGITS {A(LOGITS), ARRAY | ANY_TYPE}
#define READ_LABELS {A(LABELS), ARRAY | ANY_TYPE}
#define READ_ANY_LABELS {A(LABELS), ARRAY | ANY_TYPE | ANY_LENGTH}
#define WRITE(name) {A(name), ARRAY | WRITTEN}
#define RESULT_IF_ANY {A(RESULT), WRITTEN | OPTIONAL}
#define ONE_RESULT {A(RESULT), WRITTEN}
#define ITS_OPTIONS {A(OPTIONS), 0}
#define WEIGHTS ITS_OPTIONS, READ(CLASS_WEIGHTS), READ(SAMPLE_WEIGHTS)
#define COSTS WEIGHTS, READ(MISLABEL_COSTS), READ(CLASS_BIAS)
#define BINARY_COSTS ITS_OPTIONS, READ(MISS_COSTS), READ(FALSE_ALARM_COSTS), READ(SAMPLE_WEIGHTS)

const Function functions[FUNCTIONS] = {
  {"rwwce_loss", loss, SIZES_OF_LOSS,
   {COSTS, READ_ANY(UPSTREAM), READ_LOGITS, READ_LABELS, WRITE(ROW_LOSSES), RESULT_IF_ANY}},
  {"rwwce_loss_gradient", loss_gradient, SIZES_OF_LOSS,
   {COSTS, READ(UPSTREAM), READ_LOGITS, READ_LABELS, WRITE(GRADIENT), RESULT_IF_ANY}},
  {"rwwce_loss_gradient_in_place", loss_gradient_in_place, SIZES_OF_LOSS,
   {COSTS, READ(UPSTREAM), READ_LABELS, WRITE(LOGITS), RESULT_IF_ANY}},
  {"rwwce_soft_loss", soft_loss, SIZES_OF_LOSS,
   {WEIGHTS, READ(CLASS_BIAS), READ_LOGITS, READ(TARGETS), WRITE(ROW_LOSSES), RESULT_IF_ANY}},
  {"rwwce_soft_gradient", soft_gradient, SIZES_OF_LOSS,
   {WEIGHTS, READ(CLASS_BIAS), READ(UPSTREAM), READ_LOGITS, READ(TARGETS), WRITE(GRADIENT),
    RESULT_IF_ANY}},
  {"rwwce_soft_gradient_in_place", soft_gradient_in_place, SIZES_OF_LOSS,
   {WEIGHTS, READ(CLASS_BIAS), READ(UPSTREAM), READ(TARGETS), WRITE(LOGITS), RESULT_IF_ANY}},
  {"rwwce_loss_from_probabilities", loss_from_probabilities, SIZES_OF_LOSS,
   {WEIGHTS, READ(MISLABEL_COSTS), READ(PROBABILITIES), READ_LABELS, WRITE(ROW_LOSSES),
    RESULT_IF_ANY}},
  {"rwwce_loss_from_log_probabilities", loss_from_log_probabilities, SIZES_OF_LOSS,
   {WEIGHTS, READ(LOG_PROBABILITIES), READ_LABELS, WRITE(ROW_LOSSES), RESULT_IF_ANY}},
  {"rwwce_gradient_from_log_probabilities", gradient_from_log_probabilities, SIZES_OF_LOSS,
   {WEIGHTS, READ(UPSTREAM), READ_LABELS, WRITE(GRADIENT)}},
  {"rwwce_log_probabilities", log_probabilities, SIZES_OF_LOSS,
   {ITS_OPTIONS, READ(CLASS_BIAS), READ_LOGITS, WRITE(LOG_PROBABILITIES)}},
  {"rwwce_log_sum_exps", log_sum_exps, SIZES_OF_LOSS,
   {ITS_OPTIONS, READ(CLASS_BIAS), READ_LOGITS, WRITE(LOG_SUM_EXPS)}},
  {"rwwce_weighted_row_losses", weighted_row_losses, 0, 0, 0,
   {READ(CLASS_WEIGHTS), READ(LOGITS), READ_ANY(LABELS), WRITE(ROW_LOSSES)}},
  {"rwwce_widen", widen, 0, 0, 0, {{A(LOGITS), ARRAY | ANY_TYPE | ANY_LENGTH}, WRITE(NUMBERS)}},
  {"rwwce_log_sum_exp", log_sum_exp, 0, sizeof(float), 0, {READ_ANY(LOGITS), ONE_RESULT}},
  {"rwwce_binary_loss", binary_loss, SIZES_OF_BINARY,
   {BINARY_COSTS, READ_LOGITS, READ(TARGETS), WRITE(ROW_LOSSES), RESULT_IF_ANY}},
  {"rwwce_binary_gradient", binary_gradient, SIZES_OF_BINARY,
   {BINARY_COSTS, READ(UPSTREAM), READ_LOGITS, READ(TARGETS), WRITE(GRADIENT), RESULT_IF_ANY}},
  {"rwwce_binary_gradient_in_place", binary_gradient_in_place, SIZES_OF_BINARY,
   {BINARY_COSTS, READ(UPSTREAM), READ(TARGETS), WRITE(LOGITS), RESULT_IF_ANY}},
  {"rwwce_count_labels", count_labels, 0, sizeof(uint64_t), 0,
   {READ_ANY_LABELS, {A(IGNORE_INDEX), OPTIONAL}, {A(COUNTS), ARRAY | WRITTEN | ANY_LENGTH},
    RESULT_IF_ANY}},
  {"rwwce_class_weights", class_weights, sizeof(rwwce_class_weights_options), 0, 0,
   {ITS_OPTIONS, READ_ANY(COUNTS), WRITE(CLASS_WEIGHTS)}},
  {"rwwce_total_merge", total_merge, SIZES_OF_TOTAL, {{A(PARTIAL), WRITTEN}, {OTHER, 0}}},
  {"rwwce_total_reduce", total_reduce, SIZES_OF_TOTAL, {{A(PARTIAL), 0}, ONE_RESULT}},
  {"rwwce_total_denominator", total_denominator, 0, sizeof(double), sizeof(rwwce_total),
   {{A(PARTIAL), 0}, ONE_RESULT}},
  {"rwwce_weigh", weigh, sizeof(rwwce_options), sizeof(rwwce_total), 0,
   {WEIGHTS, READ_ANY(MISLABEL_COSTS), READ_ANY(CLASS_BIAS), READ_ANY(UPSTREAM), READ_LABELS,
    ONE_RESULT}},
  {"rwwce_weigh_soft", weigh_soft, sizeof(rwwce_options), sizeof(rwwce_total), 0,
   {WEIGHTS, READ(CLASS_BIAS), READ_ANY(UPSTREAM), READ(TARGETS), ONE_RESULT}},
  {"rwwce_binary_weigh", binary_weigh, sizeof(rwwce_binary_options), sizeof(rwwce_total), 0,
   {BINARY_COSTS, READ_ANY(UPSTREAM), READ(TARGETS), ONE_RESULT}},
  {"rwwce_curvature", curvature, sizeof(rwwce_options), 0, 0,
   {COSTS, READ(UPSTREAM), READ_LOGITS, READ_LABELS, WRITE(CURVATURE)}},
  {"rwwce_soft_curvature", soft_curvature, sizeof(rwwce_options), 0, 0,
   {WEIGHTS, READ(CLASS_BIAS), READ(UPSTREAM), READ_LOGITS, READ(TARGETS), WRITE(CURVATURE)}},
  {"rwwce_binary_curvature", binary_curvature, sizeof(rwwce_binary_options), 0, 0,
   {BINARY_COSTS, READ(UPSTREAM), READ_LOGITS, READ(TARGETS), WRITE(CURVATURE)}},
  {"rwwce_row_partial_of", row_partial_of, SIZES_OF_PARTIAL,
   {READ_ANY(LOGITS), {A(PARTIAL), WRITTEN}}},
  {"rwwce_row_partial_merge", row_partial_merge, SIZES_OF_PARTIAL,
   {{A(PARTIAL), WRITTEN}, {OTHER, 0}}},
  {"rwwce_row_partial_loss", row_partial_loss, SIZES_OF_PARTIAL, {{A(PARTIAL), 0}, ONE_RESULT}},
  {"rwwce_row_partial_log_sum_exp", row_partial_log_sum_exp, SIZES_OF_PARTIAL,
   {{A(PARTIAL), 0}, ONE_RESULT}},
  {"rwwce_row_partial_gradient", row_partial_gradient, SIZES_OF_PARTIAL,
   {{A(PARTIAL), 0}, READ_ANY(LOGITS), WRITE(GRADIENT)}},
  {"rwwce_decide", decide, sizeof(rwwce_options), sizeof(size_t), 0,
   {COSTS, READ_LOGITS, WRITE(DECISIONS), WRITE(EXPECTED_COSTS), RESULT_IF_ANY}},
  {"rwwce_decide_from_probabilities", decide_from_probabilities, sizeof(rwwce_options),
   sizeof(size_t), 0,
   {WEIGHTS, READ(MISLABEL_COSTS), READ(PROBABILITIES), WRITE(DECISIONS), WRITE(EXPECTED_COSTS),
    RESULT_IF_ANY}},
  {"rwwce_add_class_sums", add_class_sums, SIZES_OF_LOSS,
   {WEIGHTS, READ_ANY(MISLABEL_COSTS), READ_ANY(CLASS_BIAS), READ_ANY(UPSTREAM), READ_ANY_LABELS,
    READ(ROW_LOSSES), WRITE(COUNTS), WRITE(WEIGHT_SUMS), WRITE(LOSS_SUMS)}},
  {"rwwce_add_confusion", add_confusion, sizeof(rwwce_options), sizeof(size_t), 0,
   {COSTS, READ_LOGITS, READ_LABELS, WRITE(CONFUSION), RESULT_IF_ANY}},
  {"rwwce_decision_cost", decision_cost, 0, sizeof(double), 0,
   {READ(CONFUSION), READ_ANY(MISS_COSTS), READ(MISLABEL_COSTS), ONE_RESULT}},
};

const Use *use_of(const Function *function, rwwce_argument argument) {
  for (const Use *use = function->uses; use->argument != 0; use++) {
    if (use->argument == argument) return use;
  }
  return NULL;
}

int is_binary(const Function *function) {
  return function->options_size == sizeof(rwwce_binary_options);
}

int reads_any_type(const Function *function, rwwce_argument argument) {
  const Use *const use = use_of(function, argument);
  return use != NULL && use->how & ANY_TYPE;
}

/* Good arguments ------------------------------------------------------------------------------ */

static size_t good_count(rwwce_argument argument) {
  switch (argument) {
    case A(LOGITS): case A(PROBABILITIES): case A(TARGETS):
    case A(GRADIENT): case A(CURVATURE): case A(LOG_PROBABILITIES): case A(NUMBERS):
      return ELEMENTS;
    case A(SAMPLE_WEIGHTS): case A(UPSTREAM): case A(ROW_LOSSES):
      return is_binary(now) ? ELEMENTS : ROWS;
    case A(LABELS): case A(LOG_SUM_EXPS): case A(DECISIONS): case A(EXPECTED_COSTS): return ROWS;
    case A(MISLABEL_COSTS): case A(CONFUSION): return C * C;
    case A(CLASS_WEIGHTS): case A(CLASS_BIAS): case A(MISS_COSTS): case A(FALSE_ALARM_COSTS):
    case A(COUNTS): case A(WEIGHT_SUMS): case A(LOSS_SUMS): return C;
    default: return 1;
  }
}

/* The type of the logits, and as integers their zero point. Their scale is a quarter. */
static rwwce_logit_type its_type(void) {
  return reads_any_type(now, A(LOGITS)) ? logit_type : RWWCE_LOGIT_F32;
}
static const int zero_points[] = {0, -3, 100, 0, 0};

static size_t size_of_logit(void) {
  static const size_t sizes[] = {4, 1, 1, 2, 2};
  return sizes[its_type()];
}

static size_t size_of_label(void) {
  static const size_t sizes[] = {0, 1, 2, 4, 4, 8};
  return sizes[label_type];
}

static size_t size_of(rwwce_argument argument) {
  switch (argument) {
    case A(LOGITS): return size_of_logit();
    case A(LABELS): return size_of_label();
    case A(COUNTS): case A(CONFUSION): case A(WEIGHT_SUMS): case A(LOSS_SUMS):
    case A(IGNORE_INDEX): return 8;
    case A(OPTIONS): return now->options_size;
    case A(RESULT): return now->result_size;
    case A(PARTIAL): case OTHER: return now->partial_size;
    default: return sizeof(float);
  }
}

void set_label(size_t row, int64_t value) {
  unsigned char *const at = home_of(A(LABELS)) + row * size_of_label();
  switch (label_type) {
    case RWWCE_LABEL_U8: *at = (uint8_t)value; break;
    case RWWCE_LABEL_U16: *(uint16_t *)(void *)at = (uint16_t)value; break;
    case RWWCE_LABEL_U32: *(uint32_t *)(void *)at = (uint32_t)value; break;
    case RWWCE_LABEL_I32: *(int32_t *)(void *)at = (int32_t)value; break;
    default: *(int64_t *)(void *)at = value; break;
  }
}

/* Four times a logit, the same integer for every type. */
static int quarters(size_t i) { return (int)(i * 7 % 11) - 4; }

/* The bits of a float in bfloat16, or in binary16, which must both hold it exactly. */
static uint16_t half_of(float value, int is_binary16) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (!is_binary16) return (uint16_t)(bits >> 16);
  if (value == 0.0f) return 0;
  return (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 13 & 0x3ffff) - (112 << 10)));
}

static void set_logit(size_t i) {
  const rwwce_logit_type type = its_type();
  unsigned char *const at = home_of(A(LOGITS)) + i * size_of_logit();
  const float value = 0.25f * (float)quarters(i);
  switch (type) {
    case RWWCE_LOGIT_F32: *(float *)(void *)at = value; break;
    case RWWCE_LOGIT_I8: *(int8_t *)(void *)at = (int8_t)(quarters(i) + zero_points[type]); break;
    case RWWCE_LOGIT_U8: *at = (uint8_t)(quarters(i) + zero_points[type]); break;
    default: *(uint16_t *)(void *)at = half_of(value, type == RWWCE_LOGIT_F16); break;
  }
}

void set_logit_type(rwwce_logit_type type, float its_scale, int32_t its_zero_point) {
  given_type = type;
  scale = its_scale;
  zero_point = its_zero_point;
  if (now->options_size == sizeof(rwwce_options)) {
    rwwce_options *const options = HOME(rwwce_options, OPTIONS);
    options->logit_type = type;
    options->logit_scale = its_scale;
    options->logit_zero_point = its_zero_point;
  } else if (is_binary(now)) {
    rwwce_binary_options *const options = HOME(rwwce_binary_options, OPTIONS);
    options->logit_type = type;
    options->logit_scale = its_scale;
    options->logit_zero_point = its_zero_point;
  }
}

static float good_float(rwwce_argument argument, size_t i) {
  switch (argument) {
    case A(PROBABILITIES): return 0.125f + 0.0625f * (float)(i * 5 % 7);
    case A(TARGETS): return 0.125f * (float)(i * 3 % 9);
    /* The diagonal is 0. */
    case A(MISLABEL_COSTS): return i % (C + 1) == 0 ? 0.0f : 0.25f * (float)(i % 7);
    case A(CLASS_BIAS): return 0.125f * (float)i - 0.25f;
    default: return 0.5f + 0.25f * (float)(i * 3 % 5);
  }
}

/* Fills an array, and some elements behind it, so that a count may be too large by one. */
static void fill(rwwce_argument argument, int is_output) {
  const size_t count = good_count(argument) + 8;
  for (size_t i = 0; i < count; i++) {
    float *const f = (float *)(void *)home_of(argument);
    uint64_t *const u = (uint64_t *)(void *)home_of(argument);
    double *const d = (double *)(void *)home_of(argument);
    switch (argument) {
      case A(LABELS): set_label(i, (int64_t)(i * 3 % C)); break;
      case A(LOGITS): set_logit(i); break;
      case A(COUNTS): case A(CONFUSION): u[i] = 1 + i * i; break;
      case A(WEIGHT_SUMS): case A(LOSS_SUMS): d[i] = 0.5 * (double)i; break;
      default: f[i] = is_output ? -7.0f : good_float(argument, i); break;
    }
  }
}

/* Where scale and zero point do not matter, they are values that would be refused elsewhere. */
static void set_its_type(void) {
  const rwwce_logit_type type = its_type();
  const int is_integer = type == RWWCE_LOGIT_I8 || type == RWWCE_LOGIT_U8;
  set_logit_type(type, is_integer ? 0.25f : -1.0f, is_integer ? zero_points[type] : 1000);
}

static void set_options(void) {
  /* Static, so that the padding has a value, too. */
  static const rwwce_options options = RWWCE_OPTIONS_INIT(C);
  static const rwwce_binary_options binary = RWWCE_BINARY_OPTIONS_INIT(C);
  static const rwwce_class_weights_options weighting =
    RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(RWWCE_SCHEME_BALANCED);
  if (now->options_size == sizeof options) {
    memcpy(home_of(A(OPTIONS)), &options, sizeof options);
    HOME(rwwce_options, OPTIONS)->positions = D;
  } else if (is_binary(now)) {
    memcpy(home_of(A(OPTIONS)), &binary, sizeof binary);
  } else if (now->options_size != 0) {
    memcpy(home_of(A(OPTIONS)), &weighting, sizeof weighting);
  }
}

static void set_partials(void) {
  const rwwce_row_partial part = {2.0f, 1.0f, 1.5, 4, 1}, other_part = {2.5f, 0.0f, 0.75, 3, 0};
  const rwwce_total total = {12.0, 8.0, 4.0, 3, 16, 1}, other_total = {6.0, 1.0, 2.0, 1, 4, 0};
  if (now->partial_size == sizeof total) {
    memcpy(home_of(A(PARTIAL)), &total, sizeof total);
    memcpy(home_of(OTHER), &other_total, sizeof total);
  } else if (now->partial_size != 0) {
    memcpy(home_of(A(PARTIAL)), &part, sizeof part);
    memcpy(home_of(OTHER), &other_part, sizeof part);
  }
}

void prepare(const Function *function) {
  now = function;
  number = 0.5f;
  classes = C;
  label = 5;
  backend = NULL;
  how = RWWCE_REDUCTION_MEAN_ROWS;
  if_zero = RWWCE_ZERO_DENOMINATOR_NAN;
  which_curvature = RWWCE_CURVATURE_DIAGONAL;
  snprintf(context, sizeof context, "%s", now->name);
  memset(arena, 0xa5, ARENA);
  memset(places, 0, sizeof places);
  set_options();
  set_its_type();
  set_partials();
  if (use_of(now, A(IGNORE_INDEX)) != NULL) *HOME(int64_t, IGNORE_INDEX) = 77;
  for (const Use *use = now->uses; use->argument != 0; use++) {
    const Place place = {home_of(use->argument), good_count(use->argument), size_of(use->argument)};
    *place_of(use->argument) = place;
    if (use->how & ARRAY) fill(use->argument, use->how & WRITTEN);
  }
}

void prepare_named(const char *name) {
  for (int i = 0; i < FUNCTIONS; i++) {
    if (strcmp(functions[i].name, name) == 0) {
      prepare(&functions[i]);
      return;
    }
  }
  fprintf(stderr, "no function %s\n", name);
  abort();
}

#define LINK(argument, member)                                    \
  if (use_of(now, A(argument)) != NULL) {                         \
    options->member = AT(float, argument);                        \
    options->member##_count = COUNT(argument);                    \
  }
void link_options(void) {
  if (now->options_size == sizeof(rwwce_options)) {
    rwwce_options *const options = HOME(rwwce_options, OPTIONS);
    LINK(CLASS_WEIGHTS, class_weights)
    LINK(SAMPLE_WEIGHTS, sample_weights)
    LINK(MISLABEL_COSTS, mislabel_costs)
    LINK(CLASS_BIAS, class_bias)
    LINK(UPSTREAM, row_upstream)
  } else if (is_binary(now)) {
    rwwce_binary_options *const options = HOME(rwwce_binary_options, OPTIONS);
    LINK(MISS_COSTS, miss_costs)
    LINK(FALSE_ALARM_COSTS, false_alarm_costs)
    LINK(SAMPLE_WEIGHTS, sample_weights)
    LINK(UPSTREAM, row_upstream)
  }
}

/* Calls --------------------------------------------------------------------------------------- */

rwwce_error problem(rwwce_status status, rwwce_argument argument) {
  rwwce_error error;
  memset(&error, 0, sizeof error);
  error.status = status;
  error.argument = argument;
  return error;
}
rwwce_error problem_at(rwwce_status status, rwwce_argument argument, size_t index) {
  rwwce_error error = problem(status, argument);
  error.index = index;
  return error;
}
rwwce_error problem_with(rwwce_status status, rwwce_argument argument, rwwce_argument other) {
  rwwce_error error = problem(status, argument);
  error.other_argument = other;
  return error;
}
rwwce_error problem_found(rwwce_status status, rwwce_argument argument, size_t wanted,
                          size_t found) {
  rwwce_error error = problem(status, argument);
  error.expected = wanted;
  error.found = found;
  return error;
}
rwwce_error problem_of_label(size_t row, int64_t value, size_t classes) {
  rwwce_error error = problem(RWWCE_ERROR_LABEL_OUT_OF_RANGE, RWWCE_ARGUMENT_LABELS);
  error.row = row;
  error.label = value;
  error.expected = classes;
  return error;
}

static int is_same_error(const rwwce_error *a, const rwwce_error *b) {
  return a->status == b->status && a->argument == b->argument &&
         a->other_argument == b->other_argument && a->row == b->row && a->index == b->index &&
         a->expected == b->expected && a->found == b->found && a->label == b->label;
}

static void print_error(const char *what, const rwwce_error *e) {
  fprintf(stderr, "  %s: status %lu, argument %lu, other %lu, row %zu, index %zu", what,
          (unsigned long)e->status, (unsigned long)e->argument, (unsigned long)e->other_argument,
          e->row, e->index);
  fprintf(stderr, ", expected %zu, found %zu, label %lld\n", e->expected, e->found,
          (long long)e->label);
}

void refused_at(rwwce_error wanted, const char *file, int line) {
  link_options();
  memcpy(before, arena, ARENA);
  rwwce_error error = problem(99, 99);
  const rwwce_status status = now->call(&error);
  check(status == wanted.status, "the status", file, line);
  if (!check(is_same_error(&error, &wanted), "the members of the error", file, line)) {
    print_error("found", &error);
    print_error("wanted", &wanted);
  }
  unsigned char bytes[sizeof(rwwce_error) + 1];
  check(now->call((rwwce_error *)(void *)(bytes + 1)) == status, "with an unaligned error", file,
        line);
  memcpy(&error, bytes + 1, sizeof error);
  check(is_same_error(&error, &wanted), "the members of an unaligned error", file, line);
  check(now->call(NULL) == status, "without an error", file, line);
  check(memcmp(before, arena, ARENA) == 0, "nothing is written", file, line);
}

void tidy_summary(void) {
  unsigned char *const at = place_of(A(RESULT))->at;
  if (now->result_size != sizeof(rwwce_summary) || at == NULL) return;
  rwwce_summary found, tidied;
  memcpy(&found, at, sizeof found);
  memset(&tidied, 0, sizeof tidied);
  tidied.loss = found.loss;
  tidied.sum = found.sum;
  tidied.denominator = found.denominator;
  tidied.rows = found.rows;
  tidied.non_finite = found.non_finite;
  tidied.total = found.total;
  memcpy(at, &tidied, sizeof tidied);
}

void call_at(const char *file, int line) {
  link_options();
  rwwce_error error = problem(99, 99);
  const rwwce_error none = problem(RWWCE_OK, RWWCE_ARGUMENT_NONE);
  check(now->call(&error) == RWWCE_OK, "the call succeeds", file, line);
  if (!check(is_same_error(&error, &none), "there is no error", file, line)) {
    print_error("found", &error);
  }
  tidy_summary();
}

void accepted_at(const char *file, int line) {
  link_options();
  memcpy(expected, arena, ARENA);
  for (const Use *use = now->uses; use->argument != 0; use++) {
    const Place *const place = place_of(use->argument);
    if (!(use->how & WRITTEN) || place->at == NULL) continue;
    const unsigned char *const wanted = reference + (home_of(use->argument) - arena);
    memcpy(expected + (place->at - arena), wanted, place->count * place->size);
  }
  call_at(file, line);
  check(memcmp(arena, expected, ARENA) == 0, "outputs are written, and nothing else", file, line);
}
