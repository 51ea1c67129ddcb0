# Tests that run inside the application: registered under the application's names, not runnable here.

function(slicerMacroConfigureGenericPythonModuleTests name)
  add_test(
    NAME "py_nomainwindow_qSlicer${name}ModuleGenericTest"
    COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" --no-splash --no-main-window --testing
      --python-code "import slicer.testing; slicer.testing.runUnitTest([], 'qSlicer${name}ModuleGenericTest')")
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicer_add_python_unittest: unknown keywords given [${MY_UNPARSED_ARGUMENTS}]")
  endif()
  if(NOT MY_SCRIPT)
    message(FATAL_ERROR "slicer_add_python_unittest: SCRIPT is mandatory")
  endif()
  get_filename_component(test_name "${MY_SCRIPT}" NAME_WE)
  get_filename_component(test_folder "${MY_SCRIPT}" ABSOLUTE)
  get_filename_component(test_folder "${test_folder}" DIRECTORY)
  add_test(
    NAME "py_${MY_TESTNAME_PREFIX}${test_name}"
    COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" --no-splash --testing ${MY_SLICER_ARGS}
      --python-code "import slicer.testing; slicer.testing.runUnitTest(['${test_folder}'], '${test_name}')")
endfunction()
