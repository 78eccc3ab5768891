/*
 * test_semantics.c: the C library's interface, to the letter. Built on the C library's own names
 * and run under the preload, and once more linked with libhakmem.a.
 */
#include "testing.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t sizes[] = {0,       1,       8,
                               15,      16,      17,
                               100,     1000,    1024,
                               1025,    4096,    32768,
                               32769,   65536,   65537,
                               262144,  1 << 20, (1 << 20) + 1,
                               3 << 20, 5 << 20, (64 << 20) + 4097};
#define SIZES (sizeof sizes / sizeof sizes[0])

static size_t opaque(size_t n)
{
    OPAQUE(n);
    return n;
}

static void test_hakmem_is_there(void **state)
{
    (void)state;
    assert_non_null(dlsym(RTLD_DEFAULT, "hak_malloc"));
    Dl_info mine, theirs;
    assert_true(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &mine) != 0);
    assert_true(dladdr(dlsym(RTLD_DEFAULT, "hak_malloc"), &theirs) != 0);
    assert_ptr_equal(mine.dli_fbase, theirs.dli_fbase);
}

static void test_every_size_is_aligned_and_usable(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = malloc(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(malloc_usable_size(p) >= sizes[i]);
        memset(p, 0x5a, malloc_usable_size(p));
        free(p);
    }
}

static void test_slack_is_bounded(void **state)
{
    (void)state;
    for (size_t n = 128; n <= 32768; n += 16) {
        void *p = malloc(n);
        assert_true(malloc_usable_size(p) <= n + n / 4);
        free(p);
    }
}

static void test_zero_sizes_are_unique(void **state)
{
    (void)state;
    void *a = malloc(opaque(0)), *b = malloc(opaque(0)), *c = calloc(opaque(0), 8);
    void *d = aligned_alloc(64, opaque(0));
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_non_null(d);
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(b, c);
    assert_ptr_not_equal(c, d);
    free(a);
    free(b);
    free(c);
    free(d);
}

static void test_too_large(void **state)
{
    (void)state;
    const size_t bad[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4096,
                          PTRDIFF_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        assert_null(malloc(opaque(bad[i])));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(calloc(1, opaque(bad[i])));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(aligned_alloc(64, opaque(bad[i])));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(valloc(opaque(bad[i])));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(pvalloc(opaque(bad[i])));
        assert_int_equal(errno, ENOMEM);
    }
}

static void test_overflowing_products(void **state)
{
    (void)state;
    void *p = malloc(100);
    memset(p, 7, 100);
    errno = 0;
    assert_null(calloc(opaque(SIZE_MAX / 2), 3)); /* wraps to more than there can be */
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(calloc(opaque(SIZE_MAX / 2 + 2), 2)); /* wraps to 2 */
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(reallocarray(p, opaque(SIZE_MAX / 2), 3));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(reallocarray(p, opaque(SIZE_MAX / 2 + 51), 2)); /* wraps to 100 */
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(((char *)p)[99], 7);
    p = reallocarray(p, 50, 4);
    assert_int_equal(((char *)p)[99], 7);
    free(p);
}

static void test_realloc_failure_keeps_the_block(void **state)
{
    (void)state;
    for (size_t i = 1; i < SIZES; i++) {
        char *p = malloc(sizes[i]);
        memset(p, 0x42, sizes[i]);
        errno = 0;
        assert_null(realloc(p, opaque(SIZE_MAX - 100)));
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(p[0], 0x42);
        assert_int_equal(p[sizes[i] - 1], 0x42);
        free(p);
    }
}

static void fill(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 97)
        p[i] = (unsigned char)(i / 97);
}

static bool is_filled(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 97)
        if (p[i] != (unsigned char)(i / 97))
            return false;
    return true;
}

static void test_realloc_between_all_sizes(void **state)
{
    (void)state;
    for (size_t i = 1; i < SIZES; i++)
        for (size_t j = 1; j < SIZES; j++) {
            unsigned char *p = malloc(sizes[i]);
            fill(p, sizes[i]);
            p = realloc(p, sizes[j]);
            assert_non_null(p);
            assert_true(malloc_usable_size(p) >= sizes[j]);
            assert_true(is_filled(p, sizes[i] < sizes[j] ? sizes[i] : sizes[j]));
            free(p);
        }
}

static void test_realloc_leaves_the_smallest_where_it_is(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 16; n++) {
        char *p = malloc(16);
        uintptr_t before = (uintptr_t)p;
        p = realloc(p, n);
        assert_int_equal((uintptr_t)p, before);
        free(p);
    }
}

static void test_realloc_null_and_zero(void **state)
{
    (void)state;
    char *p = realloc(NULL, 10);
    assert_non_null(p);
    assert_null(realloc(p, opaque(0)));
    void *q = realloc(NULL, opaque(0));
    assert_non_null(q);
    free(q);
}

static void test_realloc_grows_a_whale_without_copying(void **state)
{
    (void)state;
    size_t n = 8 << 20;
    char *p = malloc(n);
    void *fence = malloc(n);
    for (int i = 0; i < 12; i++) {
        p[0] = (char)i;
        p[n - 1] = (char)i;
        char *q = realloc(p, n + (4 << 20));
        assert_non_null(q);
        assert_int_equal(q[0], i);
        assert_int_equal(q[n - 1], i);
        p = q;
        n += 4 << 20;
    }
    p = realloc(p, 2 << 20);
    assert_int_equal(p[0], 11);
    free(p);
    free(fence);
}

/* In small steps and large ones, again and again, into what was freed before. */
static void test_realloc_grows_into_what_was_freed(void **state)
{
    (void)state;
    for (size_t step = 2; step <= 32; step *= 2) {
        size_t n = 100000;
        unsigned char *p = memset(malloc(n), 1, n);
        for (unsigned char mark = 2; n < 12u << 20; mark++) {
            size_t longer = n + n / step;
            p = realloc(p, longer);
            assert_non_null(p);
            assert_true(malloc_usable_size(p) >= longer);
            assert_int_equal(p[0], 1);
            assert_int_equal(p[n - 1], mark - 1);
            memset(p + n, mark, longer - n);
            n = longer;
        }
        unsigned char *exact = realloc(p, n - 5000);
        assert_int_equal(exact[n - 5001], exact[n - 6000]);
        free(exact);
    }
}

static void test_calloc_zeroes_reused_memory(void **state)
{
    (void)state;
    for (size_t i = 1; i < SIZES; i++) {
        for (int round = 0; round < 3; round++) {
            char *p = malloc(sizes[i]);
            memset(p, 0xff, sizes[i]);
            free(p);
            char *q = calloc(1, sizes[i]);
            for (size_t k = 0; k < sizes[i]; k++)
                assert_int_equal(q[k], 0);
            free(q);
        }
    }
}

static void test_alignments(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= (size_t)64 << 20; alignment *= 2)
        for (size_t i = 0; i < SIZES; i++) {
            void *p = aligned_alloc(alignment, sizes[i]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % alignment, 0);
            assert_true(malloc_usable_size(p) >= sizes[i]);
            memset(p, 1, sizes[i]);
            free(p);
        }
}

static void test_many_aligned_at_once(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= 8 << 20; alignment *= 2) {
        char *p[64];
        for (int i = 0; i < 64; i++) {
            p[i] = memalign(alignment, 100);
            assert_int_equal((uintptr_t)p[i] % alignment, 0);
            memset(p[i], i, 100);
        }
        for (int i = 0; i < 64; i++) {
            assert_int_equal(p[i][0], i);
            assert_int_equal(p[i][99], i);
            free(p[i]);
        }
    }
}

static void test_bad_alignments(void **state)
{
    (void)state;
    const size_t bad[] = {0, 3, 24, 100, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *p = state;
        errno = 0;
        assert_null(aligned_alloc(opaque(bad[i]), 10));
        assert_int_equal(errno, EINVAL);
        char *rounded = memalign(opaque(bad[i]), 10);
        if (bad[i] == SIZE_MAX)
            assert_null(rounded);
        else
            assert_true(rounded != NULL && (uintptr_t)rounded % (bad[i] < 16 ? 16 : 32) == 0);
        free(rounded);
        errno = 5;
        assert_int_equal(posix_memalign(&p, bad[i], 10), EINVAL);
        assert_ptr_equal(p, state);
        assert_int_equal(errno, 5);
    }
    void *p = state;
    assert_int_equal(posix_memalign(&p, 4, 10), EINVAL);
    assert_ptr_equal(p, state);
    errno = 5;
    assert_int_equal(posix_memalign(&p, (size_t)1 << 62, 10), ENOMEM);
    assert_int_equal(errno, ENOMEM);
    errno = 5;
    assert_int_equal(posix_memalign(&p, 64, opaque(SIZE_MAX - 100)), ENOMEM);
    assert_int_equal(errno, ENOMEM);
    assert_ptr_equal(p, state);
    for (size_t alignment = 1; alignment != 0; alignment *= 2) {
        errno = 5;
        assert_null(memalign(alignment, opaque(SIZE_MAX - 100)));
        assert_int_equal(errno, ENOMEM);
    }
    for (unsigned shift = 62; shift < 64; shift++) {
        errno = 5;
        assert_null(memalign(opaque((size_t)1 << shift), 10));
        assert_int_equal(errno, ENOMEM);
    }
    assert_null(memalign(opaque(((size_t)1 << 63) + 1), 10));
    assert_int_equal(errno, EINVAL);
    errno = 5;
    assert_int_equal(posix_memalign(&p, 8, 10), 0);
    assert_int_equal(errno, 5);
    free(p);
}

static void test_page_functions(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *v = valloc(10), *pv = pvalloc(10), *pv0 = pvalloc(opaque(0));
    assert_int_equal((uintptr_t)v % page, 0);
    assert_int_equal((uintptr_t)pv % page, 0);
    assert_true(malloc_usable_size(pv) >= page);
    assert_non_null(pv0);
    free(v);
    free(pv);
    free(pv0);
}

static void test_every_way_to_free(void **state)
{
    (void)state;
    /* glibc has no such names to link with. */
    void (*cfree)(void *), (*free_sized)(void *, size_t);
    void (*free_aligned_sized)(void *, size_t, size_t);
    *(void **)&cfree = dlsym(RTLD_DEFAULT, "cfree");
    *(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&free_aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    free(NULL);
    cfree(malloc(10));
    free_sized(malloc(10), 10);
    free_sized(NULL, 10);
    free_aligned_sized(aligned_alloc(64, 128), 64, 128);
}

static void test_free_keeps_errno(void **state)
{
    (void)state;
    void *p[SIZES];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < SIZES; i++)
            p[i] = malloc(sizes[i]);
        for (size_t i = 0; i < SIZES; i++) {
            errno = 4711;
            free(p[i]);
            assert_int_equal(errno, 4711);
        }
    }
}

static void test_success_keeps_errno(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        errno = 4711;
        free(malloc(sizes[i]));
        assert_int_equal(errno, 4711);
    }
}

static void test_usable_size_of_null(void **state)
{
    (void)state;
    assert_int_equal(malloc_usable_size(NULL), 0);
}

static void test_no_two_blocks_overlap(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint32_t *p[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        p[i] = malloc(4 + i % 700);
        *p[i] = i;
    }
    for (uint32_t i = 0; i < COUNT; i += 2)
        free(p[i]);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        p[i] = malloc(4 + i % 700);
        *p[i] = i;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(*p[i], i);
        free(p[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hakmem_is_there),
        cmocka_unit_test(test_every_size_is_aligned_and_usable),
        cmocka_unit_test(test_slack_is_bounded),
        cmocka_unit_test(test_zero_sizes_are_unique),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_overflowing_products),
        cmocka_unit_test(test_realloc_failure_keeps_the_block),
        cmocka_unit_test(test_realloc_between_all_sizes),
        cmocka_unit_test(test_realloc_leaves_the_smallest_where_it_is),
        cmocka_unit_test(test_realloc_null_and_zero),
        cmocka_unit_test(test_realloc_grows_a_whale_without_copying),
        cmocka_unit_test(test_realloc_grows_into_what_was_freed),
        cmocka_unit_test(test_calloc_zeroes_reused_memory),
        cmocka_unit_test(test_alignments),
        cmocka_unit_test(test_many_aligned_at_once),
        cmocka_unit_test(test_bad_alignments),
        cmocka_unit_test(test_page_functions),
        cmocka_unit_test(test_every_way_to_free),
        cmocka_unit_test(test_free_keeps_errno),
        cmocka_unit_test(test_success_keeps_errno),
        cmocka_unit_test(test_usable_size_of_null),
        cmocka_unit_test(test_no_two_blocks_overlap),
    };
    return RUN_TESTS(tests);
}
