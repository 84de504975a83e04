/* Where a program's text goes: host.c or startup.c. */
#ifndef PRINT_H
#define PRINT_H

void print(const char *text);

#endif
