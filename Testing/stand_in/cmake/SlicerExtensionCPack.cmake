# Writes the extension's description and sets up its package; the mandatory texts must be there.
foreach(variable HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL)
  if(NOT EXTENSION_${variable})
    message(FATAL_ERROR "EXTENSION_${variable} is not set")
  endif()
endforeach()
set(depends "NA")
if(EXTENSION_DEPENDS)
  string(REPLACE ";" " " depends "${EXTENSION_DEPENDS}")
endif()
set(EXTENSION_BUILD_SUBDIRECTORY_OR_DOT ".")
if(EXTENSION_BUILD_SUBDIRECTORY)
  set(EXTENSION_BUILD_SUBDIRECTORY_OR_DOT "${EXTENSION_BUILD_SUBDIRECTORY}")
endif()
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext"
  "scm git\n"
  "depends ${depends}\n"
  "build_subdirectory ${EXTENSION_BUILD_SUBDIRECTORY_OR_DOT}\n"
  "homepage ${EXTENSION_HOMEPAGE}\n"
  "contributors ${EXTENSION_CONTRIBUTORS}\n"
  "category ${EXTENSION_CATEGORY}\n"
  "iconurl ${EXTENSION_ICONURL}\n"
  "status ${EXTENSION_STATUS}\n"
  "description ${EXTENSION_DESCRIPTION}\n"
  "screenshoturls ${EXTENSION_SCREENSHOTURLS}\n"
  "enabled 1\n")
set(CPACK_GENERATOR "TGZ")
set(CPACK_PACKAGE_NAME "${EXTENSION_NAME}")
set(CPACK_PACKAGE_VERSION "${Slicer_VERSION}")
include(CPack)
