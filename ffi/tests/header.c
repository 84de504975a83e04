/* The header and its macros in C89. */
#include <rwwce.h>

#include <math.h>
#ifndef INFINITY
#define INFINITY HUGE_VAL
#endif

int main(void) {
  const rwwce_options a = RWWCE_OPTIONS_INIT(2);
  const rwwce_binary_options b = RWWCE_BINARY_OPTIONS_INIT(3);
  const rwwce_class_weights_options c = RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(RWWCE_SCHEME_BALANCED);
  const rwwce_total d = RWWCE_TOTAL_INIT;
  const rwwce_row_partial e = RWWCE_ROW_PARTIAL_INIT;
  return a.classes == 2 && b.labels == 3 && c.scheme == RWWCE_SCHEME_BALANCED && d.rows == 0 && e.classes == 0 &&
                 rwwce_version() != NULL
             ? 0
             : 1;
}
