/*
 * testing.h: what every test includes, in the order that cmocka wants.
 */
#ifndef TESTING_H
#define TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Keeps the compiler from seeing through an allocation. */
#define OPAQUE(p) __asm__ volatile("" : "+r"(p) : : "memory")

#define RUN_TESTS(tests) cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL)

#endif
