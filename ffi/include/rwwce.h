/* rwwce: softmax cross-entropy with real-world costs of mistakes.
 *
 * A call takes a structure of options, and arrays as pointer and count, and returns a status: RWWCE_OK, or why the call
 * was refused. Every argument that a call uses is checked before anything is written: every error leaves every output
 * unchanged. The last parameter, `error`, may be NULL, and is written by every call; it receives the argument and the
 * index of an error, which rwwce_error_message turns into a sentence.
 *
 * Arrays are flat. N is the number of samples, C of classes, D of positions of a sample (pixels, tokens; 1 for a plain
 * classifier). Logits are [N, C, D]: the logit of class c at position d of sample n has index (n*C + c)*D + d. Logits
 * are float, or, where the pointer is to void, of the type in the options. Labels are [N, D]. A pointer that is not
 * NULL points to as many elements as the count beside it says, or to one value where there is no count. NULL is allowed
 * for an array of no elements, and where the comments say so.
 *
 * Every function is thread-safe. In a library without the feature `threads` every function may also be called from a
 * signal handler: it allocates nothing, blocks nowhere, and keeps nothing between calls but the chosen backend. Inputs
 * must not change during a call.
 *
 * Notation: p = softmax(x), y the label of a row, w[y] its class weight, s its sample weight. An ulp is the distance
 * between two neighbouring floats.
 *
 * Made by cbindgen from the source of the library: a change belongs there. */


#ifndef RWWCE_H
#define RWWCE_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header. */
#define RWWCE_VERSION "0.2.0"

/* Linkage of exported functions. */
#ifndef RWWCE_API
#if defined(_WIN32) && defined(RWWCE_SHARED)
#define RWWCE_API __declspec(dllimport)
#elif defined(__GNUC__) && !defined(_WIN32)
#define RWWCE_API __attribute__((visibility("default")))
#else
#define RWWCE_API
#endif
#endif

/* Options at their defaults: the plain loss over `classes` classes of logits [N, C], mean over the weight sum. */
#define RWWCE_OPTIONS_INIT(classes)                                                                \
  {sizeof(rwwce_options), (size_t)(classes), 1, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0, 0,      \
   RWWCE_REDUCTION_DEFAULT, RWWCE_ZERO_DENOMINATOR_NAN, 0.0f, 0.0f, 0.0f, 1.0f, 1.0f,              \
   RWWCE_LOGIT_F32, 1.0f, 0, NULL, NULL, 0}

/* Options at their defaults: the binary loss of `labels` labels per sample, mean over all logits. */
#define RWWCE_BINARY_OPTIONS_INIT(labels)                                                          \
  {sizeof(rwwce_binary_options), (size_t)(labels), NULL, 0, NULL, 0, NULL, 0, NULL, 0,                     \
   RWWCE_REDUCTION_DEFAULT, RWWCE_ZERO_DENOMINATOR_NAN, 1.0f, RWWCE_LOGIT_F32, 1.0f, 0, NULL, NULL}

/* Class weights by `scheme`, not normalised; a class without samples is an error. */
#define RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(scheme)                                                   \
  {sizeof(rwwce_class_weights_options), (rwwce_scheme)(scheme), RWWCE_NORMALISATION_NONE,                        \
   RWWCE_EMPTY_CLASS_ERROR, 0.0f, 0.0}

/* Totals of no batch. */
#define RWWCE_TOTAL_INIT {0.0, 0.0, 0.0, 0, 0, 0}

/* Label of a part of a row that does not hold the logit of the label. */
#define RWWCE_NO_LABEL SIZE_MAX

/* Decision of a row without a decision. */
#define RWWCE_NO_DECISION UINT32_MAX

/* A part of a row without classes; INFINITY is from <math.h>. */
#define RWWCE_ROW_PARTIAL_INIT {-INFINITY, 0.0f, 0.0, 0, 0}



/* Status of a call: `RWWCE_OK`, or why the call was refused. The values are the same in every version. */
typedef uint32_t rwwce_status;

/* Argument that an error refers to. The values are the same in every version. */
typedef uint32_t rwwce_argument;

/* Status of a call, and where its error is. Each status names the members that it sets, `argument` wherever one
 * argument is to blame; the others are 0. */
typedef struct rwwce_error {
  /* The status that the call returned. */
  rwwce_status status;
  /* The argument. */
  rwwce_argument argument;
  /* The second argument of two that exclude each other. */
  rwwce_argument other_argument;
  /* The row. */
  size_t row;
  /* The index in the array. */
  size_t index;
  /* The expected value. */
  size_t expected;
  /* The value found. */
  size_t found;
  /* The label. */
  int64_t label;
} rwwce_error;

/* Reduction of the row losses: their sum, or their mean over a named denominator. */
typedef uint32_t rwwce_reduction;

/* Result of a mean whose denominator is 0. */
typedef uint32_t rwwce_zero_denominator;

/* Element type of an array of logits. Results are those of the floats that the elements stand for, in the same bits;
 * gradients are with respect to these floats, and float. */
typedef uint32_t rwwce_logit_type;

/* Options of the loss over C classes: shapes, weights and terms. Start from `RWWCE_OPTIONS_INIT(C)`.
 *
 * A row is one of the N·D pairs of C logits and a label. A row whose label is the ignored index does not count. A
 * row whose total weight is 0 counts (in the number of rows) and contributes exactly 0 whatever its logits. An
 * absent array is NULL with a count of 0. Elements of arrays are finite. */
typedef struct rwwce_options {
  /* `sizeof(rwwce_options)`: later versions add members at the end. At most 4096. */
  size_t struct_size;
  /* C, at least 1. */
  size_t classes;
  /* D, at least 1: logits are `[N, C, D]`, the C logits of a row D elements apart. 1 for the flat `[N, C]`. */
  size_t positions;
  /* Elements from the start of one sample to the start of the next, for padded samples; 0 for C·D. */
  size_t row_stride;
  /* `[C]`: the weight w of each class; with mislabel costs the miss costs fn, then at least 0. */
  const float *class_weights;
  /* C; 0 for NULL. */
  size_t class_weights_count;
  /* `[N, D]`: the weight s of each row, which may be negative. */
  const float *sample_weights;
  /* N·D; 0 for NULL. */
  size_t sample_weights_count;
  /* `[C, C]`, at least 0, the diagonal 0: the cost fp[y,j] of predicting class j where y is true. The loss is then
   * −fn[y]·log p_y − Σ_{j≠y} fp[y,j]·log(1 − p_j) (Ho & Wookey, IEEE Access 2020): fp comes on top of fn, the class
   * weights, which are 1 when absent. */
  const float *mislabel_costs;
  /* C·C; 0 for NULL. */
  size_t mislabel_costs_count;
  /* `[C]`: a bias added to the logits of each class, after the division by the temperature. */
  const float *class_bias;
  /* C; 0 for NULL. */
  size_t class_bias_count;
  /* `[N, D]`: upstream gradient with respect to the row losses, not divided by the denominator of the mean. If
   * absent, `upstream` is used. */
  const float *row_upstream;
  /* N·D; 0 for NULL. */
  size_t row_upstream_count;
  /* The label of ignored rows, if `has_ignore_index` is not 0. */
  int64_t ignore_index;
  /* Whether `ignore_index` is set. */
  uint32_t has_ignore_index;
  /* The reduction. */
  rwwce_reduction reduction;
  /* The result of a mean whose denominator is 0. */
  rwwce_zero_denominator zero_denominator;
  /* Label smoothing ε in [0, 1]: (1 − ε) times the loss of the label plus ε/C times that of every class. */
  float label_smoothing;
  /* Focal exponent γ, at least 0: the term of the label gets the factor (1 − p_y)^γ. */
  float focal;
  /* Z-loss factor λ, at least 0: adds λ·W·(log Σ exp x)² to the loss of a row of weight W. */
  float z_loss;
  /* Temperature T, above 0: logits are divided by T. 1 changes nothing. */
  float temperature;
  /* Upstream gradient with respect to the reduced loss. 1 changes nothing. */
  float upstream;
  /* The type of the logits. Calls that write over the logits, or read probabilities instead, refuse all but
   * `RWWCE_LOGIT_F32`. */
  rwwce_logit_type logit_type;
  /* The scale of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, finite and above 0. Other types ignore it. */
  float logit_scale;
  /* The zero point of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, in the range of the type. */
  int32_t logit_zero_point;
  /* Name of the backend; NULL for the best one. */
  const char *backend;
  /* A finite denominator instead of that of the reduction; NULL for that of the reduction. For a call on a part of
   * the batch, give the denominator of the whole: see `rwwce_weigh`. */
  const double *denominator;
  /* Threads over which losses and gradients of 2^18 logits (1 MB of float) or more are split, in the same bits; 0
   * for the environment variable `RWWCE_THREADS`, or 1. More than 1 needs the feature `threads` of the library. */
  size_t threads;
} rwwce_options;

/* The integer type of an array of labels. */
typedef uint32_t rwwce_label_type;

/* Running totals over batches: loss sum, row counts and weight sums, enough for every reduction. Start from
 * `RWWCE_TOTAL_INIT`. Plain data, to be stored and sent. */
typedef struct rwwce_total {
  /* The sum of the losses of the rows that count. */
  double sum;
  /* Σ w[y]·s over the rows that count. */
  double weight_sum;
  /* Σ s over the rows that count. */
  double sample_weight_sum;
  /* The number of rows that count. */
  uint64_t rows;
  /* The number of rows that count times C. */
  uint64_t rows_times_classes;
  /* The number of rows whose loss is NaN or infinite. */
  uint64_t non_finite;
} rwwce_total;

/* Reduced loss of a batch, with its sum, denominator and row counts. */
typedef struct rwwce_summary {
  /* `sum / denominator`, rounded. */
  float loss;
  /* The sum of the losses of the rows that count, added in double precision in an order that depends on the shape
   * alone. */
  double sum;
  /* The denominator; 1 for `RWWCE_REDUCTION_SUM`. */
  double denominator;
  /* The number of rows that count. */
  size_t rows;
  /* The number of rows whose loss is NaN or infinite. */
  size_t non_finite;
  /* Loss sum, row counts and weight sums, to merge with those of other batches by `rwwce_total_merge`. */
  struct rwwce_total total;
} rwwce_summary;

/* Options of the binary and multi-label loss −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)), one logit z per label. Start
 * from `RWWCE_BINARY_OPTIONS_INIT(L)`. */
typedef struct rwwce_binary_options {
  /* `sizeof(rwwce_binary_options)`: later versions add members at the end. At most 4096. */
  size_t struct_size;
  /* L, the number of labels of a sample, at least 1. */
  size_t labels;
  /* `[L]`, at least 0: the cost fn of missing each label; PyTorch's `pos_weight`. */
  const float *miss_costs;
  /* L; 0 for NULL: all ones. */
  size_t miss_costs_count;
  /* `[L]`, at least 0: the cost fp of a false alarm of each label. */
  const float *false_alarm_costs;
  /* L; 0 for NULL: all ones. */
  size_t false_alarm_costs_count;
  /* `[N, L]`: the weight s of each logit, which may be negative; PyTorch's `weight`. */
  const float *sample_weights;
  /* N·L; 0 for NULL. */
  size_t sample_weights_count;
  /* `[N, L]`: upstream gradient with respect to the loss of each logit, not divided by the denominator of the
   * mean. If absent, `upstream` is used. */
  const float *row_upstream;
  /* N·L; 0 for NULL. */
  size_t row_upstream_count;
  /* The reduction. */
  rwwce_reduction reduction;
  /* The result of a mean whose denominator is 0. */
  rwwce_zero_denominator zero_denominator;
  /* Upstream gradient with respect to the reduced loss. 1 changes nothing. */
  float upstream;
  /* The type of the logits. Calls that write over the logits, or read probabilities instead, refuse all but
   * `RWWCE_LOGIT_F32`. */
  rwwce_logit_type logit_type;
  /* The scale of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, finite and above 0. Other types ignore it. */
  float logit_scale;
  /* The zero point of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, in the range of the type. */
  int32_t logit_zero_point;
  /* Name of the backend; NULL for the best one. */
  const char *backend;
  /* A finite denominator instead of that of the reduction; NULL for that of the reduction. For a call on a part of
   * the batch, give the denominator of the whole: see `rwwce_binary_weigh`. */
  const double *denominator;
} rwwce_binary_options;

/* Kind of second derivative: the diagonal of the Hessian, or an upper bound of the Hessian. */
typedef uint32_t rwwce_curvature_kind;

/* Formulas of class weights from the number of samples n_c of each class, with n = Σ n_c and C classes. */
typedef uint32_t rwwce_scheme;

/* Scaling of class weights. */
typedef uint32_t rwwce_normalisation;

/* Weight of a class without samples. */
typedef uint32_t rwwce_empty_class;

/* Options of class weights from label counts. Start from `RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(scheme)`. */
typedef struct rwwce_class_weights_options {
  /* `sizeof(rwwce_class_weights_options)`: later versions add members at the end. At most 4096. */
  size_t struct_size;
  /* The scheme. */
  rwwce_scheme scheme;
  /* The scaling of the weights. */
  rwwce_normalisation normalisation;
  /* The weight of classes without samples. */
  rwwce_empty_class empty_class;
  /* The finite weight of `RWWCE_EMPTY_CLASS_WEIGHT`. */
  float empty_class_weight;
  /* β in [0, 1) of `RWWCE_SCHEME_EFFECTIVE_NUMBER`. */
  double beta;
} rwwce_class_weights_options;

/* Partial result of one row over some of its classes, to merge with the other classes: for classes split over
 * machines, or over chunks that fit a small memory. Plain data, to be stored and sent; start from
 * `RWWCE_ROW_PARTIAL_INIT` or `rwwce_row_partial_of`. */
typedef struct rwwce_row_partial {
  /* The largest logit so far: −∞ before the first, NaN after a NaN. */
  float largest;
  /* The logit of the label; 0 if no part so far has held the label. */
  float label_logit;
  /* Σ exp(x_k − largest) over all classes but one with the largest logit. */
  double excluded_sum;
  /* The number of classes so far. */
  uint64_t classes;
  /* The number of parts that have held the label: 1 for a whole row. */
  uint64_t labels;
} rwwce_row_partial;

/* Success. */
#define RWWCE_OK 0

/* The number of classes (or labels of a binary loss) is 0. */
#define RWWCE_ERROR_NO_CLASSES 1

/* An array exceeds the address space: `found` rows of `expected` elements, or `found` elements of `argument`. */
#define RWWCE_ERROR_SIZE_OVERFLOW 2

/* The length of an array is not that of its shape: `argument`, `expected`, `found`. */
#define RWWCE_ERROR_LENGTH 3

/* A label is neither in [0, C) nor the ignored label: `row`, `label`, and `expected`, the number of classes. */
#define RWWCE_ERROR_LABEL_OUT_OF_RANGE 4

/* A value that must be finite is not: `argument`, `index`. */
#define RWWCE_ERROR_NOT_FINITE 5

/* A scalar option is outside its range: `argument`. `rwwce_error_message` names the range. */
#define RWWCE_ERROR_OUT_OF_RANGE 6

/* A class has no samples, and no weight was set for such classes: `index`, the class. */
#define RWWCE_ERROR_EMPTY_CLASS 7

/* The denominator of the mean is 0, with `RWWCE_ZERO_DENOMINATOR_ERROR`. */
#define RWWCE_ERROR_ZERO_DENOMINATOR 8

/* A value that must be at least 0 is negative: `argument`, `index`. */
#define RWWCE_ERROR_NEGATIVE 9

/* A diagonal element of the mislabel costs is not 0: `index`, the class. */
#define RWWCE_ERROR_COST_OF_TRUTH 10

/* An option has no meaning with another one, or in this call: `argument`, `other_argument`, which may be none. */
#define RWWCE_ERROR_INCOMPATIBLE 11

/* A target of a binary loss is not in [0, 1]: `index`. */
#define RWWCE_ERROR_TARGET_OUT_OF_RANGE 12

/* The parts of a row do not hold the logit of its label exactly once: `found` of them do. */
#define RWWCE_ERROR_LABEL_OWNERS 13

/* A pointer that must not be NULL is NULL: `argument`. */
#define RWWCE_ERROR_NULL 101

/* A pointer is not aligned for the type that it points to: `argument`. */
#define RWWCE_ERROR_MISALIGNED 102

/* An array that is written overlaps another one: `argument`, `other_argument`. */
#define RWWCE_ERROR_OVERLAP 103

/* The first member of an options structure is not its size: `argument`, `expected`, `found`. Or a program that was
 * compiled for a later version uses options that this one does not know. */
#define RWWCE_ERROR_STRUCT_SIZE 104

/* A value is none of its type, or of its range: `argument`, `found`. */
#define RWWCE_ERROR_UNKNOWN_VALUE 105

/* No backend of this name, or none that this processor supports. */
#define RWWCE_ERROR_UNKNOWN_BACKEND 106

/* None. */
#define RWWCE_ARGUMENT_NONE 0

/* The logits, `[N, C, D]`. */
#define RWWCE_ARGUMENT_LOGITS 1

/* The probabilities, `[N, C, D]`. */
#define RWWCE_ARGUMENT_PROBABILITIES 2

/* The labels, `[N, D]`. */
#define RWWCE_ARGUMENT_LABELS 3

/* The class weights, `[C]`. */
#define RWWCE_ARGUMENT_CLASS_WEIGHTS 4

/* The mislabel costs, `[C, C]`. */
#define RWWCE_ARGUMENT_MISLABEL_COSTS 5

/* The sample weights, `[N, D]`. */
#define RWWCE_ARGUMENT_SAMPLE_WEIGHTS 6

/* The target probabilities, or the targets of a binary loss. */
#define RWWCE_ARGUMENT_TARGETS 7

/* The class bias, `[C]`. */
#define RWWCE_ARGUMENT_CLASS_BIAS 8

/* The ignored label. */
#define RWWCE_ARGUMENT_IGNORE_INDEX 9

/* The label smoothing ε. */
#define RWWCE_ARGUMENT_LABEL_SMOOTHING 10

/* The focal exponent γ. */
#define RWWCE_ARGUMENT_FOCAL 11

/* The temperature T. */
#define RWWCE_ARGUMENT_TEMPERATURE 12

/* The z-loss factor λ, of the squared log-sum-exp. */
#define RWWCE_ARGUMENT_Z_LOSS 13

/* The number of positions D. */
#define RWWCE_ARGUMENT_POSITIONS 14

/* The miss costs, `[L]` or `[C]`. */
#define RWWCE_ARGUMENT_MISS_COSTS 15

/* The false-alarm costs, `[L]`. */
#define RWWCE_ARGUMENT_FALSE_ALARM_COSTS 16

/* The log-probabilities. */
#define RWWCE_ARGUMENT_LOG_PROBABILITIES 17

/* The log-sum-exps of the rows, `[N, D]`. */
#define RWWCE_ARGUMENT_LOG_SUM_EXPS 18

/* The weight sums of the classes, `[C]`. */
#define RWWCE_ARGUMENT_WEIGHT_SUMS 19

/* The loss sums of the classes, `[C]`. */
#define RWWCE_ARGUMENT_LOSS_SUMS 20

/* The confusion matrix, `[C, C]`. */
#define RWWCE_ARGUMENT_CONFUSION 21

/* The losses of the rows, `[N, D]`. */
#define RWWCE_ARGUMENT_ROW_LOSSES 22

/* The gradient, shaped as the logits. */
#define RWWCE_ARGUMENT_GRADIENT 23

/* The upstream factor, or the factors of the rows, `[N, D]`. */
#define RWWCE_ARGUMENT_UPSTREAM 24

/* The row stride. */
#define RWWCE_ARGUMENT_ROW_STRIDE 25

/* The constant added to a probability before the logarithm. */
#define RWWCE_ARGUMENT_EPS 26

/* The number of rows of each class, `[C]`. */
#define RWWCE_ARGUMENT_COUNTS 27

/* The beta of the effective number of samples. */
#define RWWCE_ARGUMENT_BETA 28

/* The weight of classes without samples. */
#define RWWCE_ARGUMENT_EMPTY_CLASS_WEIGHT 29

/* The scale of integer logits. */
#define RWWCE_ARGUMENT_SCALE 30

/* The zero point of integer logits. */
#define RWWCE_ARGUMENT_ZERO_POINT 31

/* The decisions of the rows, `[N, D]`. */
#define RWWCE_ARGUMENT_DECISIONS 32

/* The expected costs of the decisions, `[N, D]`. */
#define RWWCE_ARGUMENT_EXPECTED_COSTS 33

/* The denominator set by the caller. */
#define RWWCE_ARGUMENT_DENOMINATOR 34

/* The curvature, shaped as the logits. */
#define RWWCE_ARGUMENT_CURVATURE 35

/* The options. */
#define RWWCE_ARGUMENT_OPTIONS 101

/* The type of the labels. */
#define RWWCE_ARGUMENT_LABEL_TYPE 102

/* The reduction. */
#define RWWCE_ARGUMENT_REDUCTION 103

/* The result of a mean whose denominator is 0. */
#define RWWCE_ARGUMENT_ZERO_DENOMINATOR 104

/* The name of a backend. */
#define RWWCE_ARGUMENT_BACKEND 105

/* The weighting scheme. */
#define RWWCE_ARGUMENT_SCHEME 106

/* The normalisation of the class weights. */
#define RWWCE_ARGUMENT_NORMALISATION 107

/* The policy for classes without samples. */
#define RWWCE_ARGUMENT_EMPTY_CLASS 108

/* The summary, or another result of one value. */
#define RWWCE_ARGUMENT_RESULT 109

/* A total or a part of a row. */
#define RWWCE_ARGUMENT_PARTIAL 110

/* The type of the logits. */
#define RWWCE_ARGUMENT_LOGIT_TYPE 111

/* The floats converted from logits. */
#define RWWCE_ARGUMENT_NUMBERS 112

/* The kind of second derivative. */
#define RWWCE_ARGUMENT_CURVATURE_KIND 113

/* The number of threads. */
#define RWWCE_ARGUMENT_THREADS 114

/* The mean over the weight sum; for target probabilities, mislabel costs and binary losses the mean over the rows. */
#define RWWCE_REDUCTION_DEFAULT 0

/* The sum over the rows that count. */
#define RWWCE_REDUCTION_SUM 1

/* The sum divided by Σ w[y]·s of the rows that count: the mean of PyTorch and ONNX with class indices. */
#define RWWCE_REDUCTION_MEAN_WEIGHT_SUM 2

/* The sum divided by the number of rows that count: a mean written by hand; PyTorch's with target probabilities. */
#define RWWCE_REDUCTION_MEAN_ROWS 3

/* The sum divided by Σ s of the rows that count: the mean of Keras and scikit-learn. */
#define RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM 4

/* The sum divided by the number of rows that count times C. */
#define RWWCE_REDUCTION_MEAN_ROWS_TIMES_CLASSES 5

/* NaN, as in PyTorch. */
#define RWWCE_ZERO_DENOMINATOR_NAN 0

/* 0, in loss and gradient. */
#define RWWCE_ZERO_DENOMINATOR_ZERO 1

/* `RWWCE_ERROR_ZERO_DENOMINATOR`. */
#define RWWCE_ZERO_DENOMINATOR_ERROR 2

/* n / n_c */
#define RWWCE_SCHEME_INVERSE_FREQUENCY 1

/* n / (C·n_c): scikit-learn's `class_weight="balanced"`. */
#define RWWCE_SCHEME_BALANCED 2

/* (1 − β) / (1 − β^n_c): the effective number of samples (Cui et al., CVPR 2019). */
#define RWWCE_SCHEME_EFFECTIVE_NUMBER 3

/* √(n / n_c) */
#define RWWCE_SCHEME_INVERSE_SQUARE_ROOT 4

/* median(n_1 … n_C) / n_c over the classes that have samples (Eigen & Fergus, ICCV 2015). */
#define RWWCE_SCHEME_MEDIAN_FREQUENCY 5

/* As the formula of the scheme gives them. */
#define RWWCE_NORMALISATION_NONE 0

/* The weights of the classes with samples add up to 1. */
#define RWWCE_NORMALISATION_SUM 1

/* The weights of the classes with samples have the mean 1. */
#define RWWCE_NORMALISATION_MEAN 2

/* `RWWCE_ERROR_EMPTY_CLASS`, which names the class. */
#define RWWCE_EMPTY_CLASS_ERROR 0

/* `empty_class_weight`, which is not normalised. */
#define RWWCE_EMPTY_CLASS_WEIGHT 1

/* `uint8_t` */
#define RWWCE_LABEL_U8 1

/* `uint16_t` */
#define RWWCE_LABEL_U16 2

/* `uint32_t` */
#define RWWCE_LABEL_U32 3

/* `int32_t` */
#define RWWCE_LABEL_I32 4

/* `int64_t` */
#define RWWCE_LABEL_I64 5

/* The diagonal of the Hessian of the loss with respect to the logits of a row. With s_j = fp[y,j]·p_j/(1 − p_j), and
 * W = w[y] or, for target probabilities, Σ_c w[c]·q_c, either of them with label smoothing applied, the diagonal is
 * W·p_i·(1 − p_i) + fp[y,i]·p_i − p_i·(1 − p_i)·Σ_j s_j + p_i²·Σ_{j≠i} s_j/(1 − p_j). */
#define RWWCE_CURVATURE_DIAGONAL 0

/* For boosting: 2·p_i·((|W| + fp[y,i])·(1 − p_i) + Σ_{j≠i} fp[y,j]·p_j), never negative. Where neither sample weight
 * nor upstream factor is, the diagonal matrix of these bounds minus the Hessian of a row is positive semidefinite. */
#define RWWCE_CURVATURE_BOUND 1

/* `float` */
#define RWWCE_LOGIT_F32 0

/* `int8_t`: an element q stands for scale·(q − zero point), as in ONNX and LiteRT, rounded once. */
#define RWWCE_LOGIT_I8 1

/* `uint8_t`, likewise. */
#define RWWCE_LOGIT_U8 2

/* IEEE 754 binary16: `_Float16`, or its bits in a `uint16_t`. */
#define RWWCE_LOGIT_F16 3

/* bfloat16: the upper half of the bits of a `float`, in a `uint16_t`. */
#define RWWCE_LOGIT_BF16 4

#ifdef __cplusplus
extern "C" {
#endif

/* Short description of a status, such as "label out of range"; "unknown status" for any other value. Never NULL. */
RWWCE_API
const char *rwwce_status_string(rwwce_status status);

/* Writes a sentence that describes an error, such as "labels: row 7 has label -1, expected 0 to 2", with a
 * terminating NUL, truncated to `size` bytes.
 *
 * Returns the length of the untruncated sentence without the NUL, as `snprintf` does. For a NULL `error` the
 * sentence is empty. `message` may be NULL if `size` is 0. */
RWWCE_API
size_t rwwce_error_message(const struct rwwce_error *error,
                           char *message,
                           size_t size);

/* Loss of logits `[N, C, D]` and labels `[N, D]`: −w[y]·log p_y, or the loss that `rwwce_options` describe.
 *
 * `row_losses`, `[N, D]`, receives the loss of each row, 0 for one that does not count; NULL with a count of 0 for
 * none. `summary` may be NULL. The weighted loss of a row has an error of at most 3 ulp (of up to 7.5 in rare rows of more than
 * 8 classes) down to the smallest normal float, other losses 6 ulp of the sum of the magnitudes of their terms, 2·(γ + 1)
 * with a focal exponent γ above 2.
 *
 * Every error leaves `row_losses` and `summary` unchanged. `row_losses` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_loss(const struct rwwce_options *options,
                        const void *logits,
                        size_t logits_count,
                        const void *labels,
                        size_t labels_count,
                        rwwce_label_type label_type,
                        float *row_losses,
                        size_t row_losses_count,
                        struct rwwce_summary *summary,
                        struct rwwce_error *error);

/* Writes the weighted loss −w[y]·log p_y of each row of logits `[N, C]` to `row_losses`, `[N]`, with the best
 * backend, in the bits of `rwwce_loss`: for programs without room for other options, whose code is then not linked.
 *
 * `class_weights`, `[C]`, are finite; NULL with a count of 0 for ones. Logits of another type are converted to float
 * by `rwwce_widen`, as many rows at a time as there is room for.
 *
 * Every error leaves `row_losses` unchanged. `row_losses` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_weighted_row_losses(size_t classes,
                                       const float *class_weights,
                                       size_t class_weights_count,
                                       const float *logits,
                                       size_t logits_count,
                                       const int32_t *labels,
                                       size_t labels_count,
                                       float *row_losses,
                                       size_t row_losses_count,
                                       struct rwwce_error *error);

/* Loss as in `rwwce_loss`, and its gradient with respect to the logits, written to `gradient`, shaped as the logits.
 *
 * The gradient is that of the reduced loss times `options->upstream`, or, with `options->row_upstream`, that of the
 * loss of each row times the factor of the row. Rows that do not count, or whose weight or factor is 0, get exact
 * zeros; padding between samples is left unchanged. An element that is a normal float has an error of at most 5 ulp.
 *
 * Every error leaves `gradient` and `summary` unchanged. `gradient` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_loss_gradient(const struct rwwce_options *options,
                                 const void *logits,
                                 size_t logits_count,
                                 const void *labels,
                                 size_t labels_count,
                                 rwwce_label_type label_type,
                                 float *gradient,
                                 size_t gradient_count,
                                 struct rwwce_summary *summary,
                                 struct rwwce_error *error);

/* As `rwwce_loss_gradient`, with the gradient written over the logits, which are float. */
RWWCE_API
rwwce_status rwwce_loss_gradient_in_place(const struct rwwce_options *options,
                                          float *logits,
                                          size_t logits_count,
                                          const void *labels,
                                          size_t labels_count,
                                          rwwce_label_type label_type,
                                          struct rwwce_summary *summary,
                                          struct rwwce_error *error);

/* Loss of logits and target probabilities q, both `[N, C, D]`: −Σ_c w[c]·q_c·log p_c, a term with q_c = 0 being 0.
 * Targets are finite and need not sum to 1. Otherwise as `rwwce_loss`. */
RWWCE_API
rwwce_status rwwce_soft_loss(const struct rwwce_options *options,
                             const void *logits,
                             size_t logits_count,
                             const float *targets,
                             size_t targets_count,
                             float *row_losses,
                             size_t row_losses_count,
                             struct rwwce_summary *summary,
                             struct rwwce_error *error);

/* Loss as in `rwwce_soft_loss`, and its gradient as in `rwwce_loss_gradient`. */
RWWCE_API
rwwce_status rwwce_soft_gradient(const struct rwwce_options *options,
                                 const void *logits,
                                 size_t logits_count,
                                 const float *targets,
                                 size_t targets_count,
                                 float *gradient,
                                 size_t gradient_count,
                                 struct rwwce_summary *summary,
                                 struct rwwce_error *error);

/* As `rwwce_soft_gradient`, with the gradient written over the logits, which are float. */
RWWCE_API
rwwce_status rwwce_soft_gradient_in_place(const struct rwwce_options *options,
                                          float *logits,
                                          size_t logits_count,
                                          const float *targets,
                                          size_t targets_count,
                                          struct rwwce_summary *summary,
                                          struct rwwce_error *error);

/* Loss of given *probabilities* `[N, C, D]`: −w[y]·log(p_y + eps), `eps` at least 0, and with mislabel costs
 * − Σ_{j≠y} fp[y,j]·log(1 − p_j + eps). Give logits wherever they can be had. Otherwise as `rwwce_loss`. */
RWWCE_API
rwwce_status rwwce_loss_from_probabilities(const struct rwwce_options *options,
                                           const float *probabilities,
                                           size_t probabilities_count,
                                           const void *labels,
                                           size_t labels_count,
                                           rwwce_label_type label_type,
                                           float eps,
                                           float *row_losses,
                                           size_t row_losses_count,
                                           struct rwwce_summary *summary,
                                           struct rwwce_error *error);

/* Negative log-likelihood −w[y]·log p_y of given *log-probabilities* `[N, C, D]`, such as those of
 * `rwwce_log_probabilities`: PyTorch's `nll_loss`. Otherwise as `rwwce_loss`. */
RWWCE_API
rwwce_status rwwce_loss_from_log_probabilities(const struct rwwce_options *options,
                                               const float *log_probabilities,
                                               size_t log_probabilities_count,
                                               const void *labels,
                                               size_t labels_count,
                                               rwwce_label_type label_type,
                                               float *row_losses,
                                               size_t row_losses_count,
                                               struct rwwce_summary *summary,
                                               struct rwwce_error *error);

/* Writes the gradient of `rwwce_loss_from_log_probabilities` with respect to the log-probabilities to `gradient`,
 * `[N, C, D]`: −w[y]·s at the label times the upstream factors of the options, 0 elsewhere.
 *
 * Every error leaves `gradient` unchanged; `gradient` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_gradient_from_log_probabilities(const struct rwwce_options *options,
                                                   const void *labels,
                                                   size_t labels_count,
                                                   rwwce_label_type label_type,
                                                   float *gradient,
                                                   size_t gradient_count,
                                                   struct rwwce_error *error);

/* Writes log-softmax, log p of every class, to `log_probabilities`, shaped and padded as the logits `[N, C, D]`. Of
 * the options only the shape, the type of the logits, the temperature, the class bias and the backend matter;
 * weights, costs and terms of the loss are checked all the same. The error of a number is at most 3 ulp but for rare
 * rows, as that of a loss, also where p is near 1.
 *
 * Every error leaves `log_probabilities` unchanged; `log_probabilities` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_log_probabilities(const struct rwwce_options *options,
                                     const void *logits,
                                     size_t logits_count,
                                     float *log_probabilities,
                                     size_t log_probabilities_count,
                                     struct rwwce_error *error);

/* Writes log-sum-exp of every row to `log_sum_exps`, `[N, D]`; options and errors as for `rwwce_log_probabilities`. */
RWWCE_API
rwwce_status rwwce_log_sum_exps(const struct rwwce_options *options,
                                const void *logits,
                                size_t logits_count,
                                float *log_sum_exps,
                                size_t log_sum_exps_count,
                                struct rwwce_error *error);

/* Log-sum-exp, log Σ exp(x), of one row of logits, written to `result`. An empty row, or one with all logits −∞,
 * gives −∞; any NaN gives NaN; otherwise any +∞ gives +∞. `backend_name` may be NULL for the best backend. */
RWWCE_API
rwwce_status rwwce_log_sum_exp(const float *logits,
                               size_t logits_count,
                               const char *backend_name,
                               float *result,
                               struct rwwce_error *error);

/* Binary loss of logits z and targets t in [0, 1], both `[N, L]`: −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)).
 *
 * `row_losses`, `[N, L]`, receives the loss of each logit; NULL with a count of 0 for none. `summary` may be NULL.
 * The error is at most 6 ulp of the sum of the magnitudes of the terms.
 *
 * Every error leaves `row_losses` and `summary` unchanged. `row_losses` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_binary_loss(const struct rwwce_binary_options *options,
                               const void *logits,
                               size_t logits_count,
                               const float *targets,
                               size_t targets_count,
                               float *row_losses,
                               size_t row_losses_count,
                               struct rwwce_summary *summary,
                               struct rwwce_error *error);

/* Sums rows and weights of these targets, `[N, L]`, without the loss, into `total`: the denominators of every
 * reduction, for `rwwce_total_denominator`.
 *
 * Every error leaves `total` unchanged. */
RWWCE_API
rwwce_status rwwce_binary_weigh(const struct rwwce_binary_options *options,
                                const float *targets,
                                size_t targets_count,
                                struct rwwce_total *total,
                                struct rwwce_error *error);

/* Loss as in `rwwce_binary_loss`, and its gradient (1 − t)·fp·σ(z) − t·fn·(1 − σ(z)) times the upstream factors of
 * the options, written to `gradient`, `[N, L]`.
 *
 * Every error leaves `gradient` and `summary` unchanged. `gradient` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_binary_gradient(const struct rwwce_binary_options *options,
                                   const void *logits,
                                   size_t logits_count,
                                   const float *targets,
                                   size_t targets_count,
                                   float *gradient,
                                   size_t gradient_count,
                                   struct rwwce_summary *summary,
                                   struct rwwce_error *error);

/* As `rwwce_binary_gradient`, with the gradient written over the logits, which are float. */
RWWCE_API
rwwce_status rwwce_binary_gradient_in_place(const struct rwwce_binary_options *options,
                                            float *logits,
                                            size_t logits_count,
                                            const float *targets,
                                            size_t targets_count,
                                            struct rwwce_summary *summary,
                                            struct rwwce_error *error);

/* Writes the second derivative of the loss of `rwwce_loss` with respect to each logit to `curvature`, shaped as the
 * logits, multiplied and divided as the gradient is. Options with a focal factor or z-loss are refused. The error is
 * at most 2 ulp of the sum of the magnitudes of the terms.
 *
 * Every error leaves `curvature` unchanged. `curvature` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_curvature(const struct rwwce_options *options,
                             const void *logits,
                             size_t logits_count,
                             const void *labels,
                             size_t labels_count,
                             rwwce_label_type label_type,
                             rwwce_curvature_kind which,
                             float *curvature,
                             size_t curvature_count,
                             struct rwwce_error *error);

/* As `rwwce_curvature`, for the loss of `rwwce_soft_loss`. */
RWWCE_API
rwwce_status rwwce_soft_curvature(const struct rwwce_options *options,
                                  const void *logits,
                                  size_t logits_count,
                                  const float *targets,
                                  size_t targets_count,
                                  rwwce_curvature_kind which,
                                  float *curvature,
                                  size_t curvature_count,
                                  struct rwwce_error *error);

/* Writes the second derivative of the loss of `rwwce_binary_loss` with respect to each logit, times upstream factors
 * and divided as the gradient is, to `curvature`, `[N, L]`: s·(fn·t + fp·(1 − t))·σ(z)·(1 − σ(z)).
 *
 * Every error leaves `curvature` unchanged. `curvature` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_binary_curvature(const struct rwwce_binary_options *options,
                                    const void *logits,
                                    size_t logits_count,
                                    const float *targets,
                                    size_t targets_count,
                                    float *curvature,
                                    size_t curvature_count,
                                    struct rwwce_error *error);

/* Converts logits of any type to float, into `numbers`, as many as there are logits: for functions whose logits are
 * `float *`. `logit_scale` and `logit_zero_point` are as in the options. A row too large for memory is converted,
 * given to `rwwce_row_partial_of` and merged part by part.
 *
 * Every error leaves `numbers` unchanged. `numbers` must not overlap the logits. */
RWWCE_API
rwwce_status rwwce_widen(const void *logits,
                         size_t logits_count,
                         rwwce_logit_type logit_type,
                         float logit_scale,
                         int32_t logit_zero_point,
                         float *numbers,
                         size_t numbers_count,
                         struct rwwce_error *error);

/* Counts the labels of each class into `counts`, `[C]`, whose length is the number of classes. Labels equal to
 * `*ignore_index` are left out; NULL for none. `counted`, which may be NULL, receives the number of labels counted.
 *
 * Every error leaves `counts` and `counted` unchanged. */
RWWCE_API
rwwce_status rwwce_count_labels(const void *labels,
                                size_t labels_count,
                                rwwce_label_type label_type,
                                const int64_t *ignore_index,
                                uint64_t *counts,
                                size_t counts_count,
                                uint64_t *counted,
                                struct rwwce_error *error);

/* Writes the weight of each class to `weights`, `[C]`, given the number of samples of each class, `counts`, `[C]`.
 * Weights are finite, computed in double precision and rounded once.
 *
 * Every error leaves `weights` unchanged. */
RWWCE_API
rwwce_status rwwce_class_weights(const struct rwwce_class_weights_options *options,
                                 const uint64_t *counts,
                                 size_t counts_count,
                                 float *weights,
                                 size_t weights_count,
                                 struct rwwce_error *error);

/* Sums rows and weights of these labels, `[N, D]`, without the loss, into `total`: the denominators of every
 * reduction, for `rwwce_total_denominator`.
 *
 * Every error leaves `total` unchanged. */
RWWCE_API
rwwce_status rwwce_weigh(const struct rwwce_options *options,
                         const void *labels,
                         size_t labels_count,
                         rwwce_label_type label_type,
                         struct rwwce_total *total,
                         struct rwwce_error *error);

/* As `rwwce_weigh`, for target probabilities, shaped as the logits. */
RWWCE_API
rwwce_status rwwce_weigh_soft(const struct rwwce_options *options,
                              const float *targets,
                              size_t targets_count,
                              struct rwwce_total *total,
                              struct rwwce_error *error);

/* Number of rows of a chunk, the unit of summation over rows: a multiple of `positions`, which is at least 1. Each
 * chunk is summed apart, and the chunk sums are added in order. So where a batch is cut into calls of a chunk each,
 * the last of which may be shorter, their totals merged in order into `RWWCE_TOTAL_INIT` have the bits of one call. */
RWWCE_API
size_t rwwce_chunk_rows(size_t classes,
                        size_t positions);

/* Denominator of a reduction of `total`; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum. */
RWWCE_API
rwwce_status rwwce_total_denominator(const struct rwwce_total *total,
                                     rwwce_reduction how,
                                     double *denominator,
                                     struct rwwce_error *error);

/* Adds `other` to `total`, in double precision: another order may round differently. */
RWWCE_API
rwwce_status rwwce_total_merge(struct rwwce_total *total,
                               const struct rwwce_total *other,
                               struct rwwce_error *error);

/* Reduced loss of all batches merged into `total`; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum. */
RWWCE_API
rwwce_status rwwce_total_reduce(const struct rwwce_total *total,
                                rwwce_reduction how,
                                rwwce_zero_denominator if_zero,
                                float *loss,
                                struct rwwce_error *error);

/* Reduces a part of a row into `part`: its logits, and the index of the label among them, or `RWWCE_NO_LABEL`.
 * `backend_name` may be NULL for the best backend. Logits of another type are converted to float by `rwwce_widen`. */
RWWCE_API
rwwce_status rwwce_row_partial_of(const float *logits,
                                  size_t logits_count,
                                  size_t label,
                                  const char *backend_name,
                                  struct rwwce_row_partial *part,
                                  struct rwwce_error *error);

/* Merges another part of the same row into `part`. Parts may come in any order; another order may round differently. */
RWWCE_API
rwwce_status rwwce_row_partial_merge(struct rwwce_row_partial *part,
                                     const struct rwwce_row_partial *other,
                                     struct rwwce_error *error);

/* Writes the loss of the whole row, −`weight`·log p of the label, to `loss`, with the error of a loss. */
RWWCE_API
rwwce_status rwwce_row_partial_loss(const struct rwwce_row_partial *part,
                                    float weight,
                                    float *loss,
                                    struct rwwce_error *error);

/* Writes log-sum-exp over the classes so far to `result`. */
RWWCE_API
rwwce_status rwwce_row_partial_log_sum_exp(const struct rwwce_row_partial *part,
                                           float *result,
                                           struct rwwce_error *error);

/* Writes the gradient `factor`·(p_i − [i = y]) of a part of the row to `gradient`: `whole` is the merged row,
 * `logits` those of the part, `label` as in `rwwce_row_partial_of`, and `factor` = weight · upstream / denominator.
 *
 * Every error leaves `gradient` unchanged; `gradient` must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_row_partial_gradient(const struct rwwce_row_partial *whole,
                                        const float *logits,
                                        size_t logits_count,
                                        size_t label,
                                        float factor,
                                        float *gradient,
                                        size_t gradient_count,
                                        struct rwwce_error *error);

/* Writes the class of least expected cost of each row to `decisions`, `[N, D]`, and the expected cost of the
 * decision to `expected_costs`, `[N, D]`, which may be NULL: argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), where the miss
 * costs fn are the class weights, each 1 when absent, at least 0 here, and fp the mislabel costs, each 0 when
 * absent. Without costs the decision is the argmax of the logits, the lowest index in a tie. Where two expected costs
 * differ by more than 4 ulp, the lower one decides; where they are equal as computed, the lowest index. Costs that are
 * equal only in exact arithmetic may differ by rounding.
 *
 * A row with a NaN, with several +∞ or with all logits −∞ has no decision: `decisions` gets `RWWCE_NO_DECISION` and
 * `expected_costs` NaN. `undecided`, which may be NULL, receives the number of such rows.
 *
 * Of the options only the shape, the costs, the type of the logits, the temperature, the class bias and the backend
 * matter; sample weights and terms of the loss are checked all the same. Every error leaves all outputs unchanged;
 * outputs must not overlap any other array. */
RWWCE_API
rwwce_status rwwce_decide(const struct rwwce_options *options,
                          const void *logits,
                          size_t logits_count,
                          uint32_t *decisions,
                          size_t decisions_count,
                          float *expected_costs,
                          size_t expected_costs_count,
                          size_t *undecided,
                          struct rwwce_error *error);

/* As `rwwce_decide`, from given *probabilities* `[N, C, D]`, which need not sum to 1. A row with a probability that
 * is NaN, negative or infinite has no decision. */
RWWCE_API
rwwce_status rwwce_decide_from_probabilities(const struct rwwce_options *options,
                                             const float *probabilities,
                                             size_t probabilities_count,
                                             uint32_t *decisions,
                                             size_t decisions_count,
                                             float *expected_costs,
                                             size_t expected_costs_count,
                                             size_t *undecided,
                                             struct rwwce_error *error);

/* Adds number, weights w[y]·s and losses of rows to the sums of their classes, `[C]` each. `row_losses`, `[N, D]`,
 * are those of `rwwce_loss`. To be called batch by batch; set the sums to 0 before the first.
 *
 * Every error leaves the sums unchanged. */
RWWCE_API
rwwce_status rwwce_add_class_sums(const struct rwwce_options *options,
                                  const void *labels,
                                  size_t labels_count,
                                  rwwce_label_type label_type,
                                  const float *row_losses,
                                  size_t row_losses_count,
                                  uint64_t *counts,
                                  size_t counts_count,
                                  double *weight_sums,
                                  size_t weight_sums_count,
                                  double *loss_sums,
                                  size_t loss_sums_count,
                                  struct rwwce_error *error);

/* Adds the argmax decision of each row to a confusion matrix `[C, C]`, row = truth, column = class of the largest
 * logit, the lowest index in a tie. Rows that do not count are left out, as are rows with a NaN; `undecided`, which
 * may be NULL, receives the number of rows with a NaN.
 *
 * Every error leaves the matrix and `undecided` unchanged. */
RWWCE_API
rwwce_status rwwce_add_confusion(const struct rwwce_options *options,
                                 const void *logits,
                                 size_t logits_count,
                                 const void *labels,
                                 size_t labels_count,
                                 rwwce_label_type label_type,
                                 uint64_t *confusion,
                                 size_t confusion_count,
                                 size_t *undecided,
                                 struct rwwce_error *error);

/* Total cost of the decisions in a confusion matrix `[C, C]`, Σ_{y≠j} n[y,j]·(fn[y] + fp[y,j]), written to `cost`,
 * from miss costs fn `[C]`, whose length is the number of classes, and mislabel costs fp `[C, C]`. */
RWWCE_API
rwwce_status rwwce_decision_cost(const uint64_t *confusion,
                                 size_t confusion_count,
                                 const float *miss_costs,
                                 size_t miss_costs_count,
                                 const float *mislabel_costs,
                                 size_t mislabel_costs_count,
                                 double *cost,
                                 struct rwwce_error *error);

/* The version of this library, such as "0.2.0", to compare with `RWWCE_VERSION`, the version of the header. */
RWWCE_API
const char *rwwce_version(void);

/* Name of the backend that computes unless the options name another: "avx512", "avx2", "neon", "sse2", "simd128",
 * "scalar" (a multiply-add rounds twice) or "scalar-fma" (once). The last two are for processors without vectors; a
 * library has both only if built with the feature `scalar`, to reproduce a microcontroller. The processor is queried
 * once. Never NULL. */
RWWCE_API
const char *rwwce_backend_name(void);

/* Name of backend `index` of those that this processor supports, the fastest first; NULL past the last. */
RWWCE_API
const char *rwwce_backend_available(size_t index);

/* 1 if a multiply-add of this backend rounds once, 0 if it rounds twice, −1 if the backend is not supported. NULL is
 * the best backend. Backends with the same answer return the same bits, except "scalar" and "scalar-fma", which
 * compute in one lane: each of these has bits of its own, the same on every machine, microcontrollers among them. */
RWWCE_API
int32_t rwwce_backend_is_fused(const char *name);

#ifdef __cplusplus
}
#endif

#endif  /* RWWCE_H */
