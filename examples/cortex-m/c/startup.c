/* From reset to `main` on a Cortex-M; text and the exit code by way of the debugger or the emulator (ARM, "Semihosting for
 * AArch32 and AArch64"). */
#include <stdint.h>

#include "print.h"

/* Of sections.x. */
extern uint32_t data_start[], data_end[], bss_start[], bss_end[];
extern const uint32_t data_load[];

int main(int argc, char **argv);

enum { WRITE0 = 0x04, EXIT = 0x18, APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };

static void semihosting(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text) { semihosting(WRITE0, text); }

static void leave(int status) {
  semihosting(EXIT, (const void *)(uintptr_t)(status == 0 ? APPLICATION_EXIT : RUN_TIME_ERROR));
  for (;;) {
  }
}

static void fault(void) {
  print("fault\n");
  leave(1);
}

void reset(void);

/* Named, since the linker scripts say that a program begins here. */
void reset(void) {
  const uint32_t *from = data_load;
  for (uint32_t *to = data_start; to < data_end; to++) *to = *from++;
  for (uint32_t *to = bss_start; to < bss_end; to++) *to = 0;
#ifdef __ARM_FP
  /* Full access to the FPU: coprocessors 10 and 11 of the CPACR. */
  volatile uint32_t *const cpacr = (volatile uint32_t *)0xe000ed88;
  *cpacr |= UINT32_C(0xf) << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  leave(main(0, 0));
}

/* What the processor starts with, behind the initial stack pointer: reset, NMI, hard fault. */
__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {reset, fault, fault};
