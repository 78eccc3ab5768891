# Concurrency Kit, of which hakmem needs the headers only (ck_stack.h is all inline).
find_path(CK_INCLUDE_DIR ck_stack.h)
if(NOT CK_INCLUDE_DIR)
  message(FATAL_ERROR "ck_stack.h was not found: install Concurrency Kit (Debian: libck-dev)")
endif()
add_library(ck INTERFACE)
target_include_directories(ck SYSTEM INTERFACE ${CK_INCLUDE_DIR})
