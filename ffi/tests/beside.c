/* A program with two Rust libraries, of which the other one unwinds. */
#include <rwwce.h>
#include <stdio.h>

int32_t beside_catches_a_panic(void);

int main(void) {
  const float logits[] = {3.0f, 3.0f};
  const int32_t label = 1;
  float loss;
  const rwwce_status status = rwwce_weighted_row_losses(2, NULL, 0, logits, 2, &label, 1, &loss, 1, NULL);
  const int32_t caught = beside_catches_a_panic();
  printf("status %u, caught %d\n", (unsigned)status, (int)caught);
  return status == RWWCE_OK && caught == 7 ? 0 : 1;
}
