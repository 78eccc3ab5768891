/*
 * foreign.h: blocks that are not hakmem's, as the registry says. A library loaded with
 * RTLD_DEEPBIND may have them from the C library's own allocator. They are handed on to it, never
 * looked into.
 *
 * SYNCHRONIZATION: none here; the C library's allocator has its own.
 */
#ifndef HAK_FOREIGN_H
#define HAK_FOREIGN_H

#include <stddef.h>

void foreign_free(void *p);
void *foreign_realloc(void *p, size_t size);
size_t foreign_usable_size(const void *p);

#endif
