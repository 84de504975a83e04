/* A plug-in with the static library linked into it, for load.c. */
#include <rwwce.h>

float rwwce_plugin_loss(void);

/* log 2, or -1 for an error. */
float rwwce_plugin_loss(void) {
  const float logits[] = {3.0f, 3.0f};
  const int32_t label = 1;
  float loss = -1.0f;
  return rwwce_weighted_row_losses(2, NULL, 0, logits, 2, &label, 1, &loss, 1, NULL) == RWWCE_OK ? loss : -1.0f;
}
