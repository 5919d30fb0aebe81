// SPDX-License-Identifier: Apache-2.0

#include "run_totals.hpp"

#include <runnel/core/error.hpp>

#include "console.hpp"

namespace runnel::cli {

void add_rows(stream::row_counters& to, const stream::row_counters& more) {
  to.source_rows += more.source_rows;
  to.target_rows += more.target_rows;
  to.refed_rows += more.refed_rows;
  to.refreshed_rows += more.refreshed_rows;
  to.passes += more.passes;
  to.tokens_kept += more.tokens_kept;
  to.tokens_discarded += more.tokens_discarded;
}

void note_rows(const stream::row_counters& rows) {
  note(message("rows computed: ", rows.source_rows, " source, ", rows.target_rows, " target, ", rows.refed_rows,
               " re-fed, ", rows.refreshed_rows, " refreshed; passes: ", rows.passes, "; tokens: ", rows.tokens_kept,
               " kept, ", rows.tokens_discarded, " discarded"));
}

}  // namespace runnel::cli
