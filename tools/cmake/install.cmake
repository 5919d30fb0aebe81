# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/runnel")
# Two components: development (headers and package files) and tools (the runnel program).
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/runnel" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/runnel")
install(TARGETS runnel EXPORT runnelTargets)
install(EXPORT runnelTargets NAMESPACE runnel:: DESTINATION "${package_dir}")

# Headers that had to be fetched are installed next to ours, so that the installed package needs no network.
get_property(fetched GLOBAL PROPERTY RUNNEL_FETCHED)
set(RUNNEL_BUNDLED "")
set(bundle_root "${CMAKE_INSTALL_INCLUDEDIR}/runnel-bundled")
foreach(name IN LISTS fetched)
  foreach(property IN ITEMS PACKAGE TARGET SOURCE INCLUDE HEADERS LICENSE)
    get_property(${property} GLOBAL PROPERTY RUNNEL_FETCHED_${name}_${property})
  endforeach()
  if(NOT HEADERS)
    continue()  # used by tests or tools only
  endif()
  foreach(folder IN LISTS HEADERS)
    install(DIRECTORY "${SOURCE}/${INCLUDE}/${folder}" DESTINATION "${bundle_root}/${name}" PATTERN "CMakeLists.txt" EXCLUDE)
  endforeach()
  foreach(file IN LISTS LICENSE)
    install(FILES "${SOURCE}/${file}" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/runnel/${name}" OPTIONAL)
  endforeach()
  list(APPEND RUNNEL_BUNDLED ${PACKAGE})
  string(APPEND bundled_flags " -I\${includedir}/runnel-bundled/${name}")
endforeach()

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/runnelConfig.cmake.in" "${PROJECT_BINARY_DIR}/package/runnelConfig.cmake"
  INSTALL_DESTINATION "${package_dir}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
# Until 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/runnelConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
  "${PROJECT_BINARY_DIR}/package/runnelConfig.cmake"
  "${PROJECT_BINARY_DIR}/package/runnelConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/runnel_xsimd.cmake"
  DESTINATION "${package_dir}")

set(pc_requires "")
if(NOT "Eigen3" IN_LIST RUNNEL_BUNDLED)
  list(APPEND pc_requires "eigen3 >= 3.4.0")
endif()
if(NOT "xsimd" IN_LIST RUNNEL_BUNDLED)
  list(APPEND pc_requires "xsimd >= 8.1.0")
endif()
if(NOT "nlohmann_json" IN_LIST RUNNEL_BUNDLED)
  list(APPEND pc_requires "nlohmann_json >= 3.11.2")
endif()
list(JOIN pc_requires ", " RUNNEL_PC_REQUIRES)
# The file finds its prefix from where it lies, so that an installed tree can be moved.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(RUNNEL_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
  set(RUNNEL_PC_INCLUDEDIR "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(RUNNEL_PC_PREFIX "\${pcfiledir}/${up}")
  set(RUNNEL_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
set(RUNNEL_PC_BUNDLED "${bundled_flags}")
set(RUNNEL_PC_OPENMP "${OpenMP_CXX_FLAGS}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/runnel.pc.in" "${PROJECT_BINARY_DIR}/package/runnel.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/package/runnel.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

if(TARGET runnel_cli AND NOT RUNNEL_SYNTAX_ONLY)
  install(TARGETS runnel_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT tools)
endif()
