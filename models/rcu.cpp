/*
 * rcu.cpp: the polled grace period (src/global/rcu.c) and liburcu's read side (urcu-bp).
 *
 * Invariants: no reader inside a section sees what was reclaimed (reclaiming writes, so it is a race);
 * everything retired is reclaimed once, or still waits, at rest.
 *
 * membarrier is modelled twice. As its promise says: the compiler barriers that it pairs with, in the
 * readers, are seq_cst fences, and so is the call ("fences"; also what liburcu does where there is no
 * membarrier). And as it works: the readers have none, and the call is a fence of all threads at one
 * moment ("membarrier"; the real one may reach them one after the other).
 */
#include "lf_stack.h"

#define READERS 2
#define REGIONS 2

struct retired_node {
    plain<retired_node *> next;
    plain<int> mapped; /* of the region that it is embedded in */
    int reclaimed = 0; /* the check's */
};

struct reader {
    atomic<unsigned> *nesting; /* constant after publication */
    plain<reader *> next;
    plain<bool> was_outside;
};

template <bool membarrier> struct rcu_base {
    atomic<reader *> readers;
    lf_stack<retired_node> arrivals;
    plain<retired_node *> batch;
    atomic<bool> polling;
    atomic<retired_node *> slot;       /* the registry's: of the one region */
    atomic<unsigned> nesting[READERS]; /* liburcu's */
    reader note[READERS];
    retired_node region[REGIONS];

    void set_up()
    {
        readers.store(nullptr, rl::mo_relaxed, $);
        batch = nullptr;
        polling.store(false, rl::mo_relaxed, $);
        for (unsigned i = 0; i < READERS; i++) {
            nesting[i].store(0, rl::mo_relaxed, $);
            note[i].nesting = &nesting[i];
            note[i].next = nullptr;
            note[i].was_outside = false;
        }
        for (retired_node &r : region) {
            r.mapped = 1;
            r.next = nullptr;
        }
        slot.store(&region[0], rl::mo_relaxed, $);
    }

    /* ---- liburcu: urcu/static/urcu-bp.h ---- */

    void smp_mb_slave()
    {
        if (!membarrier)
            rl::atomic_thread_fence(memory_order_seq_cst, $);
    }

    void urcu_bp_read_lock(unsigned t)
    {
        atomic_store_explicit(&nesting[t], 1u, memory_order_relaxed);
        smp_mb_slave();
    }

    void urcu_bp_read_unlock(unsigned t)
    {
        smp_mb_slave();
        atomic_store_explicit(&nesting[t], 0u, memory_order_relaxed);
    }

    /* ---- rcu.c ---- */

    bool is_noted(const atomic<unsigned> *of)
    {
        reader *r = atomic_load_explicit(&readers, memory_order_acquire);
        while (r != nullptr && r->nesting != of)
            r = r->next;
        return r != nullptr;
    }

    void note_reader(unsigned t)
    {
        if (is_noted(&nesting[t]))
            return;
        reader *r = &note[t], *next = atomic_load_explicit(&readers, memory_order_relaxed);
        do
            r->next = next;
        while (!atomic_compare_exchange_weak_explicit(
            &readers, &next, r, order(NOTE_CAS, memory_order_seq_cst), memory_order_relaxed));
        lf_full_barrier_after_rmw(NOTE_BARRIER);
    }

    void hak_rcu_read_lock(unsigned t)
    {
        urcu_bp_read_lock(t);
        if (does(NOTE_READER))
            note_reader(t);
    }

    void barrier_all(enum site site)
    {
        if (!membarrier) {
            fence(site, memory_order_seq_cst); /* lf_full_barrier */
        } else if (does(site)) {
            one_step step;
            rl::systemwide_fence($);
        }
    }

    bool is_outside(reader *r)
    {
        return atomic_load_explicit(r->nesting, order(OUTSIDE_LOAD, memory_order_acquire)) == 0;
    }

    reader *read_readers()
    {
        return atomic_load_explicit(&readers, memory_order_seq_cst);
    }

    bool batch_begin()
    {
        if (lf_stack_is_empty(&arrivals))
            return false;
        batch = lf_stack_pop_all_upmc(&arrivals);
        lf_full_barrier_after_rmw(BATCH_BARRIER);
        reader *r = read_readers();
        for (; does(BATCH_FORGETS) && r != nullptr; r = r->next)
            r->was_outside = false;
        return batch != nullptr;
    }

    bool all_were_outside(reader *first)
    {
        bool all = true;
        for (reader *r = first; r != nullptr; r = r->next) {
            r->was_outside = r->was_outside || is_outside(r);
            all = all && r->was_outside;
        }
        return all;
    }

    retired_node *batch_due()
    {
        reader *early = does(BATCH_THEN_READERS) ? nullptr : read_readers();
        if (batch == nullptr && !batch_begin())
            return nullptr;
        reader *first = does(BATCH_THEN_READERS) ? read_readers() : early;
        if (first != nullptr)
            barrier_all(POLL_BARRIER_BEFORE);
        if (does(POLL_LOOKS) && !all_were_outside(first))
            return nullptr;
        if (first != nullptr)
            barrier_all(POLL_BARRIER_AFTER);
        retired_node *due = batch;
        batch = nullptr;
        return due;
    }

    void reclaim(retired_node *retired)
    {
        MUST(retired->mapped == 1);
        retired->mapped = 0;
        retired->reclaimed++;
    }

    void reclaim_all(retired_node *node)
    {
        while (node != nullptr) {
            retired_node *retired = node;
            node = node->next;
            reclaim(retired);
        }
    }

    void rcu_poll()
    {
        if (atomic_exchange_explicit(&polling, true, order(POLLING_TAKEN, memory_order_acquire)))
            return;
        retired_node *due = batch_due();
        atomic_store_explicit(&polling, false, order(POLLING_GIVEN_BACK, memory_order_release));
        reclaim_all(due);
    }

    bool has_no_reader()
    {
        fence(RETIRE_BARRIER, memory_order_seq_cst);
        return !does(RETIRE_LOOKS) || read_readers() == nullptr;
    }

    void rcu_retire(retired_node *retired)
    {
        if (has_no_reader()) {
            reclaim(retired);
            return;
        }
        lf_stack_push(&arrivals, retired);
        rcu_poll();
    }

    /* ---- the users: registry.c ---- */

    void hak_rcu_assign(retired_node *r)
    {
        atomic_store_explicit(&slot, r, order(RCU_ASSIGN, memory_order_release));
    }

    void walk(unsigned t)
    {
        hak_rcu_read_lock(t);
        retired_node *r = atomic_load_explicit(&slot, order(RCU_DEREFERENCE, memory_order_acquire));
        rl::ctx().sched(); /* it takes a while */
        if (r != nullptr)
            MUST(r->mapped == 1);
        urcu_bp_read_unlock(t);
    }

    /* Unpublishes, or publishes another one instead. */
    void retire(retired_node *old, retired_node *instead)
    {
        if (does(RETIRE_UNPUBLISHES_FIRST))
            hak_rcu_assign(instead);
        rcu_retire(old);
        if (!does(RETIRE_UNPUBLISHES_FIRST))
            hak_rcu_assign(instead);
    }

    /* How many times it waits still, or was reclaimed. */
    unsigned places(retired_node *of)
    {
        unsigned times = (unsigned)of->reclaimed;
        for (retired_node *list : {(retired_node *)batch, arrivals.both.debug_value().head})
            for (retired_node *r = list; r != nullptr; r = r->next)
                times += r == of;
        return times;
    }

    /* What most scenarios begin with: a reader that is noted. */
    void start()
    {
        set_up();
        walk(0);
    }
    /* All of them retire the first region. */
    void check()
    {
        MUST(places(&region[0]) == 1);
    }
};

/* A reader's first section, against a retirer: it is not noted yet. */
template <bool membarrier>
struct first_section : suite<first_section<membarrier>, rcu_base<membarrier>, 2> {
    void start()
    {
        this->set_up();
    }
    void thread(unsigned t)
    {
        if (t == 0)
            this->walk(0);
        else
            this->retire(&this->region[0], nullptr);
    }
};

/* Another section, against a retirer that polls again. */
template <bool membarrier>
struct next_section : suite<next_section<membarrier>, rcu_base<membarrier>, 2> {
    void thread(unsigned t)
    {
        if (t == 0) {
            this->walk(0);
        } else {
            this->retire(&this->region[0], nullptr);
            this->rcu_poll();
        }
    }
};

/* Two grace periods one after the other: what was seen in the first says nothing about the second. */
template <bool membarrier>
struct two_batches : suite<two_batches<membarrier>, rcu_base<membarrier>, 2> {
    void thread(unsigned t)
    {
        if (t == 0) {
            this->walk(0);
        } else {
            this->region[1].mapped = 1;
            this->retire(&this->region[0], &this->region[1]);
            this->rcu_poll();
            this->retire(&this->region[1], nullptr);
        }
    }
    void check()
    {
        MUST(this->places(&this->region[0]) == 1 && this->places(&this->region[1]) == 1);
    }
};

/* A reader, a retirer, and somebody who polls. */
template <bool membarrier>
struct two_pollers : suite<two_pollers<membarrier>, rcu_base<membarrier>, 3> {
    void thread(unsigned t)
    {
        if (t == 0)
            this->walk(0);
        else if (t == 1)
            this->retire(&this->region[0], nullptr);
        else
            this->rcu_poll();
    }
};

/* Two readers, one of them new. */
template <bool membarrier>
struct two_readers : suite<two_readers<membarrier>, rcu_base<membarrier>, 3> {
    void thread(unsigned t)
    {
        if (t < 2)
            this->walk(t);
        else
            this->retire(&this->region[0], nullptr);
    }
};

/* A reader that notes itself beside one that did before, a retirer, and somebody who polls. */
template <bool membarrier>
struct late_reader : suite<late_reader<membarrier>, rcu_base<membarrier>, 3> {
    void thread(unsigned t)
    {
        if (t == 0)
            this->walk(1);
        else if (t == 1)
            this->retire(&this->region[0], nullptr);
        else
            this->rcu_poll();
    }
};

int main(int argc, char **argv)
{
    model m = {
        "rcu",
        {{"first_section/fences", rl::simulate<first_section<false>>, bound(6), full()},
         {"first_section/membarrier", rl::simulate<first_section<true>>, full(), full()},
         {"next_section/fences", rl::simulate<next_section<false>>, bound(6), full()},
         {"next_section/membarrier", rl::simulate<next_section<true>>, full(), full()},
         {"two_batches/fences", rl::simulate<two_batches<false>>, bound(5), bound(7)},
         {"two_batches/membarrier", rl::simulate<two_batches<true>>, bound(5), bound(8)},
         {"two_pollers/fences", rl::simulate<two_pollers<false>>, bound(4), bound(6)},
         {"two_pollers/membarrier", rl::simulate<two_pollers<true>>, bound(4), bound(6)},
         {"late_reader/fences", rl::simulate<late_reader<false>>, bound(3), bound(5)},
         {"late_reader/membarrier", rl::simulate<late_reader<true>>, bound(3), bound(5)},
         {"two_readers/fences", rl::simulate<two_readers<false>>, bound(3), bound(5)},
         {"two_readers/membarrier", rl::simulate<two_readers<true>>, bound(3), bound(5)},
         {"two_readers/at_random", rl::simulate<two_readers<true>>, at_random(100000),
          at_random(10000000)}},
        {{"note: no barrier", NOTE_BARRIER, omitted, "first_section/membarrier"},
         {"note: seq_cst -> relaxed", NOTE_CAS, memory_order_relaxed, "two_readers/membarrier"},
         {"note: left out", NOTE_READER, omitted, "first_section/membarrier"},
         {"batch_begin: no barrier", BATCH_BARRIER, omitted, nullptr,
          "the barrier in rcu_retire comes before"},
         {"batch_begin: was_outside of the last batch", BATCH_FORGETS, omitted,
          "two_batches/membarrier"},
         {"poll: readers before arrivals", BATCH_THEN_READERS, omitted, "late_reader/membarrier"},
         {"poll: no membarrier before the look", POLL_BARRIER_BEFORE, omitted,
          "next_section/membarrier"},
         {"poll: no fence before the look", POLL_BARRIER_BEFORE, omitted, nullptr,
          "where readers fence, the barrier in batch_begin is enough"},
         {"poll: no membarrier after the look", POLL_BARRIER_AFTER, omitted,
          "next_section/membarrier"},
         {"poll: no look", POLL_LOOKS, omitted, "next_section/membarrier"},
         {"poll: nesting, acquire -> relaxed", OUTSIDE_LOAD, memory_order_relaxed, nullptr,
          "the barrier after the look acquires"},
         {"poll: polling taken, acquire -> relaxed", POLLING_TAKEN, memory_order_relaxed,
          "two_pollers/fences"},
         {"poll: polling given back, release -> relaxed", POLLING_GIVEN_BACK, memory_order_relaxed,
          "two_pollers/fences"},
         {"retire: no barrier", RETIRE_BARRIER, omitted, "first_section/membarrier"},
         {"retire: no look", RETIRE_LOOKS, omitted, "next_section/membarrier"},
         {"retire: arrivals, no release", PUSH_FENCES, omitted, "two_pollers/fences"},
         {"retire: arrivals, no acquire", POP_ALL_FENCE, omitted, nullptr,
          "the barrier in batch_begin acquires"},
         {"retire: unpublishes afterwards", RETIRE_UNPUBLISHES_FIRST, omitted,
          "first_section/membarrier"},
         {"publish: release -> relaxed", RCU_ASSIGN, memory_order_relaxed,
          "two_batches/membarrier"},
         {"dereference: consume -> relaxed", RCU_DEREFERENCE, memory_order_relaxed,
          "two_batches/membarrier"}}};
    return model_main(m, argc, argv);
}
