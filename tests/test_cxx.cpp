/*
 * test_cxx.cpp: operator new and delete, in all their forms, and how they fail.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <malloc.h>
#include <new>
#include <string>
#include <thread>
#include <vector>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);                   \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

static const std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
static std::size_t opaque(std::size_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n;
}

static void every_form()
{
    const auto a = std::align_val_t(256);
    CHECK(reinterpret_cast<std::uintptr_t>(::operator new(100, a)) % 256 == 0);
    ::operator delete(::operator new(10));
    ::operator delete[](::operator new[](10));
    ::operator delete(::operator new(10), std::size_t(10));
    ::operator delete[](::operator new[](10), std::size_t(10));
    ::operator delete(::operator new(10, std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](10, std::nothrow), std::nothrow);
    ::operator delete(::operator new(10, a), a);
    ::operator delete[](::operator new[](10, a), a);
    ::operator delete(::operator new(10, a), std::size_t(10), a);
    ::operator delete[](::operator new[](10, a), std::size_t(10), a);
    ::operator delete(::operator new(10, a, std::nothrow), a, std::nothrow);
    ::operator delete[](::operator new[](10, a, std::nothrow), a, std::nothrow);
    ::operator delete(nullptr);
}

static bool throws_bad_alloc(void *(*allocate)())
{
    try {
        allocate();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static int handler_calls;
struct own_exception {
};

static void giving_up_handler()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

static void throwing_handler()
{
    throw std::bad_alloc();
}

static void failures()
{
    const auto a = std::align_val_t(64);
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge)); }));
    CHECK(throws_bad_alloc([] { return ::operator new[](opaque(huge)); }));
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge), std::align_val_t(64)); }));
    CHECK(throws_bad_alloc([] { return ::operator new[](opaque(huge), std::align_val_t(64)); }));
    CHECK(::operator new(opaque(huge), std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(huge), std::nothrow) == nullptr);
    CHECK(::operator new(opaque(huge), a, std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(huge), a, std::nothrow) == nullptr);

    std::set_new_handler(giving_up_handler);
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge)); }));
    CHECK(handler_calls == 3);

    std::set_new_handler(throwing_handler);
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge)); }));
    CHECK(::operator new(opaque(huge), std::nothrow) == nullptr);
    std::set_new_handler([] { throw own_exception(); });
    try {
        void *never = ::operator new(opaque(huge));
        CHECK(never == nullptr);
    } catch (const own_exception &) {
    }
    std::set_new_handler(nullptr);
}

static void containers()
{
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; t++)
        threads.emplace_back([] {
            std::vector<std::string> strings;
            for (int i = 0; i < 20000; i++)
                strings.push_back(std::string(static_cast<std::size_t>(i % 300), 'x'));
            for (int i = 0; i < 20000; i++)
                CHECK(strings[static_cast<std::size_t>(i)].size() ==
                      static_cast<std::size_t>(i % 300));
        });
    for (auto &t : threads)
        t.join();
}

int main()
{
    Dl_info mine, theirs;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "_Znwm"), &mine) != 0);
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "hak_malloc"), &theirs) != 0);
    CHECK(mine.dli_fbase == theirs.dli_fbase);
    every_form();
    failures();
    containers();
    std::puts("ok");
    return 0;
}
