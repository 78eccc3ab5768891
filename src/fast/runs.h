/*
 * runs.h: the runs (global/run.h) that a heap has freed and keeps for itself.
 *
 * A run that goes back to its segment costs writes to lines that all threads share, and the next
 * search costs more of them. Who takes buffers about as often as it returns them gets its own back
 * instead, which may be in its cache yet. Few are kept: 16, and of an eighth of all that is in use
 * the heap's part, 4 MiB at most. However little is in use, a heap may keep a quarter of the limit
 * of free units (global/segment.h: 2 MiB), as long as all heaps together have twice the limit of
 * such, and as it returns many: 2,500 a second at first, and some hundreds from then on. Else that
 * would be held for what costs next to nothing. The rest goes back, about the one that was kept
 * longest first; and one at each round of the heap's looks at its classes, if none was taken
 * meanwhile.
 *
 * The word of a kept run says UNIT_KEPT: it is not allocated, nor free for others.
 *
 * SYNCHRONIZATION: owner only, in slow paths: so who has seized the heap may send some back. What
 * all heaps share is one count, relaxed: threads that meet may go beyond it by a share. In the
 * child of a fork, what a thread had in its hands is taken back, and the heap of one that vanished
 * in a slow path is mended. So a run comes into a slot, and goes out of it, while its word says
 * UNIT_FREE: then it was on its way. Else it stays.
 */
#ifndef HAK_RUNS_H
#define HAK_RUNS_H

#include "../global/base.h"

#include <string.h>

#define RUNS_MOST 16u

struct runs {
    void *run[RUNS_MOST];                 /* owner only: NULL: none */
    _Alignas(8) uint8_t units[RUNS_MOST]; /* owner only: 0 if there is none */
    uint32_t oldest;                      /* owner only: the slot that is emptied next */
    uint32_t kept;                        /* owner only: units of all of them */
    uint32_t most;    /* owner only: how many these may be, as of the last look */
    uint32_t looks;   /* owner only: runs until the next look */
    uint16_t looked;  /* owner only: the processor_clock then */
    uint32_t granted; /* owner only: units of `most` that it has of what all may share */
    bool was_taken;   /* owner only: one was, in this round */
};

/* One of at least as many bytes, and at most an eighth more; NULL: there is none. */
void *runs_take(struct runs *r, size_t bytes);
/* Keeps a run that was freed; some others may go back. */
void runs_keep(struct runs *r, void *p);
/* The next of the heap's rounds begins. */
void runs_age(struct runs *r);
/* One goes back, if there is one; with the last, what the heap may keep however little is in use. */
void runs_drop_one(struct runs *r);
void runs_drop(struct runs *r);
/* In the child of a fork, for who vanished inside of it: what was on its way is in no slot, and the
 * counts are right. */
void runs_mend(struct runs *r);
/* In the child of a fork: no other heap's share counts (NULL: none at all). */
void runs_only_user(const struct runs *r);
/* The same: who vanished had a share, and now the caller has it. */
void runs_adopt(const struct runs *r);

/* A slot with a run of just so many units (0: with none); RUNS_MOST: there is no such slot. Eight at
 * a time: the lowest byte that is zero is found by its borrow (Warren, Hacker's Delight, 6-1); no
 * length has the bit that shows it. */
HAK_INLINE unsigned runs_slot_of(const struct runs *r, unsigned units)
{
    const uint64_t ones = UINT64_MAX / UINT8_MAX;
    for (unsigned slot = 0; slot < RUNS_MOST; slot += 8) {
        uint64_t eight;
        memcpy(&eight, r->units + slot, sizeof eight);
        eight ^= ones * units;
        uint64_t zero = (eight - ones) & ones << 7;
        if (zero != 0)
            return slot + (unsigned)__builtin_ctzll(zero) / 8;
    }
    return RUNS_MOST;
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lowest byte is the first slot");
static_assert(UNITS_PER_SEGMENT < 1 << 7, "bit 7 of a byte is free");

void *runs_take_from(struct runs *r, unsigned slot);
void runs_put_in(struct runs *r, unsigned slot, void *p, unsigned units);

/* Of just so many units, if there is one. */
HAK_INLINE void *runs_take_exact(struct runs *r, unsigned units)
{
    unsigned slot = runs_slot_of(r, units);
    return slot < RUNS_MOST ? runs_take_from(r, slot) : NULL;
}

/* False: some would have to go back for it, or it is time for a look at what all use. */
HAK_INLINE bool runs_keep_one_more(struct runs *r, void *p, unsigned units)
{
    unsigned slot = runs_slot_of(r, 0);
    if (slot == RUNS_MOST || r->kept + units > r->most || r->looks == 0)
        return false;
    r->looks--;
    runs_put_in(r, slot, p, units);
    return true;
}

HAK_INLINE size_t runs_bytes(const struct runs *r)
{
    return (size_t)r->kept * UNIT_SIZE;
}

#endif
