/* Good arguments for every function of the library, and calls that check their effects.
 *
 * A test prepares a function, changes one of its arguments, and calls. All arguments are in one
 * arena, far apart: one comparison shows any write that should not be. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <rwwce.h>

/* Counts a check, and prints what has failed. */
int check(int holds, const char *what, const char *file, int line);
int is_close(double found, double wanted);
#define CHECK(condition) check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define CHECK_CLOSE(found, wanted) \
  check(is_close((found), (wanted)), #found " is " #wanted, __FILE__, __LINE__)
/* Whether the library was built with the features `scalar` and `threads`. */
#ifndef ONE_LANE
#define ONE_LANE 0
#endif
extern long checks, failures;
/* The running test, for messages. */
extern char context[200];

enum {
  N = 2, C = 4, D = 3, ROWS = N * D, ELEMENTS = N * C * D,
  /* The second partial result of a merge; the library has one argument number for both. */
  OTHER = RWWCE_ARGUMENT_THREADS + 1,
  /* The numbers of the arguments have a gap. */
  GAP = RWWCE_ARGUMENT_OPTIONS - RWWCE_ARGUMENT_CURVATURE - 1,
  BLOCKS = OTHER - GAP + 1, BLOCK = 512, ARENA = BLOCKS * BLOCK
};

/* How a function uses an argument. */
enum {
  ARRAY = 1,     /* a pointer and a count; otherwise one value */
  WRITTEN = 2,
  OPTIONAL = 4,  /* may be NULL */
  ANY_LENGTH = 8, /* one more element is an error of another argument */
  ANY_TYPE = 16  /* logits or labels, of any type */
};

typedef struct Use {
  rwwce_argument argument;
  int how;
} Use;

typedef struct Function {
  const char *name;
  rwwce_status (*call)(rwwce_error *error);
  size_t options_size, result_size, partial_size;
  /* In the order in which the library checks them; the last has the argument 0. */
  Use uses[12];
} Function;

enum { FUNCTIONS = 38 };
extern const Function functions[FUNCTIONS];

/* Address, elements and bytes per element of an argument. */
typedef struct Place {
  unsigned char *at;
  size_t count, size;
} Place;

/* The function that is called, and those of its arguments that are no pointers. */
extern const Function *now;
extern rwwce_label_type label_type;
extern rwwce_logit_type logit_type;
extern float number, scale;
extern int32_t zero_point;
extern size_t classes, label;
extern const char *backend;
extern rwwce_reduction how;
extern rwwce_zero_denominator if_zero;
extern rwwce_curvature_kind which_curvature;

/* The arena, its copy before a call, and its contents after a call that succeeded. */
extern unsigned char *arena, *before, *reference;
void set_up(void);
void tear_down(void);

/* Good arguments for a function, all of them. */
void prepare(const Function *function);
void prepare_named(const char *name);
const Use *use_of(const Function *function, rwwce_argument argument);
int is_binary(const Function *function);
/* Whether the function reads logits, or labels, of any type: then they are of `logit_type`, or
 * `label_type`, with the same values in each. */
int reads_any_type(const Function *function, rwwce_argument argument);
/* Where an argument is now, and where `prepare` has put it. */
Place *place_of(rwwce_argument argument);
unsigned char *home_of(rwwce_argument argument);
void set_label(size_t row, int64_t value);
/* Sets how the call reads the logits, in its options or as arguments. */
void set_logit_type(rwwce_logit_type type, float its_scale, int32_t its_zero_point);
/* Sets the arrays in the options, as every call does. */
void link_options(void);
/* Makes the padding of the summary comparable. */
void tidy_summary(void);

#define A(name) RWWCE_ARGUMENT_##name
#define AT(type, name) ((type *)(void *)place_of(A(name))->at)
#define COUNT(name) place_of(A(name))->count
#define HOME(type, name) ((type *)(void *)home_of(A(name)))
#define IN(name, i) HOME(float, name)[i]

/* Expected errors. */
rwwce_error problem(rwwce_status status, rwwce_argument argument);
rwwce_error problem_at(rwwce_status status, rwwce_argument argument, size_t index);
rwwce_error problem_with(rwwce_status status, rwwce_argument argument, rwwce_argument other);
rwwce_error problem_found(rwwce_status status, rwwce_argument argument, size_t wanted,
                          size_t found);
rwwce_error problem_of_label(size_t row, int64_t value, size_t classes);

/* The call succeeds. */
void call_at(const char *file, int line);
#define CALL() call_at(__FILE__, __LINE__)
/* The call writes the outputs of `reference`, wherever they are now, and nothing else. */
void accepted_at(const char *file, int line);
#define ACCEPTED() accepted_at(__FILE__, __LINE__)
/* The call is refused with this error, and nothing is written. */
void refused_at(rwwce_error wanted, const char *file, int line);
#define REFUSED(wanted) refused_at((wanted), __FILE__, __LINE__)

/* Checks of what the functions compute: results.c. */
void results(void);

#endif
