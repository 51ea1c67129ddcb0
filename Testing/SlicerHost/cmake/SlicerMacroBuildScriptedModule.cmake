# Copies the listed files of a scripted module, keeping sub-paths, byte-compiles them and installs the whole folder.

function(_slicer_check_listed kind entry)
  if(IS_ABSOLUTE "${entry}")
    message(FATAL_ERROR "${kind}: absolute path '${entry}' breaks the target path")
  endif()
  if("${entry}" MATCHES "(^|/)\\.\\.(/|$)")
    message(FATAL_ERROR "${kind}: '${entry}' leaves the folder of the module")
  endif()
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${entry}")
    message(FATAL_ERROR "${kind}: listed file '${CMAKE_CURRENT_SOURCE_DIR}/${entry}' does not exist")
  endif()
endfunction()

function(_slicer_copy_listed outputs_variable target_folder compile)
  set(outputs)
  foreach(entry IN LISTS ARGN)
    set(copied "${target_folder}/${entry}")
    set(compile_command)
    if(compile)
      set(compile_command COMMAND "${Python3_EXECUTABLE}" "${Slicer_CMAKE_DIR}/byte_compile.py" "${copied}")
    endif()
    add_custom_command(
      OUTPUT "${copied}"
      COMMAND "${CMAKE_COMMAND}" -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${entry}" "${copied}"
      ${compile_command}
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${entry}"
      VERBATIM)
    list(APPEND outputs "${copied}")
  endforeach()
  set(${outputs_variable} "${outputs}" PARENT_SCOPE)
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown keywords given [${MODULE_UNPARSED_ARGUMENTS}]")
  endif()
  if(NOT MODULE_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME is mandatory")
  endif()
  set(scripts)
  foreach(script IN LISTS MODULE_SCRIPTS)
    if(NOT script MATCHES "\\.py$")
      string(APPEND script ".py")
    endif()
    _slicer_check_listed("script" "${script}")
    list(APPEND scripts "${script}")
  endforeach()
  foreach(resource IN LISTS MODULE_RESOURCES)
    _slicer_check_listed("resource" "${resource}")
  endforeach()

  set(folder "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  if(MODULE_WITH_SUBDIR)
    string(APPEND folder "/${MODULE_NAME}")
  endif()
  _slicer_copy_listed(copied_scripts "${folder}" TRUE ${scripts})
  _slicer_copy_listed(copied_resources "${folder}" FALSE ${MODULE_RESOURCES})
  add_custom_target(${MODULE_NAME} ALL DEPENDS ${copied_scripts} ${copied_resources})
  install(
    DIRECTORY "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries
    USE_SOURCE_PERMISSIONS)
  if(BUILD_TESTING AND MODULE_WITH_GENERIC_TESTS)
    slicerMacroConfigureGenericPythonModuleTests("${MODULE_NAME}")
  endif()
endfunction()
