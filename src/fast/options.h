/*
 * options.h: numbers from the environment, for constructors, and for what may be called before them
 * (dlopen.c).
 *
 * SYNCHRONIZATION: any thread, while none changes the environment.
 */
#ifndef HAK_OPTIONS_H
#define HAK_OPTIONS_H

/* A whole number of 0 to `most`; `otherwise`, with a word on stderr, for anything else. */
long option_number(const char *name, long otherwise, long most);

#endif
