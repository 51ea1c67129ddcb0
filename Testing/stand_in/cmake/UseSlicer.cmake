# Included by an extension after find_package(Slicer): defaults, tests, macros.
if(NOT DEFINED EXTENSION_NAME)
  set(EXTENSION_NAME "${PROJECT_NAME}")
endif()
include(CTest)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
include("${Slicer_CMAKE_DIR}/SlicerMacroBuildScriptedModule.cmake")
include("${Slicer_CMAKE_DIR}/SlicerPythonTests.cmake")
