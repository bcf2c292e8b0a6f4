// What a tuning found, as one page that needs nothing else: no scripts, no files, no network.
#pragma once

#include <map>
#include <string>

#include "bench/published.h"
#include "runtime/tuner.h"

namespace tilewright::cli {

/// Published rates that a step may stand beside, by the step's name.
using PublishedPeers = std::map<std::string, std::vector<bench::PublishedRate>>;

/// Of a kernel's attention steps: the rates published for their head dim, with or without a mask as theirs.
PublishedPeers published_peers(const Kernel& kernel);

/// The tuning of one graph and what it stands beside.
struct ReportedTuning {
  TuneResult result;
  PublishedPeers peers;
};

/// The page: per step what was chosen and why, a heat map of the two most telling integers, the roofline, every
/// measured candidate with its spread, all figures as a table, the assembly. Depends on its argument only.
std::string tune_report(const std::vector<ReportedTuning>& tunings);

/// Whether a report can be written there, before a minute is spent on it. Errors: one sentence.
Result<Done> check_report_path(const std::string& path);
/// Whole or not at all: a file beside it that is renamed. Errors: one sentence.
Result<Done> write_report(const std::string& path, const std::string& html);

}  // namespace tilewright::cli
