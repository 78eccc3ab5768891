# liburcu's urcu-bp flavour. The shared library: its static archive is not position-independent.
find_path(URCU_INCLUDE_DIR urcu/urcu-bp.h)
find_library(URCU_BP_LIBRARY NAMES liburcu-bp.so)
if(NOT URCU_INCLUDE_DIR OR NOT URCU_BP_LIBRARY)
  message(FATAL_ERROR "urcu/urcu-bp.h or liburcu-bp.so was not found: install liburcu (Debian: liburcu-dev)")
endif()
add_library(urcu-bp INTERFACE)
target_include_directories(urcu-bp SYSTEM INTERFACE ${URCU_INCLUDE_DIR})
target_link_libraries(urcu-bp INTERFACE ${URCU_BP_LIBRARY})
