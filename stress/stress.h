/*
 * stress.h: what the scenarios share: pinned threads, a seed that is printed and can be replayed,
 * and blocks that tell who wrote them.
 *
 *     SCENARIO [SECONDS [SEED]]        2 seconds and a seed from the clock, if not given
 *
 * A block is written whole by one thread (owner, sequence number, a pattern from both over all of
 * its bytes) and checked whole by whoever frees it. So a lost happens-before between free and the
 * next malloc shows under TSan, a block that was handed out twice shows as a wrong owner, and an
 * overlap as a broken pattern.
 *
 * Between threads blocks go as parcels: the address with a part of the block's checksum, so that a
 * whole block of an earlier sequence is told from the right one. They go through slots, which order
 * the putter before the taker (release, acquire) and NOT the taker before the putter: so where
 * blocks go one way only, what a taker frees and a putter is given next is ordered by the
 * allocator, or by nothing, which TSan reports. A scenario that passes blocks both ways hides such
 * edges, and says so.
 *
 * Who frees a block leaves a note in it. A new block that still carries the note of another thread
 * has "crossed": its memory went from one thread to another through the allocator. It is read
 * before the block is written, so a lost edge shows as a race of two accesses of ours. A scenario
 * expects a least number of such meetings, runs for up to eight times as long if the machine is too
 * busy for them, and fails if they don't happen then: it does not test what it says.
 */
#ifndef STRESS_H
#define STRESS_H

#include <hakmem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stamp {
    uint32_t owner;
    uint32_t sequence;
    uint32_t bytes;
    uint32_t check; /* over the three and the seed */
};

struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
/* 0 <= result < bound */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* 16 bytes to 6 MiB, mostly small: each tier is met often. */
size_t rng_size(struct rng *rng);
/* 16 bytes to 64 KiB: each class of slabs about as often as the next. */
size_t rng_slab_size(struct rng *rng);

/* Owner only: the thread that runs it. */
struct worker {
    unsigned number;
    struct rng rng;
    uint32_t sequence;
    pthread_t thread;
    void *argument;
    /* Since they were last added up: */
    uint64_t made;    /* blocks */
    uint64_t crossed; /* blocks whose memory another thread had freed */
    uint64_t met;     /* what the scenario counts */
};

/* Reads the command line and prints the seed. */
void stress_begin(int argc, char **argv, const char *name);
/* What must have happened at the end, a second: blocks crossed, and what the scenario counts in
 * `met`. */
void stress_expect(unsigned least_crossed, const char *what, unsigned least_met);
/* Runs `count` threads, each pinned to a processor in turn, and joins them. */
void stress_run(unsigned count, void (*body)(struct worker *), void *argument);
/* Runs body in one thread, to be joined with pthread_join. */
void stress_start(struct worker *w, unsigned number, void (*body)(struct worker *), void *argument);
/* For what the first thread does itself, between stress_begin and stress_end. */
struct worker *stress_main(void);
/* What main returns when all blocks were freed and all threads joined: 0, after a line that says
 * what was done. Fails if that is less than was expected, or if hakmem has blocks out still, which
 * are lost. */
int stress_end(void);

/* Whether the time is up, and enough was done; yields now and then, so that threads meet even on
 * one processor. */
bool stress_over(struct worker *w);

/* A stamped block of n bytes (n >= 16), NULL if hakmem gave none. */
void *block_make(struct worker *w, size_t n);
/* A block of n bytes of which only the first `stamped` are written: where units and mappings
 * matter, and pages would take the time. */
void *block_make_part(struct worker *w, size_t n, size_t stamped);
/* What block_make does with a block that came from elsewhere in the interface: its alignment, the
 * note. */
void block_receive(struct worker *w, void *p, size_t n);
void block_stamp(struct worker *w, void *p, size_t n);
/* Ends the process with a line if the block is not as its maker left it. */
void block_check(const void *p);
/* Checks, overwrites and frees it. */
void block_free(void *p);

/* A block on its way to another thread; 0 is none. */
typedef uint64_t parcel;

parcel parcel_of(const void *stamped_block);
void *parcel_block(parcel x);
/* Stops the process if hakmem gave no memory. */
parcel parcel_make(struct worker *w, size_t n);
void parcel_check(parcel x);
/* By realloc, once it is checked; what realloc keeps is checked too. */
parcel parcel_resize(struct worker *w, parcel x, size_t n);
void parcel_free(parcel x);

/* Atomic: a parcel or 0. Any number of putters and takers. */
typedef _Atomic(uint64_t) slot;

/* False if it is taken. What the caller did before is seen by the taker. */
bool slot_put(slot *s, parcel x);
/* 0 if it is empty. */
parcel slot_take(slot *s);
/* Puts it into any free one of the slots; frees it if the time is up. */
void slots_put(struct worker *w, slot *s, unsigned count, parcel x);
/* Frees what is in them. */
void slots_free(slot *s, unsigned count);

void stress_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
