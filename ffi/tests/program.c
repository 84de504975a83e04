/* A program for every supported target: 0 where the loss of two equal logits is log 2. */
#include <rwwce.h>

int main(void) {
  const float logits[] = {3.0f, 3.0f};
  const int32_t label = 1;
  float loss = 0.0f;
  const rwwce_status status = rwwce_weighted_row_losses(2, NULL, 0, logits, 2, &label, 1, &loss, 1, NULL);
  return status == RWWCE_OK && loss > 0.693147f && loss < 0.693148f ? 0 : 1;
}
