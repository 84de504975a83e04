/* A vocabulary that is split over machines: each rank holds the logits of its own classes alone.
 *
 *   mpicc split_classes_mpi.c $(pkg-config --cflags --libs rwwce) -o split_classes_mpi
 *   mpirun -np 2 ./split_classes_mpi
 *
 * Each rank reduces its part of every row to one rwwce_row_partial. The parts are merged by one
 * MPI_Allreduce of a few bytes a row; then every rank knows the loss, and has the gradient of its
 * own classes. Rank 0 compares the losses with those of whole rows: both are within 3 ulp of the
 * exact loss, and for these rows they are the same. */
#include <mpi.h>
#include <rwwce.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 8, CLASSES = 50257 };

static void check(rwwce_status status, const rwwce_error *error) {
  if (status != RWWCE_OK) {
    char message[200];
    rwwce_error_message(error, message, sizeof message);
    fprintf(stderr, "error: %s\n", message);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}

static float *floats(size_t count) {
  float *const memory = (float *)malloc(count * sizeof(float));
  if (memory == NULL) {
    fprintf(stderr, "error: out of memory\n");
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return memory;
}

static size_t label_of(int row) { return (size_t)row * 7001u + 11u; }

/* The logit of a class, from -8 to 8, the same on every machine; later rows are more confident. */
static float logit(int row, size_t c) {
  uint32_t x = ((uint32_t)row * CLASSES + (uint32_t)c + 1u) * 2654435769u;
  x = (x ^ (x >> 15)) * 2246822519u;
  const float spread = (float)((x ^ (x >> 13)) >> 16) / 4096.0f - 8.0f;
  return c == label_of(row) ? 4.0f * (float)row : spread;
}

/* The logits of a row from class `first` on. */
static void logits_of(int row, size_t first, size_t count, float *logits) {
  for (size_t i = 0; i < count; i++) logits[i] = logit(row, first + i);
}

/* The MPI_Op: merges rows of parts. */
static void merge(void *in, void *in_and_out, int *count, MPI_Datatype *type) {
  const rwwce_row_partial *const other = (const rwwce_row_partial *)in;
  rwwce_row_partial *const part = (rwwce_row_partial *)in_and_out;
  (void)type;
  for (int row = 0; row < *count; row++) {
    rwwce_error error;
    check(rwwce_row_partial_merge(&part[row], &other[row], &error), &error);
  }
}

/* Whether the losses of whole rows are the same; prints them. */
static int same_as_whole_rows(const float *losses) {
  float *const logits = floats((size_t)ROWS * CLASSES);
  uint32_t labels[ROWS];
  for (int row = 0; row < ROWS; row++) {
    logits_of(row, 0, CLASSES, logits + (size_t)row * CLASSES);
    labels[row] = (uint32_t)label_of(row);
  }
  const rwwce_options options = RWWCE_OPTIONS_INIT(CLASSES);
  float whole[ROWS];
  rwwce_error error;
  check(rwwce_loss(&options, logits, (size_t)ROWS * CLASSES, labels, ROWS, RWWCE_LABEL_U32, whole,
                   ROWS, NULL, &error),
        &error);
  free(logits);
  int same = 1;
  for (int row = 0; row < ROWS; row++) {
    printf("row %d: loss %.9g\n", row, losses[row]);
    if (losses[row] != whole[row]) {
      fprintf(stderr, "error: row %d has the loss %.9g as a whole\n", row, whole[row]);
      same = 0;
    }
  }
  return same;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Datatype part_type;
  MPI_Type_contiguous((int)sizeof(rwwce_row_partial), MPI_BYTE, &part_type);
  MPI_Type_commit(&part_type);
  MPI_Op merge_op;
  MPI_Op_create(merge, 1, &merge_op);

  /* The classes of this rank. */
  const size_t first = (size_t)CLASSES * (size_t)rank / (size_t)ranks;
  const size_t count = (size_t)CLASSES * (size_t)(rank + 1) / (size_t)ranks - first;
  float *const logits = floats(ROWS * count);
  size_t labels[ROWS];
  rwwce_row_partial parts[ROWS];
  rwwce_error error;
  for (int row = 0; row < ROWS; row++) {
    const size_t label = label_of(row);
    labels[row] = label >= first && label < first + count ? label - first : RWWCE_NO_LABEL;
    logits_of(row, first, count, logits + row * count);
    check(rwwce_row_partial_of(logits + row * count, count, labels[row], NULL, &parts[row], &error),
          &error);
  }
  MPI_Allreduce(MPI_IN_PLACE, parts, ROWS, part_type, merge_op, MPI_COMM_WORLD);

  /* Every rank goes on by itself: the loss of each row, and the gradient of its own classes. */
  float losses[ROWS];
  float *const gradient = floats(count);
  double sums[ROWS];
  for (int row = 0; row < ROWS; row++) {
    check(rwwce_row_partial_loss(&parts[row], 1.0f, &losses[row], &error), &error);
    check(rwwce_row_partial_gradient(&parts[row], logits + row * count, count, labels[row], 1.0f,
                                     gradient, count, &error),
          &error);
    sums[row] = 0.0;
    for (size_t i = 0; i < count; i++) sums[row] += gradient[i];
  }

  /* The gradient of a whole row adds up to 0. */
  MPI_Allreduce(MPI_IN_PLACE, sums, ROWS, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  int good = 1;
  for (int row = 0; row < ROWS; row++) good &= sums[row] > -1e-6 && sums[row] < 1e-6;
  if (!good) fprintf(stderr, "error: the gradient does not add up to 0\n");
  if (rank == 0) good &= same_as_whole_rows(losses);

  free(gradient);
  free(logits);
  MPI_Op_free(&merge_op);
  MPI_Type_free(&part_type);
  MPI_Finalize();
  return good ? 0 : 1;
}
