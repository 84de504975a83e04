/* The weighted loss of three rows of logits, and its gradient.
 *
 *   cc weighted_loss.c $(pkg-config --cflags --libs rwwce) -o weighted_loss */
#include <rwwce.h>
#include <stdio.h>

int main(void) {
  const float logits[] = {2.0f, -1.0f, 0.3f, 0.1f, -1.0f, 1.5f};
  const uint8_t labels[] = {0, 0, 1};
  /* Class 1 is rare. */
  const float weights[] = {1.0f, 3.0f};
  rwwce_options options = RWWCE_OPTIONS_INIT(2);
  options.class_weights = weights;
  options.class_weights_count = 2;

  float gradient[6];
  rwwce_summary summary;
  rwwce_error error;
  if (rwwce_loss_gradient(&options, logits, 6, labels, 3, RWWCE_LABEL_U8, gradient, 6, &summary,
                          &error) != RWWCE_OK) {
    char message[200];
    rwwce_error_message(&error, message, sizeof message);
    fprintf(stderr, "%s\n", message);
    return 1;
  }
  printf("loss %.9g\n", summary.loss);
  for (int i = 0; i < 6; i++) printf("gradient %d: %.9g\n", i, gradient[i]);
  return 0;
}
