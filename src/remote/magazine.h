/*
 * magazine.h: the free units that a heap keeps, to cut slabs from.
 *
 * A unit that goes back to its segment, and comes from there, costs writes to lines that all
 * threads share, for the few blocks that a slab of larger ones has; and the next is likely one that
 * another thread has used, whose lines are in that one's cache. So a heap whose slabs come and go
 * keeps the units that it emptied last, takes and returns several at a time where they are of one
 * segment, and looks first into the segments that it returned some to. (Bonwick's and Adams's
 * magazines, of units.) Few are kept: 16, and a 16th of all that is in use, by the number of heaps.
 *
 * The word of a kept unit says UNIT_KEPT: it is not free for others.
 *
 * SYNCHRONIZATION: owner only, in slow paths: so who has seized the heap may empty it. In the child
 * of a fork what a thread had in its hands is taken back, and the heap of one that vanished in a
 * slow path is mended: so a unit comes into a slot, and goes out of it, while its word says
 * UNIT_FREE. Segments are type-stable: one that is remembered may have become any other, or none.
 */
#ifndef HAK_MAGAZINE_H
#define HAK_MAGAZINE_H

#include "../global/segment.h"

#define MAGAZINE_MOST     16u
#define MAGAZINE_SEGMENTS 8u

struct magazine {
    char *unit[MAGAZINE_MOST];                  /* owner only: the first `count` */
    uint32_t count;                             /* owner only */
    uint32_t most;                              /* owner only: how many these may be */
    struct segment *segment[MAGAZINE_SEGMENTS]; /* owner only: returned to, the last one first */
};

/* `count` units in a row with memory in them, from where it returned some; else one that is kept; else
 * as many as segment_take_for_slab gives. */
struct units magazine_take_row(struct magazine *m, unsigned count);
/* Of units whose words say UNIT_FREE. */
void magazine_return_row(struct magazine *m, char *first, unsigned count, bool comes_again);
/* A unit: of those that are kept, or as segment_take gives one, and some more of its segment are
 * kept. `units` is 0: there is no memory. */
struct units magazine_take(struct magazine *m);
/* Of a unit whose word says UNIT_FREE. Some others may go back. */
void magazine_put(struct magazine *m, char *unit);
/* It goes back to its segment, as segment_return has it, and that is remembered. */
void magazine_return(struct magazine *m, char *unit, bool comes_again);
/* `most` is what it may hold from now on. */
void magazine_bound(struct magazine *m, uint32_t most);
/* In the child of a fork, for who vanished inside of it: what was on its way is in no slot. */
void magazine_mend(struct magazine *m);

#endif
