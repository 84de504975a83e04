/* Argument checks of the C interface: every kind of bad argument of every function is refused
 * with the right status and place, and leaves every output as it was. Results of good arguments
 * are in results.c. */
#include "arguments.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void call_reference(const Function *function) {
  prepare(function);
  CALL();
  memcpy(reference, arena, ARENA);
}

/* The walk through the table ------------------------------------------------------------------ */

static Place *prepare_place(const Function *function, const Use *use, const char *what) {
  prepare(function);
  snprintf(context, sizeof context, "%s, argument %lu, %s", function->name,
           (unsigned long)use->argument, what);
  return place_of(use->argument);
}

/* Puts an array elsewhere in the arena. */
static void move(Place *place, unsigned char *at) {
  memmove(at, place->at, place->count * place->size);
  place->at = at;
}

static void null_and_misaligned(const Function *function, const Use *use) {
  const rwwce_argument argument = use->argument == OTHER ? A(PARTIAL) : use->argument;
  prepare_place(function, use, "NULL")->at = NULL;
  if (use->how & OPTIONAL) {
    ACCEPTED();
  } else {
    REFUSED(problem(RWWCE_ERROR_NULL, argument));
  }
  for (size_t offset = 1; offset < 8; offset *= 2) {
    Place *const place = prepare_place(function, use, "misaligned");
    if (offset < place->size) {
      place->at += offset;
      REFUSED(problem(RWWCE_ERROR_MISALIGNED, argument));
    } else if (use->how & ARRAY) {
      move(place, place->at + offset);
      ACCEPTED();
    }
  }
}

static void counts(const Function *function, const Use *use) {
  const size_t size = place_of(use->argument)->size;
  const size_t huge[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 / size + 1, SIZE_MAX / size};
  for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
    if (huge[i] <= SIZE_MAX / 2 / size) continue;
    prepare_place(function, use, "huge")->count = huge[i];
    REFUSED(problem_found(RWWCE_ERROR_SIZE_OVERFLOW, use->argument, 0, huge[i]));
  }
  if (!(use->how & ANY_LENGTH)) {
    Place *const place = prepare_place(function, use, "one too many");
    place->count++;
    REFUSED(problem_found(RWWCE_ERROR_LENGTH, use->argument, place->count - 1, place->count));
  }
  Place *const place = prepare_place(function, use, "NULL without elements");
  place->at = NULL;
  place->count = 0;
  link_options();
  memcpy(before, arena, ARENA);
  const rwwce_status status = now->call(NULL);
  CHECK(status == RWWCE_OK || status == RWWCE_ERROR_LENGTH || status == RWWCE_ERROR_NO_CLASSES ||
        status == RWWCE_ERROR_LABEL_OUT_OF_RANGE);
  if (status != RWWCE_OK) CHECK(memcmp(before, arena, ARENA) == 0);
}

static size_t round_up(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

/* An output may be adjacent to another array, but not overlap it. */
static void overlaps(const Function *function, const Use *written, const Use *use) {
  /* Of two outputs the error names the later one, with the earlier one as the other. */
  const int swap = use->how & WRITTEN && use > written;
  const rwwce_error wanted =
    problem_with(RWWCE_ERROR_OVERLAP, swap ? use->argument : written->argument,
                 swap ? written->argument : use->argument);
  for (int where = 0; where < 5; where++) {
    Place *const place = prepare_place(function, written, "overlapping another");
    const Place other = *place_of(use->argument);
    const size_t bytes = place->count * place->size, other_bytes = other.count * other.size;
    switch (where) {
      case 0: place->at = other.at; REFUSED(wanted); break;
      case 1: place->at = other.at + (other_bytes - 1) / 8 * 8; REFUSED(wanted); break;
      case 2: place->at = other.at - round_up(bytes, 8) + 8; REFUSED(wanted); break;
      case 3: move(place, other.at + round_up(other_bytes, place->size)); ACCEPTED(); break;
      default: move(place, other.at - bytes); ACCEPTED(); break;
    }
  }
}

/* Inputs may share memory, if their values are good there. */
static void shared(const Function *function, const Use *first, const Use *second) {
  prepare_place(function, first, "shared");
  place_of(second->argument)->at = place_of(first->argument)->at;
  link_options();
  CHECK(now->call(NULL) != RWWCE_ERROR_OVERLAP);
}

/* A result of a single value must not overlap either. */
static void results_that_overlap(void) {
  const uint8_t labels[] = {0, 1, 1};
  uint64_t counts[] = {7, 7};
  rwwce_error error;
  CHECK(rwwce_count_labels(labels, 3, RWWCE_LABEL_U8, NULL, counts, 2, &counts[1], &error) ==
        RWWCE_ERROR_OVERLAP);
  CHECK(error.argument == A(COUNTS) && error.other_argument == A(RESULT));
  CHECK(counts[0] == 7 && counts[1] == 7);

  const rwwce_options options = RWWCE_OPTIONS_INIT(2);
  const float logits[] = {1.0f, 2.0f};
  union {
    rwwce_summary summary;
    float gradient[2];
  } shared = {{1.0f, 0.0, 0.0, 0, 0, RWWCE_TOTAL_INIT}};
  CHECK(rwwce_loss_gradient(&options, logits, 2, labels, 1, RWWCE_LABEL_U8, shared.gradient, 2,
                            &shared.summary, &error) == RWWCE_ERROR_OVERLAP);
  CHECK(shared.gradient[0] == 1.0f);
}

/* In blocks of their exact size a memory checker finds any access out of bounds. */
static void blocks_of_their_own(const Function *function) {
  prepare(function);
  for (int options = 0; options < 2; options++) {
    for (const Use *use = now->uses; use->argument != 0; use++) {
      if ((use->argument == A(OPTIONS)) != options) continue;
      link_options();
      Place *const place = place_of(use->argument);
      const size_t bytes = place->count * place->size;
      unsigned char *const block = (unsigned char *)malloc(bytes);
      if (block == NULL) abort();
      memcpy(block, place->at, bytes);
      place->at = block;
    }
  }
  CHECK(now->call(NULL) == RWWCE_OK);
  tidy_summary();
  for (const Use *use = now->uses; use->argument != 0; use++) {
    Place *const place = place_of(use->argument);
    const unsigned char *const wanted = reference + (home_of(use->argument) - arena);
    if (use->how & WRITTEN) CHECK(memcmp(place->at, wanted, place->count * place->size) == 0);
    free(place->at);
  }
}

/* Everything that can be tried with any function. */
static void walk(const Function *function) {
  call_reference(function);
  prepare(function);
  ACCEPTED();
  blocks_of_their_own(function);
  for (const Use *use = function->uses; use->argument != 0; use++) {
    null_and_misaligned(function, use);
    if (!(use->how & ARRAY)) continue;
    counts(function, use);
    for (const Use *other = function->uses; other->argument != 0; other++) {
      if (other == use || !(other->how & ARRAY)) continue;
      if (other->how & WRITTEN) {
        overlaps(function, other, use);
      } else if (!(use->how & WRITTEN)) {
        shared(function, other, use);
      }
    }
  }
}

/* Options that every function checks ---------------------------------------------------------- */

static void sizes_of_structs(const Function *function) {
  const size_t size = function->options_size;
  const size_t sizes[] = {0, 1, size - 1, size + 8, size + 9, SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    prepare(function);
    unsigned char *const options = home_of(A(OPTIONS));
    memcpy(options, &sizes[i], sizeof(size_t));
    /* The last byte of a later version is set. */
    memset(options + size, 0, 16);
    if (sizes[i] > size && sizes[i] < BLOCK) options[sizes[i] - 1] = 1;
    REFUSED(problem_found(RWWCE_ERROR_STRUCT_SIZE, A(OPTIONS), size, sizes[i]));
    if (sizes[i] > size && sizes[i] < BLOCK) {
      options[sizes[i] - 1] = 0;
      ACCEPTED();
    }
  }
}

/* Whether the call has a logit type. */
static int has_logit_type(const Function *function) {
  return function->options_size == sizeof(rwwce_options) || is_binary(function) ||
         reads_any_type(function, A(LOGITS));
}

/* Bad types, scales and zero points of logits. */
static void types_of_logits(const Function *function) {
  if (!has_logit_type(function)) return;
  const rwwce_logit_type unknown[] = {5, 256, UINT32_MAX};
  for (int i = 0; i < 3; i++) {
    prepare(function);
    set_logit_type(unknown[i], 1.0f, 0);
    REFUSED(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(LOGIT_TYPE), 0, unknown[i]));
  }
  static const float scales[] = {0.0f, -0.0f, -0.25f, NAN, INFINITY, -INFINITY};
  static const int32_t zero_points[3][4] = {
    {0}, {-129, 128, INT32_MIN, INT32_MAX}, {-1, 256, INT32_MIN, INT32_MAX}};
  for (rwwce_logit_type type = RWWCE_LOGIT_I8; type <= RWWCE_LOGIT_BF16; type++) {
    prepare(function);
    set_logit_type(type, 0.25f, 0);
    if (strcmp(function->name, "rwwce_add_class_sums") == 0 || strstr(function->name, "weigh") != NULL) {
      /* They read no logits. */
      ACCEPTED();
    } else if (!reads_any_type(function, A(LOGITS))) {
      rwwce_argument with = A(LOG_PROBABILITIES);
      if (use_of(function, A(PROBABILITIES)) != NULL) with = A(PROBABILITIES);
      if (use_of(function, A(LOGITS)) != NULL) with = A(NONE);
      REFUSED(problem_with(RWWCE_ERROR_INCOMPATIBLE, A(LOGIT_TYPE), with));
    } else if (type <= RWWCE_LOGIT_U8) {
      for (int i = 0; i < 6; i++) {
        prepare(function);
        set_logit_type(type, scales[i], 0);
        REFUSED(problem(RWWCE_ERROR_OUT_OF_RANGE, A(SCALE)));
      }
      for (int i = 0; i < 4; i++) {
        prepare(function);
        set_logit_type(type, 0.25f, zero_points[type][i]);
        REFUSED(problem(RWWCE_ERROR_OUT_OF_RANGE, A(ZERO_POINT)));
      }
    }
  }
}

/* A value that an enumeration does not have. */
#define UNKNOWN(argument, place, value)                                         \
  do {                                                                          \
    prepare(function);                                                          \
    (place) = (value);                                                          \
    REFUSED(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(argument), 0, (value))); \
  } while (0)

/* One thread is the caller's; more need a library built with them, as the one for tests is. */
static void threads_of(const Function *function) {
  for (size_t threads = 1; threads <= 2; threads++) {
    prepare(function);
    HOME(rwwce_options, OPTIONS)->threads = threads;
    if (ONE_LANE || threads == 1) ACCEPTED();
    else REFUSED(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(THREADS), 1, threads));
  }
  prepare(function);
  HOME(rwwce_options, OPTIONS)->threads = 1025;
  REFUSED(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(THREADS), ONE_LANE ? 1024 : 1, 1025));
}

static void unknown_values(const Function *function) {
  if (function->options_size == sizeof(rwwce_options)) {
    rwwce_options *const options = HOME(rwwce_options, OPTIONS);
    UNKNOWN(REDUCTION, options->reduction, 6);
    UNKNOWN(REDUCTION, options->reduction, UINT32_MAX);
    UNKNOWN(ZERO_DENOMINATOR, options->zero_denominator, 3);
    threads_of(function);
  } else if (is_binary(function)) {
    rwwce_binary_options *const options = HOME(rwwce_binary_options, OPTIONS);
    UNKNOWN(REDUCTION, options->reduction, 6);
    UNKNOWN(ZERO_DENOMINATOR, options->zero_denominator, 3);
  } else if (function->options_size != 0) {
    rwwce_class_weights_options *const options = HOME(rwwce_class_weights_options, OPTIONS);
    UNKNOWN(SCHEME, options->scheme, 0);
    UNKNOWN(SCHEME, options->scheme, 6);
    UNKNOWN(NORMALISATION, options->normalisation, 3);
    UNKNOWN(EMPTY_CLASS, options->empty_class, 2);
  } else if (strcmp(function->name, "rwwce_total_reduce") == 0) {
    UNKNOWN(REDUCTION, how, 6);
    UNKNOWN(ZERO_DENOMINATOR, if_zero, 3);
  } else if (strcmp(function->name, "rwwce_total_denominator") == 0) {
    UNKNOWN(REDUCTION, how, 6);
  }
  if (strstr(function->name, "curvature") != NULL && !is_binary(function)) {
    UNKNOWN(CURVATURE_KIND, which_curvature, 2);
    which_curvature = RWWCE_CURVATURE_BOUND;
  }
  if (reads_any_type(function, A(LABELS))) {
    UNKNOWN(LABEL_TYPE, label_type, 6);
    label_type = RWWCE_LABEL_I32;
  }
}

/* Sets the backend of the call; whether it has one. */
static int set_backend(const char *name) {
  if (now->options_size == sizeof(rwwce_options)) {
    HOME(rwwce_options, OPTIONS)->backend = name;
  } else if (is_binary(now)) {
    HOME(rwwce_binary_options, OPTIONS)->backend = name;
  } else {
    backend = name;
    return strcmp(now->name, "rwwce_log_sum_exp") == 0 ||
           strcmp(now->name, "rwwce_row_partial_of") == 0;
  }
  return 1;
}

/* Classes of same bits: with vectors or one lane, and with fused or unfused multiply-add. */
static int class_of(const char *name) {
  return 2 * (strncmp(name, "scalar", 6) == 0) + (rwwce_backend_is_fused(name) == 1);
}

static void backends_of(const Function *function) {
  static const char *const unknown[] = {"abacus", "", "scala", "scalar-", "scalar-fma2", "AVX2"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    prepare(function);
    if (set_backend(unknown[i])) REFUSED(problem(RWWCE_ERROR_UNKNOWN_BACKEND, A(BACKEND)));
  }
  const char *name;
  for (size_t i = 0; i < 20 && (name = rwwce_backend_available(i)) != NULL; i++) {
    call_reference(function);
    prepare(function);
    if (!set_backend(name)) continue;
    if (class_of(name) == class_of(rwwce_backend_name())) {
      ACCEPTED();
    } else {
      CALL();
    }
  }
}

/* Logits of any type give the bits of the same logits in float. */
static void other_types(const Function *function) {
  if (!reads_any_type(function, A(LOGITS))) return;
  for (rwwce_logit_type type = RWWCE_LOGIT_I8; type <= RWWCE_LOGIT_BF16; type++) {
    call_reference(function);
    logit_type = type;
    prepare(function);
    snprintf(context, sizeof context, "%s, type %lu", function->name, (unsigned long)type);
    ACCEPTED();
    walk(function);
    backends_of(function);
    logit_type = RWWCE_LOGIT_F32;
  }
}

static void labels_out_of_range(const Function *function) {
  static const int64_t values[6][4] = {
    {0}, {C, UINT8_MAX}, {C, UINT16_MAX}, {C, UINT32_MAX}, {C, -1, INT32_MIN, INT32_MAX},
    {C, -1, INT64_MIN, INT64_MAX}};
  if (use_of(function, A(LABELS)) == NULL) return;
  for (int i = 0; i < 4; i++) {
    const int64_t value = values[label_type][i];
    if (value == 0) break;
    prepare(function);
    set_label(4, value);
    REFUSED(problem_of_label(4, value, C));
  }
}

/* Bad shapes and numbers ---------------------------------------------------------------------- */

/* Sets one thing among good arguments; the call is then refused. */
#define TRY(function, change, wanted)  \
  do {                                 \
    prepare_named("rwwce_" #function); \
    change;                            \
    REFUSED(wanted);                   \
  } while (0)
#define LENGTH(name, wanted, found) \
  problem_found(RWWCE_ERROR_LENGTH, A(name), (wanted), (found))
#define TOO_LARGE(rows, stride) \
  problem_found(RWWCE_ERROR_SIZE_OVERFLOW, A(NONE), (stride), (rows))
#define OUT_OF_RANGE(name) problem(RWWCE_ERROR_OUT_OF_RANGE, A(name))
#define NO_CLASSES problem(RWWCE_ERROR_NO_CLASSES, A(NONE))

static void bad_shapes(void) {
  rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  rwwce_binary_options *const b = HOME(rwwce_binary_options, OPTIONS);
  TRY(loss, o->classes = 0, NO_CLASSES);
  TRY(loss, o->classes = SIZE_MAX / 2, TOO_LARGE(D, SIZE_MAX / 2));
  TRY(loss, o->positions = SIZE_MAX, TOO_LARGE(SIZE_MAX, C));
  TRY(loss, o->positions = 0, OUT_OF_RANGE(POSITIONS));
  TRY(loss, o->positions = 4, LENGTH(LABELS, 4, ROWS));
  TRY(loss, o->classes = C + 1, LENGTH(LOGITS, N * (C + 1) * D, ELEMENTS));
  TRY(loss, o->row_stride = C * D - 1, OUT_OF_RANGE(ROW_STRIDE));
  TRY(loss, o->row_stride = C * D + 1, LENGTH(LOGITS, N * (C * D + 1), ELEMENTS));
  TRY(loss, o->row_stride = SIZE_MAX, TOO_LARGE(N, SIZE_MAX));
  TRY(soft_loss, o->classes = 0, NO_CLASSES);
  TRY(add_class_sums, o->classes = SIZE_MAX / 2, TOO_LARGE(ROWS, SIZE_MAX / 2));
  TRY(binary_loss, b->labels = 0, NO_CLASSES);
  TRY(binary_loss, b->labels = 5, LENGTH(LOGITS, 20, ELEMENTS));
  TRY(binary_loss, b->labels = SIZE_MAX, LENGTH(LOGITS, 0, ELEMENTS));
  TRY(count_labels, COUNT(COUNTS) = 0, NO_CLASSES);
  TRY(count_labels, COUNT(COUNTS) = 2, problem_of_label(1, 3, 2));
  TRY(weighted_row_losses, classes = 0, NO_CLASSES);
  TRY(weighted_row_losses, classes = SIZE_MAX / 2, TOO_LARGE(ROWS, SIZE_MAX / 2));
  TRY(weighted_row_losses, COUNT(LABELS) = 7, LENGTH(LOGITS, 28, ELEMENTS));
  TRY(weighted_row_losses, COUNT(ROW_LOSSES) = 0, LENGTH(ROW_LOSSES, ROWS, 0));
  TRY(widen, COUNT(LOGITS) = 20, LENGTH(NUMBERS, 20, ELEMENTS));
  TRY(widen, COUNT(NUMBERS) = 0, LENGTH(NUMBERS, ELEMENTS, 0));
  TRY(class_weights, COUNT(COUNTS) = 0, NO_CLASSES);
  TRY(class_weights, COUNT(COUNTS) = 3, LENGTH(CLASS_WEIGHTS, 3, C));
  TRY(decide, o->classes = 0, NO_CLASSES);
  TRY(decide, o->classes = C + 1, LENGTH(LOGITS, (C + 1) * D, ELEMENTS));
  TRY(decide_from_probabilities, COUNT(DECISIONS) = 0, LENGTH(DECISIONS, ROWS, 0));
  TRY(decision_cost, COUNT(MISS_COSTS) = 0, NO_CLASSES);
  TRY(decision_cost, COUNT(MISS_COSTS) = 3, LENGTH(CONFUSION, 9, 16));
  TRY(row_partial_gradient, COUNT(LOGITS) = 20, LENGTH(GRADIENT, 20, ELEMENTS));
  TRY(row_partial_gradient, label = ELEMENTS, problem_of_label(0, ELEMENTS, ELEMENTS));
  TRY(row_partial_of, label = ELEMENTS, problem_of_label(0, ELEMENTS, ELEMENTS));
  TRY(row_partial_of, label = SIZE_MAX - 1, problem_of_label(0, INT64_MAX, ELEMENTS));
  TRY(row_partial_of, COUNT(LOGITS) = 0, problem_of_label(0, 5, 0));
  /* No pointer is checked where there is no element. */
  TRY(loss, COUNT(LOGITS) = 0, LENGTH(LOGITS, ELEMENTS, 0));
  TRY(loss, COUNT(ROW_LOSSES) = 0, LENGTH(ROW_LOSSES, ROWS, 0));
  TRY(loss_gradient, COUNT(GRADIENT) = 0, LENGTH(GRADIENT, ELEMENTS, 0));
}

static void leave_out_mislabel_costs(void) {
  Place *const place = place_of(A(MISLABEL_COSTS));
  place->at = NULL;
  place->count = 0;
}

static void bad_numbers(void) {
  rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  rwwce_class_weights_options *const w = HOME(rwwce_class_weights_options, OPTIONS);
  rwwce_row_partial *const part = HOME(rwwce_row_partial, PARTIAL);
  const float not_in_0_to_inf[] = {-1.0f, NAN, INFINITY, -INFINITY};
  for (int i = 0; i < 4; i++) {
    const float bad = not_in_0_to_inf[i];
    TRY(loss, o->label_smoothing = bad, OUT_OF_RANGE(LABEL_SMOOTHING));
    TRY(loss, o->focal = bad, OUT_OF_RANGE(FOCAL));
    TRY(loss, o->z_loss = bad, OUT_OF_RANGE(Z_LOSS));
    TRY(loss, o->temperature = bad, OUT_OF_RANGE(TEMPERATURE));
    TRY(loss_from_probabilities, number = bad, OUT_OF_RANGE(EPS));
    TRY(class_weights, (w->scheme = RWWCE_SCHEME_EFFECTIVE_NUMBER, w->beta = bad),
        OUT_OF_RANGE(BETA));
    TRY(binary_loss, IN(TARGETS, 3) = bad,
        problem_at(RWWCE_ERROR_TARGET_OUT_OF_RANGE, A(TARGETS), 3));
    /* Negative, or not finite. */
    const rwwce_status status = i == 0 ? RWWCE_ERROR_NEGATIVE : RWWCE_ERROR_NOT_FINITE;
    TRY(loss, IN(MISLABEL_COSTS, 6) = bad, problem_at(status, A(MISLABEL_COSTS), 6));
    TRY(loss, IN(CLASS_WEIGHTS, 3) = bad, problem_at(status, A(CLASS_WEIGHTS), 3));
    TRY(decide, IN(MISLABEL_COSTS, 6) = bad, problem_at(status, A(MISLABEL_COSTS), 6));
    TRY(decide, (IN(CLASS_WEIGHTS, 3) = bad, leave_out_mislabel_costs()),
        problem_at(status, A(CLASS_WEIGHTS), 3));
    TRY(binary_loss, IN(MISS_COSTS, 1) = bad, problem_at(status, A(MISS_COSTS), 1));
    TRY(binary_loss, IN(FALSE_ALARM_COSTS, 2) = bad, problem_at(status, A(FALSE_ALARM_COSTS), 2));
    TRY(decision_cost, IN(MISS_COSTS, 0) = bad, problem_at(status, A(MISS_COSTS), 0));
    TRY(decision_cost, IN(MISLABEL_COSTS, 15) = bad, problem_at(status, A(MISLABEL_COSTS), 15));
    if (i == 0) continue;
    TRY(loss, IN(SAMPLE_WEIGHTS, 5) = bad, problem_at(status, A(SAMPLE_WEIGHTS), 5));
    TRY(binary_loss, IN(SAMPLE_WEIGHTS, 23) = bad, problem_at(status, A(SAMPLE_WEIGHTS), 23));
    TRY(loss, IN(CLASS_BIAS, 1) = bad, problem_at(status, A(CLASS_BIAS), 1));
    TRY(soft_loss, IN(TARGETS, 7) = bad, problem_at(status, A(TARGETS), 7));
    TRY(soft_loss, IN(CLASS_WEIGHTS, 2) = bad, problem_at(status, A(CLASS_WEIGHTS), 2));
    TRY(weighted_row_losses, IN(CLASS_WEIGHTS, 1) = bad, problem_at(status, A(CLASS_WEIGHTS), 1));
    TRY(loss_gradient, IN(UPSTREAM, 4) = bad, problem_at(status, A(UPSTREAM), 4));
    TRY(loss_gradient, (o->upstream = bad, place_of(A(UPSTREAM))->at = NULL, COUNT(UPSTREAM) = 0),
        problem_at(status, A(UPSTREAM), 0));
    TRY(gradient_from_log_probabilities, IN(UPSTREAM, 2) = bad, problem_at(status, A(UPSTREAM), 2));
    TRY(row_partial_gradient, number = bad, problem_at(status, A(UPSTREAM), 0));
    TRY(row_partial_loss, number = bad, problem_at(status, A(CLASS_WEIGHTS), 0));
    TRY(class_weights, (w->empty_class = RWWCE_EMPTY_CLASS_WEIGHT, w->empty_class_weight = bad),
        problem_at(status, A(EMPTY_CLASS_WEIGHT), 0));
  }
  TRY(loss, o->label_smoothing = 1.5f, OUT_OF_RANGE(LABEL_SMOOTHING));
  TRY(loss, o->temperature = 0.0f, OUT_OF_RANGE(TEMPERATURE));
  TRY(loss, IN(MISLABEL_COSTS, 10) = 1.0f,
      problem_at(RWWCE_ERROR_COST_OF_TRUTH, A(MISLABEL_COSTS), 2));
  TRY(binary_loss, IN(TARGETS, 0) = 1.5f,
      problem_at(RWWCE_ERROR_TARGET_OUT_OF_RANGE, A(TARGETS), 0));
  TRY(class_weights, HOME(uint64_t, COUNTS)[2] = 0,
      problem_at(RWWCE_ERROR_EMPTY_CLASS, A(COUNTS), 2));
  for (uint64_t owners = 0; owners < 4; owners += 2) {
    const rwwce_error wanted =
      problem_found(RWWCE_ERROR_LABEL_OWNERS, A(LABELS), 1, (size_t)owners);
    TRY(row_partial_loss, part->labels = owners, wanted);
    TRY(row_partial_gradient, part->labels = owners, wanted);
  }
}

static void bad_combinations(void) {
  rwwce_options *const o = HOME(rwwce_options, OPTIONS);
  rwwce_binary_options *const b = HOME(rwwce_binary_options, OPTIONS);
  const rwwce_status status = RWWCE_ERROR_INCOMPATIBLE;
  TRY(soft_loss, o->focal = 1.0f, problem_with(status, A(FOCAL), A(TARGETS)));
  TRY(soft_loss, o->has_ignore_index = 1, problem_with(status, A(IGNORE_INDEX), A(TARGETS)));
  static const float no_costs[C * C] = {0.0f};
  TRY(soft_loss, (o->mislabel_costs = no_costs, o->mislabel_costs_count = C * C),
      problem_with(status, A(MISLABEL_COSTS), A(TARGETS)));
  TRY(loss_from_probabilities, o->temperature = 2.0f,
      problem_with(status, A(TEMPERATURE), A(PROBABILITIES)));
  TRY(loss_from_probabilities, o->label_smoothing = 0.5f,
      problem_with(status, A(LABEL_SMOOTHING), A(PROBABILITIES)));
  TRY(loss_from_probabilities, o->z_loss = 0.5f, problem_with(status, A(Z_LOSS), A(PROBABILITIES)));
  TRY(decide_from_probabilities, o->temperature = 2.0f,
      problem_with(status, A(TEMPERATURE), A(PROBABILITIES)));
  TRY(loss_from_log_probabilities, o->focal = 2.0f,
      problem_with(status, A(FOCAL), A(LOG_PROBABILITIES)));
  TRY(gradient_from_log_probabilities,
      (o->mislabel_costs = no_costs, o->mislabel_costs_count = C * C),
      problem_with(status, A(MISLABEL_COSTS), A(LOG_PROBABILITIES)));

  /* Weights of 0 throughout. */
  const rwwce_error zero = problem(RWWCE_ERROR_ZERO_DENOMINATOR, A(NONE));
  for (rwwce_zero_denominator policy = 0; policy < 3; policy++) {
    prepare_named("rwwce_loss");
    o->reduction = RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM;
    o->zero_denominator = policy;
    for (int i = 0; i < ROWS; i++) IN(SAMPLE_WEIGHTS, i) = 0.0f;
    if (policy == RWWCE_ZERO_DENOMINATOR_ERROR) {
      REFUSED(zero);
      continue;
    }
    CALL();
    const float found = HOME(rwwce_summary, RESULT)->loss;
    CHECK(policy == RWWCE_ZERO_DENOMINATOR_ZERO ? found == 0.0f : found != found);
  }
  TRY(binary_loss, b->reduction = RWWCE_REDUCTION_MEAN_WEIGHT_SUM;
      b->zero_denominator = RWWCE_ZERO_DENOMINATOR_ERROR;
      for (int i = 0; i < ELEMENTS; i++) IN(SAMPLE_WEIGHTS, i) = 0.0f, zero);
  TRY(total_reduce, (HOME(rwwce_total, PARTIAL)->rows = 0, if_zero = RWWCE_ZERO_DENOMINATOR_ERROR),
      zero);
}

/* Nothing at all ------------------------------------------------------------------------------ */

static void empty_batches(void) {
  snprintf(context, sizeof context, "an empty batch");
  const rwwce_options options = RWWCE_OPTIONS_INIT(C);
  const rwwce_binary_options binary = RWWCE_BINARY_OPTIONS_INIT(C);
  rwwce_summary summary;
  rwwce_error error;
  const rwwce_label_type type = RWWCE_LABEL_U8;
  CHECK(rwwce_loss(&options, NULL, 0, NULL, 0, type, NULL, 0, &summary, &error) == RWWCE_OK);
  CHECK(summary.loss != summary.loss && summary.sum == 0.0 && summary.rows == 0);
  CHECK(rwwce_loss(&options, NULL, 0, NULL, 0, type, NULL, 0, NULL, NULL) == RWWCE_OK);
  CHECK(rwwce_loss_gradient(&options, NULL, 0, NULL, 0, type, NULL, 0, NULL, NULL) == RWWCE_OK);
  CHECK(rwwce_loss_gradient_in_place(&options, NULL, 0, NULL, 0, type, NULL, NULL) == RWWCE_OK);
  CHECK(rwwce_soft_loss(&options, NULL, 0, NULL, 0, NULL, 0, NULL, NULL) == RWWCE_OK);
  CHECK(rwwce_log_probabilities(&options, NULL, 0, NULL, 0, NULL) == RWWCE_OK);
  size_t undecided = 9;
  CHECK(rwwce_decide(&options, NULL, 0, NULL, 0, NULL, 0, &undecided, &error) == RWWCE_OK);
  CHECK(undecided == 0);
  CHECK(rwwce_decide_from_probabilities(&options, NULL, 0, NULL, 0, NULL, 0, NULL, NULL) ==
        RWWCE_OK);
  CHECK(rwwce_weighted_row_losses(C, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL) == RWWCE_OK);
  CHECK(rwwce_widen(NULL, 0, RWWCE_LOGIT_I8, 1.0f, 0, NULL, 0, NULL) == RWWCE_OK);
  CHECK(rwwce_binary_loss(&binary, NULL, 0, NULL, 0, NULL, 0, &summary, NULL) == RWWCE_OK);
  CHECK(summary.loss != summary.loss && summary.denominator == 0.0);
  uint64_t found[C] = {9, 9, 9, 9}, counted = 9;
  CHECK(rwwce_count_labels(NULL, 0, type, NULL, found, C, &counted, NULL) == RWWCE_OK);
  CHECK(counted == 0 && found[0] == 0 && found[C - 1] == 0);
  float result = 0.0f;
  CHECK(rwwce_log_sum_exp(NULL, 0, NULL, &result, NULL) == RWWCE_OK && result == -INFINITY);
  const rwwce_row_partial none = RWWCE_ROW_PARTIAL_INIT;
  rwwce_row_partial part = {1.0f, 1.0f, 1.0, 1, 1};
  CHECK(rwwce_row_partial_of(NULL, 0, RWWCE_NO_LABEL, NULL, &part, NULL) == RWWCE_OK);
  CHECK(part.largest == none.largest && part.label_logit == none.label_logit);
  CHECK(part.excluded_sum == none.excluded_sum && part.classes == 0 && part.labels == 0);
}

/* Names and sentences ------------------------------------------------------------------------- */

static void sentence(rwwce_error error, const char *wanted) {
  char text[300], cut[300];
  snprintf(context, sizeof context, "the message \"%s\"", wanted);
  const size_t length = strlen(wanted);
  CHECK(rwwce_error_message(&error, NULL, 0) == length);
  CHECK(rwwce_error_message(&error, text, sizeof text) == length);
  if (!CHECK(strcmp(text, wanted) == 0)) fprintf(stderr, "  found \"%s\"\n", text);
  for (size_t size = 0; size <= length + 1; size++) {
    memset(cut, '#', sizeof cut);
    CHECK(rwwce_error_message(&error, cut, size) == length);
    const size_t kept = size == 0 ? 0 : size - 1;
    CHECK(memcmp(cut, wanted, kept) == 0);
    CHECK(cut[kept] == (size == 0 ? '#' : '\0') && cut[kept + 1] == '#');
  }
  unsigned char bytes[sizeof error + 1];
  memcpy(bytes + 1, &error, sizeof error);
  CHECK(rwwce_error_message((rwwce_error *)(void *)(bytes + 1), cut, sizeof cut) == length);
  CHECK(strcmp(cut, wanted) == 0);
}

static void sentences(void) {
  sentence(problem(RWWCE_OK, A(NONE)), "ok");
  sentence(problem_of_label(4, -1, C), "labels: row 4 has label -1, expected 0 to 3");
  sentence(LENGTH(CLASS_WEIGHTS, 4, 5), "class weights: expected 4 elements, found 5");
  sentence(TOO_LARGE(7, 9), "7 rows of 9 elements are more than memory can address");
  sentence(problem_found(RWWCE_ERROR_SIZE_OVERFLOW, A(LOGITS), 0, 9),
           "logits: 9 elements are more than memory can address");
  sentence(problem_at(RWWCE_ERROR_NOT_FINITE, A(CLASS_BIAS), 2),
           "class bias: the number at index 2 is not finite");
  sentence(OUT_OF_RANGE(LABEL_SMOOTHING),
           "label smoothing: expected a number in [0, 1]");
  sentence(problem_with(RWWCE_ERROR_INCOMPATIBLE, A(FOCAL), A(TARGETS)),
           "focal exponent: means nothing together with targets");
  sentence(problem(RWWCE_ERROR_INCOMPATIBLE, A(LOGIT_TYPE)),
           "logit type: means nothing in this call");
  sentence(problem_with(RWWCE_ERROR_INCOMPATIBLE, A(LOGIT_TYPE), A(PROBABILITIES)),
           "logit type: means nothing together with probabilities");
  sentence(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(LOGIT_TYPE), 0, 5),
           "logit type: 5 is not a value that it has");
  sentence(OUT_OF_RANGE(SCALE), "scale: expected a finite number above 0");
  sentence(OUT_OF_RANGE(ZERO_POINT), "zero point: expected an integer of the type of the logits");
  sentence(LENGTH(NUMBERS, 4, 5), "numbers: expected 4 elements, found 5");
  sentence(LENGTH(DECISIONS, 4, 5), "decisions: expected 4 elements, found 5");
  sentence(LENGTH(EXPECTED_COSTS, 4, 5), "expected costs: expected 4 elements, found 5");
  sentence(problem(RWWCE_ERROR_NULL, A(OPTIONS)), "options: the pointer is NULL");
  sentence(problem(RWWCE_ERROR_MISALIGNED, A(PARTIAL)),
           "partial result: the pointer is not aligned");
  sentence(problem_with(RWWCE_ERROR_OVERLAP, A(GRADIENT), A(LOGITS)),
           "gradient: overlaps the logits");
  sentence(problem_found(RWWCE_ERROR_UNKNOWN_VALUE, A(REDUCTION), 0, 6),
           "reduction: 6 is not a value that it has");
  sentence(problem(999, 999), "unknown status");
  sentence(problem_found(RWWCE_ERROR_STRUCT_SIZE, A(OPTIONS), 160, 3),
           "options: expected struct_size 160, found 3");
  CHECK(rwwce_error_message(NULL, NULL, 0) == 0);
  char nothing[] = "x";
  CHECK(rwwce_error_message(NULL, nothing, sizeof nothing) == 0 && nothing[0] == 0);

  /* Every error has a message, also those that no call returns. */
  int silent = 0;
  for (rwwce_status status = 0; status < 120; status++) {
    for (rwwce_argument argument = 0; argument < 120; argument++) {
      const rwwce_error error = problem(status, argument);
      silent += rwwce_error_message(&error, NULL, 0) == 0;
    }
  }
  CHECK(silent == 0);
}

static void names(void) {
  snprintf(context, sizeof context, "names");
  CHECK(strcmp(rwwce_version(), RWWCE_VERSION) == 0);
  const char *words[128];
  for (rwwce_status status = 0; status < 128; status++) {
    words[status] = rwwce_status_string(status);
    const int is_known = status <= RWWCE_ERROR_LABEL_OWNERS ||
                         (status >= RWWCE_ERROR_NULL && status <= RWWCE_ERROR_UNKNOWN_BACKEND);
    CHECK(is_known == (strcmp(words[status], "unknown status") != 0));
    for (rwwce_status other = 0; is_known && other < status; other++) {
      CHECK(strcmp(words[status], words[other]) != 0);
    }
  }
  CHECK(strcmp(rwwce_status_string(UINT32_MAX), "unknown status") == 0);
  CHECK(strcmp(rwwce_status_string(RWWCE_ERROR_LABEL_OUT_OF_RANGE), "label out of range") == 0);

  CHECK(strcmp(rwwce_backend_available(0), rwwce_backend_name()) == 0);
  CHECK(rwwce_backend_available(SIZE_MAX) == NULL);
  CHECK(rwwce_backend_is_fused("abacus") == -1 && rwwce_backend_is_fused("") == -1);
  CHECK(rwwce_backend_is_fused(NULL) == rwwce_backend_is_fused(rwwce_backend_name()));
  CHECK(rwwce_backend_is_fused("scalar") == (ONE_LANE ? 0 : -1));
  CHECK(rwwce_backend_is_fused("scalar-fma") == (ONE_LANE ? 1 : -1));
}

/* Rows of full vectors and remainders: backends of a class return the same bits. */
static void same_bits(void) {
  enum { LONG_ROWS = 3, CLASSES = 1003, ALL = LONG_ROWS * CLASSES };
  static float logits[ALL], gradient[ALL], first[4][ALL];
  const uint16_t labels[LONG_ROWS] = {7, 500, 1002};
  int seen[4] = {0};
  for (size_t i = 0; i < ALL; i++) logits[i] = (float)(i * 2654435761u % 4001) / 200.0f - 10.0f;
  const char *name;
  for (size_t i = 0; i < 20 && (name = rwwce_backend_available(i)) != NULL; i++) {
    snprintf(context, sizeof context, "backend %s", name);
    rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
    options.backend = name;
    CHECK(rwwce_loss_gradient(&options, logits, ALL, labels, LONG_ROWS, RWWCE_LABEL_U16, gradient,
                              ALL, NULL, NULL) == RWWCE_OK);
    const int32_t fused = rwwce_backend_is_fused(name);
    if (!CHECK(fused == 0 || fused == 1)) continue;
    const int of = class_of(name);
    if (!seen[of]) memcpy(first[of], gradient, sizeof gradient);
    seen[of] = 1;
    CHECK(memcmp(first[of], gradient, sizeof gradient) == 0);
  }
  CHECK(seen[0] || seen[1]);
  CHECK(seen[2] == ONE_LANE && seen[3] == ONE_LANE);
}

int main(void) {
  set_up();
  for (int i = 0; i < FUNCTIONS; i++) {
    const Function *const function = &functions[i];
    for (label_type = RWWCE_LABEL_U8; label_type <= RWWCE_LABEL_I64; label_type++) {
      if (label_type != RWWCE_LABEL_I32 && !reads_any_type(function, A(LABELS))) continue;
      walk(function);
      labels_out_of_range(function);
    }
    label_type = RWWCE_LABEL_I32;
    call_reference(function);
    if (function->options_size != 0) sizes_of_structs(function);
    unknown_values(function);
    types_of_logits(function);
    backends_of(function);
    other_types(function);
  }
  results_that_overlap();
  bad_shapes();
  bad_numbers();
  bad_combinations();
  empty_batches();
  sentences();
  names();
  same_bits();
  results();
  tear_down();
  printf("boundary: %ld checks, %ld failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
