/*
 * segment.cpp: the units of a segment (src/global/segment.c): taken, returned, purged, and the segment
 * unmapped and mapped again.
 *
 * One descriptor of two units, in one group. Unmapping is at once: what it waits for is rcu.cpp's.
 * Invariants: a unit has one holder, and memory under it; what is said to be zeroed is; at rest each unit is
 * free or held, a segment with free units is in the hints, one with two in a row is not said to be cut up, and the
 * counts are right.
 */
#include "lf_stack.h"

#define UNITS     2u
#define ALL_UNITS ((1u << UNITS) - 1)
#define BIT       1u /* the one segment's, in `room` */

struct segment {
    lf_node spare;
    atomic<unsigned> free;
    atomic<unsigned> dirty;
    plain<int> mapped;         /* region.base */
    plain<int> content[UNITS]; /* of the memory: 0 if it reads as zero */
};

struct units {
    segment *from;
    unsigned mask;
    bool zeroed;
};

struct segment_base {
    segment s;
    atomic<unsigned> room;
    atomic<unsigned> cut_up;
    lf_stack<lf_node> spare;
    atomic<int> all_dirty;
    atomic<int> empty_segments;
    int empty_kept = 0;    /* constant */
    unsigned held[3] = {}; /* by thread: units in hand at the end */

    void set_up(unsigned taken, unsigned dirty)
    {
        unsigned free = ALL_UNITS & ~taken;
        s.free.store(free, rl::mo_relaxed, $);
        s.dirty.store(dirty | taken, rl::mo_relaxed, $);
        s.mapped = 1;
        for (unsigned i = 0; i < UNITS; i++)
            s.content[i] = (dirty | taken) >> i & 1;
        room.store(free != 0 ? BIT : 0, rl::mo_relaxed, $);
        cut_up.store(0, rl::mo_relaxed, $);
        all_dirty.store(__builtin_popcount(dirty | taken), rl::mo_relaxed, $);
        empty_segments.store(free == ALL_UNITS, rl::mo_relaxed, $);
    }

    /* ---- hints ---- */

    void hint_room(segment *)
    {
        if ((atomic_load_explicit(&room, order(HINT_ROOM_LOAD, memory_order_seq_cst)) & BIT) == 0)
            atomic_fetch_or_explicit(&room, BIT, memory_order_seq_cst);
    }

    void hint_full(segment *of)
    {
        atomic_fetch_and_explicit(&room, ~BIT, order(HINT_FULL_CLEAR, memory_order_seq_cst));
        if (does(HINT_FULL_SECOND_LOOK) &&
            atomic_load_explicit(&of->free, order(HINT_FULL_LOAD, memory_order_seq_cst)) != 0)
            hint_room(of);
    }

    void hint_runs(segment *, unsigned free)
    {
        unsigned count = atomic_load_explicit(&cut_up, order(HINT_RUNS_LOAD, memory_order_seq_cst));
        if (count != 0 && free == ALL_UNITS)
            atomic_store_explicit(&cut_up, 0u, memory_order_seq_cst);
    }

    void hint_cut_up(segment *of)
    {
        unsigned seen = atomic_load_explicit(&cut_up, memory_order_relaxed);
        if (seen != 0 && seen <= UNITS)
            return;
        atomic_exchange_explicit(&cut_up, UNITS, order(HINT_CUT_UP, memory_order_seq_cst));
        if (does(HINT_CUT_UP_SECOND_LOOK))
            hint_runs(
                of, atomic_load_explicit(&of->free, order(HINT_CUT_UP_LOAD, memory_order_seq_cst)));
    }

    /* ---- units ---- */

    void bits_taken(segment *of, unsigned before, unsigned mask)
    {
        if (before == ALL_UNITS)
            atomic_fetch_sub_explicit(&empty_segments, 1, memory_order_relaxed);
        if (before == mask)
            hint_full(of);
    }

    bool set_dirty(segment *of, unsigned mask)
    {
        unsigned clean = mask & ~atomic_load_explicit(&of->dirty, memory_order_relaxed);
        if (clean != 0 && does(TAKE_SETS_DIRTY)) {
            atomic_fetch_or_explicit(&of->dirty, clean, memory_order_relaxed);
            atomic_fetch_add_explicit(&all_dirty, __builtin_popcount(clean), memory_order_relaxed);
        }
        return clean == mask;
    }

    void set_clean(segment *of, unsigned mask)
    {
        unsigned dirty = mask & atomic_load_explicit(&of->dirty, memory_order_relaxed);
        if (dirty == 0)
            return;
        atomic_fetch_and_explicit(&of->dirty, ~dirty, memory_order_relaxed);
        atomic_fetch_sub_explicit(&all_dirty, __builtin_popcount(dirty), memory_order_relaxed);
    }

    bool units_taken(segment *of, unsigned before, unsigned mask)
    {
        bits_taken(of, before, mask);
        return set_dirty(of, mask);
    }

    bool try_take(segment *of, unsigned *free, unsigned mask)
    {
        return atomic_compare_exchange_weak_explicit(&of->free, free, *free & ~mask,
                                                     order(TRY_TAKE_CAS, memory_order_acq_rel),
                                                     order(TRY_TAKE_CAS, memory_order_acquire));
    }

    units take_from(segment *of)
    {
        unsigned free = atomic_load_explicit(&of->free, order(TRY_TAKE_CAS, memory_order_acquire));
        for (;;) {
            if (free == 0)
                return {};
            unsigned dirty = free & atomic_load_explicit(&of->dirty, memory_order_relaxed);
            unsigned mask = dirty != 0 ? dirty & -dirty : free & -free, before = free;
            if (try_take(of, &free, mask))
                return {of, mask, units_taken(of, before, mask)};
        }
    }

    /* ---- segments come and go ---- */

    void open_units(segment *of, unsigned free)
    {
        atomic_store_explicit(&of->free, free, order(OPEN_UNITS_FREE, memory_order_seq_cst));
        hint_runs(of, free);
        if (free != 0)
            hint_room(of);
    }

    units take_from_new()
    {
        lf_node *node = lf_stack_pop_mpmc(&spare);
        if (node == nullptr)
            return {};
        MUST(s.mapped == 0);
        s.mapped = 1; /* os_map_aligned, region_init, registry_publish */
        set_dirty(&s, 1u);
        open_units(&s, ALL_UNITS & ~1u);
        return {&s, 1u, true};
    }

    void segment_reclaim(segment *of)
    {
        of->mapped = 0; /* os_unmap */
        for (plain<int> &c : of->content)
            c = 0;
        lf_stack_push(&spare, &of->spare);
    }

    void retire_if_empty(segment *of)
    {
        unsigned free = ALL_UNITS;
        if (!atomic_compare_exchange_strong_explicit(&of->free, &free, 0u,
                                                     order(RETIRE_CAS, memory_order_acq_rel),
                                                     memory_order_relaxed) &&
            does(RETIRE_COMPARES))
            return;
        bits_taken(of, ALL_UNITS, ALL_UNITS);
        set_clean(of, ALL_UNITS);
        segment_reclaim(of); /* rcu_retire */
    }

    /* ---- the search ---- */

    units segment_take()
    {
        units taken = {};
        if ((atomic_load_explicit(&room, memory_order_acquire) & BIT) != 0) {
            taken = take_from(&s);
            if (taken.mask == 0 && atomic_load_explicit(&s.free, memory_order_relaxed) == 0)
                hint_full(&s);
        }
        return taken.mask != 0 ? taken : take_from_new();
    }

    /* Of both units; there is no other segment. */
    units take_run()
    {
        unsigned seen = atomic_load_explicit(&cut_up, memory_order_relaxed);
        if (seen != 0 && seen <= UNITS)
            return {};
        unsigned free = atomic_load_explicit(&s.free, memory_order_acquire);
        if (free == ALL_UNITS && try_take(&s, &free, ALL_UNITS))
            return {&s, ALL_UNITS, units_taken(&s, ALL_UNITS, ALL_UNITS)};
        hint_cut_up(&s);
        return {};
    }

    /* ---- purging ---- */

    /* The real one leaves a segment with dirty units to the purge; here either may retire it. */
    void put_back(segment *of, unsigned mask)
    {
        unsigned before =
            atomic_fetch_or_explicit(&of->free, mask, order(PUT_BACK_FREE, memory_order_seq_cst));
        if (does(PUT_BACK_HINTS))
            hint_room(of);
        if (does(PUT_BACK_HINTS_RUNS))
            hint_runs(of, before | mask);
        if ((before | mask) != ALL_UNITS)
            return;
        if (atomic_fetch_add_explicit(&empty_segments, 1, memory_order_relaxed) >= empty_kept)
            retire_if_empty(of);
    }

    void purge_units(segment *of, unsigned mask)
    {
        for (unsigned i = 0; i < UNITS; i++)
            if ((mask >> i & 1) != 0)
                of->content[i] = 0; /* os_purge */
        set_clean(of, mask);
    }

    void purge_segment(segment *of)
    {
        unsigned free = atomic_load_explicit(&of->free, order(TRY_TAKE_CAS, memory_order_acquire));
        for (;;) {
            unsigned mask = free & atomic_load_explicit(&of->dirty, memory_order_relaxed);
            if (mask == 0)
                return;
            unsigned before = free;
            if (!try_take(of, &free, mask))
                continue;
            bits_taken(of, before, mask);
            purge_units(of, mask);
            put_back(of, mask);
            return;
        }
    }

    void segment_return(segment *of, unsigned mask)
    {
        put_back(of, mask);
    }

    /* ---- the users ---- */

    void use(units taken)
    {
        MUST(s.mapped == 1);
        for (unsigned i = 0; i < UNITS; i++)
            if ((taken.mask >> i & 1) != 0) {
                MUST(!taken.zeroed || s.content[i] == 0);
                s.content[i] = 1;
            }
    }

    void take(unsigned t)
    {
        keep(t, segment_take());
    }

    void keep(unsigned t, units taken)
    {
        if (taken.mask == 0)
            return;
        MUST((held[t] & taken.mask) == 0);
        use(taken);
        held[t] |= taken.mask;
    }

    void give(unsigned t)
    {
        unsigned mask = held[t];
        held[t] = 0;
        if (mask == 0)
            return;
        for (unsigned i = 0; i < UNITS; i++)
            if ((mask >> i & 1) != 0)
                MUST(s.content[i] == 1);
        segment_return(&s, mask);
    }

    void check()
    {
        unsigned all = 0, free = s.free.debug_value(), dirty = s.dirty.debug_value();
        for (unsigned h : held) {
            MUST((all & h) == 0);
            all |= h;
        }
        MUST((all & free) == 0);
        MUST((all | free) == (s.mapped != 0 ? ALL_UNITS : 0u));
        MUST(free == 0 || room.debug_value() == BIT);
        MUST(free != ALL_UNITS || cut_up.debug_value() == 0);
        MUST((spare.both.debug_value().head != nullptr) == (s.mapped == 0));
        MUST((all & ~dirty) == 0 && all_dirty.debug_value() == __builtin_popcount(dirty));
        MUST(empty_segments.debug_value() == (free == ALL_UNITS));
        for (unsigned i = 0; i < UNITS; i++)
            MUST((free >> i & 1) == 0 || (dirty >> i & 1) != 0 || s.content[i] == 0);
    }
};

template <typename derived, rl::thread_id_t threads>
using segment_suite = suite<derived, segment_base, threads>;

/* The last free unit is taken while another is returned: the hint. */
struct take_and_return : segment_suite<take_and_return, 2> {
    void start()
    {
        empty_kept = 1;
        set_up(2, 1);
        held[1] = 2;
    }
    void thread(unsigned t)
    {
        if (t == 0)
            take(0);
        else
            give(1);
    }
};

/* A run is not found while the unit that it lacks is returned. */
struct search_and_return : segment_suite<search_and_return, 2> {
    void start()
    {
        empty_kept = 1;
        set_up(2, 0);
        held[1] = 2;
    }
    void thread(unsigned t)
    {
        if (t == 0)
            keep(0, take_run());
        else
            give(1);
    }
};

/* The segment becomes empty and is retired, while another thread takes. */
struct retire_and_take : segment_suite<retire_and_take, 2> {
    void start()
    {
        set_up(2, 0);
        held[1] = 2;
    }
    void thread(unsigned t)
    {
        if (t == 0)
            take(0);
        else
            give(1);
    }
};

/* Between the return that makes it empty and the retiring, another thread takes, writes and returns. */
struct retire_and_use : segment_suite<retire_and_use, 2> {
    void start()
    {
        set_up(2, 0);
        held[1] = 2;
    }
    void thread(unsigned t)
    {
        if (t == 0)
            take(0);
        give(t);
    }
};

/* Both units are returned at once: one of the two retires the segment, and then it is mapped again. */
struct retire_and_map : segment_suite<retire_and_map, 2> {
    void start()
    {
        set_up(3, 0);
        held[0] = 1;
        held[1] = 2;
    }
    void thread(unsigned t)
    {
        give(t);
        if (t == 0)
            take(t);
    }
};

/* A purge of a dirty unit while it is taken, written to and returned. */
struct purge_and_take : segment_suite<purge_and_take, 2> {
    void start()
    {
        empty_kept = 1;
        set_up(2, 1);
        held[2] = 2;
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            purge_segment(&s);
            return;
        }
        take(1);
        give(1);
    }
};

/* Two purges of the same unit: counted once. */
struct two_purges : segment_suite<two_purges, 2> {
    void start()
    {
        empty_kept = 1;
        set_up(2, 1);
        held[2] = 2;
    }
    void thread(unsigned)
    {
        purge_segment(&s);
    }
};

/* Everybody takes and returns. */
struct three : segment_suite<three, 3> {
    void start()
    {
        set_up(0, 1);
    }
    void thread(unsigned t)
    {
        take(t);
        if (t != 0)
            give(t);
        if (t == 2)
            purge_segment(&s);
    }
};

int main(int argc, char **argv)
{
    model m = {
        "segment",
        {{"take_and_return", rl::simulate<take_and_return>, full(), full()},
         {"search_and_return", rl::simulate<search_and_return>, full(), full()},
         {"retire_and_take", rl::simulate<retire_and_take>, bound(5), full()},
         {"retire_and_use", rl::simulate<retire_and_use>, bound(5), bound(8)},
         {"retire_and_map", rl::simulate<retire_and_map>, bound(5), bound(8)},
         {"purge_and_take", rl::simulate<purge_and_take>, bound(5), bound(8)},
         {"two_purges", rl::simulate<two_purges>, full(), full()},
         {"three", rl::simulate<three>, bound(2), bound(3)},
         {"three_at_random", rl::simulate<three>, at_random(100000), at_random(10000000)}},
        {{"hint_full: no second look", HINT_FULL_SECOND_LOOK, omitted, "take_and_return"},
         {"hint_full: look at free, seq_cst -> relaxed", HINT_FULL_LOAD, memory_order_relaxed,
          "take_and_return"},
         {"hint_full: clear, seq_cst -> relaxed", HINT_FULL_CLEAR, memory_order_relaxed,
          "take_and_return"},
         {"hint_cut_up: no second look", HINT_CUT_UP_SECOND_LOOK, omitted, "search_and_return"},
         {"hint_cut_up: look at free, seq_cst -> relaxed", HINT_CUT_UP_LOAD, memory_order_relaxed,
          "search_and_return"},
         {"hint_cut_up: the hint, seq_cst -> relaxed", HINT_CUT_UP, memory_order_relaxed,
          "search_and_return"},
         {"hint_runs: look at the hint, seq_cst -> relaxed", HINT_RUNS_LOAD, memory_order_relaxed,
          "search_and_return"},
         {"put_back: no hint of runs", PUT_BACK_HINTS_RUNS, omitted, "search_and_return"},
         {"hint_room: look at room, seq_cst -> relaxed", HINT_ROOM_LOAD, memory_order_relaxed,
          "take_and_return"},
         {"put_back: free, seq_cst -> acq_rel", PUT_BACK_FREE, memory_order_acq_rel,
          "take_and_return"},
         {"put_back: free, seq_cst -> relaxed", PUT_BACK_FREE, memory_order_relaxed,
          "purge_and_take"},
         {"put_back: no hint", PUT_BACK_HINTS, omitted, "take_and_return"},
         {"try_take: acquire -> relaxed", TRY_TAKE_CAS, memory_order_relaxed, "retire_and_take"},
         {"open_units: seq_cst -> relaxed", OPEN_UNITS_FREE, memory_order_relaxed, "three"},
         {"take: not dirty", TAKE_SETS_DIRTY, omitted, "retire_and_take"},
         {"retire: acq_rel -> relaxed", RETIRE_CAS, memory_order_relaxed, nullptr,
          "the second look of hint_full, which follows, acquires"},
         {"retire: takes what is not free", RETIRE_COMPARES, omitted, "retire_and_take"}}};
    return model_main(m, argc, argv);
}
