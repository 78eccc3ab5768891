/*
 * huge.h: which mappings for blocks ask for huge pages.
 *
 * A huge page of 2 MiB is had in a quarter of the time of its 512 small ones, but whole at its
 * first touch, whether the rest is wanted or not. So they are asked for only where memory is found
 * to be used: of each kind of mappings (segments, whales) one in PROBE_EVERY stays small, and
 * before others are made the system says how much of it holds memory. It is looked at once it is
 * not new any more, when what was allocated in it has been written to. And only where there is use
 * enough for a huge page more not to matter.
 *
 * The system may have to look for a huge page, or move others' pages to make one, for milliseconds.
 * So the first of each mapping is touched here, by the clock; after one that took longer than small
 * ones the next few mappings do not ask, twice as many each time.
 *
 * SYNCHRONIZATION: all is atomic and relaxed, and no more than advice comes of it. Threads that
 * meet may lose a sample. One that is unmapped while it is looked at counts as full, for once.
 */
#ifndef HAK_HUGE_H
#define HAK_HUGE_H

#include "base.h"

enum huge_mode { HUGE_NEVER, HUGE_WHERE_USED, HUGE_ALWAYS };

struct huge_kind {
    size_t used_least;           /* constant, bytes: no use below it is enough */
    size_t sample_bytes;         /* constant: as much of a mapping's end is looked at */
    _Atomic(unsigned) made;      /* atomic: mappings of the kind so far */
    _Atomic(unsigned) new_since; /* atomic: `made`, as the new sample was */
    _Atomic(uintptr_t) new;      /* atomic: a small mapping's last part; 0: none */
    _Atomic(uintptr_t) old;      /* atomic: the one that is looked at; 0: none */
    _Atomic(bool) is_used;       /* atomic: what the last look said */
};

/* HUGE_WHERE_USED at first. What was slow before is forgotten. */
void huge_set_mode(enum huge_mode mode);
/* A mapping was just made, and nobody else has it. True: it has asked. */
bool huge_ask(struct huge_kind *kind, char *start, size_t bytes);
/* A mapping is longer now, in the same place or another: as the rest of it is used, so will this
 * be. */
void huge_ask_to_grow(const struct huge_kind *kind, char *start, size_t had, size_t bytes);
/* A mapping is about to be unmapped, with what was written to it. */
void huge_gone(struct huge_kind *kind, char *start, size_t bytes);
/* The same, but it is purged, or is to move: nothing can be learned from it. */
void huge_forget(struct huge_kind *kind, char *start, size_t bytes);
/* The first touch of a huge page took as long. */
void huge_note_touch(unsigned microseconds);

#endif
