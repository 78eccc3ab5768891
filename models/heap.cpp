/*
 * heap.cpp: heaps change hands (src/fast/heap.c): parked and spare ones, borrowed ones, and those of
 * threads that vanished in fork; and what an idle one keeps is taken by another thread (relief.c).
 *
 * Invariants: a heap has one holder, who sees what the last one left in it; while it is held `holder`
 * says so; a heap that a slow path left half done is never taken; at rest each heap is held, in a stack,
 * or was lost with its thread.
 *
 * A fork is modelled by its outcome: start() runs the vanished threads up to a point of their slow path,
 * which the search chooses, and the threads of the scenario are the child's. What a heap owns is one
 * number, and a slab's `owner` and word that its exit gives up.
 */
#include "lf_stack.h"

#define HEAPS 4

#define HEAP_SEIZED           1u
#define HEAP_LEFT             2u
#define HEAP_STATES           3u
#define HEAP_HELD(generation) (((generation) + 1u) << 2)

struct heap {
    plain<int> bin;   /* what only its holder touches: even when whole */
    plain<bool> owns; /* the one slab */
    lf_node link;
    plain<heap *> all_next;
    atomic<unsigned> holder;
    atomic<bool> busy;
};

struct heap_base {
    heap heaps[HEAPS];
    unsigned made = 0; /* the check's, and meta_alloc's */
    lf_stack<lf_node> parked, spare;
    atomic<heap *> all;
    atomic<unsigned> generation;
    atomic<unsigned> word;   /* of the slab: which heap's, or 0 */
    heap *heap_held[4] = {}; /* by thread; the last is the vanished one */
    bool lost[HEAPS] = {};
    unsigned lost_holder = 0; /* of those */

    void set_up()
    {
        all.store(nullptr, rl::mo_relaxed, $);
        generation.store(0, rl::mo_relaxed, $);
        word.store(0, rl::mo_relaxed, $);
        for (heap &h : heaps) {
            h.holder.store(0, rl::mo_relaxed, $);
            h.busy.store(false, rl::mo_relaxed, $);
            h.owns = false;
        }
    }

    unsigned name_of(heap *h)
    {
        return (unsigned)(h - heaps) + 1;
    }

    /* No fork comes in between here. */
    unsigned held_now()
    {
        with_last_step quiet;
        return HEAP_HELD(atomic_load_explicit(&generation, memory_order_relaxed));
    }

    void set_holder(heap *h, unsigned holder)
    {
        atomic_store_explicit(&h->holder, holder, order(HELD_RELEASE, memory_order_release));
    }

    bool is_busy(heap *h)
    {
        return atomic_load_explicit(&h->busy, memory_order_relaxed);
    }

    void set_busy(heap *h)
    {
        if (!does(BUSY_BEFORE_HELD))
            set_holder(h, held_now());
        atomic_store_explicit(&h->busy, true, memory_order_relaxed);
        if (does(BUSY_BEFORE_HELD))
            set_holder(h, held_now());
    }

    void clear_busy(heap *h)
    {
        atomic_store_explicit(&h->busy, false, order(IDLE_RELEASE, memory_order_release));
    }

    void set_idle(heap *h)
    {
        clear_busy(h);
    }

    /* What membarrier stands for, on either side. */
    void barrier()
    {
        if (does(SEIZE_BARRIER))
            rl::atomic_thread_fence(memory_order_seq_cst, $);
    }

    bool try_state(heap *h, unsigned from, unsigned to, enum site done, enum site seen)
    {
        unsigned held = held_now();
        from |= held;
        return atomic_compare_exchange_strong_explicit(&h->holder, &from, held | to,
                                                       order(done, memory_order_acq_rel),
                                                       order(seen, memory_order_acquire));
    }

    heap *heap_make()
    {
        MUST(made < HEAPS);
        heap *h = &heaps[made++], *next;
        h->bin = 0;
        set_busy(h);
        next = atomic_load_explicit(&all, memory_order_relaxed);
        do
            h->all_next = next;
        while (!atomic_compare_exchange_weak_explicit(
            &all, &next, h, order(MAKE_RELEASE, memory_order_release), memory_order_relaxed));
        return h;
    }

    bool try_adopt(unsigned t, heap *h, unsigned now)
    {
        unsigned holder = atomic_load_explicit(&h->holder, memory_order_relaxed);
        if (holder == 0 || holder == now || h == heap_held[t] || (holder & HEAP_STATES) != 0 ||
            (is_busy(h) && does(ADOPT_HEEDS_BUSY)))
            return false;
        if (!does(ADOPT_COMPARES))
            atomic_store_explicit(&h->holder, now | HEAP_SEIZED, memory_order_relaxed);
        else if (!atomic_compare_exchange_strong_explicit(&h->holder, &holder, now | HEAP_SEIZED,
                                                          memory_order_acquire,
                                                          memory_order_relaxed))
            return false;
        set_busy(h);
        return true;
    }

    heap *adopt_vanished(unsigned t)
    {
        unsigned now = held_now();
        if (now == HEAP_HELD(0))
            return nullptr;
        heap *h = atomic_load_explicit(&all, order(ADOPT_ACQUIRE, memory_order_acquire));
        while (h != nullptr && !try_adopt(t, h, now))
            h = h->all_next;
        return h;
    }

    heap *pop(lf_stack<lf_node> *stack)
    {
        if (lf_stack_is_empty(stack))
            return nullptr;
        lf_node *node = lf_stack_pop_mpmc(stack);
        if (node == nullptr)
            return nullptr;
        heap *h = nullptr;
        for (heap &candidate : heaps)
            h = &candidate.link == node ? &candidate : h;
        if (does(POP_SETS_BUSY))
            set_busy(h);
        return h;
    }

    heap *heap_obtain(unsigned t)
    {
        heap *h = pop(&parked);
        if (h == nullptr)
            h = pop(&spare);
        if (h == nullptr)
            h = adopt_vanished(t);
        return h != nullptr ? h : heap_make();
    }

    void put(lf_stack<lf_node> *stack, heap *h)
    {
        if (does(PUT_CLEARS_FIRST))
            set_holder(h, 0);
        clear_busy(h);
        lf_stack_push(stack, &h->link);
        if (!does(PUT_CLEARS_FIRST))
            set_holder(h, 0);
    }

    /* owned.c: owned_disown_all, of one slab: the word is changed while it is still owned. */
    void owned_disown_all(heap *h)
    {
        if (!h->owns)
            return;
        atomic_store_explicit(&word, 0u, memory_order_release);
        h->owns = false;
    }

    bool close_to_others(heap *h)
    {
        while (!try_state(h, 0, HEAP_LEFT, NO_SITE, NO_SITE)) {
            clear_busy(h);
            if (try_state(h, HEAP_SEIZED, HEAP_SEIZED | HEAP_LEFT, LEAVE_CAS, NO_SITE))
                return false;
            atomic_store_explicit(&h->busy, true, memory_order_relaxed); /* heap_begin */
            barrier();
        }
        return true;
    }

    void shelve(heap *h, bool dissolve)
    {
        if (does(CLOSE_TO_OTHERS) && !close_to_others(h))
            return;
        if (does(DISOWN_BEFORE_PARKING))
            owned_disown_all(h);
        if (!dissolve) {
            put(&parked, h);
            return;
        }
        h->bin = 0; /* heap_dissolve */
        put(&spare, h);
    }

    heap *attach(unsigned t)
    {
        return heap_held[t] = heap_obtain(t);
    }

    bool try_busy(heap *h)
    {
        if (is_busy(h))
            return false;
        atomic_store_explicit(&h->busy, true, memory_order_relaxed);
        barrier();
        if (!does(OPEN_HEEDS_SEIZED) ||
            atomic_load_explicit(&h->holder, order(OPEN_LOOK, memory_order_acquire)) == held_now())
            return true;
        clear_busy(h);
        return false;
    }

    heap *open_own(unsigned t)
    {
        heap *h = heap_held[t];
        return try_busy(h) ? h : heap_obtain(t);
    }

    heap *heap_open(unsigned t, bool inside)
    {
        if (inside)
            return heap_obtain(t);
        return heap_held[t] == nullptr ? attach(t) : open_own(t);
    }

    void heap_close(unsigned t, heap *work)
    {
        if (work == heap_held[t])
            set_idle(work);
        else
            shelve(work, true);
    }

    bool take_or_leave(heap *h)
    {
        for (;;) {
            if (try_busy(h))
                return true;
            if (try_state(h, HEAP_SEIZED, HEAP_SEIZED | HEAP_LEFT, LEAVE_CAS, NO_SITE))
                return false;
        }
    }

    void heap_retire(unsigned t)
    {
        heap *h = heap_held[t];
        bool taken = take_or_leave(h);
        heap_held[t] = nullptr;
        if (taken)
            shelve(h, false);
    }

    bool heap_seize(heap *h)
    {
        if (!try_state(h, 0, HEAP_SEIZED, NO_SITE, NO_SITE))
            return false;
        barrier();
        if (!does(SEIZE_HEEDS_BUSY) ||
            !atomic_load_explicit(&h->busy, order(SEIZE_LOOK, memory_order_acquire)))
            return true;
        heap_end_seizure(h);
        return false;
    }

    void heap_end_seizure(heap *h)
    {
        if (!does(END_HEEDS_LEFT)) {
            set_holder(h, held_now());
            return;
        }
        unsigned holder =
            atomic_load_explicit(&h->holder, order(END_FINDS_LEFT, memory_order_acquire));
        while ((holder & HEAP_LEFT) == 0)
            if (atomic_compare_exchange_weak_explicit(&h->holder, &holder, holder & ~HEAP_STATES,
                                                      order(END_CAS, memory_order_acq_rel),
                                                      order(END_FINDS_LEFT, memory_order_acquire)))
                return;
        set_busy(h);
        h->bin = h->bin + 0; /* bins_recount */
        shelve(h, false);
    }

    /* relief.c */
    void relieve(heap *h)
    {
        if (!heap_seize(h))
            return;
        owned_disown_all(h);
        heap_end_seizure(h);
    }

    /* ---- the users ---- */

    /* The slow path: the heap is not whole in between. */
    void work_in(heap *h)
    {
        MUST(h->busy.debug_value() && h->bin % 2 == 0);
        h->bin = h->bin + 1;
        if (!h->owns && atomic_load_explicit(&word, memory_order_relaxed) == 0) {
            h->owns = true;
            atomic_store_explicit(&word, name_of(h), memory_order_release);
        }
        h->bin = h->bin + 1;
    }

    /* malloc or free, whose slow path it takes; `inside` in a handler. */
    void call(unsigned t, bool inside)
    {
        heap *h = heap_open(t, inside);
        work_in(h);
        heap_close(t, h);
    }

    /* malloc and free that need no slow path: whatever has been seized. */
    void fast(unsigned t)
    {
        heap_held[t]->bin = heap_held[t]->bin + 2;
    }

    /* The word says "mine" only while the heap owns the slab (registry.h). */
    void look_at_word(unsigned t)
    {
        heap *h = heap_held[t];
        if (atomic_load_explicit(&word, memory_order_relaxed) == name_of(h))
            MUST(h->owns);
    }

    bool is_in(lf_stack<lf_node> *stack, heap *h)
    {
        int left = HEAPS + 1;
        for (lf_node *n = stack->both.debug_value().head; n != nullptr && left-- > 0; n = n->next)
            if (n == &h->link)
                return true;
        return false;
    }

    void check()
    {
        for (heap *h = heaps; h < heaps + made; h++) {
            unsigned stacked = is_in(&parked, h) + is_in(&spare, h), held = 0;
            for (heap *in_hand : heap_held)
                held += in_hand == h;
            unsigned holder = h->holder.debug_value();
            if (stacked + held == 0)
                MUST(lost[h - heaps] && holder == lost_holder);
            else
                MUST(stacked + held == 1 &&
                     holder == (held ? HEAP_HELD(generation.debug_value()) : 0));
        }
    }
};

/* Threads come and go: what one parks the next goes on with. */
struct come_and_go : suite<come_and_go, heap_base, 2> {
    void start()
    {
        set_up();
        call(3, false);
        heap_retire(3);
    }
    void thread(unsigned t)
    {
        call(t, false);
        look_at_word(t);
        if (t == 0)
            heap_retire(t);
    }
};

/* Handlers borrow, and give back, while a thread starts. */
struct borrow : suite<borrow, heap_base, 2> {
    void start()
    {
        set_up();
        call(3, false);
        heap_retire(3);
    }
    void thread(unsigned t)
    {
        call(t, t == 0);
    }
};

/* The child of a fork: a thread vanished between two calls, or in its slow path at some point. */
struct forked : suite<forked, heap_base, 2> {
    enum { IDLE, OPENED, HALF, POPPED, PUTTING, POINTS };

    void vanish(unsigned point)
    {
        heap *h = &heaps[1];
        lost[1] = point != IDLE;
        bool in_slow_path = point == OPENED || point == HALF;
        lost_holder = in_slow_path ? HEAP_HELD(0) : 0;
        h->busy.store(in_slow_path, rl::mo_relaxed, $);
        set_holder(h, point == IDLE ? HEAP_HELD(0) : lost_holder);
        if (point == HALF)
            h->bin = h->bin + 1;
    }
    void start()
    {
        set_up();
        call(0, false);
        call(3, false);
        vanish(rl::rand(POINTS));
        heap_held[3] = nullptr;
        generation.store(1, rl::mo_relaxed, $); /* heap_after_fork_child */
        set_holder(heap_held[0], held_now());
    }
    /* The thread that forked borrows, or ends; its new thread starts, and ends. */
    void thread(unsigned t)
    {
        call(t, t == 0);
        if (t == 1)
            heap_retire(1);
    }
};

/* Threads of the child find the same vanished thread's heap. */
struct adopt_base : heap_base {
    void start()
    {
        set_up();
        call(3, false);
        heap_held[3] = nullptr;
        generation.store(1, rl::mo_relaxed, $);
    }
    void thread(unsigned t)
    {
        call(t, false);
        if (t != 0)
            heap_retire(t);
    }
};

struct two_adopt : suite<two_adopt, adopt_base, 2> {
};

struct three_adopt : suite<three_adopt, adopt_base, 3> {
};

/* What one adopts another wants to seize. */
struct adopted_and_relieved : suite<adopted_and_relieved, adopt_base, 2> {
    void thread(unsigned t)
    {
        if (t == 0)
            call(0, false);
        else
            relieve(&heaps[0]);
    }
};

/* One thread makes a heap while another walks the list of all for those of vanished threads. */
struct make_and_adopt : suite<make_and_adopt, heap_base, 2> {
    void start()
    {
        set_up();
        generation.store(1, rl::mo_relaxed, $);
    }
    void thread(unsigned t)
    {
        call(t, false);
    }
};

/* The first thread has a heap with a slab, and goes on; the others relieve it. */
struct relief_base : heap_base {
    void start()
    {
        set_up();
        call(0, false);
    }
};

/* A heap is idle, and relieved, as its thread comes back. */
struct relieved : suite<relieved, relief_base, 2> {
    void thread(unsigned t)
    {
        if (t == 1) {
            relieve(&heaps[0]);
            return;
        }
        fast(0);
        call(0, false);
        fast(0);
    }
};

/* The same, as its thread ends. */
struct relieved_at_end : suite<relieved_at_end, relief_base, 2> {
    void thread(unsigned t)
    {
        if (t == 1) {
            relieve(&heaps[0]);
            return;
        }
        fast(0);
        heap_retire(0);
    }
};

/* The same; and what was left the next thread goes on with. */
struct relieved_and_taken : suite<relieved_and_taken, relief_base, 3> {
    void thread(unsigned t)
    {
        if (t == 0)
            heap_retire(0);
        else if (t == 1)
            relieve(&heaps[0]);
        else
            call(2, false);
    }
};

/* Two relieve the same one, while its thread takes two slow paths. */
struct two_relieve : suite<two_relieve, relief_base, 3> {
    void thread(unsigned t)
    {
        if (t != 0) {
            relieve(&heaps[0]);
            return;
        }
        call(0, false);
        fast(0);
        call(0, false);
    }
};

int main(int argc, char **argv)
{
    model m = {
        "heap",
        {{"come_and_go", rl::simulate<come_and_go>, bound(4), bound(5)},
         {"borrow", rl::simulate<borrow>, bound(4), bound(6)},
         {"forked", rl::simulate<forked>, bound(3), bound(5)},
         {"two_adopt", rl::simulate<two_adopt>, bound(4), bound(6)},
         {"adopted_and_relieved", rl::simulate<adopted_and_relieved>, bound(4), full()},
         {"make_and_adopt", rl::simulate<make_and_adopt>, bound(4), full()},
         {"relieved", rl::simulate<relieved>, bound(4), bound(6)},
         {"relieved_at_end", rl::simulate<relieved_at_end>, bound(4), full()},
         {"relieved_and_taken", rl::simulate<relieved_and_taken>, bound(3), bound(5)},
         {"two_relieve", rl::simulate<two_relieve>, bound(2), bound(3)},
         {"three_adopt", rl::simulate<three_adopt>, at_random(100000), at_random(5000000)}},
        {{"adopt: no compare", ADOPT_COMPARES, omitted, "two_adopt"},
         {"adopt: takes busy ones", ADOPT_HEEDS_BUSY, omitted, "forked"},
         {"adopt: the list, acquire -> relaxed", ADOPT_ACQUIRE, memory_order_relaxed,
          "make_and_adopt"},
         {"make: release -> relaxed", MAKE_RELEASE, memory_order_relaxed, "make_and_adopt"},
         {"put: holder is cleared after the push", PUT_CLEARS_FIRST, omitted, "come_and_go"},
         {"pop: not busy", POP_SETS_BUSY, omitted, nullptr,
          "heap_open sets it again; it matters to a fork in between"},
         {"shelve: parked with its slab", DISOWN_BEFORE_PARKING, omitted, nullptr,
          "its next holder goes on with it; it is a matter of memory"},
         {"idle: release -> relaxed", IDLE_RELEASE, memory_order_relaxed, "relieved"},
         {"set_busy: held first", BUSY_BEFORE_HELD, omitted, "adopted_and_relieved"},
         {"held: release -> relaxed", HELD_RELEASE, memory_order_relaxed, "adopted_and_relieved"},
         {"open: the look at holder, acquire -> relaxed", OPEN_LOOK, memory_order_relaxed,
          "relieved"},
         {"open: a seized heap all the same", OPEN_HEEDS_SEIZED, omitted, "relieved"},
         {"retire: left, release -> relaxed", LEAVE_CAS, memory_order_relaxed, nullptr,
          "here a fence stands in the thread's own path, where membarrier is another's"},
         {"seize: the look at busy, acquire -> relaxed", SEIZE_LOOK, memory_order_relaxed,
          "relieved"},
         {"seize: no barrier", SEIZE_BARRIER, omitted, "relieved"},
         {"seize: a busy one", SEIZE_HEEDS_BUSY, omitted, "relieved"},
         {"end of seizure: release -> relaxed", END_CAS, memory_order_relaxed, "relieved"},
         {"end of seizure: left, acquire -> relaxed", END_FINDS_LEFT, memory_order_relaxed,
          "relieved_at_end"},
         {"end of seizure: a heap that was left is not given back", END_HEEDS_LEFT, omitted,
          "relieved_at_end"},
         {"shelve: others may be about to seize it", CLOSE_TO_OTHERS, omitted,
          "relieved_and_taken"},
         {"park: no release", PUSH_FENCES, omitted, "come_and_go"},
         {"pop: next before head", POP_FENCE_NEXT, omitted, nullptr,
          "the model of the stack finds it; here that takes three threads, and luck"}}};
    return model_main(m, argc, argv);
}
