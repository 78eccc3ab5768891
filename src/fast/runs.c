/*
 * runs.c: see runs.h.
 *
 * SYNCHRONIZATION: see runs.h.
 */
#include "runs.h"
#include "processor.h"
#include "../global/run.h"
#include "../global/segment.h"

#define SHARE      8u /* of all that is in use, by the number of heaps, a part as large */
#define UNITS_MOST 64
#define ANY_SHARE  4    /* of the limit of free units a part as large, however little is in use; */
#define ANY_TIMES  2    /* in all heaps so many times as much as the limit */
#define LOOK_EACH  16u  /* runs: what all use is counted in shared lines */
#define OFTEN      64u  /* of processor_clock from look to look, about 6 ms: it returns many; */
#define SELDOM     512u /* until they are so far apart: a thread may lose its processor meanwhile */
#define STEPS_BACK 16u  /* of processor_clock: a thread may change processors */
#define MORE_SHARE 8u   /* a run that is larger than wanted by such a part will do */

static _Atomic(long) granted; /* atomic, relaxed: to all heaps */

static void set_granted(struct runs *r, long units)
{
    if (units == (long)r->granted)
        return;
    atomic_fetch_add_explicit(&granted, units - (long)r->granted, memory_order_relaxed);
    r->granted = (uint32_t)units;
}

static bool comes_often(struct runs *r)
{
    uint16_t now = processor_clock();
    unsigned since = (uint16_t)(now - r->looked + STEPS_BACK);
    r->looked = now;
    return since < (r->granted != 0 ? SELDOM : OFTEN) + STEPS_BACK;
}

/* However little is in use: if that is more than `part`, and others have left as much. */
static long least_bound(struct runs *r, long part)
{
    long limit = segment_purge_limit(), all = limit * ANY_TIMES;
    long left = all - atomic_load_explicit(&granted, memory_order_relaxed) + (long)r->granted;
    long wanted = min_long(min_long(limit / ANY_SHARE, all / segment_heaps()), UNITS_MOST);
    bool is_wanted = comes_often(r) && wanted > part;
    set_granted(r, is_wanted ? max_long(min_long(wanted, left), 0) : 0);
    return (long)r->granted;
}

static void look_around(struct runs *r)
{
    long part = (long)(segment_used_bytes_a_heap() / SHARE / UNIT_SIZE);
    r->most = (uint32_t)min_long(max_long(part, least_bound(r, part)), UNITS_MOST);
    r->most = segment_purge_limit() != 0 ? r->most : 0;
    r->looks = LOOK_EACH;
}

static void end_grant(struct runs *r)
{
    set_granted(r, 0);
    r->looks = 0;
}

void runs_only_user(const struct runs *r)
{
    atomic_store_explicit(&granted, r != NULL ? (long)r->granted : 0, memory_order_relaxed);
}

void runs_adopt(const struct runs *r)
{
    atomic_fetch_add_explicit(&granted, (long)r->granted, memory_order_relaxed);
}

/* Out of its slot, and on its way. */
static void *unkeep(struct runs *r, unsigned i)
{
    void *p = r->run[i];
    registry_set_word(p, UNIT_FREE);
    atomic_signal_fence(memory_order_seq_cst);
    r->run[i] = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    r->kept -= r->units[i];
    r->units[i] = 0;
    return p;
}

static void send_back(struct runs *r, unsigned i, bool comes_again)
{
    unsigned units = r->units[i];
    if (r->run[i] != NULL)
        run_free_units(unkeep(r, i), units, comes_again);
}

static bool fits(unsigned units, unsigned wanted)
{
    return units >= wanted && units <= wanted + wanted / MORE_SHARE;
}

void *runs_take_from(struct runs *r, unsigned slot)
{
    unsigned units = r->units[slot];
    void *p = unkeep(r, slot);
    registry_set_word(p, unit_word_run(UNIT_RUN, units));
    r->was_taken = true;
    return p;
}

void *runs_take(struct runs *r, size_t bytes)
{
    unsigned wanted = units_for(bytes);
    for (unsigned i = 0; i < RUNS_MOST && r->kept != 0; i++)
        if (fits(r->units[i], wanted))
            return runs_take_from(r, i);
    return NULL;
}

void runs_put_in(struct runs *r, unsigned slot, void *p, unsigned units)
{
    registry_set_word(p, UNIT_FREE);
    atomic_signal_fence(memory_order_seq_cst);
    r->run[slot] = p;
    atomic_signal_fence(memory_order_seq_cst);
    registry_set_word(p, unit_word_run(UNIT_KEPT, units));
    r->units[slot] = (uint8_t)units;
    r->kept += units;
}

static unsigned next_slot(struct runs *r)
{
    return r->oldest++ % RUNS_MOST;
}

static void send_back_beyond(struct runs *r, uint32_t units)
{
    while (r->kept > units)
        send_back(r, next_slot(r), true);
}

void runs_keep(struct runs *r, void *p)
{
    unsigned units = unit_word_units(registry_word(p)), slot;
    if (r->looks-- == 0)
        look_around(r);
    if (units > r->most) {
        send_back_beyond(r, r->most); /* that was for what it may not keep any more */
        run_free(p, true);
        return;
    }
    send_back_beyond(r, r->most - units);
    while ((slot = runs_slot_of(r, 0)) == RUNS_MOST)
        send_back(r, next_slot(r), true);
    runs_put_in(r, slot, p, units);
}

void runs_drop_one(struct runs *r)
{
    for (unsigned tries = RUNS_MOST; tries > 0; tries--) {
        unsigned i = next_slot(r);
        if (r->run[i] != NULL) {
            send_back(r, i, false);
            break;
        }
    }
    if (r->kept == 0 && r->granted != 0)
        end_grant(r);
}

void runs_drop(struct runs *r)
{
    for (unsigned i = 0; i < RUNS_MOST; i++)
        send_back(r, i, false);
    end_grant(r);
}

void runs_age(struct runs *r)
{
    if (!r->was_taken)
        runs_drop_one(r);
    r->was_taken = false;
}

void runs_mend(struct runs *r)
{
    r->kept = 0;
    for (unsigned i = 0; i < RUNS_MOST; i++) {
        uintptr_t word = r->run[i] != NULL ? registry_word(r->run[i]) : UNIT_FREE;
        if (unit_word_kind(word) != UNIT_KEPT)
            r->run[i] = NULL;
        r->units[i] = r->run[i] != NULL ? (uint8_t)unit_word_units(word) : 0;
        r->kept += r->units[i];
    }
}
