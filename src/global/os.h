/*
 * os.h: the system calls that hakmem makes. No other file makes any.
 *
 * Every function keeps errno, since free() must; failure is in the return value alone.
 *
 * SYNCHRONIZATION: none of ours; the kernel's own locks (the address space) are the only thing that
 * malloc and free ever wait for.
 */
#ifndef HAK_OS_H
#define HAK_OS_H

#include "base.h"

/* Zeroed, readable and writable memory, for our own data: never in huge pages. NULL if the system
 * refuses. */
void *os_map(size_t bytes);
/* The same for blocks, its start a multiple of `alignment`, a power of two of a page or more. */
void *os_map_aligned(size_t bytes, size_t alignment);
/* The system may give whole huge pages of this, each at its first touch. */
void os_ask_huge_pages(void *start, size_t bytes);
/* Where the system gives huge pages unasked, each costs 2 MiB at its first touch: not in
 * the whole pages of this. False: refused. */
bool os_avoid_huge_pages(void *start, size_t bytes);
/* False: refused (a mapping may not be split at the limit of their number); it is there still. */
bool os_unmap(void *start, size_t bytes);
/* The most bytes of the process that ever held memory. */
size_t os_peak_resident(void);
/* Makes small pages of the huge ones that this is a part of. Else a part that is purged stays with
 * the process until the system runs short, though it is not resident any more. */
void os_split_huge_pages(void *start, size_t bytes);
/* Has the system make the pages that are not there yet, at once, as the first write to each would,
 * at less than its cost. `start` is that of a page. Linux before 5.14 refuses, and may otherwise:
 * they come one by one. */
void os_populate(void *start, size_t bytes);
/* Gives the pages back at once; they read as zero afterwards. False: the contents are still
 * there. */
bool os_purge(void *start, size_t bytes);
/* How many of a mapping's bytes hold memory; `otherwise`: the system does not tell, or nothing is
 * mapped in a part of it. */
size_t os_resident(void *start, size_t bytes, size_t otherwise);
/* The same in parts of `part` bytes, a power of two of pages, 1,024 at most: in how many there is any
 * memory. */
size_t os_resident_parts(void *start, size_t bytes, size_t part, size_t otherwise);
/* Grows or shrinks a mapping where it is. */
bool os_resize_in_place(void *start, size_t old_bytes, size_t new_bytes);
/* Moves a mapping, with its pages, to a new aligned place of `new_bytes`, which os_map_aligned
 * gave. On failure (address space is out; or the program has locked a part, or advised the system
 * of it, so that it is several mappings) nothing has moved, and the new place is not the caller's
 * any more. */
bool os_move(void *start, size_t old_bytes, void *to, size_t new_bytes);
/* A full barrier on every running thread of this process (membarrier(2)); false if refused. */
bool os_barrier_all(void);
size_t os_page_size(void);
/* Writes a zero to the start of each, where there is one; how many nanoseconds of the thread's time
 * that took. */
unsigned os_touch(char *pages, unsigned count);
/* Milliseconds of a coarse monotonic clock. */
uint64_t os_milliseconds(void);
unsigned os_processors(void);
/* One line to standard error, "hakmem: " before it and a newline after; allocates nothing. */
void os_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* os_say, then abort(). */
_Noreturn void os_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
