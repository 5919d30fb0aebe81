// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The whole library, and the names that a program which streams text needs, lifted into `runnel`.

#include <runnel/core/config.hpp>
#include <runnel/io/npy.hpp>
#include <runnel/stream/load.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/stream/session_batch.hpp>
#include <runnel/stream/teacher_forcing.hpp>
#include <runnel/text/streaming_tokenizer.hpp>
#include <runnel/text/word_splitter.hpp>

namespace runnel {

using stream::batch;
using stream::batch_streaming;
using stream::event;
using stream::group_streaming;
using stream::interleaved;
using stream::language_model;
using stream::load_model;
using stream::plan;
using stream::session;
using stream::session_batch;
using stream::session_options;
using stream::wait_k;

}  // namespace runnel
