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

# One command copies all, and one process compiles all, as CTK's macros do; what was copied before and is the same stays.
function(_slicer_copy_listed outputs_variable target_folder kind)
  set(outputs)
  set(sources)
  set(steps)
  foreach(entry IN LISTS ARGN)
    set(copied "${target_folder}/${entry}")
    list(APPEND outputs "${copied}")
    list(APPEND sources "${CMAKE_CURRENT_SOURCE_DIR}/${entry}")
    string(APPEND steps "configure_file([=[${CMAKE_CURRENT_SOURCE_DIR}/${entry}]=] [=[${copied}]=] COPYONLY)\n")
  endforeach()
  set(steps_file "${CMAKE_CURRENT_BINARY_DIR}/${MODULE_NAME}-copy-${kind}.cmake")
  file(WRITE "${steps_file}" "${steps}")
  set(compile_command)
  if(kind STREQUAL "scripts")
    set(list_file "${CMAKE_CURRENT_BINARY_DIR}/${MODULE_NAME}-scripts.txt")
    string(REPLACE ";" "\n" lines "${outputs}")
    file(WRITE "${list_file}" "${lines}")
    set(compile_command COMMAND "${Python3_EXECUTABLE}" "${Slicer_CMAKE_DIR}/byte_compile.py" "${list_file}")
  endif()
  if(outputs)
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND "${CMAKE_COMMAND}" -P "${steps_file}"
      ${compile_command}
      DEPENDS ${sources}
      COMMENT "Copying the ${kind} of ${MODULE_NAME}"
      VERBATIM)
  endif()
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
  _slicer_copy_listed(copied_scripts "${folder}" scripts ${scripts})
  _slicer_copy_listed(copied_resources "${folder}" resources ${MODULE_RESOURCES})
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
