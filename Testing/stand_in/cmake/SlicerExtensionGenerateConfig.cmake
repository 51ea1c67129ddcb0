# Writes <EXTENSION_NAME>Config.cmake, by which one extension finds another.
if(NOT EXTENSION_NAME)
  message(FATAL_ERROR "EXTENSION_NAME is not set: give the extension a project() name")
endif()
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake"
  "set(${EXTENSION_NAME}_FOUND TRUE)\nset(${EXTENSION_NAME}_SOURCE_DIR \"${CMAKE_SOURCE_DIR}\")\n")
