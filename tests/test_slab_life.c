/*
 * test_slab_life.c: the life of a slab, step by step: FREE, owned, disowned when full, claimed by
 * the first free, shared when partly free, owned again, FREE. Two owners in one thread stand for
 * two heaps.
 */
#include "testing.h"

#include "global/os.h"
#include "global/shared.h"
#include "remote/outbuf.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLASS 19u /* 1024 bytes: 64 blocks a slab */
#define SMALL 11u /* 256 bytes */

static struct owned a, b;

static void init(struct owned *o, uintptr_t number)
{
    owned_init(o, unit_owner(number));
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        owned_set_none(o, i, false);
}

/* Links that other tests have left would be met before those of this one. */
static void unlink_all(void)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        while (shared_pop(i) != NULL)
            continue;
}

static int reset(void **state)
{
    (void)state;
    init(&a, 1);
    init(&b, 2);
    unlink_all();
    return 0;
}

static uintptr_t owner_of(struct slab *s)
{
    return atomic_load(&s->owner);
}

/* Takes every block of a fresh slab; they are linked, last to NULL. */
static struct slab *use_up(struct owned *o, unsigned class_no, struct block **blocks)
{
    struct slab *s = owned_find(o, class_no);
    *blocks = NULL;
    while (slab_has_room_owner(s)) {
        struct chain chain = owned_take(o, s);
        chain_last(chain)->next = *blocks;
        *blocks = chain.first;
    }
    return s;
}

static struct chain pop(struct block **blocks)
{
    struct block *first = *blocks;
    *blocks = first->next;
    first->next = NULL;
    return chain_of_one(first);
}

static void free_rest(struct owned *o, struct slab *s, struct block *blocks)
{
    while (blocks != NULL)
        owned_push_remote(o, s, pop(&blocks));
}

/* A slab of `a` with one block freed, given up: any heap may find it. */
static struct slab *share(struct block **blocks)
{
    struct slab *s = use_up(&a, CLASS, blocks);
    owned_push_remote(&a, s, pop(blocks));
    owned_disown_all(&a);
    assert_int_equal(owner_of(s), SLAB_SHARED);
    return s;
}

/* The same, full. */
static struct slab *abandon(struct block **blocks)
{
    struct slab *s = use_up(&a, CLASS, blocks);
    owned_disown_all(&a);
    assert_int_equal(owner_of(s), SLAB_UNOWNED);
    return s;
}

/* Emptied while its descriptor is linked: FREE, of no class, and still in its old class's stack. */
static struct slab *share_and_empty(void)
{
    struct block *blocks;
    struct slab *s = share(&blocks);
    assert_true(owned_claim(&b, s));
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
    return s;
}

static void test_an_empty_slab_is_free(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    assert_true(owned_has(&a, s));
    assert_int_equal(slab_used(s), 64);
    char *base = s->base;
    free_rest(&a, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
    assert_int_equal(registry_word(base), UNIT_FREE);
    assert_int_equal(owned_count(&a), 0);
    assert_int_equal(a.idle_bytes, 0);
}

/* Whether the system makes pages at once. */
static bool populates(void)
{
    char *p = os_map(UNIT_SIZE);
    assert_non_null(p);
    os_populate(p, UNIT_SIZE);
    bool all = os_resident(p, UNIT_SIZE, 0) == UNIT_SIZE;
    os_unmap(p, UNIT_SIZE);
    return all;
}

/* A slab of units that hold no memory. */
static struct slab *find_without_pages(unsigned class_no)
{
    huge_set_mode(HUGE_NEVER);
    segment_purge(0);
    struct slab *s = owned_find(&a, class_no);
    assert_int_equal(os_resident(s->base, UNIT_SIZE, UNIT_SIZE), 0);
    return s;
}

static size_t pages_after_a_cut(struct slab *s, struct block **blocks)
{
    struct chain chain = owned_take(&a, s);
    chain_last(chain)->next = *blocks;
    *blocks = chain.first;
    return os_resident(s->base, UNIT_SIZE, 0) / KIB(4);
}

/* As many as there are before them, four at most; of blocks that may span several, just those that
 * are touched. */
static void test_pages_come_ahead_of_cuts(void **state)
{
    (void)state;
    static const size_t pages[] = {1, 2, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16};
    enum { CUTS = sizeof pages / sizeof *pages, LARGE = 31 /* 8 KiB */ };
    struct block *blocks = NULL;
    if (os_page_size() != KIB(4) || !populates())
        skip();
    struct slab *s = find_without_pages(CLASS);
    for (int i = 0; i < CUTS; i++)
        assert_int_equal(pages_after_a_cut(s, &blocks), pages[i]);
    free_rest(&a, s, blocks);
    blocks = NULL;
    s = find_without_pages(LARGE);
    for (size_t i = 1; i <= UNIT_SIZE / size_class_bytes[LARGE]; i++)
        assert_int_equal(pages_after_a_cut(s, &blocks), i);
    free_rest(&a, s, blocks);
    huge_set_mode(HUGE_WHERE_USED);
}

static void test_a_full_slab_is_given_up_and_claimed_by_a_free(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = abandon(&blocks);
    assert_int_equal(registry_word(s->base), unit_word(0, CLASS));
    assert_true(owned_claim(&b, s));
    assert_true(owned_has(&b, s));
    assert_int_equal(registry_word(s->base), owned_token(&b, CLASS));
    assert_false(owned_claim(&a, s));
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

static void test_a_partly_free_slab_is_shared_and_found(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = share(&blocks);
    assert_true(s->linked[0]);
    assert_ptr_equal(owned_find(&b, CLASS), s);
    assert_true(owned_has(&b, s));
    assert_false(s->linked[0]);
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* Claimed by a free while its descriptor is linked; shared again; the descriptor is in the stack
 * once. */
static void test_a_shared_slab_is_linked_once(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = share(&blocks);
    for (int i = 0; i < 5; i++) {
        assert_true(owned_claim(&b, s));
        owned_push_remote(&b, s, pop(&blocks));
        owned_disown_all(&b);
        assert_int_equal(owner_of(s), SLAB_SHARED);
        assert_true(s->linked[0]);
    }
    assert_ptr_equal(shared_pop(CLASS), s);
    assert_null(shared_pop(CLASS));
    assert_true(owned_claim(&a, s));
    free_rest(&a, s, blocks);
}

/* Emptied and used for another class while linked: who pops it for the old class drops it, or owns
 * a slab of the new class. */
static void test_a_linked_slab_may_change_its_class(void **state)
{
    (void)state;
    struct slab *s = share_and_empty();
    struct slab *other = owned_find(&b, 0); /* dirty units first: the same one */
    assert_ptr_equal(other, s);
    struct chain chain = owned_take(&b, s);
    struct slab *found = owned_find(&a, CLASS); /* drops it */
    assert_ptr_not_equal(found, s);
    free_rest(&a, found, owned_take(&a, found).first);
    assert_true(owned_has(&b, s));
    assert_int_equal(registry_word(s->base), owned_token(&b, 0));
    owned_put(&b, s, chain);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* Whatever its class was when it was pushed first. */
static void test_a_descriptor_is_in_two_stacks(void **state)
{
    (void)state;
    static struct slab s;
    atomic_store(&s.class_no, CLASS);
    shared_push(&s);
    atomic_store(&s.class_no, SMALL);
    shared_push(&s);
    shared_push(&s);
    assert_ptr_equal(shared_pop(SMALL), &s);
    assert_null(shared_pop(SMALL));
    assert_ptr_equal(shared_pop(CLASS), &s);
    assert_null(shared_pop(CLASS));
}

/* And when the new class's slab is shared, it is found under its new class, though linked under the
 * old. */
static void test_a_linked_slab_is_found_under_its_new_class(void **state)
{
    (void)state;
    struct slab *s = share_and_empty();
    assert_ptr_equal(owned_find(&b, 0), s);
    struct chain chain = owned_take(&b, s);
    owned_disown_all(&b);
    assert_int_equal(owner_of(s), SLAB_SHARED);
    assert_ptr_equal(owned_find(&a, 0), s);
    owned_put(&a, s, chain);
    assert_int_equal(owner_of(s), SLAB_FREE);
    while (shared_pop(CLASS) != NULL)
        continue;
}

/* A push that comes between giving up and the second look is not left behind. Here the push comes
 * first, so the giving up finds it. */
static void test_giving_up_takes_over_what_was_pushed(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    owned_push_remote(&b, s, pop(&blocks)); /* a owns it: this is a remote push */
    assert_true(owned_has(&a, s));
    assert_false(lf_stack_is_empty(&s->remote));
    owned_disown_all(&a);
    assert_int_equal(owner_of(s), SLAB_SHARED);
    assert_true(lf_stack_is_empty(&s->remote));
    assert_int_equal(slab_used(s), 63);
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* And a push into a slab without an owner makes the pusher its owner, by its own second look. */
static void test_a_push_claims_what_nobody_owns(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = abandon(&blocks);
    owned_push_remote(&b, s, pop(&blocks));
    assert_true(owned_has(&b, s));
    assert_int_equal(slab_used(s), 63);
    free_rest(&b, s, blocks);
}

static void test_a_push_without_a_heap_is_found(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = abandon(&blocks);
    remote_push_ownerless(s, pop(&blocks));
    assert_int_equal(owner_of(s), SLAB_SHARED);
    assert_ptr_equal(owned_find(&b, CLASS), s);
    assert_int_equal(slab_used(s), 63);
    free_rest(&b, s, blocks);
}

static void test_remote_frees_are_found_by_the_owner(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    for (int i = 0; i < 10; i++)
        owned_push_remote(&b, s, pop(&blocks));
    assert_ptr_equal(owned_find(&a, CLASS), s);
    assert_int_equal(slab_used(s), 54);
    assert_int_equal(owned_take(&a, s).count, 10);
    owned_disown_all(&a);
}

/* All their blocks were freed. */
static void assert_all_free(struct slab **slabs, int count)
{
    owned_disown_all(&a);
    owned_disown_all(&b);
    for (int i = 0; i < count; i++)
        assert_true(owner_of(slabs[i]) == SLAB_FREE);
}

/* What an idle thread strands is bounded, in full slabs and in free bytes. */
static void test_what_a_heap_keeps_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct slab *slabs[COUNT];
    static struct block *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
        assert_true(owned_count(&a) <= OWNED_LEAST + 1);
    }
    for (int i = 0; i < COUNT; i++) {
        for (int k = 0; k < 60; k++)
            owned_push_remote(&a, slabs[i], pop(&blocks[i]));
        assert_true(a.idle_bytes <= OWNED_IDLE_LEAST + UNIT_SIZE);
    }
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, slabs[i], blocks[i]);
    assert_all_free(slabs, COUNT);
}

static void test_one_block_changes_no_list(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    assert_false(owned_is_for_one(&a, s)); /* it has had no room */
    owned_put(&a, s, pop(&blocks));
    uint32_t own_back = a.own_back;
    for (uint32_t back = 2; back < 64; back++) {
        assert_true(owned_is_for_one(&a, s) && !owned_is_for_one(&b, s));
        owned_put_one(&a, s, pop(&blocks).first, 1024);
        assert_ptr_equal(TAILQ_FIRST(&a.partial[CLASS]), s);
        assert_true(slab_free_count_owner(s) == back && a.idle_bytes == (size_t)back * 1024);
        assert_int_equal(a.own_back - own_back, back - 1);
        assert_true(a.full_count == 0 && a.partial_count == 1);
    }
    assert_false(owned_is_for_one(&a, s)); /* it will be empty */
    owned_put(&a, s, pop(&blocks));
    assert_true(owner_of(s) == SLAB_FREE && owned_count(&a) == 0 && a.idle_bytes == 0);
}

/* Puts those of an odd number back, the lowest first. */
static uint32_t put_odd(struct slab *s, struct block *blocks)
{
    uint32_t count = 0;
    struct block *next;
    for (struct block *b = blocks; b != NULL; b = next) {
        next = b->next;
        if (slab_block_number(s, b) % 2 == 0)
            continue;
        assert_true(owned_put_or_claim(&a, s, chain_of_one(b)));
        count++;
    }
    return count;
}

/* Whatever the order they came back in; a few at a time, too. Not of the smallest class. */
static void test_blocks_go_out_by_address(void **state)
{
    (void)state;
    for (unsigned class_no = 0; class_no < size_to_class(4096); class_no++) {
        struct block *blocks;
        struct slab *s = use_up(&a, class_no, &blocks);
        uint32_t count = put_odd(s, blocks);
        size_t bytes = slab_block_bytes(s);
        assert_int_equal(slab_free_count_owner(s), count);
        assert_int_equal(slab_count_marks_owner(s), class_no == 0 ? 0 : count);
        if (class_no == 0)
            continue;
        struct chain few = slab_take_few_owner(s, 0);
        assert_ptr_equal(few.first, s->base + bytes);
        assert_ptr_equal(chain_last(few), s->base + (2 * few.count - 1) * bytes);
        struct chain rest = slab_take_owner(s);
        assert_int_equal(few.count + rest.count, count);
        assert_int_equal(slab_count_marks_owner(s) + s->marked, 0);
        for (struct block *b = rest.first; b->next != NULL; b = b->next)
            assert_ptr_equal(b->next, (char *)b + 2 * bytes);
        assert_null(chain_last(rest)->next);
    }
}

/* What others freed is a list, and goes out first; then what the owner did. */
static void test_a_slab_has_a_list_and_marks(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    struct block *listed = pop(&blocks).first, *marked = pop(&blocks).first;
    assert_true(owned_put_or_claim(&a, s, chain_of_one(marked)));
    remote_push_ownerless(s, chain_of_one(listed));
    owned_look_at_oldest(&a, CLASS);
    assert_ptr_equal(s->free, listed);
    assert_int_equal(slab_free_count_owner(s), 2);
    assert_int_equal(a.idle_bytes, 2 * 1024);
    struct chain first = owned_take(&a, s);
    assert_true(first.first == listed && first.count == 1);
    assert_ptr_equal(TAILQ_FIRST(&a.partial[CLASS]), s);
    struct chain second = owned_take(&a, s);
    assert_true(second.first == marked && second.count == 1);
    assert_int_equal(a.idle_bytes, 0);
    owned_put(&a, s, first);
    owned_put(&a, s, second);
    free_rest(&a, s, blocks);
}

static int status_of_freeing(struct slab *s, struct block *b)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        owned_put_or_claim(&a, s, chain_of_one(b));
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void test_a_block_that_is_freed_twice_is_seen(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    struct block *b = pop(&blocks).first;
    assert_int_equal(status_of_freeing(s, b), 0);
    assert_true(owned_put_or_claim(&a, s, chain_of_one(b)));
    int status = status_of_freeing(s, b);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    free_rest(&a, s, blocks);
}

/* It would give up another for it. */
static void test_who_has_its_fill_claims_no_more(void **state)
{
    (void)state;
    enum { SLABS = OWNED_FULL_MOST + 4 };
    struct block *full[SLABS], *blocks;
    struct slab *s = share(&blocks), *slab[SLABS];
    owned_push_remote(&b, s, pop(&blocks));
    assert_true(owned_has(&b, s)); /* while it has not */
    owned_disown_all(&b);
    assert_ptr_equal(shared_pop(CLASS), s);
    for (unsigned i = 0; i < SLABS; i++)
        slab[i] = use_up(&b, CLASS, &full[i]);
    uint32_t count = owned_count(&b), used = slab_used(s);
    owned_push_remote(&b, s, pop(&blocks));
    assert_int_equal(owner_of(s), SLAB_SHARED);
    assert_int_equal(slab_used(s), used - 1);
    assert_int_equal(owned_count(&b), count);
    for (unsigned i = 0; i < SLABS; i++)
        free_rest(&b, slab[i], full[i]);
    free_rest(&b, s, blocks);
}

static void test_no_block_goes_back_just_so_beyond_the_bounds(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    owned_put(&a, s, pop(&blocks));
    assert_true(owned_is_for_one(&a, s));
    a.count_most = 0;
    assert_false(owned_is_for_one(&a, s));
    a.count_most = 1;
    a.idle_most = 1023;
    assert_false(owned_is_for_one(&a, s));
    a.idle_most = 1024;
    assert_true(owned_is_for_one(&a, s));
    free_rest(&a, s, blocks);
}

/* Else who only frees would never see them. */
static void test_what_others_freed_comes_with_ones_own(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    owned_put(&a, s, pop(&blocks));
    owned_push_remote(&b, s, pop(&blocks));
    assert_false(owned_is_for_one(&a, s));
    owned_put(&a, s, pop(&blocks));
    assert_int_equal(slab_used(s), 61);
    assert_true(lf_stack_is_empty(&s->remote) && owned_is_for_one(&a, s));
    free_rest(&a, s, blocks);
}

static void test_the_oldest_is_looked_at(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&b, CLASS, &blocks);
    owned_put(&b, s, pop(&blocks));
    owned_push_remote(&a, s, pop(&blocks));
    uint32_t others_back = b.others_back;
    owned_look_at_oldest(&b, CLASS);
    assert_true(lf_stack_is_empty(&s->remote));
    assert_int_equal(slab_used(s), 62);
    assert_int_equal(b.others_back, others_back + 1);
    free_rest(&b, s, blocks);
}

static void test_what_is_not_wanted_any_more_goes_by_and_by(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static struct block *blocks[COUNT];
    struct slab *slabs[COUNT];
    b.count_most = COUNT;
    b.claim_most = b.idle_most = MIB(1);
    for (int i = 0; i < COUNT; i++) {
        slabs[i] = abandon(&blocks[i]);
        assert_true(owned_put_or_claim(&b, slabs[i], pop(&blocks[i])));
    }
    owned_set_none(&b, CLASS, true);
    assert_in_range(owned_count(&b), 20, COUNT - 20);
    owned_keep_bounds(&b, CLASS);
    assert_int_equal(owned_count(&b), 0);
    for (int i = 0; i < COUNT; i++)
        free_rest(&a, slabs[i], blocks[i]);
    owned_set_none(&b, CLASS, false);
    assert_all_free(slabs, COUNT);
}

/* Beyond the first, only as long as little is idle in what it owns. */
static void test_what_is_claimed_for_a_few_blocks_is_bounded(void **state)
{
    (void)state;
    struct block *blocks[2];
    struct slab *first = abandon(&blocks[0]), *second = abandon(&blocks[1]);
    owned_look_around(&b);
    assert_in_range(b.claim_most, 1, 39 * 1024);
    for (int i = 0; i < 40; i++)
        assert_true(owned_put_or_claim(&b, first, pop(&blocks[0])) && owned_has(&b, first));
    struct chain chain = pop(&blocks[1]);
    remote_push_ownerless(second, pop(&blocks[1]));
    assert_false(owned_put_or_claim(&b, second, chain));
    assert_int_equal(owner_of(second), SLAB_SHARED);
    b.claim_most = b.idle_bytes;
    uint32_t others_back = b.others_back;
    assert_true(owned_put_or_claim(&b, second, chain) && owned_has(&b, second));
    assert_int_equal(slab_free_count_owner(second), 2); /* the other one's as well */
    assert_int_equal(b.others_back, others_back);       /* which was freed before it was b's */
    free_rest(&b, first, blocks[0]);
    free_rest(&b, second, blocks[1]);
    assert_int_equal(owned_count(&b), 0);
}

/* 64 blocks of b: as many of them by a as is said. */
static void free_a_slab(int by_others)
{
    struct block *blocks;
    struct slab *s = use_up(&b, CLASS, &blocks);
    while (by_others-- > 0)
        owned_push_remote(&a, s, pop(&blocks));
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
    owned_look_around(&b);
}

static void test_who_is_undisturbed_owns_much(void **state)
{
    (void)state;
    struct block *pinned[64];
    struct slab *s[64];
    for (int i = 0; i < 64; i++) /* they are in use, so that each may own some of it */
        s[i] = abandon(&pinned[i]);
    for (int i = 0; i < 63; i++) {
        free_a_slab(0);
        assert_true(b.count_most == OWNED_LEAST && !b.undisturbed);
    }
    free_a_slab(0); /* 4096 blocks */
    assert_true(b.undisturbed && b.idle_most == SIZE_MAX && b.claim_most == SIZE_MAX);
    assert_in_range(b.count_most, 2 * 64, 2 * 64 + 8);
    segment_count_heaps(3);
    owned_look_around(&b);
    assert_in_range(b.count_most, 2 * 64 / 3, (2 * 64 + 8) / 3);
    segment_count_heaps(-3);
    for (int i = 0; i < 76; i++) /* the few that others free change nothing */
        free_a_slab(10);
    assert_true(b.undisturbed);
    owned_disown_all(&b); /* another thread may have it next */
    owned_look_around(&b);
    assert_true(!b.undisturbed && b.count_most == OWNED_LEAST);
    for (int i = 0; i < 64; i++)
        free_a_slab(0);
    assert_true(b.undisturbed);
    for (int i = 0; i < 16; i++)
        free_a_slab(i < 15 ? 63 : 62); /* far less than 4096, but too many */
    assert_true(b.undisturbed);
    free_a_slab(63);
    assert_true(!b.undisturbed && b.count_most == OWNED_LEAST && b.idle_most == OWNED_IDLE_LEAST);
    for (int i = 0; i < 64; i++)
        free_rest(&b, s[i], pinned[i]);
}

enum { TURN = 3 * OWNED_FULL_MOST };

/* How many full slabs b owns of as many as it has just used up. */
static uint32_t own_of_a_turn(struct slab **slabs, struct block **blocks)
{
    for (int i = 0; i < TURN; i++)
        slabs[i] = use_up(&b, CLASS, &blocks[i]);
    return b.full_count;
}

static void drop_a_turn(struct slab **slabs, struct block **blocks)
{
    for (int i = 0; i < TURN; i++) {
        while (blocks[i] != NULL)
            assert_true(owned_put_or_claim(&b, slabs[i], pop(&blocks[i])));
        assert_int_equal(owner_of(slabs[i]), SLAB_FREE);
    }
}

static void test_who_is_undisturbed_learns_to_keep_full_ones(void **state)
{
    (void)state;
    static struct block *blocks[TURN];
    struct slab *slabs[TURN];
    b.undisturbed = true;
    b.count_most = 2 * TURN;
    b.idle_most = b.claim_most = SIZE_MAX;
    assert_int_equal(own_of_a_turn(slabs, blocks), OWNED_FULL_MOST + 1);
    drop_a_turn(slabs, blocks);
    assert_in_range(b.full_learned, TURN - 1, TURN);
    assert_int_equal(own_of_a_turn(slabs, blocks), TURN);
    b.undisturbed = false; /* what others free into them would wait */
    for (int i = 0; i < TURN; i++)
        owned_keep_bounds(&b, CLASS);
    assert_int_equal(b.full_count, OWNED_FULL_MOST);
    b.claim_most = SIZE_MAX;
    for (int i = 0; i < TURN; i++)
        free_rest(&b, slabs[i], blocks[i]);
    b.undisturbed = true;
    owned_disown_all(&b); /* another thread may have it next */
    assert_int_equal(b.full_learned, OWNED_FULL_MOST);
}

/* It has not given these up, however often it claims some. */
static void test_what_others_gave_up_teaches_nothing(void **state)
{
    (void)state;
    static struct block *blocks[TURN];
    struct slab *slabs[TURN];
    b.undisturbed = true;
    b.claim_most = b.idle_most = SIZE_MAX;
    b.count_most = 2 * TURN;
    for (int i = 0; i < TURN; i++)
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
    assert_int_equal(owner_of(slabs[0]), SLAB_UNOWNED);
    assert_true(owned_put_or_claim(&b, slabs[0], pop(&blocks[0])));
    assert_int_equal(b.full_learned, OWNED_FULL_MOST);
    owned_disown_all(&a);
    for (int i = 0; i < TURN; i++)
        free_rest(&b, slabs[i], blocks[i]);
}

/* So that who goes on, and allocates nothing of the class, takes back what others free. */
static void test_full_ones_are_looked_at(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    struct block *blocks[COUNT];
    struct slab *slabs[COUNT];
    for (int i = 0; i < COUNT; i++)
        slabs[i] = use_up(&b, CLASS, &blocks[i]);
    for (int i = 1; i < COUNT; i++)
        free_rest(&a, slabs[i], blocks[i]);
    owned_look_at_oldest(&b, CLASS); /* the first, of which none is back, goes to the end */
    owned_look_at_oldest(&b, CLASS);
    owned_look_at_oldest(&b, CLASS);
    for (int i = 1; i < COUNT; i++)
        assert_int_equal(owner_of(slabs[i]), SLAB_FREE);
    assert_int_equal(b.full_count, 1);
    free_rest(&b, slabs[0], blocks[0]);
}

static void test_what_waits_for_an_owner_is_counted(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&b, CLASS, &blocks);
    owned_set_none(&a, CLASS, true);
    a.awaited = b.owner + 1;
    a.waits = 0;
    owned_push_remote(&a, s, pop(&blocks));
    assert_true(a.awaited == b.owner && a.waits == 1 && a.awaited_class == CLASS);
    owned_disown_all(&b);
    owned_push_remote(&a, s, pop(&blocks)); /* into nobody's: none waits */
    assert_true(a.awaited == b.owner && a.waits == 1);
    free_rest(&a, s, blocks);
}

static void test_who_owns_too_many_gives_some_up(void **state)
{
    (void)state;
    enum { COUNT = OWNED_LEAST + 4 };
    static struct block *blocks[COUNT];
    struct slab *slabs[COUNT];
    b.count_most = COUNT;
    b.claim_most = MIB(1);
    for (int i = 0; i < COUNT; i++) {
        slabs[i] = abandon(&blocks[i]);
        assert_true(owned_put_or_claim(&b, slabs[i], pop(&blocks[i])));
    }
    assert_int_equal(owned_count(&b), COUNT);
    owned_look_around(&b); /* little is in use */
    assert_true(owned_put_or_claim(&b, slabs[COUNT - 1], pop(&blocks[COUNT - 1])));
    assert_in_range(owned_count(&b), OWNED_LEAST, OWNED_LEAST + 1);
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, slabs[i], blocks[i]);
    assert_all_free(slabs, COUNT);
}

/* It is not by what was in use at the last look around that it gives some up. */
static void test_the_bound_grows_with_use(void **state)
{
    (void)state;
    enum { COUNT = 2 * OWNED_LEAST };
    static struct block *blocks[COUNT], *pinned[COUNT];
    struct slab *slabs[COUNT], *others[COUNT];
    b.undisturbed = true;
    b.full_learned = OWNED_MOST;
    owned_look_around(&b);
    for (int i = 0; i < COUNT; i++)
        others[i] = abandon(&pinned[i]);
    for (int i = 0; i < COUNT; i++)
        slabs[i] = use_up(&b, CLASS, &blocks[i]);
    assert_int_equal(owned_count(&b), COUNT);
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, slabs[i], blocks[i]);
    for (int i = 0; i < COUNT; i++)
        free_rest(&a, others[i], pinned[i]);
    assert_all_free(slabs, COUNT);
}

/* While it has as many full slabs as it may: what others free into more would wait. */
static void test_who_allocates_much_claims_none(void **state)
{
    (void)state;
    enum { COUNT = OWNED_FULL_MOST + 4, PARTIAL = 4 };
    static struct block *blocks[COUNT], *others[PARTIAL];
    struct slab *full[COUNT], *partial[PARTIAL];
    b.count_most = 100;
    b.claim_most = MIB(1);
    for (int i = 0; i < PARTIAL; i++) {
        partial[i] = use_up(&a, SMALL, &others[i]);
        owned_disown_all(&a);
        assert_true(owned_put_or_claim(&b, partial[i], pop(&others[i])));
    }
    for (int i = 0; i < COUNT; i++)
        full[i] = use_up(&b, CLASS, &blocks[i]);
    assert_int_equal(b.full_count, OWNED_FULL_MOST + 1);
    owned_keep_bounds(&b, SMALL);
    assert_int_equal(b.partial_count, 1);
    struct block *more;
    struct slab *s = use_up(&a, SMALL, &more);
    owned_disown_all(&a);
    struct chain chain = pop(&more);
    assert_false(owned_put_or_claim(&b, s, chain));
    owned_put_or_claim(&b, full[COUNT - 1], pop(&blocks[COUNT - 1]));
    assert_int_equal(b.full_count, OWNED_FULL_MOST);
    assert_true(owned_put_or_claim(&b, s, chain) && owned_has(&b, s));
    free_rest(&b, s, more);
    for (int i = 0; i < PARTIAL; i++)
        free_rest(&b, partial[i], others[i]);
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, full[i], blocks[i]);
    assert_all_free(full, COUNT);
}

static void test_the_out_buffer_is_bounded_and_loses_nothing(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static struct slab *slabs[COUNT];
    static struct block *blocks[COUNT];
    static struct outbuf out;
    for (int i = 0; i < COUNT; i++)
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
    for (int k = 0; k < 64; k++)
        for (int i = 0; i < COUNT; i++) {
            struct block *p = pop(&blocks[i]).first;
            if (!outbuf_add(&out, p))
                outbuf_open(&out, &b, slabs[i], p);
            size_t held = 0;
            for (unsigned j = 0; j < OUT_SLOTS_MOST; j++)
                held += out.slots->slot[j].first == NULL
                            ? 0
                            : (OUT_SLOT_BYTES / 1024 - out.slots->slot[j].room) * 1024;
            assert_true(held <= OUT_SLOTS_LEAST * OUT_SLOT_BYTES);
        }
    outbuf_flush(&out, &b);
    outbuf_leave(&out);
    assert_all_free(slabs, COUNT);
}

static int count_open(const struct outbuf *out)
{
    int open = 0;
    for (unsigned i = 0; i < OUT_SLOTS_MOST; i++)
        open += out->slots->slot[i].first != NULL;
    return open;
}

/* No call flushes many slots, and all are flushed before as many calls as there may be between two
 * frees into one. */
static void test_all_slots_are_flushed_in_turn(void **state)
{
    (void)state;
    enum { COUNT = 100, AT_ONCE = OUT_SLOTS_LEAST / 16 };
    static struct slab *slabs[COUNT];
    static struct block *blocks[COUNT];
    static struct outbuf out;
    for (int i = 0; i < COUNT; i++) {
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
        outbuf_open(&out, &b, slabs[i], pop(&blocks[i]).first);
    }
    int open = count_open(&out);
    assert_in_range(open, COUNT / 2, COUNT);
    for (unsigned ticks = 0; ticks < OUT_SLOTS_LEAST; ticks++) {
        outbuf_tick(&out, &b);
        assert_in_range(open - count_open(&out), 0, AT_ONCE);
        open = count_open(&out);
    }
    assert_int_equal(open, 0);
    outbuf_leave(&out);
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, slabs[i], blocks[i]);
    assert_all_free(slabs, COUNT);
}

/* A slot that was opened behind the sweeps of a round in which there was nothing else. */
static void test_a_quiet_round_leaves_nothing_behind(void **state)
{
    (void)state;
    static struct outbuf out;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    outbuf_open(&out, &b, s, pop(&blocks).first);
    outbuf_flush(&out, &b);
    while (out.swept != OUT_SLOTS_LEAST - OUT_SLOTS_LEAST / 16)
        outbuf_tick(&out, &b);
    outbuf_open(&out, &b, s, pop(&blocks).first);
    for (unsigned ticks = 0; ticks < 2 * OUT_SLOTS_LEAST; ticks++)
        outbuf_tick(&out, &b);
    assert_int_equal(count_open(&out), 0);
    assert_int_equal(out.last_slot, 0);
    free_rest(&b, s, blocks);
    assert_all_free(&s, 1);
}

static void test_gathered_frees_are_one_chain(void **state)
{
    (void)state;
    static struct outbuf out;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    struct block *first = pop(&blocks).first;
    assert_false(outbuf_add(&out, first));
    outbuf_open(&out, &b, s, first);
    for (int i = 0; i < 3; i++)
        assert_true(outbuf_add(&out, pop(&blocks).first));
    assert_true(lf_stack_is_empty(&s->remote));
    outbuf_flush(&out, &b);
    assert_false(lf_stack_is_empty(&s->remote));
    assert_ptr_equal(owned_find(&a, CLASS), s);
    assert_int_equal(slab_used(s), 60);
    assert_false(outbuf_add(&out, blocks)); /* the slot is closed */
    outbuf_leave(&out);
    free_rest(&a, s, blocks);
    owned_disown_all(&a);
}

/* A chain of so many blocks, and no more. */
static void gather(struct outbuf *out, int count)
{
    struct block *blocks;
    struct slab *s = use_up(&a, SMALL, &blocks);
    owned_disown_all(&a);
    outbuf_open(out, &b, s, pop(&blocks).first);
    for (int i = 1; i < count; i++)
        assert_true(outbuf_add(out, pop(&blocks).first));
    outbuf_flush(out, &b);
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* One that is alone has the most slots, many have the least each. */
static void test_many_out_buffers_have_fewer_slots_each(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    static struct outbuf out[COUNT];
    for (int i = 0; i < COUNT; i++) {
        for (int k = 0; k < 3; k++)
            gather(&out[i], 4);
        gather(&out[0], 4);
        assert_int_equal(out[i].last_slot + 1, i == 0 ? 1024 : i == 1 ? 512 : 256);
        assert_int_equal(out[0].last_slot, out[i].last_slot);
    }
    for (int i = 1; i < COUNT; i++)
        outbuf_leave(&out[i]);
    gather(&out[0], 4);
    gather(&out[0], 4);
    assert_int_equal(out[0].last_slot, 1023);
    outbuf_leave(&out[0]);
}

/* Chains that are long need no more, and of those of one block more slots make no longer ones. */
static void test_an_out_buffer_grows_where_chains_are_short(void **state)
{
    (void)state;
    static struct outbuf out;
    static const int lengths[] = {7, 7, 8, 2, 16, 7, 7, 1, 2, 7};
    static const uint32_t slots[] = {512, 1024, 256, 512, 256, 512, 1024, 256, 512, 1024};
    for (int i = 0; i < 10; i++) {
        gather(&out, lengths[i]);
        assert_int_equal(out.last_slot + 1, slots[i]);
    }
    outbuf_flush(&out, &b);
    assert_int_equal(out.last_slot, 0); /* nothing was in it: it is not in use any more */
}

static void free_by(struct outbuf *out, struct slab *s, struct block *p)
{
    if (outbuf_add(out, p) || outbuf_start(out, slab_class(s), p))
        return;
    outbuf_open(out, &b, s, p);
    outbuf_tick(out, &b);
}

/* More slabs than there are slots. */
#define STRUCTURE 1200

/* All of them nobody's, for b only to free. */
static void abandon_structure(struct slab **slabs, struct block **blocks)
{
    for (int i = 0; i < STRUCTURE; i++)
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
    owned_disown_all(&a);
    owned_set_none(&b, CLASS, true);
}

/* Each slab once in as many steps, and neighbours far apart. */
static int here_and_there(int step)
{
    return step * 787 % STRUCTURE;
}

static int count_free(struct slab **slabs, int count)
{
    int free = 0;
    for (int i = 0; i < count; i++)
        free += owner_of(slabs[i]) == SLAB_FREE;
    return free;
}

/* One thread drops a structure in more slabs than there are slots, here and there by turns: blocks
 * go by themselves, and few wait when it ends, though no more is freed and nothing flushed. */
static void test_a_large_structure_is_dropped(void **state)
{
    (void)state;
    enum { BLOCKS = 64 };
    static struct outbuf out;
    static struct slab *slabs[STRUCTURE];
    static struct block *blocks[STRUCTURE];
    int scattered = 0;
    abandon_structure(slabs, blocks);
    for (int k = 0; k < BLOCKS; k++)
        for (int n = 0; n < STRUCTURE; n++) {
            int i = here_and_there(n);
            free_by(&out, slabs[i], pop(&blocks[i]).first);
            scattered += out.scatters;
            assert_true(!out.scatters || out.last_slot + 1 == OUT_SLOTS_MOST);
        }
    assert_true(scattered > STRUCTURE * BLOCKS / 2 && out.scatters);
    assert_in_range(count_free(slabs, STRUCTURE), STRUCTURE - OUT_WAITING, STRUCTURE);
    outbuf_flush(&out, &b);
    assert_all_free(slabs, STRUCTURE);
    assert_false(out.scatters); /* slots are tried again */
    outbuf_flush(&out, &b);
    assert_int_equal(out.last_slot, 0);
}

/* When slots are used again, none is left of those that waited, though some chain is sent off in
 * every round. */
static void test_none_waits_where_slots_are_used(void **state)
{
    (void)state;
    enum { OTHERS = 8 };
    static struct outbuf out;
    static struct slab *slabs[STRUCTURE];
    static struct block *blocks[STRUCTURE];
    bool scattered = false;
    abandon_structure(slabs, blocks);
    for (int n = 0; n < 40 * STRUCTURE; n++) {
        int i = here_and_there(n);
        if (scattered && !out.scatters)
            i = n % OTHERS; /* from now on few slabs, in long chains */
        scattered |= out.scatters;
        assert_true(out.scatters || out.waiting == 0);
        if (blocks[i] != NULL)
            free_by(&out, slabs[i], pop(&blocks[i]).first);
        else
            outbuf_tick(&out, &b);
    }
    assert_true(scattered);
    outbuf_flush(&out, &b);
    outbuf_leave(&out);
    for (int i = 0; i < STRUCTURE; i++)
        free_rest(&b, slabs[i], blocks[i]);
    assert_all_free(slabs, STRUCTURE);
}

/* A child of a fork finds it as it was between two sweeps. */
static void test_mending_starts_a_round(void **state)
{
    (void)state;
    static struct outbuf out;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    owned_disown_all(&a);
    outbuf_open(&out, &b, s, pop(&blocks).first);
    out.swept = OUT_SLOTS_MOST;
    outbuf_mend(&out);
    assert_int_equal(out.swept, 0);
    outbuf_flush(&out, &b);
    outbuf_leave(&out);
    free_rest(&b, s, blocks);
    assert_all_free(&s, 1);
}

/* What is in a slot that is not the block's any more is sent off all the same. */
static void test_an_out_buffer_may_change_with_blocks_in_it(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct outbuf out;
    static struct slab *slabs[COUNT];
    static struct block *blocks[COUNT];
    for (int i = 0; i < COUNT; i++)
        slabs[i] = use_up(&a, CLASS, &blocks[i]);
    for (int i = 0; i < COUNT; i++)
        outbuf_open(&out, &b, slabs[i], pop(&blocks[i]).first);
    assert_int_equal(out.last_slot, OUT_SLOTS_LEAST - 1);
    out.last_slot = OUT_SLOTS_MOST - 1;
    for (int i = 0; i < COUNT; i++) {
        struct block *p = pop(&blocks[i]).first;
        if (!outbuf_add(&out, p))
            outbuf_open(&out, &b, slabs[i], p);
    }
    outbuf_flush(&out, &b);
    outbuf_leave(&out);
    for (int i = 0; i < COUNT; i++)
        free_rest(&b, slabs[i], blocks[i]);
    assert_all_free(slabs, COUNT);
}

/* Who only frees owns nothing: a full slab becomes SHARED, a SHARED one stays so, and an empty one
 * is FREE. */
static void test_who_only_frees_leaves_the_slab(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = abandon(&blocks);
    owned_set_none(&b, CLASS, true);
    owned_push_remote(&b, s, pop(&blocks));
    assert_true(owner_of(s) == SLAB_SHARED && owned_count(&b) == 0);
    assert_int_equal(registry_word(s->base), unit_word(0, CLASS));
    owned_push_remote(&b, s, pop(&blocks));
    assert_true(owner_of(s) == SLAB_SHARED && s->free_count == 2);
    assert_ptr_equal(owned_find(&a, CLASS), s);
    owned_push_remote(&b, s, pop(&blocks));
    assert_true(owned_has(&a, s) && !lf_stack_is_empty(&s->remote));
    struct chain two = owned_take(&a, s);
    assert_int_equal(two.count, 2);
    owned_disown_all(&a);
    assert_true(owner_of(s) == SLAB_SHARED && lf_stack_is_empty(&s->remote));
    free_rest(&b, s, blocks);
    assert_int_equal(slab_used(s), 2);
    owned_push_remote(&b, s, two);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* Not even what it claims, as after a look into the stacks of another class. */
static void test_who_only_frees_claims_for_others(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = share(&blocks);
    owned_set_none(&b, CLASS, true);
    remote_push_ownerless(s, pop(&blocks));
    assert_true(owned_claim(&b, s));
    assert_true(owner_of(s) == SLAB_SHARED && owned_count(&b) == 0 && s->free_count == 2);
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* What it has of the class, it gives up. */
static void test_who_only_frees_from_now_on_owns_nothing(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = use_up(&a, CLASS, &blocks);
    owned_push_remote(&b, s, pop(&blocks));
    owned_set_none(&a, CLASS, true);
    assert_true(owner_of(s) == SLAB_SHARED && owned_count(&a) == 0);
    owned_set_none(&a, CLASS, false);
    free_rest(&a, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* With its block out it is nobody's, whoever took it; and with that freed it is FREE, whoever frees
 * it. */
static void test_nobody_owns_a_slab_of_one_block(void **state)
{
    (void)state;
    enum { WHOLE = SIZE_CLASS_COUNT - 1 };
    for (int by_another = 0; by_another < 2; by_another++) {
        struct slab *s = owned_find(&a, WHOLE);
        struct chain chain = owned_take(&a, s);
        assert_int_equal(chain.count, 1);
        assert_true(owner_of(s) == SLAB_UNOWNED && owned_count(&a) == 0);
        assert_int_equal(registry_word(s->base), unit_word(0, WHOLE));
        owned_push_remote(by_another ? &b : &a, s, chain);
        assert_true(owner_of(s) == SLAB_FREE && owned_count(&a) + owned_count(&b) == 0);
    }
}

/* `count` slabs become SHARED, each with one block free. */
static void share_many(unsigned class_no, struct slab **slabs, struct block **blocks, int count)
{
    for (int i = 0; i < count; i++)
        slabs[i] = use_up(&a, class_no, &blocks[i]);
    for (int i = 0; i < count; i++)
        owned_push_remote(&a, slabs[i], pop(&blocks[i]));
    owned_disown_all(&a);
}

static void empty_many(struct slab **slabs, struct block **blocks, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(owner_of(slabs[i]), SLAB_SHARED);
        free_rest(&b, slabs[i], blocks[i]);
    }
    assert_all_free(slabs, count);
}

static int count_found(unsigned class_no, int most)
{
    int found = 0;
    for (struct slab *s; found < most && (s = shared_pop(class_no)) != NULL;)
        found += slab_class(s) == class_no && owner_of(s) == SLAB_SHARED;
    return found;
}

/* Where two classes are not used any more, but the descriptors are linked under both, slabs of a
 * third are found all the same, once a few were made; and so are slabs of those two that are SHARED
 * still. */
static void test_links_of_classes_out_of_use_are_cleared(void **state)
{
    (void)state;
    enum { COUNT = 20, FIRST_FEW = 5, THIRD = 15 };
    struct slab *slabs[COUNT + 1], *still;
    struct block *blocks[COUNT + 1], *rest;
    owned_set_none(&b, CLASS, true);
    owned_set_none(&b, SMALL, true);
    share_many(CLASS, slabs, blocks, COUNT + 1);
    still = slabs[COUNT];
    rest = blocks[COUNT];
    empty_many(slabs, blocks, COUNT);
    share_many(SMALL, slabs, blocks, COUNT);
    empty_many(slabs, blocks, COUNT);
    share_many(THIRD, slabs, blocks, COUNT);
    assert_in_range(count_found(THIRD, COUNT), COUNT - FIRST_FEW, COUNT);
    assert_int_equal(count_found(CLASS, COUNT), 1);
    empty_many(slabs, blocks, COUNT);
    empty_many(&still, &rest, 1);
}

/* It comes again if it takes half of what it returns, of late. */
static void test_who_comes_again(void **state)
{
    (void)state;
    assert_false(owned_returns(&a, 1));
    owned_takes(&a, 1);
    assert_true(owned_returns(&a, 1));
    assert_false(owned_returns(&a, 1));
    owned_takes(&a, 1000000);
    assert_true(owned_returns(&a, 1));
    for (int i = 0; i < 1000; i++)
        owned_returns(&a, 1000);
    assert_false(owned_returns(&a, 1));
    owned_takes(&a, 4000);
    owned_begin(&a); /* another thread's now */
    assert_false(owned_returns(&a, 1));
}

/* Of what is free, else of what was not cut yet; by whichever heap comes. */
static void test_a_slab_of_which_few_are_taken_goes_on(void **state)
{
    (void)state;
    struct slab *s = owned_find(&a, CLASS);
    struct chain first = owned_take_few(&a, s, 0);
    assert_int_equal(first.count, 1);
    assert_true(owner_of(s) == SLAB_SHARED && owned_count(&a) == 0);
    assert_ptr_equal(owned_find(&b, CLASS), s);
    struct chain second = owned_take_few(&b, s, 0);
    assert_ptr_equal(second.first, (char *)first.first + 1024);
    assert_int_equal(slab_used(s), 2);
    assert_ptr_equal(owned_find(&a, CLASS), s);
    owned_put(&a, s, first);
    owned_put(&a, s, second);
    assert_true(owner_of(s) == SLAB_FREE);
}

static void test_few_leave_the_rest_of_the_free_list(void **state)
{
    (void)state;
    struct slab *s = owned_find(&a, 0);
    struct chain all = owned_take(&a, s);
    struct block *kept = pop(&all.first).first;
    all.count--;
    owned_put(&a, s, all);
    struct chain few = owned_take_few(&a, owned_find(&a, 0), 0);
    assert_int_equal(few.count, 32);
    assert_null(chain_last(few)->next);
    assert_ptr_equal(owned_find(&b, 0), s);
    assert_int_equal(s->free_count, all.count - few.count);
    assert_ptr_equal(s->free_last, chain_last(all));
    owned_put(&b, s, few);
    owned_put(&b, s, chain_of_one(kept));
    assert_true(owner_of(s) == SLAB_FREE);
}

static uint32_t count_few(unsigned class_no, unsigned doubled)
{
    struct slab *s = owned_find(&b, class_no);
    struct chain few = owned_take_few(&b, s, doubled);
    owned_push_remote(&b, s, few);
    return few.count;
}

/* Half a KiB, or about as much, and four or one of what is large; walked is no more than 32. */
static void test_few_are_doubled(void **state)
{
    (void)state;
    const uint32_t of_kib[] = {1, 1, 1, 4}, of_16[] = {32, 64, 128, 256};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(count_few(CLASS, i), of_kib[i]);
        assert_int_equal(count_few(0, i), of_16[i]);
    }
    struct slab *s = owned_find(&b, 0);
    struct chain most = owned_take_few(&b, s, 6);
    struct chain rest = {most.first->next, most.last, most.count - 1};
    owned_push_remote(&b, s, rest);
    assert_int_equal(count_few(0, 3), 32);
    owned_push_remote(&b, s, chain_of_one(most.first));
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* It has the slab until it has taken from it; the word says that it is nobody's all the time. */
static void test_who_owns_none_takes_from_what_is_shared(void **state)
{
    (void)state;
    struct block *blocks;
    struct slab *s = share(&blocks);
    owned_set_none(&b, CLASS, true);
    assert_ptr_equal(owned_find(&b, CLASS), s);
    assert_true(owned_has(&b, s));
    assert_int_equal(registry_word(s->base), unit_word(0, CLASS));
    struct chain few = owned_take_few(&b, s, 0);
    assert_true(owner_of(s) == SLAB_UNOWNED && owned_count(&b) == 0);
    assert_int_equal(registry_word(s->base), unit_word(0, CLASS));
    owned_push_remote(&b, s, few);
    assert_int_equal(owner_of(s), SLAB_SHARED);
    free_rest(&b, s, blocks);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* Freed blocks go where they belong, and then all of them are free. */
static void free_few(struct slab *s, struct block *rest, struct chain few)
{
    owned_push_remote(&a, s, few);
    free_rest(&a, s, rest);
    assert_int_equal(owner_of(s), SLAB_FREE);
}

/* What it finds has come to be full, or of another class of which it owns none: the two at the
 * bottom of the stack, of which the first four lose their first link when the descriptor comes to
 * be of the other class. */
static void test_who_owns_none_keeps_no_slab_that_it_can_not_use(void **state)
{
    (void)state;
    enum { COUNT = 8, OTHER = 6, FULL = 7, TWICE = 4 };
    struct slab *slabs[COUNT];
    struct block *blocks[COUNT], *others;
    share_many(CLASS, slabs, blocks, COUNT);
    assert_true(owned_claim(&a, slabs[FULL]));
    struct chain last = owned_take(&a, slabs[FULL]), few[3];
    owned_disown_all(&a);
    free_rest(&a, slabs[OTHER], blocks[OTHER]);
    assert_ptr_equal(use_up(&a, SMALL, &others), slabs[OTHER]);
    owned_push_remote(&a, slabs[OTHER], pop(&others));
    owned_disown_all(&a);
    owned_set_none(&b, CLASS, true);
    owned_set_none(&b, SMALL, true);
    for (int i = 0; i < 3; i++) {
        struct slab *s = owned_find(&b, CLASS);
        assert_ptr_equal(s, slabs[i < 2 ? TWICE + i : 0]);
        few[i] = owned_take_few(&b, s, 0);
        assert_int_equal(owned_count(&b), 0);
    }
    assert_int_equal(owner_of(slabs[FULL]), SLAB_UNOWNED);
    assert_int_equal(owner_of(slabs[OTHER]), SLAB_SHARED);
    free_few(slabs[FULL], blocks[FULL], last);
    for (int i = 0; i < 3; i++)
        free_few(slab_of(few[i].first), blocks[i < 2 ? TWICE + i : 0], few[i]);
    free_rest(&a, slabs[OTHER], others);
    for (int i = 1; i < TWICE; i++)
        free_rest(&a, slabs[i], blocks[i]);
    assert_all_free(slabs, COUNT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, reset)
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_slab_is_free),
        TEST(test_pages_come_ahead_of_cuts),
        TEST(test_a_full_slab_is_given_up_and_claimed_by_a_free),
        TEST(test_a_partly_free_slab_is_shared_and_found),
        TEST(test_a_shared_slab_is_linked_once),
        TEST(test_a_linked_slab_may_change_its_class),
        TEST(test_a_descriptor_is_in_two_stacks),
        TEST(test_a_linked_slab_is_found_under_its_new_class),
        TEST(test_giving_up_takes_over_what_was_pushed),
        TEST(test_a_push_claims_what_nobody_owns),
        TEST(test_a_push_without_a_heap_is_found),
        TEST(test_remote_frees_are_found_by_the_owner),
        TEST(test_what_a_heap_keeps_is_bounded),
        TEST(test_one_block_changes_no_list),
        TEST(test_who_has_its_fill_claims_no_more),
        TEST(test_no_block_goes_back_just_so_beyond_the_bounds),
        TEST(test_what_others_freed_comes_with_ones_own),
        TEST(test_the_oldest_is_looked_at),
        TEST(test_what_is_not_wanted_any_more_goes_by_and_by),
        TEST(test_who_is_undisturbed_owns_much),
        TEST(test_who_is_undisturbed_learns_to_keep_full_ones),
        TEST(test_what_others_gave_up_teaches_nothing),
        TEST(test_full_ones_are_looked_at),
        TEST(test_what_waits_for_an_owner_is_counted),
        TEST(test_what_is_claimed_for_a_few_blocks_is_bounded),
        TEST(test_who_owns_too_many_gives_some_up),
        TEST(test_the_bound_grows_with_use),
        TEST(test_who_allocates_much_claims_none),
        TEST(test_the_out_buffer_is_bounded_and_loses_nothing),
        TEST(test_all_slots_are_flushed_in_turn),
        TEST(test_a_quiet_round_leaves_nothing_behind),
        TEST(test_gathered_frees_are_one_chain),
        TEST(test_many_out_buffers_have_fewer_slots_each),
        TEST(test_an_out_buffer_grows_where_chains_are_short),
        TEST(test_a_large_structure_is_dropped),
        TEST(test_none_waits_where_slots_are_used),
        TEST(test_mending_starts_a_round),
        TEST(test_an_out_buffer_may_change_with_blocks_in_it),
        TEST(test_who_only_frees_leaves_the_slab),
        TEST(test_who_only_frees_claims_for_others),
        TEST(test_who_only_frees_from_now_on_owns_nothing),
        TEST(test_nobody_owns_a_slab_of_one_block),
        TEST(test_links_of_classes_out_of_use_are_cleared),
        TEST(test_who_comes_again),
        TEST(test_a_slab_of_which_few_are_taken_goes_on),
        TEST(test_few_leave_the_rest_of_the_free_list),
        TEST(test_few_are_doubled),
        TEST(test_who_owns_none_takes_from_what_is_shared),
        TEST(test_who_owns_none_keeps_no_slab_that_it_can_not_use),
        TEST(test_blocks_go_out_by_address),
        TEST(test_a_slab_has_a_list_and_marks),
        TEST(test_a_block_that_is_freed_twice_is_seen),
    };
    return RUN_TESTS(tests);
}
