# SPDX-License-Identifier: Apache-2.0
#
# Some distributions (Debian 12 among them) ship an xsimd target that links xtl without shipping or needing xtl, so that every
# link fails with "cannot find -lxtl". Takes that entry away where no such target exists. Shared by our build and by the
# installed package.
function(runnel_repair_xsimd)
  if(NOT TARGET xsimd OR TARGET xtl)
    return()
  endif()
  get_target_property(libraries xsimd INTERFACE_LINK_LIBRARIES)
  if("xtl" IN_LIST libraries)
    list(REMOVE_ITEM libraries xtl)
    set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "${libraries}")
  endif()
endfunction()
