/*
 * touched.h: how much of blocks of 1 to 4 MiB programs write to, which decides what they are made
 * of. Mostly all: then they are runs, and what is freed is for whatever comes next. Of a stack, or
 * a buffer for the worst case, little: then they are whales, which come back with the pages that
 * were written to before, where a run would be put elsewhere, and have others.
 *
 * What a block was before counts as well, where it is made of units that hold memory, and so does
 * what calloc has cleared: that it is not written to is then not seen. Nor is it harm: they hold
 * memory in any case.
 *
 * SYNCHRONIZATION: one number, atomic and relaxed: a guess, which any thread may spoil.
 */
#ifndef HAK_TOUCHED_H
#define HAK_TOUCHED_H

#include "base.h"

/* A block of that many bytes is about to be freed. Of some the system is asked: a microsecond
 * a MiB. */
void touched_note(void *p, size_t bytes);
/* Whether the units of such blocks mostly hold memory; true if nobody knows. */
bool touched_mostly(void);

#endif
