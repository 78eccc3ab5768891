/*
 * huge.h: which mappings for blocks ask for huge pages.
 *
 * A huge page of 2 MiB is had in a quarter of the time of its 512 small ones, or less, but whole at
 * its first touch, whether the rest is wanted or not. So they are asked for only where memory is
 * found to be written to: of each kind of mappings (segments for slabs, for runs, whales) one in
 * PROBE_EVERY stays small, and as others are made the system says how much of it holds memory. It
 * speaks for mappings of about its size; as full at once, but as not full only once it is not new
 * any more. And only where there is use enough for a huge page more not to matter.
 *
 * The system may have to look for a huge page, or move others' pages to make one, for milliseconds.
 * And what small ones take differs from machine to machine, by ten times. So the first page of each
 * mapping that asks is touched here, by the clock, and a few of each sample. Once huge pages have
 * taken longer, in all, than as many small ones would have, the last mapping gets no more, and the
 * next few do not ask, four times as many each time.
 *
 * Neighbours of which one has asked are two mappings to the system, where they were one: so the
 * number of those that have is bounded.
 *
 * SYNCHRONIZATION: all is atomic and relaxed, and no more than advice comes of it. Threads that
 * meet may lose a sample, or look at one that has gone; where nothing is mapped, nothing is used.
 */
#ifndef HAK_HUGE_H
#define HAK_HUGE_H

#include "base.h"

#define HUGE_PAGE MIB(2)

enum huge_mode { HUGE_NEVER, HUGE_WHERE_USED, HUGE_ALWAYS };

/* Of a mapping; by who has it. */
enum huge_state {
    HUGE_NOT_ASKED,
    HUGE_ASKED,
    HUGE_STOPPED, /* no more; it may have some still */
};

struct huge_kind {
    size_t used_least;           /* constant, bytes: no use below it is enough */
    _Atomic(unsigned) made;      /* atomic: mappings of the kind so far */
    _Atomic(unsigned) new_since; /* atomic: `made`, as the new sample was */
    _Atomic(uintptr_t) new;      /* atomic: a small mapping, its start and size; 0: none */
    _Atomic(uintptr_t) old;      /* atomic: the one that is looked at; 0: none */
    _Atomic(size_t) used_bytes;  /* atomic: its size, if by the last look it is used; else 0 */
    _Atomic(unsigned) freed;     /* atomic: mappings that were, and stay */
};

/* HUGE_WHERE_USED at first. What was slow before is forgotten. */
void huge_set_mode(enum huge_mode mode);
/* A mapping was just made, its start a multiple of SEGMENT_SIZE, and nobody else has it. */
enum huge_state huge_ask(struct huge_kind *kind, char *start, size_t bytes);
/* A mapping is longer now, in the same place or another. By at most as much as it was: as that is
 * used, so will the rest be. But of what has asked before nothing can be told. */
enum huge_state huge_grow(enum huge_state state, char *start, size_t had, size_t bytes);
/* It has asked, and is of as many bytes now, for a new block: that is used as others of its kind. */
bool huge_is_wanted_still(struct huge_kind *kind, enum huge_state state, size_t bytes);
/* Parts of it are to be purged: the system must not fill them up again. */
enum huge_state huge_stop(enum huge_state state, char *start, size_t bytes);
/* It is about to be unmapped, with what was written to it. */
void huge_look(struct huge_kind *kind, char *start, size_t bytes);
/* The same, of one that is freed and stays. */
void huge_look_seldom(struct huge_kind *kind, char *start, size_t bytes);
/* It is about to move, or to be unmapped: it is looked at no more. */
void huge_forget(struct huge_kind *kind, char *start, size_t bytes);
/* It has been unmapped. */
void huge_gone(enum huge_state state);
/* The first touch of a small page took as long. */
void huge_note_small(unsigned nanoseconds);
/* The first touch of a huge page took as long. False: that, with those before it, is too long. */
bool huge_note_touch(unsigned microseconds);

#endif
