/*
 * test_failures.c: memory runs out, and comes back. mmap is this file's own, so that any call of it
 * can be made to fail; and once the kernel refuses for real, under RLIMIT_AS. Linked with
 * libhakmem.a.
 */
#include "testing.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Calls that go through before the next one fails; negative: all do. Then all fail until reset. */
static _Atomic(long) calls_left = -1;
static _Atomic(long) failures;

static volatile bool
    steal_target; /* volatile: libc's functions are declared to call nothing here */
static volatile char *stolen;
static volatile bool refuse_segments;

static bool refuse(void)
{
    long left = atomic_load(&calls_left);
    if (left < 0)
        return false;
    if (left > 0) {
        atomic_fetch_sub(&calls_left, 1);
        return false;
    }
    atomic_fetch_add(&failures, 1);
    errno = ENOMEM;
    return true;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fd == -1 && (refuse() || (refuse_segments && n % (4 << 20) == 0)))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

void *mremap(void *at, size_t old, size_t new, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *to = va_arg(arguments, void *);
    va_end(arguments);
    if (refuse())
        return MAP_FAILED;
    if (steal_target && (flags & MREMAP_FIXED) != 0) {
        /* As the kernel may: it unmaps the target, another thread maps it, and then memory is
         * out. */
        munmap(to, new);
        stolen = (void *)syscall(SYS_mmap, to, 4096, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        *stolen = 77;
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, at, old, new, flags, to);
}

static const size_t sizes[] = {16, 200, 1024, 5000, 32768, 100000, 1 << 20, 3 << 20, 6 << 20};
#define SIZES  (sizeof sizes / sizeof sizes[0])
#define BLOCKS 4000

static void *blocks[BLOCKS];

static size_t allocate_until_refused(size_t n)
{
    size_t count = 0;
    while (count < BLOCKS) {
        errno = 0;
        void *p = malloc(n);
        if (p == NULL) {
            assert_int_equal(errno, ENOMEM);
            break;
        }
        memset(p, (int)count, n < 64 ? n : 64);
        blocks[count++] = p;
    }
    return count;
}

static void check_and_free(size_t count, size_t n)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(*(unsigned char *)blocks[i], i & 255);
        assert_int_equal(((unsigned char *)blocks[i])[(n < 64 ? n : 64) - 1], i & 255);
        free(blocks[i]);
    }
}

/* Each of the first calls of mmap fails in turn, in every tier; then memory is there again. */
static void test_any_mmap_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++)
        for (long k = 0; k < 12; k++) {
            atomic_store(&calls_left, k);
            size_t count = allocate_until_refused(sizes[i]);
            atomic_store(&calls_left, -1);
            void *p = malloc(sizes[i]);
            assert_non_null(p);
            free(p);
            check_and_free(count, sizes[i]);
            malloc_trim(0);
        }
    assert_true(failures > 0);
}

static size_t used(void)
{
    return mallinfo2().uordblks;
}

/* What failed allocations took is not lost: all that is in use afterwards was so before. */
static void test_nothing_is_lost(void **state)
{
    (void)state;
    malloc_trim(0);
    size_t before = used();
    for (int round = 0; round < 50; round++)
        for (size_t i = 0; i < SIZES; i++) {
            atomic_store(&calls_left, round % 4);
            size_t count = allocate_until_refused(sizes[i]);
            atomic_store(&calls_left, -1);
            check_and_free(count, sizes[i]);
        }
    malloc_trim(0);
    assert_true(used() <= before);
}

static void test_realloc_fails_and_keeps(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = malloc(sizes[i]);
        memset(p, 0x77, sizes[i]);
        malloc_trim(0);
        atomic_store(&calls_left, 0);
        char *q = realloc(p, 64 << 20);
        atomic_store(&calls_left, -1);
        assert_null(q);
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(p[0], 0x77);
        assert_int_equal(p[sizes[i] - 1], 0x77);
        q = realloc(p, 64 << 20);
        assert_non_null(q);
        assert_int_equal(q[0], 0x77);
        free(q);
    }
}

static void test_a_failed_move_leaves_the_target_alone(void **state)
{
    (void)state;
    size_t n = 8 << 20;
    char *p = malloc(n);
    memset(p, 0x66, n);
    void *fence =
        mmap(p + n, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    steal_target = true;
    char *q = realloc(p, 64 << 20); /* copies instead */
    steal_target = false;
    assert_non_null(q);
    assert_non_null(stolen);
    assert_int_equal(*stolen, 77);
    assert_int_equal(q[0], 0x66);
    assert_int_equal(q[n - 1], 0x66);
    free(q);
    munmap((void *)stolen, 4096);
    if (fence != MAP_FAILED)
        munmap(fence, 4096);
}

static size_t mapped_bytes(void)
{
    char text[64] = "";
    FILE *statm = fopen("/proc/self/statm", "r");
    assert_non_null(fgets(text, sizeof text, statm));
    fclose(statm);
    return (size_t)atol(text) * 4096;
}

/* So many bytes more than there are now. */
static struct rlimit limit_of(size_t more)
{
    struct rlimit limit;
    malloc_trim(0);
    assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = mapped_bytes() + more;
    return limit;
}

/* A block of several mappings, as the program has advised the system of a part, can't be moved: it
 * is copied, and no address is lost. */
static void test_blocks_that_can_not_be_moved(void **state)
{
    (void)state;
    size_t before = 0;
    for (int i = 0; i < 20; i++) {
        if (i == 4) {
            malloc_trim(0);
            before = mapped_bytes();
        }
        char *p = malloc(8 << 20);
        assert_int_equal(madvise(p, 1 << 20, MADV_DONTDUMP), 0);
        p[(8 << 20) - 1] = 55;
        p = realloc(p, 64 << 20);
        assert_non_null(p);
        assert_int_equal(p[(8 << 20) - 1], 55);
        free(p);
    }
    malloc_trim(0);
    assert_true(mapped_bytes() <= before + (16 << 20));
}

/* Room for a copy but not for a move, of which the kernel counts the new place twice: what was
 * reserved for it is not lost. */
static void test_a_move_beyond_the_limit(void **state)
{
    (void)state;
    struct rlimit before, limit = limit_of(230 << 20);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    char *p = malloc(100 << 20);
    assert_non_null(p);
    p[0] = 44;
    void *fence = mmap(p + (100 << 20), 4096, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *q = realloc(p, 120 << 20);
    int first = q != NULL ? q[0] : 0;
    free(q != NULL ? q : p);
    void *large = malloc(200 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(first, 44);
    assert_non_null(large);
    free(large);
    if (fence != MAP_FAILED)
        munmap(fence, 4096);
}

static long most_mappings(void)
{
    char text[64] = "";
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file != NULL) {
        assert_non_null(fgets(text, sizeof text, file));
        fclose(file);
    }
    return atol(text);
}

enum { MAPPINGS = 70000, PAGE = 4096 };

/* Pages of two kinds by turns, until there may be no more mappings but so many. */
static char *use_up_mappings(int left)
{
    char *pages = mmap(NULL, 2l * MAPPINGS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    int made = 0;
    while (made < MAPPINGS && mprotect(pages + (2l * made + 1) * PAGE, PAGE, PROT_READ) == 0)
        made++;
    for (int i = 0; i < left && i < made; i++)
        mprotect(pages + (2l * (made - i) - 1) * PAGE, PAGE, PROT_NONE);
    return pages;
}

/* Where a mapping can't be split, neither what is mapped for nothing is lost, nor what can't be
 * unmapped. */
static void test_at_the_limit_of_mappings(void **state)
{
    (void)state;
    enum { SLOTS = 12, ROUNDS = 4000, LEFT = 5 };
    char *block[SLOTS] = {NULL};
    unsigned random = 1;
    if (most_mappings() > MAPPINGS)
        skip();
    malloc_trim(0);
    size_t before = mapped_bytes();
    char *pages = use_up_mappings(LEFT);
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 1103515245 + 12345;
        char **at = &block[(random >> 16) % SLOTS];
        free(*at);
        *at = *at != NULL ? NULL
                          : malloc((((random >> 20) % 24 + 2) << 20) -
                                   (random >> 9 & 1) * PAGE * (random >> 10 & 255));
    }
    for (int i = 0; i < SLOTS; i++)
        free(block[i]);
    munmap(pages, 2l * MAPPINGS * PAGE);
    malloc_trim(0);
    assert_true(mapped_bytes() <= before + (16 << 20));
}

/* The middle of a mapping, which would be one more: its addresses stay for the next. */
static void test_what_can_not_be_unmapped_is_not_lost(void **state)
{
    (void)state;
    enum { COUNT = 6, BYTES = 8 << 20 };
    char *block[COUNT];
    int at = 0;
    if (most_mappings() > MAPPINGS)
        skip();
    malloc_trim(0);
    size_t before = mapped_bytes();
    for (int i = 0; i < COUNT; i++)
        block[i] = malloc(BYTES);
    while (++at + 1 < COUNT &&
           (block[at - 1] != block[at] + BYTES || block[at] != block[at + 1] + BYTES))
        continue;
    assert_true(at + 1 < COUNT); /* the system maps downwards: three are neighbours */
    char *pages = use_up_mappings(0);
    free(block[at]);
    malloc_trim(0);
    size_t at_limit = mapped_bytes();
    munmap(pages, 2l * MAPPINGS * PAGE);
    char *again = malloc(BYTES);
    assert_true(at_limit >= before + COUNT * BYTES);
    assert_ptr_equal(again, block[at]);
    for (int i = 0; i < COUNT; i++)
        free(block[i]);
    assert_int_equal(malloc_trim(0), 1);
    assert_true(mapped_bytes() < before + BYTES);
}

/* More than there may be mappings: neighbours are one. */
static void test_very_many_large_blocks(void **state)
{
    (void)state;
    static void *block[MAPPINGS];
    if (most_mappings() > MAPPINGS)
        skip();
    for (int i = 0; i < MAPPINGS; i++)
        block[i] = malloc(4200 << 10);
    int refused = 0;
    for (int i = 0; i < MAPPINGS; i++) {
        refused += block[i] == NULL;
        free(block[i]);
    }
    assert_int_equal(refused, 0);
}

static _Atomic(bool) may_ask;

static void *ask(void *used)
{
    while (!atomic_load(&may_ask))
        usleep(1000);
    *(size_t *)used = mallinfo2().uordblks;
    return NULL;
}

/* More threads than liburcu's arena of readers has room for, and none to be had: they see
 * nothing. */
static void test_statistics_without_memory(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    pthread_t thread[COUNT];
    static size_t used[COUNT];
    struct rlimit before, limit;
    void *block = malloc(100);
    assert_true(mallinfo2().uordblks > 0);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask, &used[i]), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20; /* less than there is: nothing can be mapped */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    atomic_store(&may_ask, true);
    for (int i = 0; i < COUNT; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(used[COUNT - 1], 0);
    assert_true(mallinfo2().uordblks > 0);
    free(block);
}

static void *in_thread(void *argument)
{
    (void)argument;
    void *p = malloc(100);
    if (p == NULL)
        return NULL;
    free(p);
    return (void *)1;
}

/* A thread's first malloc fails, or not, but it can always free what another gave it. */
static void *free_given(void *given)
{
    free(given);
    return NULL;
}

static void test_threads_without_memory(void **state)
{
    (void)state;
    for (long k = 0; k < 6; k++) {
        pthread_t thread;
        void *result;
        void *given = malloc(300);
        assert_int_equal(pthread_create(&thread, NULL, free_given, given), 0);
        atomic_store(&calls_left, k);
        pthread_join(thread, NULL);
        atomic_store(&calls_left, -1);
        assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
        pthread_join(thread, &result);
        assert_non_null(result);
    }
}

static void test_address_space_limit(void **state)
{
    (void)state;
    struct rlimit before, limit = limit_of(48 << 20);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    for (size_t i = 0; i < SIZES; i++) {
        assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
        size_t count = allocate_until_refused(sizes[i]);
        if (sizes[i] * BLOCKS > 64 << 20)
            assert_true(count < BLOCKS && count * sizes[i] > 8 << 20);
        check_and_free(count, sizes[i]);
        void *p = malloc(sizes[i]);
        assert_non_null(p);
        free(p);
        size_t again = allocate_until_refused(sizes[i]);
        assert_true(again >= count - count / 8);
        check_and_free(again, sizes[i]);
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    }
}

static size_t fill_up(void **block, size_t most, size_t bytes)
{
    size_t count = 0;
    while (count < most && (block[count] = malloc(bytes)) != NULL)
        count++;
    return count;
}

/* Segments that are all free don't stand in the way of a block that needs their addresses; one or
 * two that are not do. */
static void test_what_small_blocks_had_a_large_one_may_have(void **state)
{
    (void)state;
    enum { SMALL = 1024, COUNT = (64 << 20) / SMALL };
    static void *small[COUNT];
    struct rlimit before, limit = limit_of(32 << 20);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    size_t count = fill_up(small, COUNT, SMALL);
    assert_true(count >= (24 << 20) / SMALL && count < COUNT);
    size_t most = count * SMALL;
    while (count > 0)
        free(small[--count]);
    void *large = malloc(most - most / 4);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_non_null(large);
    free(large);
}

/* Where there are no addresses for a segment, there may be for the block. */
static void test_a_block_may_have_what_a_segment_can_not(void **state)
{
    (void)state;
    enum { COUNT = 128, BYTES = 1 << 20 };
    void *block[COUNT];
    refuse_segments = true;
    size_t count = fill_up(block, COUNT, BYTES);
    refuse_segments = false;
    assert_int_equal(count, COUNT);
    while (count > 0)
        free(memset(block[--count], 1, BYTES));
}

/* How many there are, at least; their places are NULL. */
static size_t free_every_other(void **block, size_t count)
{
    for (size_t i = 0; i < count; i += 2) {
        free(block[i]);
        block[i] = NULL;
    }
    return count / 2;
}

enum { TWO_MIB = 2 << 20 };

/* So that blocks of 2 MiB are runs, whatever was freed before. */
static void write_to_many(void)
{
    for (int i = 0; i < 150; i++)
        free(memset(malloc(TWO_MIB), 1, TWO_MIB));
}

/* What blocks of 2 MiB had, others may have, and what grows to that, though nothing can be mapped:
 * whether the program writes to them or not. */
static void test_gaps_are_found(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    for (size_t written = 1; written <= TWO_MIB; written *= TWO_MIB) {
        static void *block[COUNT], *more[COUNT];
        write_to_many();
        struct rlimit before, limit = limit_of(128 << 20);
        assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
        assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
        size_t count = fill_up(block, COUNT, TWO_MIB);
        for (size_t i = 0; i < count; i++)
            memset(block[i], 1, written);
        size_t gaps = free_every_other(block, count);
        void *grown = realloc(malloc(1000), TWO_MIB);
        size_t filled = fill_up(more, gaps - 2, TWO_MIB);
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
        assert_true(gaps >= 24);
        assert_non_null(grown);
        assert_int_equal(filled, gaps - 2);
        free(grown);
        for (size_t i = 0; i < count; i++)
            free(block[i]);
        while (filled > 0)
            free(more[--filled]);
    }
}

/* Blocks of a little more than half a segment take as many addresses as they are long. */
static void test_little_is_left_over(void **state)
{
    (void)state;
    enum { COUNT = 200, BYTES = 2200 << 10 };
    static void *block[COUNT];
    struct rlimit before, limit = limit_of(128 << 20);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    size_t count = fill_up(block, COUNT, BYTES);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_in_range(count, (112 << 20) / BYTES, COUNT - 1);
    while (count > 0)
        free(block[--count]);
}

/* Slabs that are half free are found, though many were shared since that are none any more: memory
 * is not out as long as there is a free block of the size. */
static void test_half_free_slabs_are_found(void **state)
{
    (void)state;
    enum {
        BYTES = 1008,
        SLABS = 800,
        COUNT = SLABS * 64,
        HALF_FREE = 128,
        RUNS = 4096,
        REST = COUNT - HALF_FREE
    };
    static const size_t run_bytes[] = {1 << 20, (64 << 10) + 1, 60000};
    static void *block[COUNT], *run[RUNS];
    struct rlimit before, limit;
    size_t runs = 0, found = 0;
    assert_int_equal(fill_up(block, COUNT, BYTES), COUNT);
    for (size_t i = 0; i < COUNT; i += 2)
        free(block[i]);
    malloc_trim(0); /* all are shared: the one that was made first goes last, and is on top */
    for (size_t i = 1; i < REST; i += 2)
        free(block[i]);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20; /* less than there is: nothing can be mapped */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    for (size_t i = 0; i < sizeof run_bytes / sizeof run_bytes[0]; i++)
        runs += fill_up(run + runs, RUNS - runs, run_bytes[i]);
    found = fill_up(block, REST, BYTES);
    void *more = malloc(BYTES);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_true(runs > 0 && found > 0);
    assert_null(more);
    while (found > 0)
        free(block[--found]);
    while (runs > 0)
        free(run[--runs]);
    for (size_t i = REST + 1; i < COUNT; i += 2)
        free(block[i]);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

/* Where four blocks begin that are neighbours. */
static size_t neighbours(void **block, size_t count)
{
    qsort(block, count, sizeof *block, by_address);
    for (size_t i = 0; i + 3 < count; i++)
        if ((char *)block[i + 3] - (char *)block[i] == 3 << 16)
            return i;
    return count;
}

/* What the thread itself keeps may be all that there is. Nothing is dirty, so nothing else is found
 * to be given back. */
static void test_what_the_thread_keeps_a_large_block_may_have(void **state)
{
    (void)state;
    enum { BYTES = 60000, COUNT = 4000, AGAIN = 64 };
    static void *block[COUNT];
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, 0), 1);
    malloc_trim(0);
    size_t count = fill_up(block, AGAIN, BYTES), again = AGAIN;
    atomic_store(&calls_left, 0);
    count += fill_up(block + count, COUNT - count, BYTES);
    for (int round = 0; round < 4; round++) { /* so that the class is in demand, and has a bin */
        for (size_t i = 0; i < again; i++)
            free(block[i]);
        again = fill_up(block, again, BYTES);
    }
    size_t first = neighbours(block, count);
    for (size_t i = first; i < first + 4 && first < count; i++)
        free(block[i]);
    void *large = malloc(4 << 16);
    atomic_store(&calls_left, -1); /* a failed assertion wants memory */
    assert_int_equal(again, AGAIN);
    assert_in_range(count, AGAIN, COUNT - 1);
    assert_true(first < count);
    assert_non_null(large);
    free(large);
    for (size_t i = 0; i < count; i++)
        if (i < first || i >= first + 4)
            free(block[i]);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_mmap_fails),
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_realloc_fails_and_keeps),
        cmocka_unit_test(test_a_failed_move_leaves_the_target_alone),
        cmocka_unit_test(test_blocks_that_can_not_be_moved),
        cmocka_unit_test(test_a_move_beyond_the_limit),
        cmocka_unit_test(test_at_the_limit_of_mappings),
        cmocka_unit_test(test_what_can_not_be_unmapped_is_not_lost),
        cmocka_unit_test(test_very_many_large_blocks),
        cmocka_unit_test(test_statistics_without_memory),
        cmocka_unit_test(test_threads_without_memory),
        cmocka_unit_test(test_address_space_limit),
        cmocka_unit_test(test_what_small_blocks_had_a_large_one_may_have),
        cmocka_unit_test(test_a_block_may_have_what_a_segment_can_not),
        cmocka_unit_test(test_gaps_are_found),
        cmocka_unit_test(test_little_is_left_over),
        cmocka_unit_test(test_half_free_slabs_are_found),
        cmocka_unit_test(test_what_the_thread_keeps_a_large_block_may_have),
    };
    return RUN_TESTS(tests);
}
